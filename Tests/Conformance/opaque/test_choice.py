"""Which protocol a connection is taken for where nothing was declared, and that nothing else is disturbed by finding out."""

import ssl
import struct
import threading
import time

import pytest

from host import LOOPBACK, Process, Proxy, free_port
from mesh import eventually
from mesh.machine import RELEASE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
GREETING = b"220 greetings\r\n"
REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """Answers an HTTP/1.1 request; greets who says nothing for `patience`; echoes everything else. Notes what it was told first."""

    def __init__(self, patience=None, greeting=GREETING):
        self.patience, self.greeting = patience, greeting
        self.heard = []
        self.listener = LOOPBACK.listen(free_port())
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                end, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(end,), daemon=True).start()

    def serve(self, end):
        with end:
            try:
                end.settimeout(self.patience)
                try:
                    told = end.recv(65536) if self.patience != 0 else b""
                except TimeoutError:
                    told = b""
                end.settimeout(30)
                if not told and self.patience is not None:
                    end.sendall(self.greeting)
                    told = end.recv(65536)
                self.heard.append(told)
                while told:
                    end.sendall(REPLY if told.startswith(b"GET ") else told)
                    told = end.recv(65536)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def undeclared(server, **limits):
    return Proxy([server.port], "undeclared", limits=limits)


def connect(proxy):
    client = LOOPBACK.connect(*proxy.address)
    client.settimeout(10)
    return client


def whole(end, count):
    """So many bytes, or what came before the end."""
    read = b""
    while len(read) < count and (piece := end.recv(count - len(read))):
        read += piece
    return read


def decisions(proxy):
    """(protocol, reason) → how often."""
    return {(labels["protocol"], labels["reason"]): int(value) for labels, value in proxy.metrics().all("weft_protocol_decisions_total")}


def in_two(client, bytes_, cut, pause=0.02):
    client.sendall(bytes_[:cut])
    threading.Event().wait(pause)       # the pieces must be read apart
    client.sendall(bytes_[cut:])


def test_http_split_at_every_byte():
    request = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"
    with Server() as server, undeclared(server) as proxy:
        for cut in range(1, len(request)):
            with connect(proxy) as client:
                in_two(client, request, cut)
                assert client.recv(65536).startswith(b"HTTP/1.1 200"), cut
        assert decisions(proxy) == {("http/1.1", "first-bytes"): len(request) - 1}
        # It was spoken, not only passed on.
        assert all(b"x-request-id" in heard for heard in server.heard)


def test_the_preface_split_at_every_byte():
    with Server() as server, undeclared(server) as proxy:
        for cut in range(1, len(PREFACE)):
            with connect(proxy) as client:
                in_two(client, PREFACE + SETTINGS, cut)
                answer = whole(client, 9)
                assert answer[3] == 4, (cut, answer)
        assert decisions(proxy) == {("http/2", "first-bytes"): len(PREFACE) - 1}
        assert server.heard == []


@pytest.mark.parametrize("said", [b"hello", b"\x00\x01\x02", b"EHLO there\r\n", b"*1\r\n$4\r\nPING\r\n", b"word with spaces but no end"])
def test_anything_else_is_opaque(said):
    with Server() as server, undeclared(server) as proxy, connect(proxy) as client:
        client.sendall(said)
        assert client.recv(100) == said
        assert decisions(proxy) == {("tcp", "first-bytes"): 1}


@pytest.mark.parametrize("pieces", [[b"GET words"], [b"GET words", b"\r\n"], [b"PUT on ", b"a hat\n"]])
def test_a_line_that_only_begins_like_a_request(pieces):
    """A method and a space, and nothing of HTTP behind them, however they come: passed on as they are, and answered by nobody else."""
    with Server() as server, undeclared(server, detectionLateMilliseconds=300) as proxy, connect(proxy) as client:
        in_two(client, b"".join(pieces), len(pieces[0]))
        eventually(lambda: server.heard, within=5, what="the words")
        assert server.heard == [b"".join(pieces)]
        assert client.recv(100) in (REPLY, b"".join(pieces))
        assert decisions(proxy) == {("tcp", "first-bytes"): 1}


@pytest.mark.parametrize("cut", [2, 8, 12])
def test_a_late_rest_of_a_request_is_waited_for(cut):
    """Longer than the deadline of detection: a lost segment is."""
    with Server() as server, undeclared(server, detectionMilliseconds=50) as proxy, connect(proxy) as client:
        in_two(client, b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n", cut, pause=0.4)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        assert decisions(proxy) == {("http/1.1", "first-bytes"): 1}


def greeted(proxy):
    """How long a silent client waited for the greeting."""
    began = time.monotonic()
    with connect(proxy) as client:
        assert client.recv(100) == GREETING
        client.sendall(b"HELO\r\n")
        assert client.recv(100) == b"HELO\r\n"
    return time.monotonic() - began


def test_a_server_that_speaks_first_is_remembered_and_forgotten():
    with Server(patience=0) as server, undeclared(server, detectionMilliseconds=1000, serverFirstMilliseconds=4000) as proxy:
        assert greeted(proxy) >= 1.0
        assert greeted(proxy) < 0.9
        assert decisions(proxy) == {("tcp", "server-first"): 1, ("tcp", "remembered"): 1}
        eventually(lambda: greeted(proxy) >= 1.0, within=30, every=4.5, what="the port to be forgotten")


def test_http_on_a_port_that_is_remembered():
    with Server(patience=0.3) as server, undeclared(server, detectionMilliseconds=100) as proxy:
        greeted(proxy)
        greeted(proxy)
        with connect(proxy) as client:
            client.sendall(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
        with connect(proxy) as client:
            client.sendall(PREFACE + SETTINGS)
            assert whole(client, 9)[3] == 4
        assert decisions(proxy) == {("tcp", "server-first"): 1, ("tcp", "remembered"): 1, ("http/1.1", "first-bytes"): 1, ("http/2", "first-bytes"): 1}


def test_a_silent_client_turns_no_port_opaque():
    with Server() as server, undeclared(server, detectionMilliseconds=50) as proxy:
        idle = connect(proxy)
        eventually(lambda: proxy.metrics().sum("weft_upstream_connects_total") == 1, within=5, what="the upstream to be opened beside")
        with connect(proxy) as client:
            client.sendall(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
        # However late, its first bytes are looked at.
        idle.sendall(b"GET /y HTTP/1.1\r\nhost: a\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 200")
        idle.close()
        assert decisions(proxy) == {("http/1.1", "first-bytes"): 2}
        assert b"x-request-id" in server.heard[-1] or b"x-request-id" in server.heard[-2]


@pytest.mark.parametrize("said", [b"hello", b"GE"])
def test_few_bytes_beside_a_silent_server_are_not_kept_for_ever(said):
    with Server() as server, undeclared(server, detectionMilliseconds=50) as proxy, connect(proxy) as client:
        eventually(lambda: proxy.metrics().sum("weft_upstream_connects_total") == 1, within=5, what="the upstream to be opened beside")
        client.sendall(said)
        assert client.recv(100) == said
        assert decisions(proxy) == {("tcp", "first-bytes"): 1}


def test_an_http2_server_that_speaks_first_is_no_greeting():
    with Server(patience=0, greeting=bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100])) as server, \
            undeclared(server, detectionMilliseconds=50) as proxy, connect(proxy) as client:
        eventually(lambda: proxy.metrics().sum("weft_upstream_connects_total") == 1, within=5, what="the upstream to be opened beside")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        client.sendall(PREFACE + SETTINGS)
        assert whole(client, 9)[3] == 4
        assert decisions(proxy) == {("http/2", "first-bytes"): 1}


def test_a_server_that_gave_up_waiting_is_not_remembered():
    with Server(patience=0, greeting=b"HTTP/1.1 408 Request Timeout\r\n\r\n") as server, undeclared(server, detectionMilliseconds=50) as proxy:
        for _ in range(2):
            with connect(proxy) as client:
                assert client.recv(100).startswith(b"HTTP/1.1 408")
        assert decisions(proxy) == {("tcp", "client-silent"): 2}


def client_hello(name):
    """The first flight of OpenSSL's client."""
    context = ssl.create_default_context()
    sent = ssl.MemoryBIO()
    talk = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        talk.do_handshake()
    return sent.read()


class ByName(Process):
    """Two services, known by name only: h0.test and h1.test."""

    def __init__(self, ports, protocol):
        self.address = ("127.0.0.1", free_port())
        super().__init__(
            RELEASE / "weft-proxy-host", "--protocol", protocol, "--hosts", 2, "--listen", f"127.0.0.1:{self.address[1]}",
            "--upstream", ",".join(f"127.0.0.1:{port}" for port in ports), ready=lambda started: "ready" in started.tail())


@pytest.mark.parametrize("protocol", ["tls", "undeclared"])
@pytest.mark.parametrize("record", [16_384, 50])
def test_the_name_in_a_client_hello_chooses_the_service(protocol, record):
    with Server() as first, Server() as second, ByName([first.port, second.port], protocol) as proxy:
        for number, server in enumerate((first, second)):
            hello = client_hello(f"h{number}.test")
            message = hello[5:]
            wire = b"".join(b"\x16\x03\x01" + struct.pack(">H", len(message[at:at + record])) + message[at:at + record] for at in range(0, len(message), record))
            for cut in (1, 5, 6, 60, len(wire) - 1):
                with connect(proxy) as client:
                    in_two(client, wire, cut)
                    # Echoed as it was: not a byte of it was touched.
                    assert whole(client, len(wire)) == wire
            assert len(server.heard) == 5


def test_a_line_that_is_no_http_on_a_port_declared_so():
    with Server() as server, Proxy([server.port], "http") as proxy:
        with connect(proxy) as client:
            client.sendall(b"INVALID CONNECTION PREFACE\r\n\r\n")
            assert client.recv(100) == b""
        with connect(proxy) as client:
            client.sendall(b"GET /\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 4")
        assert server.heard == []
