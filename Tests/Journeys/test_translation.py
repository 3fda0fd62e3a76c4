"""HTTP/1.1 on one side and HTTP/2 on the other, message by message: what either can say, the other hears."""

import itertools
import socket
import threading

import pytest
from h2.errors import ErrorCodes

from http1 import Backend, Client, Request, Wire, ok
from http2 import Backend2, Client2, ok2
from mesh import eventually

PORTS = itertools.count(32000)


# --- HTTP/2 client, HTTP/1.1 server ---------------------------------------------------------------------------------

def old_server(pod, answer=None, conversation=None):
    """An HTTP/1.1 server that, asked in HTTP/2 without warning, says so the way such servers do."""
    return Backend(pod, next(PORTS), answer, conversation)


@pytest.fixture
def old(shop):
    """It says ok."""
    with old_server(shop.stock) as made:
        yield made
        assert [v for v in made.violations if "PRI * HTTP/2.0" not in v] == []


def dial2(shop, backend, **options):
    """An HTTP/2 connection of the web pod."""
    return Client2(shop.web, backend.pod.ip, backend.port, **options)


def test_a_request_translated_to_http1(shop, old):
    """:authority becomes Host, crumbs of a cookie become one, te says at most trailers, names keep their case rules; the reply comes back as HTTP/2."""
    with dial2(shop, old) as client:
        reply = client.get("/a/b?c=d", ("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("x-twice", "1"), ("x-twice", "2"), ("user-agent", "h2"))
        assert (reply.status, reply.body) == (200, b"ok")
        assert reply["content-length"] == "2" and reply["connection"] is None
    request = old.last()
    assert (request.method, request.target, request["host"]) == ("GET", "/a/b?c=d", "shop.test")
    assert request.all("cookie") == ["a=1; b=2"] and request.all("x-twice") in (["1", "2"], ["1, 2"])
    assert request["user-agent"] == "h2" and not any(name.startswith(":") for name, _ in request.fields)
    assert shop.web.ip in request["x-forwarded-for"] and request["x-request-id"]


def test_hop_by_hop_fields_of_an_http1_reply_do_not_reach_http2(shop):
    """Connection, Keep-Alive, Transfer-Encoding and what Connection lists are forbidden in HTTP/2 (RFC 9113 §8.2.2)."""
    def answer(request):
        return b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\nX-Open: Yes\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    with old_server(shop.stock, answer) as backend, dial2(shop, backend) as client:
        reply = client.get("/")
        assert reply.body == b"ok" and reply["x-open"] == "Yes"
        assert {"connection", "keep-alive", "transfer-encoding", "x-secret"}.isdisjoint(name for name, _ in reply.fields)


def test_bodies_and_trailers_to_http1(shop):
    """With and without a length; trailers go both ways."""
    def answer(request):
        return b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n"
    with old_server(shop.stock, answer) as backend, dial2(shop, backend) as client:
        reply = client.get("/", ("te", "trailers"), ("trailer", "x-digest"), method="POST", content=b"c" * 100_000, trailers=[("x-digest", "abc")])
        assert reply.body == b"hello" and ("x-sum", "42") in reply.trailers
        request = backend.last()
        assert request.body == b"c" * 100_000 and ("x-digest", "abc") in request.trailers
        client.get("/", ("content-length", "5"), method="POST", content=b"12345")
        request = eventually(lambda: len(backend.requests) == 2 and backend.requests[1])
        assert (request["content-length"], request.body) == ("5", b"12345")


def test_replies_without_content_from_http1(shop):
    """HEAD, 204, 304, an empty body and one that ends with the connection."""
    def answer(request):
        if request.target == "/close":
            return [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end"]
        return {"/head": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "/204": b"HTTP/1.1 204 No Content\r\n\r\n", "/empty": ok(b""),
                "/304": b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 77\r\n\r\n'}[request.target]

    def conversation(connection):
        wire = Wire(connection)
        while (request := Request.read(wire)) is not None:
            said = answer(request)
            connection.sendall(said if isinstance(said, bytes) else said[0])
            if not isinstance(said, bytes):
                return
    with old_server(shop.stock, conversation=conversation) as backend, dial2(shop, backend) as client:
        head = client.get("/head", method="HEAD")
        assert (head.status, head["content-length"], head.body) == (200, "1000", b"")
        assert [(client.get(f"/{status}").status) for status in (204, 304)] == [204, 304]
        assert client.get("/empty").body == b""
        assert client.get("/close").body == b"until the end"


def test_interim_replies_from_http1(shop):
    """103 before the reply; 100 when the client waits for it."""
    def conversation(connection):
        wire = Wire(connection)
        while (request := Request.read(wire, whole=False)) is not None:
            if request["expect"]:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
            request.take_body(wire)
            connection.sendall(ok(request.body or b"ok"))
    with old_server(shop.stock, conversation=conversation) as backend, dial2(shop, backend) as client:
        reply = client.get("/")
        assert [(m[":status"], m["link"]) for m in reply.interim] == [("103", "</a.css>; rel=preload")] and reply.body == b"ok"
        asked = client.ask("/", ("expect", "100-continue"), ("content-length", "4"), method="PUT", end=False)
        client.until(lambda: any(m[":status"] == "100" for m in asked.interim), "100")
        client.send(asked.number, b"body", end=True)
        assert client.reply(asked).body == b"body"


def test_streams_do_not_wait_for_each_other(shop):
    """Ten requests on one connection of which the first is held: nine are answered meanwhile."""
    gate = threading.Event()

    def answer(request):
        if request.target == "/0":
            gate.wait(10)
        return ok(request.target.encode())
    with old_server(shop.stock, answer) as backend, dial2(shop, backend) as client:
        asked = [client.ask(f"/{number}") for number in range(10)]
        client.until(lambda: all(stream.ended for stream in asked[1:]), "nine replies")
        assert not asked[0].ended
        gate.set()
        assert client.reply(asked[0]).body == b"/0"


def test_a_reset_by_the_client_closes_towards_http1(shop):
    """CANCEL: the server, in the middle of its reply, sees its connection end."""
    seen = threading.Event()

    def conversation(connection):
        Request.read(Wire(connection))
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                connection.sendall(b"x" * 10_000)
        except OSError:
            seen.set()
    with old_server(shop.stock, conversation=conversation) as backend, dial2(shop, backend) as client:
        asked = client.ask("/")
        client.until(lambda: asked.began, "the reply's head")
        client.reset(asked.number)
        assert seen.wait(10), "the server never learned of it"


def test_a_close_in_the_middle_of_an_http1_reply_is_a_reset(shop):
    """Half a body is never a whole one."""
    def conversation(connection):
        Request.read(Wire(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
    with old_server(shop.stock, conversation=conversation) as backend, dial2(shop, backend) as client:
        reply = client.get("/")
        assert reply.reset is not None and not reply.ended and len(reply.body) <= 500
        with old_server(shop.stock) as other, dial2(shop, other) as another:
            assert another.get("/").status == 200


def test_a_stalled_reader_of_one_stream_leaves_the_others_alone(shop):
    """One stream's window stays shut with 50 MB behind it; small replies on the same connection keep coming."""
    with Client2(shop.web, shop.stock.ip, 8080) as client:
        stuck = client.ask("/s/50000000")
        client.unread.add(stuck.number)
        client.until(lambda: stuck.pieces and sum(map(len, stuck.pieces)) >= 900_000, "a full window")
        for _ in range(50):
            assert client.get("/s/1000").status == 200
        assert not stuck.over
        client.reset(stuck.number)
        assert client.get("/s/1000").status == 200


def test_the_proxys_own_replies_over_http2(shop):
    """Nobody there: 503 with its reason, as HTTP/2 says it, and the connection goes on."""
    with Client2(shop.web, shop.stock.ip, next(PORTS)) as client:
        for _ in range(2):
            reply = client.get("/")
            assert reply.status == 503 and reply["x-weft-reason"], reply.fields


def test_a_server_of_http1_is_remembered(shop, old):
    """Asked in HTTP/2 it answers otherwise; after that its requests are translated without asking again."""
    for _ in range(10):
        with dial2(shop, old) as client:
            assert client.get("/").status == 200
    assert len(old.requests) == 10
    assert len(old.violations) <= 2, f"asked in HTTP/2 {len(old.violations)} times"


# --- HTTP/1.1 client, HTTP/2 server ---------------------------------------------------------------------------------

@pytest.fixture
def declared(shop):
    """Makes an HTTP/2 server and a Service that declares it."""
    opened = []

    def make(answer=None, app_protocol=None, name="http2", **options):
        backend = Backend2(shop.stock, next(PORTS), answer, **options)
        opened.append(backend)
        service = f"new-{backend.port}"
        shop.service(service, [shop.stock], [{"name": name, "port": 80, "targetPort": backend.port, "appProtocol": app_protocol}])
        shop.apply()
        backend.address = shop.address(service)

        def known():
            with Client(shop.web, backend.address, 80) as client:
                return client.get("/warm").status == 200
        eventually(known, within=10, every=0.1)
        backend.requests.clear()
        return backend
    try:
        yield make
    finally:
        faults = [fault for backend in opened for fault in backend.faults]
        for backend in opened:
            backend.close()
    assert faults == []


@pytest.mark.parametrize("name, app_protocol", [("http2", None), ("http2-api", None), ("grpc", None), ("web", "kubernetes.io/h2c"), ("web", "http2"), ("web", "grpc")])
def test_a_declared_http2_port(shop, declared, name, app_protocol):
    """By the port's name or its appProtocol: an HTTP/1.1 request becomes an HTTP/2 one."""
    backend = declared(name=name, app_protocol=app_protocol)
    with Client(shop.web, backend.address, 80) as client:
        for number in range(3):
            reply = client.get(f"/{number}?q", "Cookie: a=1; b=2", "Connection: keep-alive, X-Private", "X-Private: 1", "X-Mixed-Case: Yes", "TE: gzip")
            assert (reply.status, reply.body, reply["content-length"]) == (200, b"ok", "2")
    request = backend.last()
    assert (request[":method"], request[":path"], request[":scheme"], request[":authority"]) == ("GET", "/2?q", "http", "shop.test")
    assert "; ".join(request.all("cookie")) == "a=1; b=2" and request["x-mixed-case"] == "Yes"
    names = {name for name, _ in request.fields}
    assert {"connection", "host", "x-private", "keep-alive", "transfer-encoding", "upgrade"}.isdisjoint(names) and request["te"] in (None, "trailers")
    assert backend.connections <= 2


def test_bodies_and_trailers_to_http2(shop, declared):
    """Chunks become DATA and DATA become chunks; trailers come along."""
    def answer(wire, stream):
        wire.head(stream.number, [(":status", "200"), ("trailer", "x-sum")])
        wire.send(stream.number, stream.body[::-1])
        wire.trailers(stream.number, [("x-sum", "42")])
    backend = declared(answer)
    with Client(shop.web, backend.address, 80) as client:
        client.send("POST /up HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\nTrailer: X-Digest\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Digest: abc\r\n\r\n")
        reply = client.reply()
        assert reply.body == b"dlrow olleh" and ("x-sum", "42") in reply.trailers
        request = backend.last()
        assert request.body == b"hello world" and ("x-digest", "abc") in request.trailers
        client.send(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 300000\r\n\r\n" + b"l" * 300_000)
        assert client.reply().body == b"l" * 300_000
        request = backend.requests[-1]
        assert request["content-length"] == "300000"
        assert client.get("/", method="HEAD").body == b""


def test_interim_replies_from_http2(shop, declared):
    """103 and 100 reach an HTTP/1.1 client."""
    def answer(wire, stream):
        if stream["expect"]:
            wire.head(stream.number, [(":status", "100")])
        wire.head(stream.number, [(":status", "103"), ("link", "</a.css>")])
        eventually(lambda: stream.ended)
        ok2(wire, stream, stream.body or b"ok")
    backend = declared(answer, early=True)
    with Client(shop.web, backend.address, 80) as client:
        client.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        early = client.reply(interim=True)
        assert (early.status, early["link"]) == (103, "</a.css>") and client.reply().body == b"ok"
        client.send("PUT / HTTP/1.1\r\nHost: shop\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert client.reply(interim=True).status == 100
        assert client.send("body").reply().body == b"body"


def test_a_reset_by_the_server_is_not_a_whole_reply(shop, declared):
    """Before the head it is an error of the gateway; in the middle of the content the connection is cut."""
    half_is_there = threading.Event()

    def answer(wire, stream):
        if stream[":path"] == "/warm":
            return ok2(wire, stream)
        if stream[":path"] == "/middle":
            wire.head(stream.number, [(":status", "200")])
            wire.send(stream.number, b"half")
            half_is_there.wait(10)
        return wire.reset(stream.number, ErrorCodes.INTERNAL_ERROR)
    backend = declared(answer)
    with Client(shop.web, backend.address, 80) as client:
        client.send("POST /early HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n")
        reply = client.reply()
        assert reply.status in (502, 503) and reply["x-weft-reason"]
    with Client(shop.web, backend.address, 80) as client:
        client.send("GET /middle HTTP/1.1\r\nHost: shop\r\n\r\n")
        assert b" 200 " in client.wire.until(b"half\r\n")
        half_is_there.set()
        rest = b""
        try:
            while piece := client.socket.recv(4096):
                rest += piece
        except ConnectionResetError:
            pass
        assert b"0\r\n" not in client.wire.buffer + rest, "half a reply looks whole"


def test_an_http1_client_that_goes_away_cancels_the_stream(shop, declared):
    """The server's stream is reset, its connection is not."""
    reached, wait = [], threading.Event()

    def answer(wire, stream):
        if stream[":path"] == "/slow":
            reached.append(stream)
            wait.wait(10)
        else:
            ok2(wire, stream)
    backend = declared(answer)
    client = Client(shop.web, backend.address, 80)
    client.send("GET /slow HTTP/1.1\r\nHost: shop\r\n\r\n")
    eventually(lambda: reached)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    eventually(lambda: reached[0].reset is not None, within=10, what="RST_STREAM")
    wait.set()
    assert reached[0].reset in (ErrorCodes.CANCEL, ErrorCodes.NO_ERROR)


def test_many_http1_clients_share_few_http2_connections(shop, declared):
    """Upstream connections are shared: fifty clients, a handful of connections."""
    backend = declared(lambda wire, stream: ok2(wire, stream))
    clients = [Client(shop.web, backend.address, 80) for _ in range(50)]
    for client in clients:
        client.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
    assert all(client.reply().status == 200 for client in clients)
    for client in clients:
        client.close()
    assert backend.connections <= 4, backend.connections
