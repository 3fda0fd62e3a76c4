"""How sessions end with hundreds of streams open. A client's: by its close, by a reset, by its own fault, by the end of its speech; a server's."""

import socket
import struct

import pytest

from frames import (
    END_HEADERS, END_STREAM, GOAWAY, HEADERS, MAX_CONCURRENT_STREAMS, PING, PREFACE, PROTOCOL_ERROR, SETTINGS, Connection, frame, settings,
)
from host import LOOPBACK, Proxy, free_port, serve_each
from http1 import Backend, ok
from mesh import eventually

STREAMS = 600
REPLY = b"x" * 70_000


def close(client):
    client.close()


def reset(client):
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def fault(client):
    client.send(frame(PING, 0, 1, bytes(8)))
    assert client.until(GOAWAY).code == PROTOCOL_ERROR
    client.close()


def fall_silent(client):
    client.socket.shutdown(socket.SHUT_WR)
    while not isinstance(client.wait(), str):
        pass
    client.close()


@pytest.mark.parametrize("end", [close, reset, fault, fall_silent], ids=lambda end: end.__name__)
def test_nothing_of_it_stays(end):
    """Replies wait on every stream, for the windows are shut. Behind the end their memory is off the pod's account, and the pod is served."""
    with Backend(LOOPBACK, free_port(), lambda asked: ok(REPLY)) as backend, Proxy([backend.port], "http", limits={"halfClosedMilliseconds": 500}) as proxy:
        client = Connection.to(proxy.address)
        client.handshake()
        block = client.block([(":method", "GET"), (":scheme", "http"), (":authority", proxy.authority), (":path", "/")])
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block))
        again = client.block([(":method", "GET"), (":scheme", "http"), (":authority", proxy.authority), (":path", "/")])
        client.send(b"".join(frame(HEADERS, END_STREAM | END_HEADERS, 3 + 2 * number, again) for number in range(STREAMS - 1)))

        def held():
            return proxy.metrics().sum("weft_buffered_bytes")
        eventually(lambda: held() > 1 << 20, what="replies that wait")
        end(client)
        eventually(lambda: held() == 0, what="nothing waits any more")
        after = proxy.metrics()
        for gauge in ("weft_http2_sessions_open", "weft_http2_streams_open"):
            assert after.sum(gauge, side="downstream") == 0, gauge
        with Connection.to(proxy.address) as other:
            other.handshake()
            other.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, other.block([(":method", "GET"), (":scheme", "http"), (":authority", proxy.authority), (":path", "/")])))
            found = other.until(HEADERS)
            assert not isinstance(found, str) and found.stream == 1, found


class Silent:
    """An HTTP/2 server that takes every request and answers none, until it breaks off."""

    def __init__(self):
        self.port = free_port()
        self.listener, self.made, self.asked = LOOPBACK.listen(self.port), [], 0
        serve_each(self.listener, self._serve)

    def _serve(self, made):
        self.made.append(made)
        said = b""
        while len(said) < len(PREFACE):
            piece = made.recv(len(PREFACE) - len(said))
            if not piece:
                return
            said += piece
        connection = Connection(made, patience=60).send(settings((MAX_CONCURRENT_STREAMS, 1000)))
        try:
            while not isinstance(found := connection.wait(), str):
                if found.kind == SETTINGS and not found.acknowledges:
                    connection.send(settings(flags=1))
                self.asked += found.kind == HEADERS
        except OSError:
            pass

    def break_off(self):
        for made in self.made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            made.shutdown(socket.SHUT_RD)
            made.close()


def test_a_server_that_is_lost_with_all_its_streams():
    """Each request is answered once, while another pod is served; nothing of the sessions stays, some clients being gone meanwhile."""
    server = Silent()
    with Proxy([server.port], "http2", listeners=2) as proxy:
        client, gone = Connection.to(proxy.address).handshake(), Connection.to(proxy.listeners[1]).handshake()
        for one, count in ((client, 250), (gone, 150)):
            for number in range(count):
                block = one.block([(":method", "POST"), (":scheme", "http"), (":authority", proxy.authority), (":path", "/")])
                one.send(frame(HEADERS, END_HEADERS, 1 + 2 * number, block))
        eventually(lambda: server.asked == 400, within=10, what="all requests at the server")
        server.listener.close()
        server.break_off()
        gone.close()
        for _ in range(250):
            found = client.until(HEADERS)
            assert not isinstance(found, str) and dict(client.decoder.decode(found.payload))[":status"] == "502", found
        client.close()

        def nothing_stays():
            after = proxy.metrics()
            return not any(after.sum(name, side=side) for name in ("weft_http2_streams_open", "weft_http2_sessions_open") for side in ("downstream", "upstream"))
        eventually(nothing_stays, within=5, what="no stream and no session")
