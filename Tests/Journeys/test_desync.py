"""Smuggling: two readers of one byte stream must never disagree. Whatever the proxy lets through, a strict backend
reads exactly as the proxy judged it; whatever could be read in two ways is refused."""

import itertools

import pytest

from http1 import Backend, Client, Violation
from mesh import eventually

PORTS = itertools.count(19000)

G = "GET / HTTP/1.1\r\nHost: shop\r\n"
P = "POST / HTTP/1.1\r\nHost: shop\r\n"
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n"

REFUSED = {
    "CL and TE": f"{P}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "TE and CL": f"{P}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n{SMUGGLED}",
    "two different CL": f"{P}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "CL list that differs": f"{P}Content-Length: 5, 6\r\n\r\nhello!",
    "repeated CL": f"{P}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "CL with sign": f"{P}Content-Length: +5\r\n\r\nhello",
    "CL negative": f"{P}Content-Length: -1\r\n\r\n",
    "CL hexadecimal": f"{P}Content-Length: 0x5\r\n\r\nhello",
    "CL with space inside": f"{P}Content-Length: 1 0\r\n\r\nhello",
    "CL beyond 64 bits": f"{P}Content-Length: 18446744073709551617\r\n\r\nh",
    "CL empty": f"{P}Content-Length: \r\n\r\n",
    "TE unknown": f"{P}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE chunked twice": f"{P}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "TE chunked not last": f"{P}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "TE in two fields": f"{P}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "TE with vertical tab": f"{P}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "TE in HTTP/1.0": "POST / HTTP/1.0\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before colon": f"{P}Content-Length : 5\r\n\r\nhello",
    "tab before colon": f"{P}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": f"{P}X-A: b\r\n Content-Length: 5\r\n\r\nhello",
    "obs-fold of TE": f"{P}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "field before the first": "GET / HTTP/1.1\r\n Host: shop\r\n\r\n",
    "bare LF in the head": "GET / HTTP/1.1\nHost: shop\n\n",
    "bare LF after a field": "GET / HTTP/1.1\r\nHost: shop\nX-A: b\r\n\r\n",
    "bare CR in a value": f"{G}X-A: b\rc\r\n\r\n",
    "NUL in a value": f"{G}X-A: b\0c\r\n\r\n",
    "control character in a name": f"{G}X\x01A: b\r\n\r\n",
    "control character in a value": f"{G}X-A: \x07\r\n\r\n",
    "empty field name": f"{G}: b\r\n\r\n",
    "field without colon": f"{G}nonsense\r\n\r\n",
    "no Host": "GET / HTTP/1.1\r\n\r\n",
    "two Hosts": "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "Host with space": "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "Host with a list": "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
    "Host with user": "GET / HTTP/1.1\r\nHost: user@shop\r\n\r\n",
    "space in the target": "GET /a b HTTP/1.1\r\nHost: shop\r\n\r\n",
    "two spaces": "GET  / HTTP/1.1\r\nHost: shop\r\n\r\n",
    "control character in the target": "GET /\x01 HTTP/1.1\r\nHost: shop\r\n\r\n",
    "unknown version": "GET / HTTP/1.2x\r\nHost: shop\r\n\r\n",
}
BAD_CHUNKS = {
    "size not hexadecimal": "zz\r\nhello\r\n0\r\n\r\n",
    "size with 0x": "0x5\r\nhello\r\n0\r\n\r\n",
    "size with sign": "+5\r\nhello\r\n0\r\n\r\n",
    "size empty": "\r\nhello\r\n0\r\n\r\n",
    "size beyond 64 bits": "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "size with trailing space": "5 \r\nhello\r\n0\r\n\r\n",
    "bare LF after size": "5\nhello\r\n0\r\n\r\n",
    "data longer than size": "5\r\nhelloXX0\r\n\r\n",
    "bare LF after data": "5\r\nhello\n0\r\n\r\n",
    "bare CR in an extension": "5;a=\rb\r\nhello\r\n0\r\n\r\n",
    "LF in an extension": "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "trailer that frames": "0\r\nContent-Length: 5\r\n\r\n",
    "trailer with bare LF": "0\r\nX: y\n\r\n",
}


@pytest.fixture(scope="module", params=["same-node", "other-node"])
def backend(request, shop):
    """The strict recorder. Its port is declared HTTP, so nothing may slip by as opaque TCP."""
    pod = shop.cart if request.param == "same-node" else shop.stock
    port = next(PORTS)
    name = f"strict-{pod.name}"
    address, _ = shop.service(name, [pod], [{"name": "http", "port": 80, "targetPort": port, "appProtocol": "http"}])
    with Backend(pod, port) as made:
        made.address = address
        shop.apply()
        eventually(lambda: reach(shop, made), within=5, every=0.1, what=f"service {name}")
        yield made


def reach(shop, backend):
    with Client(shop.web, backend.address, 80) as client:
        return client.get("/reachable").status == 200


def consequences(shop, backend, text):
    """Sends `text`; returns the statuses that came back and what the backend read because of it."""
    before, said = len(backend.requests), len(backend.violations)
    statuses = []
    with Client(shop.web, backend.address, 80, timeout=3) as client:
        client.send(text)
        try:
            while True:
                statuses.append(client.reply().status)
                if statuses[-1] >= 400:
                    assert client.ended(), "after a refusal the connection ends: what follows cannot be trusted"
                    break
        except (ConnectionError, TimeoutError, OSError, Violation):
            pass
    return statuses, backend.requests[before:], backend.violations[said:]


@pytest.mark.parametrize("shape", REFUSED)
def test_a_head_that_could_be_read_in_two_ways_is_refused(shop, backend, shape):
    """Refused with 400 (or 501/505 where that is the exact word), before one byte reaches the backend."""
    statuses, read, violations = consequences(shop, backend, REFUSED[shape])
    assert read == [] and violations == [], "nothing of it may reach the backend"
    assert len(statuses) == 1 and statuses[0] in (400, 501, 505), statuses


@pytest.mark.parametrize("shape", BAD_CHUNKS)
def test_a_body_with_bad_framing_never_becomes_a_request(shop, backend, shape):
    """The head may be on its way already, but the backend must not take the rest for a whole message."""
    statuses, read, violations = consequences(shop, backend, f"{P}Transfer-Encoding: chunked\r\n\r\n{BAD_CHUNKS[shape]}{SMUGGLED}")
    assert not [r for r in read if r.target == "/smuggled"], "smuggled"
    assert read == [], "a message with bad framing must not be complete at the backend"
    assert not [s for s in statuses if s < 400], statuses
    assert all("ended" in v for v in violations), violations


@pytest.mark.parametrize("split", [1, 7, 64])
def test_what_passes_is_what_was_judged(shop, backend, split):
    """Odd but unambiguous requests, cut anywhere: each arrives once, whole, and in order."""
    good = [
        f"{G}\r\n",
        f"{P}Content-Length: 5\r\n\r\nhello",
        f"{P}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        f"{P}Transfer-Encoding: Chunked\r\n\r\n5;name=value\r\nhello\r\n0\r\n\r\n",
        f"{P}Content-Length: 0\r\n\r\n",
        f"{P}content-length:   7  \r\n\r\nGET / H",
        "OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n",
        f"{G}X-Empty:\r\nX-Odd: a:b;c=\"d\"\r\n\r\n",
        f"{P}Content-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}",
    ]
    before, said = len(backend.requests), len(backend.violations)
    stream = "".join(good)
    with Client(shop.web, backend.address, 80) as client:
        for start in range(0, len(stream), split):
            client.send(stream[start:start + split])
        replies = []
        while len(replies) < len(good) and (not replies or replies[-1].status == 200):
            replies.append(client.reply())
    statuses = [reply.status for reply in replies]
    assert statuses == [200] * len(good), vars(replies[-1])
    read = backend.requests[before:]
    assert [r.body for r in read] == [b"", b"hello", b"hello", b"hello", b"", b"GET / H", b"", b"", SMUGGLED.encode()]
    assert backend.violations[said:] == []
    assert "/smuggled" not in {r.target for r in backend.requests}


def test_a_chunked_body_may_come_octet_by_octet(shop, backend):
    """Nothing lies behind or before it, so the proxy reads it as it comes: in the middle of each of its lines."""
    before = len(backend.requests)
    for _ in range(20):
        with Client(shop.web, backend.address, 80) as client:
            for octet in f"{P}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n":
                client.send(octet)
            assert client.reply().status == 200
    assert [request.body for request in backend.requests[before:]] == [b"hello"] * 20


def test_a_lying_backend_does_not_poison_the_pool(shop):
    """Extra bytes after a reply belong to nobody: that connection is not used again."""
    port = next(PORTS)

    def answer(request):
        if request.target == "/lie":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
        return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean"
    with Backend(shop.cart, port, answer) as backend, Client(shop.web, shop.cart.ip, port) as client:
        assert client.get("/lie").body == b"ok"
        for _ in range(5):
            assert client.get("/after").body == b"clean"
        assert len(backend.requests) == 6


@pytest.mark.parametrize("reply", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length : 2\r\n\r\nok",
    b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    b"nonsense\r\n\r\n",
], ids=["CL and TE", "two CL", "space before colon", "status", "not HTTP"])
def test_a_reply_that_could_be_read_in_two_ways_is_not_passed_on(shop, reply):
    """The client gets a 502 or 503 of the proxy's own, never the ambiguous bytes."""
    with Backend(shop.cart, next(PORTS), lambda request: reply) as backend, Client(shop.web, shop.cart.ip, backend.port) as client:
        answer = client.get("/")
        assert answer.status in (502, 503) and answer["x-weft-reason"]
