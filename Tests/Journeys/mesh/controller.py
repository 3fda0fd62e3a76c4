"""`weft controller` on one of the simulated nodes: the authority of all of them."""

import os
import signal
import subprocess

from .machine import run, weft
from .waiting import eventually

#: The user that `weft agent` runs as, who reads its node's token.
AGENT_USER = 15020
PORT, METRICS_PORT = 15012, 15013


class Controller:
    """The controller's process in a node's network namespace, with a data directory of its own."""

    def __init__(self, node, options=()):
        self.node, self.mesh, self.options = node, node.mesh, list(options)
        self.data = self.mesh.directory / "controller"
        self.log_path = self.mesh.directory / "controller.log"
        self.process = None

    @property
    def url(self):
        """What `weft node --controller` is given."""
        return f"https://{self.node.ip}:{PORT}"

    def start(self, within=20.0):
        """Starts it and waits until it knows the manifests."""
        command = ["nsenter", f"--net=/run/netns/{self.node.netns}", "--", str(weft()), "controller", "--manifests", str(self.mesh.published.path),
                   "--data", str(self.data), "--listen", f"0.0.0.0:{PORT}", "--metrics-address", f"0.0.0.0:{METRICS_PORT}", *self.options]
        with open(self.log_path, "ab", buffering=0) as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.mesh.ledger.note_process(self.process.pid)

        def there():
            if self.process.poll() is not None:
                raise RuntimeError(f"weft controller ended with {self.process.returncode}:\n{self.log_path.read_text()[-4000:]}")
            try:
                return self.http("/readyz")[0] == 200
            except OSError:
                return False
        eventually(there, within=within, every=0.05, what="the controller is ready")
        return self

    def token(self, node):
        """A file with a fresh token for a node, for its agent alone."""
        path = self.mesh.directory / f"token-{node.short}"
        path.write_text(run(weft(), "controller", "token", "--node", node.name, "--data", self.data))
        path.chmod(0o400)
        os.chown(path, AGENT_USER, AGENT_USER)
        return path

    def arguments(self, node):
        """Options of `weft node` with which a node joins."""
        return ["--controller", self.url, "--join-token-file", str(self.token(node))]

    def rotate_root(self):
        """Begins a rotation."""
        return run(weft(), "controller", "rotate-root", "--data", self.data)

    def http(self, path, timeout=5.0):
        """Status and body of the plain HTTP endpoint."""
        return self.node.http(METRICS_PORT, path, timeout)

    def audit(self):
        """Lines of the audit log."""
        return (self.data / "ca" / "audit.log").read_text().splitlines()

    def stop(self, within=10.0):
        """Ends it as an operator does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=within)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
