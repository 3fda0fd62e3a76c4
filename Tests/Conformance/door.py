"""A pod's door for mutual TLS: one weft-proxy on loopback whose port 15008 takes it, with certificates of the journeys' authority."""

import random
import signal
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path

from host import LOOPBACK, Process, Proxy
from http1 import Backend
from mesh.authority import Authority, identity
from mesh.machine import RELEASE
from peer import WEFT, Peer, context

CART, WEB = identity("shop", "cart"), identity("shop", "web")
RANDOM = random.Random()


class At(type(LOOPBACK)):
    """One of loopback's many addresses, in the shape of a pod. The door binds its upstream connections to its clients' address, so what it
    connects to may be anywhere on this machine."""

    def __init__(self, address):
        self.address = address

    def listen(self, port, address=None, backlog=4096):
        """A listening socket."""
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((self.address, port))
        made.listen(backlog)
        return made


class Door(Proxy):
    """The pod `pod` (shop/cart) behind port 15008. `authority` signs for both sides."""

    def __init__(self, authority=None, certificate=None, limits=None, waits=True):
        self.place = tempfile.TemporaryDirectory(prefix="weft-door-")
        place = Path(self.place.name)
        place.chmod(0o755)
        self.authority = authority or Authority()
        self.pod = At(f"127.{RANDOM.randrange(1, 255)}.{RANDOM.randrange(1, 255)}.{RANDOM.randrange(1, 255)}")
        self.page = Path(tempfile.mkstemp(prefix="weft-metrics-")[1])
        (place / "roots.pem").write_bytes(self.authority.bundle)
        self.issue(certificate)
        (place / "revoked").write_text("")
        words = [
            RELEASE / "weft-proxy-host", "--metrics-file", self.page, "--inbound", f"{self.pod.address}=shop/cart", "--identity",
            f"{CART}={place}/tls.crt,{place}/tls.key", "--roots", place / "roots.pem", "--revocations", place / "revoked"]
        for name, value in (limits or {}).items():
            words += ["--limit", f"{name}={value}"]
        Process.__init__(self, *words, ready=lambda started: "ready" in started.tail() or not waits)

    def issue(self, certificate=None):
        """Puts a (next) certificate where the host reads it."""
        (certificate or self.authority.issue(CART)).files(self.place.name)

    def revoke(self, *lines):
        """Replaces the list of what is revoked."""
        (Path(self.place.name) / "revoked").write_text("".join(f"{line}\n" for line in lines))
        self.reread()

    def reread(self):
        """Certificates, roots and revocations are read again."""
        self.process.send_signal(signal.SIGHUP)

    def settings(self, certificate=None, protocols=(WEFT,), **options):
        """TLS settings of a client; by default of the workload shop/web."""
        return context(self.authority, certificate or self.authority.issue(WEB), protocols, **options)

    def client(self, settings=None, **options):
        """An HTTP/2 client behind a handshake."""
        return Peer(LOOPBACK, self.pod.address, settings or self.settings(), **options)

    @contextmanager
    def backend(self, **options):
        """An HTTP/1.1 server in the pod."""
        with Backend(self.pod, free_port_at(self.pod), address=self.pod.address, **options) as backend:
            yield backend

    def stop(self):
        super().stop()
        self.place.cleanup()


def free_port_at(pod):
    """A port that nobody has at this address just now."""
    with pod.listen(0) as asked:
        return asked.getsockname()[1]
