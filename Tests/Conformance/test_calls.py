"""What is counted of a gRPC call: its messages, from whatever frames they come in."""

import struct

import pytest

from frames import DATA, HEADERS, Connection
from host import LOOPBACK, Proxy, free_port
from http1 import Backend
from http2 import Backend2
from mesh import eventually


def message(octets):
    """A message with its prefix."""
    return struct.pack(">BI", 0, len(octets)) + octets


SAID = message(b"one") + message(b"") + message(b"x" * 40_000) + message(b"last")
ANSWERED = message(b"y" * 30_000) + message(b"") + message(b"z") + b"\0\0"


def answer(wire, stream):
    """Two messages and a half one, in pieces that end anywhere."""
    wire.head(stream.number, [(":status", "200"), ("content-type", "application/grpc")])
    for start in range(0, len(ANSWERED), 7_001):
        wire.send(stream.number, ANSWERED[start:start + 7_001])
    wire.trailers(stream.number, [("grpc-status", "0")])


def answer1(asked):
    """The same by HTTP/1.1, in chunks."""
    pieces = [ANSWERED[start:start + 7_001] for start in range(0, len(ANSWERED), 7_001)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\ngrpc-status: 0\r\n\r\n"


@pytest.mark.parametrize("spoken", ["http2", "http"])
def test_messages_are_counted(spoken):
    """In frames of three bytes and of thousands; a message that never came whole is none. Other requests have no such series."""
    port = free_port()
    with (Backend2(LOOPBACK, port, answer) if spoken == "http2" else Backend(LOOPBACK, port, answer1)), Proxy([port], spoken) as proxy:
        with Connection.to(proxy.address) as client:
            client.handshake()
            block = client.block([(":method", "POST"), (":scheme", "http"), (":authority", proxy.authority), (":path", "/a/b"),
                                  ("content-type", "application/grpc"), ("te", "trailers")])
            client.headers(1, block, end=False)
            for start in range(0, 30, 3):
                client.data(1, SAID[start:start + 3])
            for start in range(30, len(SAID), 9_000):
                client.data(1, SAID[start:start + 9_000], end=start + 9_000 >= len(SAID))
            octets = b""
            while True:
                found = client.wait()
                assert not isinstance(found, str), found
                octets += found.payload if found.kind == DATA else b""
                if found.kind == HEADERS and found.ends:
                    break
            assert octets == ANSWERED
        after = eventually(lambda: proxy.metrics().sum("istio_requests_total", request_protocol="grpc") == 1 and proxy.metrics(), within=5)
        assert after.sum("istio_request_messages_total") == after.sum("istio_request_messages_total", request_protocol="grpc", grpc_response_status=0) == 4
        assert after.sum("istio_response_messages_total") == after.sum("istio_response_messages_total", response_code=200) == 3
