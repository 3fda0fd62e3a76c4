"""HTTP/1.1 through the mesh, message by message (RFC 9110, 9112). The backend is strict and remembers."""

import itertools
import re
import socket
import threading
import time

import pytest

from http1 import Backend, Client, Request, Wire, ok
from mesh import eventually

PORTS = itertools.count(18000)


@pytest.fixture(params=["same-node", "other-node"])
def server(request, shop):
    """The pod that answers: on the caller's node, or on the other one."""
    return shop.cart if request.param == "same-node" else shop.stock


@pytest.fixture
def backend(server):
    """A backend that says ok."""
    with Backend(server, next(PORTS)) as made:
        yield made
        assert made.violations == []


def dial(shop, backend, pod=None):
    """A connection of the web pod towards it."""
    return Client(pod or shop.web, backend.pod.ip, backend.port)


def scripted(pod, answer=None, conversation=None):
    """A backend with its own mind."""
    return Backend(pod, next(PORTS), answer, conversation)


def test_keep_alive(shop, backend):
    """Many requests on one connection; the backend sees one connection too, not fifty."""
    with dial(shop, backend) as client:
        for number in range(50):
            reply = client.get(f"/{number}")
            assert (reply.status, reply.body) == (200, b"ok")
    assert [request.target for request in backend.requests] == [f"/{n}" for n in range(50)]
    assert backend.connections <= 2


def test_pipelining_keeps_the_order(shop, server):
    """Ten requests in one segment, slow and quick ones mixed: the answers come in the order of the questions."""
    def answer(request):
        if request.target.endswith(("3", "5")):
            time.sleep(0.05)
        return ok(request.target.encode())
    with scripted(server, answer) as backend, dial(shop, backend) as client:
        client.send("".join(f"GET /{n} HTTP/1.1\r\nHost: shop\r\n\r\n" for n in range(10)))
        assert [client.reply().body for _ in range(10)] == [f"/{n}".encode() for n in range(10)]
        assert backend.violations == []


def test_a_request_in_single_bytes(shop, backend):
    """The slowest typist is understood."""
    with dial(shop, backend) as client:
        for byte in b"POST /slow HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc":
            client.send(bytes([byte]))
        assert client.reply().status == 200
    assert backend.last().body == b"abc"


def test_chunked_both_ways_with_trailers(shop, server):
    """Bodies of unknown length and what comes after them arrive whole, in both directions."""
    def answer(request):
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (b"first", b"second" * 5000))
        return b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\nX-Sum: 42\r\n\r\n"
    with scripted(server, answer) as backend, dial(shop, backend) as client:
        client.send("POST /up HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\nTrailer: X-Digest\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Digest: abc\r\n\r\n")
        reply = client.reply()
        assert reply.body == b"first" + b"second" * 5000
        assert ("x-sum", "42") in reply.trailers
        assert backend.last().body == b"hello world"
        assert ("x-digest", "abc") in backend.last().trailers
        assert client.get("/next").status == 200, "the connection goes on"
        assert backend.violations == []


def test_expect_100_continue(shop, server):
    """The backend's 100 reaches the client before the body is sent; a refusal spares the body."""
    def conversation(connection):
        wire = Wire(connection)
        while (request := Request.read(wire, whole=False)) is not None:
            if request.target == "/refused":
                connection.sendall(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.take_body(wire)
            connection.sendall(ok(request.body))
    with scripted(server, conversation=conversation) as backend:
        with dial(shop, backend) as client:
            client.send("PUT /up HTTP/1.1\r\nHost: shop\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            assert client.reply(interim=True).status == 100
            assert client.send("body").reply().body == b"body"
        with dial(shop, backend) as client:
            client.send("PUT /refused HTTP/1.1\r\nHost: shop\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            assert client.reply(interim=True).status == 417


def test_replies_without_a_body(shop, server):
    """HEAD, 204 and 304 may speak of lengths without sending any; the next reply is still found."""
    def answer(request):
        return {
            "/head": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
            "/304": b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 77\r\n\r\n',
        }.get(request.target) or ok(b"whole")
    with scripted(server, answer) as backend, dial(shop, backend) as client:
        head = client.get("/head", method="HEAD")
        assert (head.status, head["content-length"]) == (200, "1000")
        assert client.get("/204").status == 204
        assert client.get("/304").status == 304
        assert client.get("/rest").body == b"whole"


def test_http_1_0_clients(shop, server):
    """An old client gets what it can read: no chunks; and its connection ends unless it asked otherwise."""
    def answer(request):
        if request.target == "/chunked":
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        return ok(b"plain")
    with scripted(server, answer) as backend:
        with dial(shop, backend) as client:
            reply = client.send("GET /chunked HTTP/1.0\r\nHost: shop\r\n\r\n").reply()
            assert (reply.body, reply["transfer-encoding"]) == (b"hello", None)
        with dial(shop, backend) as client:
            reply = client.send("GET /x HTTP/1.0\r\nHost: shop\r\n\r\n").reply()
            assert reply.body == b"plain" and client.ended()
        with dial(shop, backend) as client:
            reply = client.send("GET /x HTTP/1.0\r\nHost: shop\r\nConnection: keep-alive\r\n\r\n").reply()
            assert reply["connection"].lower() == "keep-alive"
            assert client.send("GET /x HTTP/1.0\r\nHost: shop\r\n\r\n").reply().body == b"plain"


def test_http_1_0_servers_and_bodies_until_close(shop, server):
    """A body that ends with the connection arrives whole."""
    def conversation(connection):
        Request.read(Wire(connection))
        connection.sendall(b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\n")
        connection.sendall(b"until the end" * 1000)
    with scripted(server, conversation=conversation) as backend, dial(shop, backend) as client:
        assert client.get("/").body == b"until the end" * 1000


# The close comes within 20 ms of the reply, unless the server has no core to do it on.
@pytest.mark.exclusive
def test_a_server_that_closes_after_each_reply_unannounced(shop, server):
    """It answers as if it kept the connection, then closes. A POST that follows at once cannot be sent twice, and must not need to be."""
    def conversation(connection):
        Request.read(Wire(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    with scripted(server, conversation=conversation) as backend, dial(shop, backend) as client:
        for _ in range(200):
            client.send("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nbody")
            assert client.reply().status == 200


def test_absolute_form(shop, backend):
    """A proxy-style target is understood; Host comes from it, and the backend gets origin form."""
    with dial(shop, backend) as client:
        client.send(f"GET http://{backend.pod.ip}:{backend.port}/a/b?c=d HTTP/1.1\r\nHost: else.where\r\n\r\n")
        assert client.reply().status == 200
    request = backend.last()
    assert request.target == "/a/b?c=d" and request["host"] == f"{backend.pod.ip}:{backend.port}"


def test_hop_by_hop_fields_stay_on_their_hop(shop, server):
    """Connection, what it lists, Keep-Alive, Proxy-Connection, Upgrade: none of it crosses, in either direction."""
    def answer(request):
        return ok(b"", "Connection: X-Secret", "X-Secret: 1", "Keep-Alive: timeout=5", "X-Open: 1")
    with scripted(server, answer) as backend, dial(shop, backend) as client:
        reply = client.get("/", "Connection: keep-alive, X-Private", "X-Private: 1", "Keep-Alive: 300", "Proxy-Connection: keep-alive", "TE: gzip", "X-Public: 1")
        request = backend.last()
        assert request["x-public"] == "1" and reply["x-open"] == "1"
        for name in ("x-private", "keep-alive", "proxy-connection"):
            assert request[name] is None, name
        assert (request["te"] or "trailers") == "trailers"
        assert reply["x-secret"] is None and reply["keep-alive"] is None


def test_identity_and_trace_fields(shop, backend):
    """x-forwarded-*, x-request-id and traceparent are created, or passed on when the caller brought them."""
    with dial(shop, backend) as client:
        client.get("/1")
        made = backend.last()
        client.get("/2", "X-Request-Id: mine", "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Tracestate: a=b", "X-Forwarded-For: 203.0.113.9")
        given = backend.last()
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", made["x-request-id"])
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", made["traceparent"])
    assert shop.web.ip in made["x-forwarded-for"] and made["x-forwarded-proto"] == "http"
    assert given["x-request-id"] == "mine" and given["tracestate"] == "a=b"
    assert given["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert given["x-forwarded-for"].startswith("203.0.113.9") and shop.web.ip in given["x-forwarded-for"]
    assert len(given.all("traceparent")) == len(given.all("x-request-id")) == 1


def test_a_large_body_at_constant_memory(shop, server):
    """256 MB down and 64 MB up: the proxy's memory does not follow."""
    before = memory(server.node)
    grown = []
    seen = threading.Event()
    def watch():
        while not seen.wait(0.05):
            grown.append(memory(server.node) - before)
    threading.Thread(target=watch, daemon=True).start()
    got = shop.web.run("curl", "-sS", "-o", "/dev/null", "-w", "%{size_download} %{http_code}", f"http://{server.ip}:8080/s/268435456", timeout=60).stdout
    assert got == "268435456 200"
    done = shop.web.run("sh", "-c", f"head -c 67108864 /dev/zero | curl -sS -o /dev/null -w '%{{http_code}}' -X POST -H 'Content-Length: 67108864' -H 'Expect:' --data-binary @- http://{server.ip}:8080/s/1", timeout=60)
    assert done.stdout == "200"
    seen.set()
    assert max(grown, default=0) < 16 << 20, f"{max(grown) >> 20} MB"


@pytest.mark.soak
def test_a_4_gb_body_at_constant_memory(shop, server):
    """The size that the issue names."""
    before = memory(server.node)
    got = shop.web.run("curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", f"http://{server.ip}:8080/s/4294967296", timeout=170).stdout
    assert got == "4294967296" and memory(server.node) - before < 16 << 20


def memory(node):
    """Resident bytes of a node's proxy."""
    for line in open(f"/proc/{node.weft.pid('proxy')}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
    raise LookupError("no VmRSS")


def test_a_reader_slower_than_its_sender(shop, server):
    """Back-pressure reaches the sender: it is held back instead of filling the proxy."""
    sent = []
    def conversation(connection):
        Request.read(Wire(connection))
        connection.settimeout(1.5)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        piece = b"z" * (1 << 20)
        try:
            while True:
                connection.sendall(piece)
                sent.append(len(piece))
        except (TimeoutError, OSError):
            pass
    with scripted(server, conversation=conversation) as backend:
        client = dial(shop, backend)
        before = memory(shop.nodes[0])
        client.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        client.socket.recv(1024)
        eventually(lambda: backend.ends, within=15, what="the sender is held back")
        assert sum(sent) < 64 << 20, f"{sum(sent) >> 20} MB left the sender towards a reader that reads nothing"
        assert memory(shop.nodes[0]) - before < 8 << 20
        client.close()


def test_a_client_that_leaves_cancels_its_request(shop, server):
    """The backend hears of it at once, not after its answer is ready."""
    heard = []
    def conversation(connection):
        Request.read(Wire(connection))
        connection.settimeout(10)
        began = time.monotonic()
        try:
            connection.recv(1)
        except OSError:
            pass
        heard.append(time.monotonic() - began)
    with scripted(server, conversation=conversation) as backend:
        client = dial(shop, backend)
        client.send("GET /slow HTTP/1.1\r\nHost: shop\r\n\r\n")
        eventually(lambda: backend.connections, what="the request arrives")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        eventually(lambda: heard, within=5)
        assert heard[0] < 3


def test_half_close(shop, server):
    """A client that has said everything (FIN) still gets its answer."""
    def answer(request):
        time.sleep(0.2)
        return ok(b"late")
    with scripted(server, answer) as backend, dial(shop, backend) as client:
        client.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.reply().body == b"late"


def test_an_early_answer_to_a_large_upload(shop, server):
    """The backend refuses before it has read the body: the client gets that answer."""
    def conversation(connection):
        Request.read(Wire(connection), whole=False)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(5)
        try:
            while connection.recv(1 << 16):
                pass
        except OSError:
            pass
    with scripted(server, conversation=conversation) as backend, dial(shop, backend) as client:
        client.send("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 10000000\r\n\r\n")
        reply = client.reply()
        assert (reply.status, reply.body) == (403, b"no")


def test_upgrade_becomes_a_tunnel_or_is_not_offered(shop, server):
    """WebSocket: either the upgrade passes and bytes flow both ways, or the backend never saw it asked for."""
    def conversation(connection):
        wire = Wire(connection)
        request = Request.read(wire)
        if request["upgrade"]:
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            connection.sendall(wire.exactly(5))
        else:
            connection.sendall(ok(b"no upgrade"))
    with scripted(server, conversation=conversation) as backend, dial(shop, backend) as client:
        client.send("GET /ws HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        reply = client.reply(interim=True)
        if reply.status == 101:
            assert client.send("hello").wire.exactly(5) == b"hello"
        else:
            assert reply.status == 200 and reply.body == b"no upgrade"


def test_what_is_not_http_passes_untouched(shop, server):
    """Any bytes, both ways, with half-close: an opaque connection."""
    def conversation(connection):
        got = b""
        while data := connection.recv(1 << 16):
            got += data
        connection.sendall(b"%d bytes\n" % len(got))
    with scripted(server, conversation=conversation) as backend, dial(shop, backend) as client:
        client.send(b"\x16\x03\x01\x02\x00" + bytes(range(256)) * 4000)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.wire.until(b"\n") == b"1024005 bytes\n"


def test_real_programs(shop):
    """curl to nginx and to Python's server, within the node and across, as people use them."""
    directory = shop.directory / "www"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    (directory / "hello.txt").write_text("hello from nginx\n")
    for pod in (shop.cart, shop.stock):
        place = shop.directory / f"nginx-{pod.name}"
        place.mkdir()
        configuration = place / "nginx.conf"
        configuration.write_text(f"""
            daemon off; pid {place}/pid; error_log {place}/error.log; user root;
            events {{ worker_connections 512; }}
            http {{ access_log off; client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c; uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;
              server {{ listen 8081; listen [::]:8081; root {directory}; }} }}""")
        pod.start("nginx", "-c", configuration, "-e", place / "start.log")
        pod.start("/usr/bin/python3", "-m", "http.server", "8082", "--bind", "::", "--directory", directory)
        for port in (8081, 8082):
            pod.listens(port)
            assert shop.web.curl(f"http://{pod.ip}:{port}/hello.txt") == "hello from nginx\n"
            assert shop.web.curl(f"http://[{pod.ip6}]:{port}/hello.txt") == "hello from nginx\n"
        assert "206" in shop.web.curl(f"http://{pod.ip}:8081/hello.txt", "-r", "0-4", "-o", "/dev/null", "-w", "%{http_code}")
        assert "404" in shop.web.curl(f"http://{pod.ip}:8081/none", "-o", "/dev/null", "-w", "%{http_code}")
