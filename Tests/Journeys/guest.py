"""A Python program that lives in a pod, because its library makes its own sockets. Test and guest talk in lines of JSON."""

import json
import sys
import threading
import time
import subprocess
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parent / "guests"


class Guest:
    """`with Guest(pod, "grpc_client.py", "10.96.0.10:80", "unary") as client: client.hear("done")`."""

    def __init__(self, pod, program, *arguments, **environment):
        self.pod, self.program = pod, program
        self.heard, self.complaints = [], []
        self._news = threading.Condition()
        settings = [f"{name}={value}" for name, value in environment.items()]
        self.process = pod.start("env", *settings, sys.executable, "-u", PROGRAMS / program, *arguments,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._readers = [threading.Thread(target=self._listen, daemon=True), threading.Thread(target=self._complain, daemon=True)]
        for reader in self._readers:
            reader.start()

    def _listen(self):
        for line in self.process.stdout:
            with self._news:
                self.heard.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self.heard.append({"said": "end"})
            self._news.notify_all()

    def _complain(self):
        for line in self.process.stderr:
            self.complaints.append(line)

    def hear(self, what, /, within=20.0, **like):
        """Waits for the next message that says `what` and has the fields of `like`; it is taken out, others stay."""
        end = time.monotonic() + within
        with self._news:
            while True:
                for index, message in enumerate(self.heard):
                    if message["said"] == what and all(message.get(key) == value for key, value in like.items()):
                        return self.heard.pop(index)
                    if message["said"] == "end":
                        self._fail(f"ended without {what!r}")
                if not self._news.wait(end - time.monotonic()) and time.monotonic() >= end:
                    self._fail(f"did not say {what!r} {like or ''} within {within} s; said {self.heard[-3:]}")

    def _fail(self, how):
        self.process.poll()
        raise AssertionError(f"{self.program} in {self.pod.name} {how} (exit {self.process.returncode}):\n{''.join(self.complaints[-25:])}")

    def tell(self, do, **what):
        """One message to the guest."""
        self.process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self.process.stdin.flush()

    def close(self):
        """Ends it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(timeout=5)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                stream.close()
            except BrokenPipeError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
