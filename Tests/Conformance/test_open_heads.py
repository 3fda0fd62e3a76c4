"""Header blocks that begin and do not end. Nothing else may pass on their connection, so they have the time of a head and no more."""

import time

import pytest

from frames import CONTINUATION, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, SILENCE, Connection, frame
from host import LOOPBACK, Proxy, free_port
from http1 import Backend, ok
from test_upstream import Server, ask_http2

#: Milliseconds; everything else waits for minutes.
HEAD = {"headMilliseconds": 500}


def request(client, proxy, path="/"):
    """The block of a GET."""
    return client.block([(":method", "GET"), (":scheme", "http"), (":authority", proxy.authority), (":path", path)])


def begun(client, block):
    """HEADERS without END_HEADERS."""
    client.send(frame(HEADERS, END_STREAM, 1, block))


def cut(client, block):
    """HEADERS of which half has come."""
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block)[:9 + len(block) // 2])


def trickled(client, block):
    """A piece of it with every breath: the block has its time, not each piece."""
    client.send(frame(HEADERS, END_STREAM, 1, block))
    client.patience, patience = 0.1, client.patience
    for _ in range(30):
        if isinstance(client.wait(), str) is False or client.ended:
            break
        client.send(frame(CONTINUATION, 0, 1))
    client.patience = patience


@pytest.fixture(scope="module")
def proxy():
    """Before an HTTP/1.1 server."""
    with Backend(LOOPBACK, free_port(), lambda asked: ok(b"good")) as backend, Proxy([backend.port], "http", limits=HEAD) as made:
        yield made


@pytest.mark.parametrize("open_a_block", [begun, cut, trickled], ids=lambda deed: deed.__name__)
def test_a_block_that_never_ends(proxy, open_a_block):
    """GOAWAY, and the connection closes; counted as what it is."""
    before = proxy.metrics()
    with Connection.to(proxy.address) as client:
        client.handshake()
        since = time.monotonic()
        open_a_block(client, request(client, proxy))
        told = [found for found in client.seen if found.kind == GOAWAY] or [client.until(GOAWAY)]
        assert not isinstance(told[0], str) and told[0].code == ENHANCE_YOUR_CALM, told[0]
        assert 0.4 < time.monotonic() - since < 4
        assert isinstance(client.until(None), str), "closed behind it"
    after = proxy.metrics()
    for name, labels in (("weft_http2_faults_total", {"reason": "head_timeout", "side": "downstream"}), ("weft_limits_reached_total", {"limit": "head_timeout"})):
        assert after.sum(name, **labels) - before.sum(name, **labels) == 1, name


def test_a_block_that_ends_late_but_in_time(proxy):
    """Each block has its own time, and a connection at rest needs none."""
    with Connection.to(proxy.address) as client:
        client.handshake()
        for stream in (1, 3, 5):
            block = request(client, proxy)
            client.send(frame(HEADERS, END_STREAM, stream, block[:3]))
            assert client.until(HEADERS, 0.3) == SILENCE
            client.continuation(stream, block[3:])
            found = client.until(HEADERS)
            assert not isinstance(found, str) and found.stream == stream, found
        client.patience = 1.2
        assert client.until(GOAWAY) == SILENCE


def test_a_server_that_does_not_end_its_head():
    """Its requests fail, and the endpoint is served again."""
    server = Server()
    with Proxy([server.port], "http2", hosts=1, limits=HEAD) as proxy:
        since = time.monotonic()
        answer = ask_http2(proxy, "/bad/header_block_that_does_not_end")
        assert answer is not None and answer[0] == 502 and time.monotonic() - since < 4
        assert proxy.metrics().sum("weft_http2_faults_total", reason="head_timeout", side="upstream") == 1
        assert ask_http2(proxy, "/") == (200, b"good")
    server.close()
