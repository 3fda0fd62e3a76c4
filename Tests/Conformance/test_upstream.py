"""A hostile HTTP/2 server behind the proxy: it may break every rule; nobody but its own client may notice.

`/bad/NAME` makes the server misbehave, every other path is answered well; so the same endpoint shows that it is served
again afterwards. A second, decent server shows that others never notice.
"""

import socket
import time

import pytest

from frames import (
    ACK, CANCEL, CLOSED, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE, PADDED, PING, PREFACE, PRIORITY, PUSH_PROMISE, REFUSED_STREAM, RST_STREAM, SETTINGS, SILENCE, Connection,
    frame, integer, literal, rst_stream, settings, window_update,
)
from host import LOOPBACK, Proxy, free_port, serve_each
from http1 import Client, Violation
from judge import Judge
from mesh import eventually

STATUS = b"\x88"  # :status 200
HEAD = frame(HEADERS, END_HEADERS, 1, STATUS)


class Server:
    """Speaks HTTP/2 well, except on `/bad/…`."""

    def __init__(self):
        self.port = free_port()
        self.listener = LOOPBACK.listen(self.port)
        self.connections, self.asked = 0, []
        serve_each(self.listener, self._serve)

    def _serve(self, made):
        self.connections += 1
        with made:
            made.settimeout(10)
            said = b""
            while len(said) < len(PREFACE):
                piece = made.recv(len(PREFACE) - len(said))
                if not piece:
                    return
                said += piece
            connection = Connection(made, patience=60)
            connection.send(settings((MAX_CONCURRENT_STREAMS, 100)))
            while not isinstance(found := connection.wait(), str):
                if found.kind == SETTINGS and not found.acknowledges:
                    connection.send(settings(flags=ACK))
                elif found.kind == PING and not found.acknowledges:
                    connection.ping(found.payload, acknowledges=True)
                elif found.kind == DATA and found.payload:
                    connection.send(window_update(0, len(found.payload)))
                elif found.kind == HEADERS:
                    payload = found.payload[5:] if found.flags & 0x20 else found.payload
                    fields = dict(connection.decoder.decode(payload))
                    path = fields.get(":path", "/")
                    self.asked.append(path)
                    if not path.startswith("/bad/"):
                        connection.headers(found.stream, STATUS, end=False).data(found.stream, b"good", end=True)
                    elif DEEDS[path[5:].replace("_", " ")](connection, found.stream) is False:
                        return

    def close(self):
        """No further connections."""
        self.listener.close()


def says(*made):
    """A deed: sends frames made for the stream (callables get its number)."""
    def deed(connection, stream):
        connection.send(b"".join(one(stream) if callable(one) else one for one in made))
    return deed


def then_ends(deed):
    """A deed, and the end of the connection."""
    def both(connection, stream):
        deed(connection, stream)
        connection.socket.shutdown(socket.SHUT_WR)
        return False
    return both


def head(*fields, end=False, first=STATUS):
    """A response head as a piece of a deed."""
    return lambda stream: frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, first + b"".join(literal(*one) for one in fields))


def data(octets=b"x", end=False):
    """DATA as a piece of a deed."""
    return lambda stream: frame(DATA, END_STREAM if end else 0, stream, octets)


def without_end(made, before=()):
    """A deed: `before`, then `made` over and over until the proxy ends it (or 5 s have passed, which is a fault of the proxy)."""
    def deed(connection, stream):
        says(*before)(connection, stream)
        octets = made(stream) * 256 if callable(made) else made * 256
        until = time.monotonic() + 5
        try:
            connection.socket.settimeout(5)
            while time.monotonic() < until:
                connection.socket.sendall(octets)
        except OSError:
            pass
        return False
    return deed


WHOLE = (head(), data(b"good", end=True))

#: A response that is malformed or never complete: the client must not get a clean 200 of it.
DEEDS = {
    "no head before data": says(data(end=True)),
    "head on stream 0": says(lambda stream: frame(HEADERS, END_HEADERS, 0, STATUS)),
    "head on a stream nobody opened": says(lambda stream: frame(HEADERS, END_HEADERS, stream + 100, STATUS)),
    "head on an even stream": says(lambda stream: frame(HEADERS, END_HEADERS, 2, STATUS)),
    "push": says(lambda stream: frame(PUSH_PROMISE, END_HEADERS, stream, b"\0\0\0\2\x82\x84\x86")),
    "frame beyond the largest size": says(head(), data(bytes(16385))),
    "frame that promises 16 MB": says(head(), lambda stream: frame(DATA, 0, stream, b"x", length=0xFFFFFF)),
    "no status": says(head(("server", "x"), end=True, first=b"")),
    "status that is no number": says(head(end=True, first=literal(":status", "abc"))),
    "status of two digits": says(head(end=True, first=literal(":status", "99"))),
    "status of four digits": says(head(end=True, first=literal(":status", "2000"))),
    "two statuses": says(head(end=True, first=STATUS + STATUS)),
    "status 101": says(head(first=literal(":status", "101"))),
    "pseudo field of requests": says(head((":path", "/"), end=True)),
    "uppercase name": says(head(("X-A", "b"), end=True)),
    "connection": says(head(("connection", "close"), end=True)),
    "transfer-encoding": says(head(("transfer-encoding", "chunked")), data(end=True)),
    "CRLF in a value": says(head(("x-a", "b\r\nx-b: c"), end=True)),
    "NUL in a value": says(head(("x-a", "b\0"), end=True)),
    "content-length twice": says(head(("content-length", "1"), ("content-length", "2")), data(end=True)),
    "content-length with sign": says(head(("content-length", "+1")), data(end=True)),
    "content shorter than said": says(head(("content-length", "10")), data(b"short", end=True)),
    "content longer than said": says(head(("content-length", "2")), data(b"HTTP/1.1 200 OK", end=True)),
    "content-length and no content": says(head(("content-length", "2"), end=True)),
    "interim response that ends": says(head(end=True, first=literal(":status", "103"))),
    "trailers that do not end": says(head(), data(), lambda stream: frame(HEADERS, END_HEADERS, stream, literal("x-a", "b"))),
    "pseudo field in trailers": says(head(), data(), head(end=True)),
    "header block that cannot be decoded": says(lambda stream: frame(HEADERS, END_HEADERS, stream, b"\xff\xff\xff\xff\xff")),
    "table larger than allowed": says(lambda stream: frame(HEADERS, END_HEADERS | END_STREAM, stream, integer(1 << 20, 5, 0x20) + STATUS)),
    "another frame inside a header block": says(lambda stream: frame(HEADERS, 0, stream, STATUS), frame(PING, 0, 0, bytes(8))),
    "continuation out of nothing": says(lambda stream: frame(CONTINUATION, END_HEADERS, stream, STATUS)),
    "header block that does not end": says(lambda stream: frame(HEADERS, 0, stream, STATUS)),
    "continuation without end": without_end(lambda stream: frame(CONTINUATION, 0, stream, literal("x-a", "b" * 100)), [lambda stream: frame(HEADERS, 0, stream, STATUS)]),
    "empty continuation without end": without_end(lambda stream: frame(CONTINUATION, 0, stream), [lambda stream: frame(HEADERS, 0, stream, STATUS)]),
    "a head of 1 MB": says(lambda stream: frame(HEADERS, 0, stream, STATUS), *[lambda stream: frame(CONTINUATION, 0, stream, literal("x-a", "b" * 16000))] * 64,
                           lambda stream: frame(CONTINUATION, END_HEADERS, stream)),
    "HPACK bomb": says(lambda stream: frame(HEADERS, END_HEADERS, stream, STATUS + literal("x-bomb", "b" * 4000, 0x40) + bytes([0x80 | 62]) * 4000)),
    "window of the connection overflows": says(window_update(0, (1 << 31) - 1)),
    "increment of 0": says(window_update(0, 0)),
    "window of the stream overflows": says(lambda stream: window_update(stream, (1 << 31) - 1) * 2),
    "window update on an idle stream": says(lambda stream: window_update(stream + 100, 1)),
    "setting out of range": says(settings((MAX_FRAME_SIZE, 1))),
    "window setting out of range": says(settings((INITIAL_WINDOW_SIZE, 1 << 31))),
    "push allowed by a server": says(settings((ENABLE_PUSH, 1))),
    "settings of odd length": says(frame(SETTINGS, 0, 0, b"abc")),
    "settings without end": without_end(settings((INITIAL_WINDOW_SIZE, 65535))),
    "pings without end": without_end(frame(PING, 0, 0, bytes(8))),
    "ping of odd length": says(frame(PING, 0, 0, b"abc")),
    "interim responses without end": without_end(head(first=literal(":status", "103"))),
    "empty data without end": without_end(data(b""), [head()]),
    "resets of streams nobody opened": says(rst_stream(101)),
    "reset": says(lambda stream: rst_stream(stream, CANCEL)),
    "reset with an unknown code": says(lambda stream: rst_stream(stream, 0xFFFF)),
    "reset in the middle": says(head(), data(), lambda stream: rst_stream(stream, CANCEL)),
    "refused for ever": says(lambda stream: rst_stream(stream, REFUSED_STREAM)),
    "goaway that forgets us": says(lambda stream: frame(GOAWAY, 0, 0, bytes(8))),
    "goaway with an error": then_ends(says(lambda stream: frame(GOAWAY, 0, 0, stream.to_bytes(4, "big") + b"\0\0\0\2"))),
    "goaway on a stream": says(lambda stream: frame(GOAWAY, 0, stream, bytes(8))),
    "goaway of odd length": says(frame(GOAWAY, 0, 0, b"abc")),
    "goaway that grows": then_ends(says(frame(GOAWAY, 0, 0, bytes(8)), frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff" + bytes(4)))),
    "ends": then_ends(says()),
    "ends inside a frame": then_ends(says(lambda stream: frame(HEADERS, END_HEADERS, stream, STATUS)[:5])),
    "ends inside content": then_ends(says(head(("content-length", "10")), data())),
    "ends without saying how long": then_ends(says(head(), data())),
    "nonsense": says(b"\xde\xad\xbe\xef" * 100),
    "HTTP/1.1": then_ends(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")),
    "nothing": says(),
    "a head and nothing more": says(head(("content-length", "10"))),
    "more than the window": says(head(), *[data(bytes(16384))] * 1024),
    "padding without end": without_end(lambda stream: frame(DATA, PADDED, stream, b"\xff" + bytes(255)), [head()]),
    "priority without end": without_end(lambda stream: frame(PRIORITY, 0, stream, b"\0\0\0\0\x10")),
    "unknown frames without end": without_end(frame(0xEE, 0, 0, bytes(8))),
}

#: Odd, but allowed, or harmless to this exchange: a whole 200 is as good as a refusal.
MAY_SUCCEED = {
    "data after the end": says(*WHOLE, data(end=True)),
    "a second head after the end": says(*WHOLE, head(end=True)),
    "goaway behind the answer": says(*WHOLE, lambda stream: frame(GOAWAY, 0, 0, stream.to_bytes(4, "big") + bytes(4))),
    "some pings": says(frame(PING, 0, 0, bytes(8)) * 3, *WHOLE),
    "some interim responses": says(*[head(first=literal(":status", "103"))] * 3, *WHOLE),
    "unknown frames and settings": says(frame(0xEE, 0xFF, 0, bytes(8)), settings((0xEEEE, 1)), *WHOLE),
    "fewer streams than we use": says(settings((MAX_CONCURRENT_STREAMS, 0)), *WHOLE, settings((MAX_CONCURRENT_STREAMS, 100))),
    "window shut and opened": says(settings((INITIAL_WINDOW_SIZE, 0)), settings((INITIAL_WINDOW_SIZE, 65535)), *WHOLE),
}
#: Right, and short.
NO_CONTENT = {
    "nothing but a head": (200, says(head(end=True))),
    "nothing but a head, length 0": (200, says(head(("content-length", "0"), end=True))),
    "nothing but a head, created": (201, says(head(end=True, first=literal(":status", "201")))),
    "nothing but a head, no content": (204, says(head(end=True, first=literal(":status", "204")))),
    "nothing but a head, not modified": (304, says(head(("content-length", "5"), end=True, first=literal(":status", "304")))),
    "empty data": (200, says(head(), data(b"", end=True))),
    "nothing but a head and trailers": (200, says(head(), head(("x-sum", "1"), end=True, first=b""))),
}
BAD, ODD = list(DEEDS), list(MAY_SUCCEED)
DEEDS |= MAY_SUCCEED | {name: deed for name, (_, deed) in NO_CONTENT.items()}


@pytest.fixture(scope="module")
def scene():
    """Two Services by name: h0 is hostile, h1 is decent. The proxy waits 1.5 s for replies, and for what follows them."""
    hostile, decent = Server(), Server()
    with Proxy([hostile.port, decent.port], "http2", hosts=2, limits={"replyMilliseconds": 1500, "stallMilliseconds": 1500}) as proxy:
        yield proxy
    hostile.close()
    decent.close()


def ask_http1(proxy, path, host="h0.test"):
    """An HTTP/1.1 client: status and body, or None for an answer cut off."""
    with Client(LOOPBACK, *proxy.address, timeout=8) as client:
        try:
            reply = client.get(path, host=host)
        except (Violation, ConnectionError):
            return None
        if reply.status >= 500:
            assert reply["x-weft-reason"], reply.fields
        return reply.status, reply.body


def ask_http2(proxy, path, host="h0.test"):
    """An HTTP/2 client: status and body, or None for an answer reset."""
    with Judge.to(proxy.address) as client:
        client.handshake()
        client.headers(1, b"".join(literal(*one) for one in ((":method", "GET"), (":scheme", "http"), (":path", path), (":authority", host))))
        status, body = None, b""
        while True:
            found = client.wait(8)
            if found == SILENCE:
                raise TimeoutError(f"no end of {path}: {client.told()}")
            if isinstance(found, str):
                assert found == CLOSED, found
                return None
            if found.kind == RST_STREAM and found.stream == 1:
                return None
            if found.stream == 1 and found.kind == HEADERS:
                fields = dict(client.decoder.decode(found.payload))
                if ":status" in fields and int(fields[":status"]) >= 200:
                    status = int(fields[":status"])
                    assert status < 500 or "x-weft-reason" in fields, fields
            if found.stream == 1 and found.kind == DATA:
                body += found.payload
            if found.stream == 1 and found.ends:
                return status, body


ASK = {"HTTP/1.1": ask_http1, "HTTP/2": ask_http2}


@pytest.mark.parametrize("asked", ASK)
@pytest.mark.parametrize("deed", BAD + ODD)
def test_a_hostile_server_harms_nobody_else(scene, asked, deed):
    """The client is told within its time, never something whole made of something broken; all others are served as before."""
    ask, path = ASK[asked], "/bad/" + deed.replace(" ", "_")
    answer = ask(scene, path)
    if deed in BAD:
        assert answer is None or answer[0] in (502, 503, 504), answer
    else:
        assert answer is None or answer[0] in (502, 503) or answer == (200, b"good"), answer
    assert ask(scene, "/", "h1.test") == (200, b"good"), "others never notice"
    scene.running()
    eventually(lambda: ask(scene, "/") == (200, b"good"), within=5, what="the endpoint served again")


@pytest.mark.parametrize("asked", ASK)
@pytest.mark.parametrize("deed", NO_CONTENT)
def test_an_answer_without_content_is_whole(scene, asked, deed):
    """HTTP/1.1 must be told a length where HTTP/2 just ended, or it waits for the connection's end."""
    assert ASK[asked](scene, "/bad/" + deed.replace(" ", "_")) == (NO_CONTENT[deed][0], b"")


def test_memory_and_sessions_come_back(scene):
    """Whatever the hostile server did, it left nothing behind."""
    for name in ("continuation without end", "pings without end", "more than the window"):
        ask_http2(scene, "/bad/" + name.replace(" ", "_"))
    before = scene.resident()
    for name in ("continuation without end", "pings without end", "more than the window", "a head of 1 MB") * 3:
        ask_http2(scene, "/bad/" + name.replace(" ", "_"))
    assert scene.resident() - before < 8 << 20
