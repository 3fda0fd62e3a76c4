"""The end of a proxy under calls and streams: sudden, and announced."""

import itertools
import json
import signal
import threading

from h2.errors import ErrorCodes

from guest import Guest
from http1 import Backend, ok
from http2 import Client2
from mesh import eventually

PORTS = itertools.count(31000)
DECLARED = [{"name": "grpc", "port": 50051}]


def orders(shop):
    """A gRPC server in stock and the target of its service."""
    server = Guest(shop.stock, "grpc_server.py", 50051, "stock")
    server.hear("serving")
    shop.service("orders", [shop.stock], DECLARED)
    shop.apply()
    target = f"{shop.address('orders')}:50051"

    def known():
        with Guest(shop.web, "grpc_client.py", target, "single") as client:
            return client.hear("done")["code"] == "OK"
    eventually(known, within=10)
    return server, target


def test_kill_9_under_grpc_load(fresh):
    """The proxy dies twice under 20 callers that retry as gRPC clients do: calls go on within a moment, and so do the counters. Lost are
    at most the calls whose answer had begun: those gRPC does not ask again."""
    shop = fresh()
    node = shop.nodes[0]
    server, target = orders(shop)
    with server, Guest(shop.web, "grpc_client.py", target, "steady", json.dumps({"seconds": 30, "callers": 20, "retries": True})) as client:
        total = lambda: node.weft.metrics().sum("istio_requests_total", reporter="source", request_protocol="grpc", response_code=200)  # noqa: E731
        for _ in range(2):
            counted, first = total(), node.weft.pid("proxy")
            eventually(lambda: total() > counted + 200, within=20, what="calls before")
            node.weft.kill("proxy")
            eventually(lambda: node.weft.pid("proxy") != first, what="a new proxy")
            counted = total()
            eventually(lambda: total() > counted + 200, within=20, what="calls after")
        client.tell("stop")
        found = client.hear("done", within=30)
    lost = {code: count for code, count in found["codes"].items() if code != "OK"}
    assert all(code.startswith("UNAVAILABLE") for code in lost) and sum(lost.values()) <= 2 * 20, found
    assert found["slowest"] < 5, found


def test_a_graceful_end_loses_no_call(fresh):
    """Weft is stopped on the client's node under 20 callers that do not retry. They are told to come again elsewhere (GOAWAY), and none fails."""
    shop = fresh()
    server, target = orders(shop)
    with server:
        target = f"{shop.stock.ip}:50051"  # reachable without the mesh, too
        with Guest(shop.web, "grpc_client.py", target, "steady", json.dumps({"seconds": 30, "callers": 20})) as client:
            client.hear("calling")
            assert shop.nodes[0].weft.stop(within=15) == 0
            client.tell("stop")
            found = client.hear("done", within=30)
    assert set(found["codes"]) == {"OK"}, found


def test_open_streams_finish_in_a_graceful_end(fresh):
    """A reply is half sent when the end is announced: GOAWAY comes, the reply comes whole, then the connection ends."""
    shop = fresh()
    go_on = threading.Event()

    def answer(request):
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst"
        go_on.wait(10)
        yield b"other"
    with Backend(shop.stock, next(PORTS), lambda request: answer(request) if request.target == "/slow" else ok()) as backend, Client2(shop.web, shop.stock.ip, backend.port) as client:
        assert client.get("/").status == 200
        asked = client.ask("/slow")
        client.until(lambda: asked.pieces, "the first half")
        shop.nodes[0].weft.process.send_signal(signal.SIGTERM)
        client.until(lambda: client.goaway is not None, "GOAWAY")
        assert client.goaway == ErrorCodes.NO_ERROR
        go_on.set()
        reply = client.reply(asked)
        assert (reply.status, reply.body) == (200, b"firstother")
        client.until(lambda: client.closed, "the end of the connection")
        assert shop.nodes[0].weft.process.wait(timeout=15) == 0
