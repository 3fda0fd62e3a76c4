"""How a client's session ends with hundreds of streams open: by its close, by a reset, by its own fault, by the end of its speech."""

import socket
import struct

import pytest

from frames import END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PROTOCOL_ERROR, Connection, frame
from host import LOOPBACK, Proxy, free_port
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
