"""The proxy under attack: one weft-proxy on loopback, with `weft-proxy-host` playing the node, and the backends behind it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

from mesh import eventually
from mesh.machine import RELEASE
from mesh.metrics import Metrics


def free_port():
    """A port of loopback that nobody has just now."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


class Loopback:
    """Loopback in the shape of a pod, for the journeys' backends and clients."""

    def listen(self, port, address="127.0.0.1", backlog=4096):
        """A listening socket."""
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        made.listen(backlog)
        return made

    def connect(self, address, port, timeout=10.0):
        """A connected socket."""
        made = socket.create_connection((address, port), timeout)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made


LOOPBACK = Loopback()


def serve_each(listener, serve):
    """Serves each connection of a listener, `serve(socket)`, in a thread of its own, until the listener closes."""
    def accept():
        while True:
            try:
                made, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(made,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()


class Process:
    """A program in the background, its output in a file."""

    def __init__(self, *command, ready):
        self.directory = Path(tempfile.mkdtemp(prefix="weft-conformance-"))
        self.log = self.directory / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            eventually(lambda: self.running() and ready(self), within=20, what=f"{command[0]} to be ready")
        except BaseException:
            self.stop()
            raise

    def running(self):
        """True while it lives; otherwise its last words are raised."""
        if self.process.poll() is not None:
            raise RuntimeError(f"ended with {self.process.returncode}: {self.tail()}")
        return True

    def tail(self, size=4000):
        """The end of its output."""
        return self.log.read_text(errors="replace")[-size:]

    def stop(self):
        """Ends it and what it started."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def listens(port):
    """A condition: something listens there."""
    def asked(_):
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    return asked


class Proxy(Process):
    """weft-proxy with `workers` workers; `policy` is what a MeshPolicy would say (FIELD=NUMBER…); `protocol` is what the port declares, `hosts` makes Services h0.test … of the upstreams in turn;
    each listener is a pod of its own, with an address of its own."""

    routes_file = None

    def __init__(self, upstreams, protocol="http", listeners=1, limits=None, hosts=0, routes=None, policy=(), workers=1):
        port = free_port()
        self.listeners = [(f"127.0.0.{1 + number}", port) for number in range(listeners)]
        self.address, self.authority = self.listeners[0], f"127.0.0.1:{port}"
        self.page = Path(tempfile.mkstemp(prefix="weft-metrics-")[1])
        words = [RELEASE / "weft-proxy-host", "--protocol", protocol, "--metrics-file", self.page]
        for address, port in self.listeners:
            words += ["--listen", f"{address}:{port}"]
        words += ["--upstream", ",".join(f"127.0.0.1:{port}" for port in upstreams)]
        if hosts:
            words += ["--hosts", hosts]
        if routes is not None:
            self.routes_file = Path(tempfile.mkstemp(prefix="weft-routes-")[1])
            self.write_routes(routes)
            words += ["--routes", self.routes_file]
        words += ["--workers", workers]
        for field in policy:
            words += ["--policy", field]
        for name, value in (limits or {}).items():
            words += ["--limit", f"{name}={value}"]
        super().__init__(*words, ready=lambda started: "ready" in started.tail())

    @property
    def pid(self):
        """weft-proxy itself."""
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def resident(self):
        """Resident memory, bytes."""
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def metrics(self):
        """The counters, now."""
        self.page.unlink(missing_ok=True)
        os.kill(self.process.pid, signal.SIGUSR1)

        def whole():
            if not self.page.exists():
                return False
            open_files = [os.readlink(file) for file in Path(f"/proc/{self.process.pid}/fd").iterdir()]
            return str(self.page) not in open_files
        eventually(whole, within=5, what="the page of counters")
        return Metrics(self.page.read_text())

    def write_routes(self, routes):
        """Services and routes for the proxy (`Tests/ProxyHost/RoutesFile.swift`); `{port}` stands for the listeners' port."""
        self.routes_file.write_text(json.dumps(routes).replace('"{port}"', str(self.address[1])))

    def publish(self, routes):
        """Other routes from now on."""
        def applied():
            return self.metrics().value("weft_snapshot_applied_generation")
        before = applied()
        self.write_routes(routes)
        os.kill(self.process.pid, signal.SIGHUP)
        eventually(lambda: applied() > before, within=5, what="the new routes in force")

    def stop(self):
        super().stop()
        self.page.unlink(missing_ok=True)
        if self.routes_file:
            self.routes_file.unlink(missing_ok=True)


class NGHTTPServer(Process):
    """nghttpd: a well-behaved HTTP/2 server; answers `/` with `body`."""

    def __init__(self, body=b"x" * 1024):
        self.port = free_port()
        self.root = Path(tempfile.mkdtemp(prefix="weft-nghttpd-"))
        (self.root / "index.html").write_bytes(body)
        program = shutil.which("nghttpd") or "/usr/sbin/nghttpd"
        super().__init__(program, "--no-tls", "--address=127.0.0.1", "--max-concurrent-streams=4096", "-d", self.root, self.port, ready=listens(self.port))

    def stop(self):
        super().stop()
        shutil.rmtree(self.root, ignore_errors=True)
