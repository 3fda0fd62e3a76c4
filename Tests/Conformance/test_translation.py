"""HTTP/2 to HTTP/1.1: no header block may become a message that two readers understand differently.

A strict recorder stands behind the proxy. Whatever could be read in two ways is refused before one octet of it arrives,
and the other streams of the connection never notice.
"""

import pytest

from frames import CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, frame, literal
from host import LOOPBACK, Proxy, free_port
from http1 import Backend, ok
from judge import Judge
from mesh import eventually

SMUGGLED = "GET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n"


@pytest.fixture(scope="module")
def backend():
    """The strict recorder."""
    with Backend(LOOPBACK, free_port(), lambda asked: ok(b"fine")) as made:
        yield made


@pytest.fixture(scope="module")
def proxy(backend):
    """Before it; its port is declared HTTP, so that nothing slips by as opaque TCP. It has learned that the recorder speaks HTTP/1.1."""
    with Proxy([backend.port], "http") as made:
        with Judge.to(made.address) as first:
            first.peer = made
            first.handshake().request().responds()
        backend.requests.clear()
        backend.violations.clear()
        yield made


@pytest.fixture
def client(proxy):
    """A connection that has shaken hands."""
    with Judge.to(proxy.address) as made:
        made.peer, made.exact = proxy, True
        yield made.handshake()


def block(**pseudo):
    """Pseudo fields as literals; `rest` is a list of further fields, raw octets pass as they are."""
    rest = pseudo.pop("rest", [])
    fields = {"method": "GET", "scheme": "http", "authority": "shop.test", "path": "/"} | pseudo
    written = b"".join(literal(f":{name}", value) for name, value in fields.items() if value is not None)
    return written + b"".join(one if isinstance(one, bytes) else literal(*one) for one in rest)


def get(*rest, **pseudo):
    """A request without content."""
    return [frame(HEADERS, END_HEADERS | END_STREAM, 1, block(rest=list(rest), **pseudo))]


def post(*rest, body=b"hello", trailers=None, **pseudo):
    """A request with content."""
    head = frame(HEADERS, END_HEADERS, 1, block(rest=list(rest), **{"method": "POST", **pseudo}))
    if trailers is None:
        return [head, frame(DATA, END_STREAM, 1, body)]
    return [head, frame(DATA, 0, 1, body), frame(HEADERS, END_HEADERS | END_STREAM, 1, b"".join(literal(*one) for one in trailers))]


REFUSED = {
    "LF in a value": get(("x-a", "b\nx-b: c")),
    "CR in a value": get(("x-a", "b\rc")),
    "CRLF and a field in a value": get(("x-a", "b\r\ncontent-length: 5")),
    "CRLF and a request in a value": get(("x-a", "b\r\n\r\n" + SMUGGLED)),
    "NUL in a value": get(("x-a", "b\0c")),
    "control character in a value": get(("x-a", "b\x07c")),
    "space before a value": get(("x-a", " b")),
    "tab behind a value": get(("x-a", "b\t")),
    "CRLF in a name": get(("x-a\r\nx-b", "c")),
    "colon in a name": get(("x-a: b", "c")),
    "colon at the start of a name": get((":x-a", "c")),
    "space in a name": get(("x a", "b")),
    "space behind a name": get(("transfer-encoding ", "chunked")),
    "NUL in a name": get(("x\0a", "b")),
    "uppercase name": get(("Transfer-Encoding", "chunked")),
    "name beyond ASCII": get(("x-\xe9", "b")),
    "empty name": get(("", "b")),
    "transfer-encoding": post(("transfer-encoding", "chunked")),
    "transfer-encoding and content-length": post(("content-length", "5"), ("transfer-encoding", "chunked")),
    "connection": get(("connection", "close")),
    "connection that names a field": get(("connection", "x-a"), ("x-a", "b")),
    "keep-alive": get(("keep-alive", "timeout=5")),
    "proxy-connection": get(("proxy-connection", "keep-alive")),
    "upgrade": get(("upgrade", "websocket")),
    "te: gzip": get(("te", "gzip")),
    "te: trailers, chunked": get(("te", "trailers, chunked")),
    "content-length twice": post(("content-length", "5"), ("content-length", "6")),
    "content-length as a list": post(("content-length", "5, 6")),
    "content-length with sign": post(("content-length", "+5")),
    "content-length negative": post(("content-length", "-5")),
    "content-length hexadecimal": post(("content-length", "0x5")),
    "content-length empty": post(("content-length", "")),
    "content-length beyond 64 bits": post(("content-length", "18446744073709551621")),
    "content-length and no content": get(("content-length", "5")),
    "space in the path": get(path="/a b"),
    "CRLF in the path": get(path="/ HTTP/1.1\r\nhost: evil.test\r\n\r\n" + SMUGGLED),
    "LF in the path": get(path="/a\nb"),
    "tab in the path": get(path="/a\tb"),
    "NUL in the path": get(path="/a\0b"),
    "fragment in the path": get(path="/a#b"),
    "path beyond ASCII": get(path=b"/\xe9"),
    "no slash before the path": get(path="a"),
    "absolute form as path": get(path="http://evil.test/a"),
    "asterisk as path of a GET": get(path="*"),
    "empty path": get(path=""),
    "no path": get(path=None),
    "space in the method": get(method="GET /a"),
    "CRLF in the method": get(method="GET / HTTP/1.1\r\nx-a: b\r\n\r\nGET"),
    "empty method": get(method=""),
    "no method": get(method=None),
    "no scheme": get(scheme=None),
    "CRLF in the scheme": get(scheme="http\r\nx-a: b"),
    "space in the authority": get(authority="shop.test evil"),
    "CRLF in the authority": get(authority="shop.test\r\nx-a: b"),
    "user in the authority": get(authority="user@shop.test"),
    "path in the authority": get(authority="shop.test/a"),
    "list as authority": get(authority="shop.test,evil.test"),
    "two authorities": get(literal(":authority", "evil.test")),
    "two hosts": get(("host", "a.test"), ("host", "b.test"), authority=None),
    "host with CRLF": get(("host", "a.test\r\nx-a: b"), authority=None),
    "CONNECT with a path": get(method="CONNECT"),
    "CONNECT without authority": get(method="CONNECT", authority=None, path=None, scheme=None),
    ":protocol without CONNECT": [frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(":protocol", "websocket") + block())],
}


def outcome(client, frames):
    """Sends them on stream 1: "reset", the status of the answer, or how the connection ended. Stream 3 says when to stop waiting."""
    client.send(b"".join(frames))
    client.headers(3, block(path="/after"))
    said, after = None, False
    while not (said and after):
        found = client.wait(5)
        if isinstance(found, str):
            return said or found, after
        if found.kind == GOAWAY:
            return f"GOAWAY {found.code}", after
        if found.kind == RST_STREAM and found.stream == 1:
            said = said or "reset"
        if found.kind == HEADERS:
            status = dict(client.decoder.decode(found.payload)).get(":status")
            if found.stream == 1:
                said = said or int(status)
            elif found.stream == 3:
                after = int(status) == 200
    return said, after


@pytest.mark.parametrize("shape", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(client, backend, shape):
    """Reset, or answered with the exact 4xx; before one octet reaches the backend."""
    before, said = len(backend.requests), len(backend.violations)
    result, after = outcome(client, REFUSED[shape])
    assert result == "reset" or result in (400, 414, 431, 501), result
    assert after, "another stream of the connection must not notice"
    assert [r.target for r in backend.requests[before:]] == ["/after"] and backend.violations[said:] == []


UNFINISHED = {
    "content longer than content-length": post(("content-length", "2"), body=b"he" + SMUGGLED.encode()),
    "content shorter than content-length": post(("content-length", "50"), body=b"hello"),
    "pseudo field in trailers": post(trailers=[(":path", "/smuggled")]),
    "CRLF in trailers": post(trailers=[("x-a", "b\r\n\r\n" + SMUGGLED)]),
    "connection in trailers": post(trailers=[("connection", "close")]),
}


@pytest.mark.parametrize("shape", UNFINISHED)
def test_a_message_that_turns_out_malformed_never_is_complete(client, backend, shape):
    """Its head may be on its way already; the backend must not take the rest for a whole message."""
    before, said = len(backend.requests), len(backend.violations)
    result, after = outcome(client, UNFINISHED[shape])
    assert result == "reset" or result in (400, 431), result
    assert after, "another stream of the connection must not notice"
    assert [r.target for r in backend.requests[before:]] == ["/after"]
    assert all("ended" in v or "chunk" in v for v in backend.violations[said:]), backend.violations[said:]


def test_content_behind_content_length_0_goes_nowhere(client, backend):
    """The head alone is a whole message to HTTP/1.1, and may have arrived as one; of the content nothing may."""
    before, said = len(backend.requests), len(backend.violations)
    result, after = outcome(client, post(("content-length", "0"), body=SMUGGLED.encode()))
    assert result in ("reset", 400, 200) and after
    assert [r.body for r in backend.requests[before:]] in ([b"", b""], [b""]) and backend.violations[said:] == []
    assert "/smuggled" not in {r.target for r in backend.requests}


PASSES = {
    "plain": (get(), "GET", "/", b""),
    "query": (get(path="/a?b=c&d=%20"), "GET", "/a?b=c&d=%20", b""),
    "OPTIONS *": (get(method="OPTIONS", path="*"), "OPTIONS", "*", b""),
    "own method": (get(method="PURGE"), "PURGE", "/", b""),
    "te: trailers": (get(("te", "trailers")), "GET", "/", b""),
    "content-length": (post(("content-length", "5")), "POST", "/", b"hello"),
    "no content-length": (post(), "POST", "/", b"hello"),
    "a request as content": (post(("content-length", str(len(SMUGGLED))), body=SMUGGLED.encode()), "POST", "/", SMUGGLED.encode()),
    "content of a GET": (post(method="GET"), "GET", "/", b"hello"),
    "empty value": (get(("x-a", "")), "GET", "/", b""),
    "value beyond ASCII": (get(("x-a", b"\xe9")), "GET", "/", b""),
    "odd value": (get(("x-a", "a:b;c=\"d\", e")), "GET", "/", b""),
    "host alone": (get(("host", "shop.test"), authority=None), "GET", "/", b""),
    "host and authority agree": (get(("host", "shop.test")), "GET", "/", b""),
    "trailers": (post(trailers=[("x-sum", "1")]), "POST", "/", b"hello"),
    "block in pieces": ([frame(HEADERS, END_STREAM, 1)] + [frame(CONTINUATION, 0, 1, block()[at:at + 16]) for at in range(0, len(block()), 16)] +
                        [frame(CONTINUATION, END_HEADERS, 1)], "GET", "/", b""),
}


@pytest.mark.parametrize("shape", PASSES)
def test_what_passes_arrives_as_it_was_said(client, backend, shape):
    """Odd but unambiguous: arrives once and whole, with one Host."""
    frames, method, target, body = PASSES[shape]
    before, said = len(backend.requests), len(backend.violations)
    assert outcome(client, frames) == (200, True)
    arrived = sorted(backend.requests[before:], key=lambda request: request.target == "/after")
    assert backend.violations[said:] == [] and len(arrived) == 2
    assert (arrived[0].method, arrived[0].target, arrived[0].body, arrived[0].all("host")) == (method, target, body, ["shop.test"])


def test_authority_wins_over_host(client, backend):
    """Refused, or the authority alone arrives (RFC 9113 §8.3.1)."""
    before = len(backend.requests)
    result, after = outcome(client, get(("host", "evil.test")))
    assert after and result in ("reset", 400, 200)
    for request in backend.requests[before:]:
        assert request.all("host") == ["shop.test"]


def test_without_authority_the_destination_is_the_host(client, backend):
    """HTTP/1.1 must name one (RFC 9112 §3.2): where the client wanted to go is the only one there is."""
    before = len(backend.requests)
    assert outcome(client, get(authority=None)) == (200, True)
    first = next(r for r in backend.requests[before:] if r.target == "/")
    assert first.all("host") == [client.peer.authority]


def test_cookies_become_one_field(client, backend):
    """RFC 9113 §8.2.3."""
    before = len(backend.requests)
    assert outcome(client, get(("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3"))) == (200, True)
    first = next(r for r in backend.requests[before:] if r.target == "/")
    assert first.all("cookie") == ["a=1; b=2; c=3"]


def test_what_was_refused_was_counted(proxy, client):
    """By reason."""
    before = proxy.metrics().sum("weft_bad_requests_total", reason="field")
    outcome(client, REFUSED["uppercase name"])
    eventually(lambda: proxy.metrics().sum("weft_bad_requests_total", reason="field") > before, within=5, what="a counter of refusals")
