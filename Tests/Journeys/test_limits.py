"""Past a limit there is a clear answer, a reason and a counter; what can safely be tried elsewhere is."""

import itertools
import time

import pytest

from http1 import Backend, Client, ok
from mesh import eventually
from shop import HTTP, load, requests

PORTS = itertools.count(21000)


@pytest.fixture
def backend(shop):
    """Says ok."""
    with Backend(shop.stock, next(PORTS)) as made:
        yield made


def refused(client, status):
    """The proxy's own answer: status, reason header, and the connection's end where it must end."""
    reply = client.reply()
    assert reply.status == status, (reply.status, reply.fields)
    assert reply["x-weft-reason"], reply.fields
    return reply


def test_400_for_what_cannot_be_read(shop, backend):
    """Named, counted as a response of this mesh, and the connection ends."""
    with Client(shop.web, shop.stock.ip, backend.port) as client:
        client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        refused(client, 400)
        assert client.ended()
    eventually(lambda: requests(shop.nodes[0], reporter="source", response_code=400) >= 1, within=5)


def test_431_for_a_head_too_large(shop, backend):
    """Too many bytes, and too many fields."""
    for fields in ("X-Large: " + "h" * 100_000 + "\r\n", "".join(f"X-{n}: 1\r\n" for n in range(500))):
        with Client(shop.web, shop.stock.ip, backend.port) as client:
            client.send(f"GET / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")
            refused(client, 431)
    assert backend.requests == []


def test_a_large_but_decent_head_passes(shop, backend):
    """Cookies of 30 KB are a fact of life."""
    with Client(shop.web, shop.stock.ip, backend.port) as client:
        reply = client.get("/", "Cookie: " + "c" * 30_000)
        assert reply.status == 200
    assert len(backend.last()["cookie"]) == 30_000


def test_503_when_nobody_is_there(shop):
    """A service without a ready endpoint, and one whose endpoint does not listen."""
    shop.service("nobody", [], HTTP)
    shop.service("deaf", [shop.stock], [{"name": "http", "port": 80, "targetPort": next(PORTS)}])
    shop.apply()
    for name in ("nobody", "deaf"):
        def unavailable(name=name):
            with Client(shop.web, shop.address(name), 80) as client:
                client.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
                return refused(client, 503)
        eventually(unavailable, within=5, every=0.1, what=name)


def test_408_for_a_head_that_never_ends(impatient):
    """A started request must arrive; how long that may take is a limit of its own."""
    with Client(impatient.web, impatient.stock.ip, 8080) as client:
        client.send("GET / HTTP/1.1\r\nHost: shop\r\nX-")
        refused(client, 408)
        assert client.ended()


def test_413_for_a_body_too_large(impatient):
    """Said in advance, or found out on the way."""
    with Client(impatient.web, impatient.stock.ip, 8080) as client:
        client.send("POST /s/1 HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000001\r\n\r\n")
        refused(client, 413)
    with Backend(impatient.stock, next(PORTS)) as backend, Client(impatient.web, impatient.stock.ip, backend.port) as client:
        client.send("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b"c" * 0x10000 + b"\r\n"
        try:
            for _ in range(40):
                client.send(piece)
        except OSError:
            pass  # refused while we were still talking
        try:
            refused(client, 413)
        except ConnectionResetError:
            pass  # the rest of what we said crossed the reply
    report = load(impatient.web, impatient.stock.ip, 8080, "-c", 1, "-n", 3, "-b", 999_999)
    assert report["ok"] >= 3


def test_504_for_a_reply_that_never_comes(impatient):
    """The backend takes the request and thinks for ever."""
    def ponder(request):
        time.sleep(8)
        return ok()
    with Backend(impatient.stock, next(PORTS), ponder) as backend, Client(impatient.web, impatient.stock.ip, backend.port) as client:
        client.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        refused(client, 504)


def test_a_pod_has_its_share_of_connections_and_no_more(fresh):
    """Beyond its budget a pod is refused, at once and counted; the pod beside it notices nothing."""
    shop = fresh(limits={"connectionsPerPodMax": 20})
    held = [Client(shop.web, shop.stock.ip, 8080) for _ in range(20)]
    assert all(client.get("/s/1").status == 200 for client in held)
    began = time.monotonic()
    try:
        with Client(shop.web, shop.stock.ip, 8080) as one_more:
            answer = one_more.get("/s/1")
            assert answer.status in (429, 503) and answer["x-weft-reason"]
    except OSError:
        pass  # refused without a word is an answer too
    assert time.monotonic() - began < 2
    with Client(shop.cart, shop.stock.ip, 8080) as neighbour:
        assert neighbour.get("/s/1").status == 200
    limits = lambda: sum(value for name, _, value in shop.nodes[0].weft.metrics().samples if name.startswith("weft_") and "connection" in name and ("limit" in name or "refused" in name))  # noqa: E731
    eventually(lambda: limits() >= 1, within=5, what="a counter of refused connections")
    for client in held:
        client.close()

    def served_again():
        with Client(shop.web, shop.stock.ip, 8080) as client:
            return client.get("/s/1").status == 200
    eventually(served_again, within=5)


@pytest.mark.parametrize("dead", ["same-node", "other-node"])
def test_a_dead_endpoint_is_tried_elsewhere_once(shop, dead):
    """One of two endpoints refuses connections: no client sees it."""
    port = next(PORTS)
    shop.service("half", [shop.cart, shop.stock], [{"name": "http", "port": 80, "targetPort": port}])
    shop.apply()
    with Backend(shop.stock if dead == "same-node" else shop.cart, port) as alive:
        eventually(lambda: load(shop.web, shop.address("half"), 80, "-e", "-c", 1, "-n", 1)["ok"] == 1, within=5, every=0.1)
        report = load(shop.web, shop.address("half"), 80, "-e", "-x", "-c", 4, "-n", 200)
        assert (report["non200"], report["err_inflight"], report["err_connect"]) == (0, 0, 0), report
        assert len(alive.requests) >= 200


def test_a_connection_that_closes_under_a_get_is_retried(shop):
    """The backend closes idle connections without a word; a GET that meets such a one is sent again, a POST is not twice."""
    port = next(PORTS)
    with Backend(shop.stock, port) as backend:
        for _ in range(20):
            with Client(shop.web, shop.stock.ip, port) as client:
                assert client.get("/").status == 200
                for connection in list(backend._open):
                    connection.close()
                assert client.get("/").status == 200
                for connection in list(backend._open):
                    connection.close()
                client.send("POST /once HTTP/1.1\r\nHost: shop\r\nContent-Length: 1\r\n\r\nx")
                assert client.reply().status in (200, 502, 503)
        assert len([r for r in backend.requests if r.target == "/once"]) <= 20


def test_headless_and_host_header(shop):
    """A pod IP of a headless service, and a Host that names a service when the address is nobody's."""
    for pod in (shop.cart, shop.stock):
        with Client(shop.web, pod.ip, 8080) as client:
            assert client.get("/s/1", host="pods.shop.svc.cluster.local:8080")["x-pod"] == pod.name
    for host in ("stock", "stock.shop", "stock.shop.svc", "stock.shop.svc.cluster.local", "stock.shop.svc.cluster.local:80"):
        with Client(shop.web, "10.99.99.99", 80) as client:
            assert client.get("/s/1", host=host)["x-pod"] == "stock", host


def test_balancing_prefers_the_idle_endpoint(shop):
    """Two choices on requests in flight: with one endpoint stuck, nearly everything goes to the other; idle, they share."""
    seen = {"cart": 0, "stock": 0}
    for _ in range(60):
        with Client(shop.web, shop.both[0], 80) as client:
            seen[client.get("/s/1")["x-pod"]] += 1
    assert min(seen.values()) >= 10, seen


def test_an_endpoint_that_is_not_ready_gets_nothing(shop):
    """Readiness is obeyed, both ways, within a moment."""
    try:
        shop.stock.ready = False
        shop.apply()
        def only_cart():
            seen = set()
            for _ in range(20):
                with Client(shop.web, shop.both[0], 80) as client:
                    seen.add(client.get("/s/1")["x-pod"])
            return seen == {"cart"}
        eventually(only_cart, within=5, every=0.1)
    finally:
        shop.stock.ready = True
        shop.apply()
