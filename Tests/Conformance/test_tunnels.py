"""Tunnels of which at least one leg is a stream: each direction ends by itself, END_STREAM as FIN and FIN as END_STREAM."""

import socket
import struct

import pytest

from frames import (
    CANCEL, CONNECT_ERROR, DATA, ENABLE_CONNECT_PROTOCOL, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, SILENCE, Connection,
    frame, rst_stream, settings,
)
from host import LOOPBACK, Proxy, free_port, serve_each
from http1 import Backend, ok
from mesh import eventually

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class OnSocket:
    """One end of a tunnel that has a connection of its own."""

    def __init__(self, made):
        self.socket, self.heard = made, b""
        made.settimeout(10)

    def say(self, octets):
        self.socket.sendall(octets)

    def end(self):
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def hear(self, count):
        while len(self.heard) < count and (piece := self.socket.recv(1 << 16)):
            self.heard += piece
        said, self.heard = self.heard[:count], self.heard[count:]
        return said

    def hears_the_end(self):
        return not self.heard and self.socket.recv(1) == b""

    def hears_a_reset(self):
        try:
            self.socket.recv(1)
        except ConnectionResetError:
            return True
        # Behind an end a read tells nothing more.
        return eventually(lambda: self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), within=5, what="a reset")

    def close(self):
        self.socket.close()


class OnStream:
    """One end of a tunnel that is a stream."""

    def __init__(self, connection, stream):
        self.connection, self.stream, self.heard = connection, stream, b""

    def say(self, octets):
        self.connection.data(self.stream, octets)

    def end(self):
        self.connection.data(self.stream, b"", end=True)

    def reset(self):
        self.connection.send(rst_stream(self.stream, CANCEL))

    def next(self):
        while True:
            found = self.connection.wait(10)
            if isinstance(found, str) or found.stream == self.stream and found.kind in (DATA, HEADERS, RST_STREAM):
                return found

    def hear(self, count):
        while len(self.heard) < count:
            found = self.next()
            assert not isinstance(found, str) and found.kind == DATA, found
            self.heard += found.payload
            if found.ends:
                self.ended = True
                break
        said, self.heard = self.heard[:count], self.heard[count:]
        return said

    ended = False

    def hears_the_end(self):
        if self.ended:
            return True
        found = self.next()
        assert not isinstance(found, str), found
        return found.kind == DATA and found.ends and not found.payload

    def hears_a_reset(self):
        found = self.next()
        return not isinstance(found, str) and found.kind == RST_STREAM and found.code

    def close(self):
        self.connection.close()


class Server:
    """Agrees to every tunnel; its end of each is in `ends`."""

    def __init__(self):
        self.port = free_port()
        self.listener, self.ends = LOOPBACK.listen(self.port), []
        serve_each(self.listener, self._serve)

    def opened(self, number=0):
        """The server's end of a tunnel."""
        return eventually(lambda: len(self.ends) > number and self.ends[number], within=5, what="the server's end")

    def close(self):
        self.listener.close()
        for end in self.ends:
            end.close()


class Server1(Server):
    """By HTTP/1.1; connections that speak HTTP/2 are closed."""

    protocol = "http"

    def _serve(self, made):
        made.settimeout(10)
        head = b""
        while b"\r\n\r\n" not in head:
            piece = made.recv(1 << 16)
            if not piece or head.startswith(b"PRI"):
                return made.close()
            head += piece
        if head.startswith(b"PRI"):
            return made.close()
        made.sendall(b"HTTP/1.1 200 OK\r\n\r\n" if head.startswith(b"CONNECT") else b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        self.ends.append(OnSocket(made))


class Server2(Server):
    """By HTTP/2."""

    protocol = "http2"

    def _serve(self, made):
        made.settimeout(10)
        said = b""
        while len(said) < len(PREFACE):
            piece = made.recv(len(PREFACE) - len(said))
            if not piece:
                return made.close()
            said += piece
        connection = Connection(made, patience=10).send(settings((ENABLE_CONNECT_PROTOCOL, 1)))
        while not isinstance(found := connection.wait(), str):
            if found.kind == SETTINGS and not found.acknowledges:
                connection.send(settings(flags=1))
            elif found.kind == HEADERS:
                connection.headers(found.stream, b"\x88", end=False)
                self.ends.append(OnStream(connection, found.stream))
                self.ends[-1].ended = found.ends
                return None


def upgrade(proxy):
    """A WebSocket client of HTTP/1.1."""
    end = OnSocket(LOOPBACK.connect(*proxy.address))
    end.say(f"GET /chat HTTP/1.1\r\nHost: {proxy.authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n".encode())
    return after_head(end, b"101")


def connect(proxy):
    """CONNECT by HTTP/1.1."""
    end = OnSocket(LOOPBACK.connect(*proxy.address))
    end.say(f"CONNECT {proxy.authority} HTTP/1.1\r\nHost: {proxy.authority}\r\n\r\n".encode())
    return after_head(end, b"200")


def after_head(end, status):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = end.hear(1)
        assert piece, head
        head += piece
    assert head.split()[1] == status, head
    return end


def on_stream(proxy, *fields, flags=0):
    """A tunnel on a stream of its own connection."""
    connection = Connection.to(proxy.address).handshake()
    connection.send(frame(HEADERS, END_HEADERS | flags, 1, connection.block([(":method", "CONNECT"), *fields, (":authority", proxy.authority)])))
    end = OnStream(connection, 1)
    found = end.next()
    assert not isinstance(found, str) and found.kind == HEADERS and dict(connection.decoder.decode(found.payload))[":status"] == "200", found
    return end


def connect2(proxy):
    """CONNECT on a stream."""
    return on_stream(proxy)


def upgrade2(proxy):
    """Extended CONNECT (RFC 8441)."""
    return on_stream(proxy, (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat"))


#: Those with a stream on one side at least.
WAYS = [(upgrade, Server2), (connect, Server2), (connect2, Server1), (upgrade2, Server1), (connect2, Server2), (upgrade2, Server2)]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0].__name__}-{way[1].__name__}")
def way(request):
    """A tunnel: the proxy, how to open another, and its two ends."""
    dial, make = request.param
    server = make()
    with Proxy([server.port], server.protocol, limits={"stallMilliseconds": 700}) as proxy:
        near = dial(proxy)
        yield proxy, near, server.opened()
        near.close()
    server.close()


def nothing_is_open(proxy):
    """Both streams and connections of the tunnel are gone, and it is counted once."""
    after = proxy.metrics()
    return not any(after.sum("weft_http2_streams_open", side=side) for side in ("downstream", "upstream")) and after.sum("istio_requests_total")


def test_the_server_ends_first(way):
    """Its client hears of it, and is heard afterwards, for longer than a body may stand still; then it ends too."""
    proxy, near, far = way
    far.say(b"all I had to say")
    far.end()
    assert near.hear(16) == b"all I had to say" and near.hears_the_end()
    for words in (b"but I go on", b"and on"):
        near.say(words)
        assert far.hear(len(words)) == words
    assert isinstance(near, OnSocket) or near.connection.wait(0.5) == SILENCE, "the stream is not stopped"
    near.say(b"last words")
    near.end()
    assert far.hear(10) == b"last words" and far.hears_the_end()
    eventually(lambda: nothing_is_open(proxy) == 1, within=5, what="the end of the exchange")


def test_the_client_ends_first(way):
    """The same the other way round."""
    proxy, near, far = way
    near.say(b"all I had to say")
    near.end()
    assert far.hear(16) == b"all I had to say" and far.hears_the_end()
    for words in (b"but I go on", b"and on", b"last words"):
        far.say(words)
        assert near.hear(len(words)) == words
    far.end()
    assert near.hears_the_end()
    eventually(lambda: nothing_is_open(proxy) == 1, within=5, what="the end of the exchange")


def test_much_is_on_its_way_when_both_end(way):
    """Nothing of it is lost, in either direction."""
    proxy, near, far = way
    said = bytes(range(256)) * 200          # within the windows of a peer that has not been asked for more
    for end in (near, far):
        for start in range(0, len(said), 10_000):
            end.say(said[start:start + 10_000])
        end.end()
    for end in (near, far):
        assert end.hear(len(said)) == said and end.hears_the_end()
    eventually(lambda: nothing_is_open(proxy) == 1, within=5, what="the end of the exchange")


@pytest.mark.parametrize("half", ["whole", "half-closed"])
@pytest.mark.parametrize("who", ["near", "far"])
def test_a_reset_is_one(way, who, half):
    """Of either side, also when the other has ended its own already."""
    proxy, near, far = way
    breaks, other = (near, far) if who == "near" else (far, near)
    if half == "half-closed":
        breaks.end()
        assert other.hears_the_end()
        other.say(b"x")
        assert breaks.hear(1) == b"x"
    breaks.reset()
    code = other.hears_a_reset()
    assert code, "told as what it is"
    if isinstance(far, OnSocket) and who == "far":
        assert code == CONNECT_ERROR
    eventually(lambda: not any(proxy.metrics().sum("weft_http2_streams_open", side=side) for side in ("downstream", "upstream")), within=5)


def test_one_that_only_its_client_speaks_in(way):
    """Words of the client alone keep it alive as well; it may rest for longer than a body."""
    _, near, far = way
    for words in (b"one", b"two", b"three"):
        near.say(words)
        assert far.hear(len(words)) == words
        other = near.connection if isinstance(near, OnStream) else None
        if other:
            assert other.wait(1) == SILENCE
        else:
            near.socket.settimeout(1)
            with pytest.raises(TimeoutError):
                near.socket.recv(1)
    far.say(b"fine")
    near.socket.settimeout(10) if isinstance(near, OnSocket) else None
    assert near.hear(4) == b"fine"


@pytest.mark.parametrize("protocol", ["http", "http2", "undeclared"])
def test_extended_connect_is_offered_at_once(protocol):
    """In the very first SETTINGS (RFC 8441, 3): a client need not wait for anything else, nor say anything but its preface."""
    with Proxy([free_port()], protocol) as proxy, Connection.to(proxy.address) as client:
        found = client.send(PREFACE + settings()).wait()
        assert not isinstance(found, str) and found.kind == SETTINGS and not found.acknowledges, found
        assert dict(struct.iter_unpack(">HI", found.payload))[ENABLE_CONNECT_PROTOCOL] == 1


def test_a_server_that_knows_no_upgrade():
    """Its plain 200 must not reach the client of an extended CONNECT, to whom it would say that the tunnel is open."""
    with Backend(LOOPBACK, free_port(), lambda asked: ok(b"a page")) as backend, Proxy([backend.port], "http") as proxy:
        connection = Connection.to(proxy.address).handshake()
        fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", proxy.authority)]
        connection.headers(1, connection.block(fields), end=False)
        found = connection.until(HEADERS)
        assert not isinstance(found, str) and dict(connection.decoder.decode(found.payload))[":status"] == "502", found
        connection.close()


def test_a_client_that_has_ended_before_it_is_agreed():
    """CONNECT with END_STREAM: its server hears the end at once, and answers."""
    for make in (Server1, Server2):
        server = make()
        with Proxy([server.port], server.protocol) as proxy:
            near = on_stream(proxy, flags=END_STREAM)
            far = server.opened()
            assert far.hears_the_end()
            far.say(b"good bye")
            far.end()
            assert near.hear(8) == b"good bye" and near.hears_the_end()
            near.close()
        server.close()
