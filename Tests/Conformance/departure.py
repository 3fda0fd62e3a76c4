"""A pod that calls a pod of another node: one weft-proxy on loopback, and at the other end a door of Weft's or a proxy of somebody else's."""

import socket
import ssl
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes

from door import CART, WEB, At, Door, free_port_at
from host import Process, Proxy, free_port, serve_each
from http1 import Backend
from mesh.authority import Authority
from mesh.machine import RELEASE


class Departure(Proxy):
    """The pods of shop/web, one to each of `protocols`, which call the pod at `address` (shop/cart) on `port`."""

    def __init__(self, authority, address, port, protocols=("http",), certificate=None, limits=None, words=()):
        self.place = tempfile.TemporaryDirectory(prefix="weft-departure-")
        place = Path(self.place.name)
        place.chmod(0o755)
        self.directory_of_identities, self.authority_of_both = place, authority
        self.page = Path(tempfile.mkstemp(prefix="weft-metrics-")[1])
        self.ports = {protocol: free_port() for protocol in protocols}
        (place / "roots.pem").write_bytes(authority.bundle)
        (place / "revoked").write_text("")
        spoken = [RELEASE / "weft-proxy-host", "--metrics-file", self.page, "--upstream", f"{address}:{port}", "--workload", f"{address}=shop/cart"]
        for protocol, listened in self.ports.items():
            spoken += ["--listen", f"127.0.0.1:{listened}/{protocol}"]
        if certificate is not False:
            self.issue(certificate)
            spoken += ["--as", "shop/web", "--identity", f"{WEB}={place}/tls.crt,{place}/tls.key", "--roots", place / "roots.pem"]
            spoken += ["--revocations", place / "revoked"]
        for name, value in (limits or {}).items():
            spoken += ["--limit", f"{name}={value}"]
        Process.__init__(self, *spoken, *words, ready=lambda started: "ready" in started.tail())

    def issue(self, certificate=None):
        """Puts a (next) certificate where the host reads it."""
        (certificate or self.authority_of_both.issue(WEB)).files(self.directory_of_identities)

    def revoke(self, *lines):
        """Replaces the list of what is revoked."""
        (self.directory_of_identities / "revoked").write_text("".join(f"{line}\n" for line in lines))
        self.reread()

    reread = Door.reread

    def dial(self, protocol="tcp", timeout=10.0):
        """A connection of the pod that calls by this protocol."""
        made = socket.create_connection(("127.0.0.1", self.ports[protocol]), timeout)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def handshakes(self, result="ok"):
        """Handshakes that it has begun and that ended so."""
        return self.metrics().value("weft_tls_handshakes_total", side="client", result=result)

    def stop(self):
        super().stop()
        self.place.cleanup()


class Foreign:
    """A proxy that knows HBONE and nothing else: HTTP/2 by the h2 library behind Python's TLS; every stream is a CONNECT, carried out by a thread."""

    def __init__(self, authority=None, certificate=None, status=None):
        self.authority = authority or Authority()
        self.pod = At(f"127.77.{free_port() // 256}.{free_port() % 254 + 1}")
        #: What every CONNECT is answered with, instead of a connection.
        self.status = status
        self.asked, self.refusals = [], []
        self.settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.settings.minimum_version = ssl.TLSVersion.TLSv1_3
        self.settings.load_verify_locations(cadata=self.authority.bundle.decode())
        self.settings.verify_mode = ssl.CERT_REQUIRED
        self.settings.set_alpn_protocols(["h2"])
        with tempfile.TemporaryDirectory() as place:
            self.settings.load_cert_chain(*(certificate or self.authority.issue(CART)).files(place))
        self.listener = self.pod.listen(15008)
        self.open = []
        serve_each(self.listener, self._serve)

    def _serve(self, made):
        try:
            door = self.settings.wrap_socket(made, server_side=True)
        except OSError as refusal:
            self.refusals.append(str(refusal))
            return made.close()
        self.open.append(door)
        Hops(door, self).run()

    @contextmanager
    def backend(self, **options):
        """An HTTP/1.1 server in the pod."""
        with Backend(self.pod, free_port_at(self.pod), address=self.pod.address, **options) as backend:
            yield backend

    def stop(self):
        self.listener.close()
        for door in self.open:
            door.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Hops:
    """One connection of a client's, and the tunnels in it."""

    def __init__(self, door, foreign):
        self.door, self.foreign = door, foreign
        self.wire = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.sockets = {}
        # TLS of Python's may be written from several threads only one at a time; windows are waited for here, too.
        self.turn = threading.Condition()

    def run(self):
        with self.turn:
            self.wire.initiate_connection()
            self.flush()
        try:
            while piece := self.door.recv(1 << 16):
                with self.turn:
                    for event in self.wire.receive_data(piece):
                        self.note(event)
                    self.flush()
                    self.turn.notify_all()
        except OSError:
            pass
        for made in self.sockets.values():
            made.close()

    def flush(self):
        said = self.wire.data_to_send()
        if said:
            self.door.sendall(said)

    def note(self, event):
        number = getattr(event, "stream_id", None)
        made = self.sockets.get(number)
        if isinstance(event, events.RequestReceived):
            self.begin(number, dict(event.headers))
        elif isinstance(event, events.DataReceived):
            if made:
                made.sendall(event.data)
            self.wire.acknowledge_received_data(event.flow_controlled_length, number)
        elif isinstance(event, events.StreamEnded) and made:
            made.shutdown(socket.SHUT_WR)
        elif isinstance(event, events.StreamReset) and made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            # The other thread sits in recv on it: shutting down wakes that, the close resets.
            self.sockets.pop(number)
            made.shutdown(socket.SHUT_RD)
            made.close()

    def begin(self, number, head):
        self.foreign.asked.append(head)
        host, _, port = head[":authority"].rpartition(":")
        if self.foreign.status:
            return self.wire.send_headers(number, [(":status", str(self.foreign.status))], end_stream=True)
        try:
            made = socket.create_connection((host, int(port)), 5)
        except OSError:
            return self.wire.send_headers(number, [(":status", "503")], end_stream=True)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.settimeout(None)
        self.sockets[number] = made
        self.wire.send_headers(number, [(":status", "200")])
        threading.Thread(target=self.carry, args=(number, made), daemon=True).start()

    def carry(self, number, made):
        """What the application says, until it ends."""
        try:
            while piece := made.recv(1 << 14):
                with self.turn:
                    while piece:
                        room = min(self.wire.local_flow_control_window(number), self.wire.max_outbound_frame_size, len(piece))
                        if room == 0:
                            self.turn.wait(5)
                            continue
                        self.wire.send_data(number, piece[:room])
                        piece = piece[room:]
                        self.flush()
            with self.turn:
                self.wire.end_stream(number)
                self.flush()
        except ConnectionResetError:
            with self.turn:
                self.wire.reset_stream(number, ErrorCodes.CONNECT_ERROR)
                self.flush()
        except Exception:    # the stream or its connection is gone, and nobody listens
            pass
