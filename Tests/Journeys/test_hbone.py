"""A foreign peer at the other end of 15008: Envoy, as HBONE client and as HBONE server."""

import hashlib
import itertools

import pytest

from envoy import tunnel_client, tunnel_server
from http1 import Backend, Client, ok
from mesh import eventually
from mesh.authority import Authority, identity
from shop import load, serve
from tcp import everything, exactly

PORTS = itertools.count(31000)
LARGE = 20 << 20
CONTENT = hashlib.sha256(b"content").digest() * (LARGE // 32)
DIGEST = hashlib.sha256(CONTENT).hexdigest().encode()


@pytest.fixture(scope="module")
def depot(abroad):
    """A pod of the third node, on which another mesh runs: Envoy has its 15008."""
    tunnel_server(abroad.depot, abroad.authority)
    return abroad.depot


@pytest.fixture(params=["ip", "ip6"])
def family(request):
    """Both families."""
    return request.param


# --- Envoy asks -----------------------------------------------------------------------------------------------------

@pytest.fixture
def into_stock(abroad, family):
    """Makes a local port of `stranger` that leads through Envoy to a port of stock."""
    made = []

    def lead(port):
        near = next(PORTS)
        made.append(tunnel_client(abroad.stranger, abroad.authority, near, getattr(abroad.stock, family), port, identity("shop", "stock")))
        return near
    yield lead
    for envoy in made:
        envoy.close()


def test_envoy_brings_http(abroad, into_stock):
    """HTTP inside the tunnel is read like any other: answered, measured as HTTP, and the application is told who called."""
    with Backend(abroad.stock, next(PORTS)) as backend:
        near = into_stock(backend.port)
        with Client(abroad.stranger, "127.0.0.1", near) as client:
            for _ in range(5):
                assert client.get("/").body == b"ok"
        assert backend.last().all("x-forwarded-client-cert") == [f"By={identity('shop', 'stock')};URI={identity('shop', 'stranger')}"]
    eventually(lambda: abroad.nodes[1].weft.metrics().sum("istio_requests_total", reporter="destination", source_principal="cluster.local/ns/shop/sa/stranger") >= 5, within=5)


def test_envoy_brings_bytes(abroad, into_stock):
    """A protocol that is none of ours, the server speaking first; each side ends by itself."""
    def greet(connection):
        connection.sendall(b"220 depot\r\n")
        connection.sendall(everything(connection)[::-1])
    with Backend(abroad.stock, next(PORTS), conversation=greet) as backend:
        with abroad.stranger.connect("127.0.0.1", into_stock(backend.port)) as near:
            assert exactly(near, 11) == b"220 depot\r\n"
            near.sendall(b"0123456789")
            near.shutdown(1)
            assert everything(near) == b"9876543210"


def test_envoy_brings_20_mb(abroad, into_stock):
    """Up and down, whole, a hundred times; every other time the backend closes before its client does."""
    turns = itertools.count()

    def answer(asked):
        return ok(CONTENT, f"X-Digest: {hashlib.sha256(asked.body).hexdigest()}", *(["Connection: close"] if next(turns) % 2 else []))
    with Backend(abroad.stock, next(PORTS), answer=answer) as backend:
        _bodies(abroad.stranger, "127.0.0.1", into_stock(backend.port), 100)


def _bodies(pod, address, port, times):
    for turn in range(times):
        with Client(pod, address, port, timeout=30) as client:
            client.send(f"POST / HTTP/1.1\r\nHost: depot\r\nContent-Length: {LARGE}\r\n\r\n")
            client.send(CONTENT)
            reply = client.reply()
            assert reply["x-digest"].encode() == DIGEST, f"turn {turn}: what arrived is not what was sent"
            assert hashlib.sha256(reply.body).hexdigest().encode() == DIGEST, f"turn {turn}: {len(reply.body)} bytes came back"


# --- Envoy is asked -------------------------------------------------------------------------------------------------

def test_envoy_is_brought_http(abroad, depot, family):
    """Requests of a meshed pod reach the application behind Envoy."""
    with Backend(depot, next(PORTS)) as backend, Client(abroad.web, getattr(depot, family), backend.port) as client:
        for _ in range(5):
            assert client.get("/").body == b"ok"
        assert backend.last()["x-weft-destination"] is None
    eventually(lambda: abroad.nodes[0].weft.metrics().sum("istio_requests_total", reporter="source", destination_principal="cluster.local/ns/shop/sa/depot") >= 5, within=5)


def test_envoy_is_brought_bytes(abroad, depot, family):
    """And so does anything else."""
    def greet(connection):
        connection.sendall(b"220 depot\r\n")
        connection.sendall(everything(connection)[::-1])
    with Backend(depot, next(PORTS), conversation=greet) as backend:
        with abroad.web.connect(getattr(depot, family), backend.port) as near:
            assert exactly(near, 11) == b"220 depot\r\n"
            near.sendall(b"0123456789")
            near.shutdown(1)
            assert everything(near) == b"9876543210"


def test_envoy_is_brought_20_mb(abroad, depot, family):
    """Whole, also when the backend closes first."""
    turns = itertools.count()

    def answer(asked):
        return ok(CONTENT, f"X-Digest: {hashlib.sha256(asked.body).hexdigest()}", *(["Connection: close"] if next(turns) % 2 else []))
    with Backend(depot, next(PORTS), answer=answer) as backend:
        _bodies(abroad.web, getattr(depot, family), backend.port, 100)


def test_a_server_of_another_name(abroad):
    """Whoever answers at an endpoint's address must be that endpoint: a good certificate of another account will not do, nor one of another authority."""
    for name, authority, reason in (("impostor", abroad.authority, "wrong_identity"), ("stranger-ca", Authority("strangers"), "unknown_ca")):
        pod = abroad.nodes[2].pod(name)
        abroad.apply()
        with Backend(pod, next(PORTS)) as backend:
            tunnel_server(pod, authority, name=identity("shop", "depot") if authority is abroad.authority else identity("shop", name))

            def refused():
                with Client(abroad.web, pod.ip, backend.port) as client:
                    reply = client.get("/")
                    return reply.status == 503 and reply["x-weft-reason"]
            before = abroad.nodes[0].weft.metrics().sum("weft_tls_handshakes_total", side="client", result=reason)
            assert eventually(refused, within=15), name
            eventually(lambda: abroad.nodes[0].weft.metrics().sum("weft_tls_handshakes_total", side="client", result=reason) > before, within=5, what=reason)
            assert not backend.requests, "the impostor was told nothing"


def test_many_at_once(abroad, depot):
    """One hundred connections' requests through the foreign peer, none lost."""
    serve(depot, 8080)
    report = load(abroad.web, depot.ip, 8080, "-c", 100, "-n", 5000)
    assert report["ok"] >= 5000 and report["ok"] == report["n"], report
