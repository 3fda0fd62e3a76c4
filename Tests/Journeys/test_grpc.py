"""gRPC through the mesh: grpcio at both ends, unchanged, and what it is told when nobody can answer."""

import itertools
import json
import time

import pytest

from guest import Guest
from mesh import eventually
from shop import requests

PORTS = itertools.count(26000)
DECLARED = [{"name": "grpc", "port": 50051}]


def resident(node):
    """Resident bytes of the proxy."""
    for line in open(f"/proc/{node.weft.pid('proxy')}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
    raise LookupError("no VmRSS")


def serve(pod, port=50051, *options):
    """A gRPC server in a pod."""
    server = Guest(pod, "grpc_server.py", port, pod.name, *options)
    server.hear("serving")
    return server


def play(pod, target, scene, within=60.0, **options):
    """A scene of the client, to its end."""
    with Guest(pod, "grpc_client.py", target, scene, json.dumps(options)) as client:
        return client.hear("done", within)


def seen(node, **labels):
    """Requests that the proxy of this node understood as gRPC."""
    return requests(node, reporter="source", request_protocol="grpc", **labels)


@pytest.fixture(scope="module")
def orders(shop):
    """Servers in both server pods and services that declare them."""
    with serve(shop.cart) as cart, serve(shop.stock) as stock:
        shop.service("orders", [shop.stock], DECLARED)
        shop.service("near-orders", [shop.cart], DECLARED)
        shop.service("all-orders", [shop.cart, shop.stock], DECLARED)
        shop.apply()
        for name in ("orders", "near-orders", "all-orders"):
            eventually(lambda name=name: play(shop.web, f"{shop.address(name)}:50051", "single")["code"] == "OK", within=10, what=f"{name} is known")
        yield {"cart": cart, "stock": stock}


@pytest.fixture(params=["declared", "same-node", "other-node"])
def target(request, shop, orders):
    """A Service whose port says gRPC, or a pod's address of which nobody said anything."""
    return f"{shop.address('orders')}:50051" if request.param == "declared" else f"{(shop.cart if request.param == 'same-node' else shop.stock).ip}:50051"


def test_all_four_shapes(shop, target):
    """Unary, client, server and bidirectional streaming; and the mesh saw five calls of gRPC, not a stream of bytes."""
    before = seen(shop.nodes[0])
    assert play(shop.web, target, "shapes")["code"] == "OK"
    eventually(lambda: seen(shop.nodes[0], response_code=200) - before >= 7, within=5, what="gRPC requests counted")


def test_both_nodes_see_the_call(shop, orders):
    """Source and destination both count it, with its status as gRPC speaks it."""
    sides = {"source": shop.nodes[0], "destination": shop.nodes[1]}

    def counted():
        return {(reporter, status): requests(node, reporter=reporter, request_protocol="grpc", source_workload="web", destination_workload="stock", response_code=200, grpc_response_status=status)
                for reporter, node in sides.items() for status in (*range(1, 17), 0)}
    before = counted()
    play(shop.web, f"{shop.stock.ip}:50051", "errors")
    play(shop.web, f"{shop.stock.ip}:50051", "shapes")

    def grown():
        now = counted()
        return {key: now[key] - before[key] for key in now}
    expected = {(reporter, status): {0: 7, 12: 2, 15: 2}.get(status, 1) for reporter in sides for status in range(17)}
    eventually(lambda: grown() == expected, within=5, what="each call with its status, on both nodes")


def test_metadata(shop, target):
    """Text, binary, repeated, empty and long: what the server got is what the client sent."""
    found = play(shop.web, target, "metadata")
    back = [tuple(pair) for pair in found["back"]]
    for pair in found["sent"]:
        assert tuple(pair) in back, pair
    assert [value for key, value in back if key == "x-twice"] == ["one", "two"]
    assert found["initial"]["x-server"] in ("cart", "stock")


def test_every_status(shop, target):
    """Trailers-only errors with their details and metadata; an error behind messages; an unknown method."""
    found = play(shop.web, target, "errors")
    names = ["CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
             "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"]
    assert [end["code"] for end in found["ends"]] == names
    for code, end in enumerate(found["ends"], 1):
        assert end["details"] == f"näin kävi 100% №{code}\n"
        assert end["trailing"]["x-why"] == "asked for" and end["trailing"]["x-why-bin"] == bytes(range(256)).hex()
        assert "x-weft-reason" not in {**end["initial"], **end["trailing"]}
    assert found["messages"] == [0, 1, 2] and (found["late"]["code"], found["late"]["details"]) == ("DATA_LOSS", "three were all there was")
    assert found["nothing"]["code"] == "UNIMPLEMENTED"


def test_a_deadline(shop, orders, target):
    """The client gives up in time, the server knew the deadline and learns that nobody waits any more."""
    server = orders["cart" if shop.cart.ip in target else "stock"]
    found = play(shop.web, target, "deadline", seconds=0.5)
    assert found["code"] == "DEADLINE_EXCEEDED" and 0.4 < found["took"] < 2.0, found
    assert 0 < server.hear("holding")["left"] <= 0.55
    server.hear("cancelled", what="hold")


def test_cancel_from_the_client(shop, orders, target):
    """A call and a stream that the client drops end at the server; the channel goes on."""
    server = orders["cart" if shop.cart.ip in target else "stock"]
    with Guest(shop.web, "grpc_client.py", target, "cancel") as client:
        client.hear("holding")
        assert server.hear("holding")["left"] is None
        client.tell("cancel")
        found = client.hear("done")
    assert found["codes"] == ["CANCELLED", "CANCELLED"] and found["after"] == "alive"
    server.hear("cancelled", what="hold")
    server.hear("cancelled", what="endless")


def test_100_concurrent_streams(shop, target):
    """A hundred conversations of twenty exchanges at once on one channel."""
    assert play(shop.web, target, "many", streams=100, messages=20, size=2000)["good"] == 100


def test_64_mb_messages(shop, target):
    """One message of 64 MB, there and back, and the proxy holds none of it afterwards."""
    node = shop.nodes[0]
    play(shop.web, target, "large", size=1 << 20)
    before = resident(node)
    found = play(shop.web, target, "large", size=64 << 20)
    assert found["equal"] and found["size"] == 64 << 20
    assert resident(node) - before < 16 << 20


def test_calls_are_spread_over_endpoints(shop, orders):
    """One channel, one connection of the client; its calls still go to both servers."""
    def answering():
        return play(shop.web, f"{shop.address('all-orders')}:50051", "many_servers", calls=60)["servers"]
    assert min(answering().get(name, 0) for name in ("cart", "stock")) >= 10


@pytest.mark.parametrize("scene", ["single", "single_stream"])
@pytest.mark.parametrize("kind", ["nobody", "deaf"])
def test_a_status_of_the_proxys_own(shop, orders, kind, scene):
    """Nobody to call: the client hears UNAVAILABLE as a gRPC status, with the reason, not an HTTP error or a cut connection."""
    name = f"{kind}-{scene.replace('_', '-')}"
    shop.service(name, [] if kind == "nobody" else [shop.stock], [{"name": "grpc", "port": 50051, "targetPort": next(PORTS)}])
    shop.apply()

    def unavailable():
        found = play(shop.web, f"{shop.address(name)}:50051", scene)
        assert found["code"] == "UNAVAILABLE", found
        assert {**found["initial"], **found["trailing"]}.get("x-weft-reason"), found
        return True
    eventually(unavailable, within=10, every=0.1)
    eventually(lambda: seen(shop.nodes[0], grpc_response_status=14, destination_service_name=name) >= 1, within=5)


def test_the_server_dies_under_a_stream(shop, orders):
    """The client hears UNAVAILABLE within a moment, not never; calls go on when a server is back."""
    port = next(PORTS)
    server = serve(shop.stock, port)
    with Guest(shop.web, "grpc_client.py", f"{shop.stock.ip}:{port}", "broken") as client:
        client.hear("flowing")
        server.close()
        found = client.hear("done", within=5)
    assert found["code"] in ("UNAVAILABLE", "INTERNAL", "CANCELLED"), found
    with serve(shop.stock, port):
        assert play(shop.web, f"{shop.stock.ip}:{port}", "shapes")["code"] == "OK"


def test_the_client_dies_under_a_stream(shop, orders):
    """Killed, not closed: the server learns of it."""
    client = Guest(shop.web, "grpc_client.py", f"{shop.stock.ip}:50051", "broken")
    client.hear("flowing")
    client.close()
    orders["stock"].hear("cancelled", what="endless")


def test_one_slow_reader_among_100_streams(shop, orders):
    """One stream of a hundred is not read. The others arrive whole meanwhile, memory stays bounded, and the slow one ends well too."""
    node = shop.nodes[0]
    play(shop.web, f"{shop.address('orders')}:50051", "many", streams=100, messages=5, size=20_000)
    before = resident(node)
    with Guest(shop.web, "grpc_client.py", f"{shop.address('orders')}:50051", "slow", json.dumps({"streams": 100, "count": 100, "size": 16_000})) as client:
        found = client.hear("others", within=60)
        assert found["good"] == 99, found
        assert resident(node) - before < 32 << 20
        client.tell("go on")
        assert client.hear("done")["sleeper"] == 100


def test_a_server_that_retires_its_connections_loses_no_call(shop, orders):
    """The server says GOAWAY every 300 ms under load; every call is answered."""
    port = next(PORTS)
    with serve(shop.stock, port, "grpc.max_connection_age_ms=300", "grpc.max_connection_age_grace_ms=5000"):
        shop.service("retiring", [shop.stock], [{"name": "grpc", "port": 50051, "targetPort": port}])
        shop.apply()
        target = f"{shop.address('retiring')}:50051"
        eventually(lambda: play(shop.web, target, "single")["code"] == "OK", within=10)
        found = play(shop.web, target, "steady", seconds=3, callers=20)
    assert set(found["codes"]) == {"OK"} and found["codes"]["OK"] > 200, found


def test_a_server_that_stops_gracefully_finishes_its_streams(shop, orders):
    """GOAWAY from the server while a conversation is open: it still ends as the two want, and a new call goes to the other endpoint."""
    port = next(PORTS)
    with serve(shop.stock, port) as first, serve(shop.cart, port):
        with Guest(shop.web, "grpc_client.py", f"{shop.stock.ip}:{port}", "idle", json.dumps({"streams": 10})) as client:
            assert client.hear("open")["good"] == 10
            first.tell("stop", grace=20)
            first.hear("stopping")
            client.tell("again")
            assert client.hear("alive")["good"] == 10
            client.tell("end")
            assert client.hear("done")["codes"] == {"OK": 10}
            first.hear("stopped")


def test_streams_outlive_configuration_changes_and_idle_timers(fresh):
    """Open conversations of a proxy that closes idle connections after a second: manifests change around them, they go on."""
    shop = fresh(limits={"idleMilliseconds": 1000, "replyMilliseconds": 1500, "stallMilliseconds": 1500, "headMilliseconds": 1000, "relayIdleMilliseconds": 60_000})
    with serve(shop.stock):
        shop.service("orders", [shop.stock], DECLARED)
        shop.apply()
        target = f"{shop.address('orders')}:50051"
        eventually(lambda: play(shop.web, target, "single")["code"] == "OK", within=10)
        with Guest(shop.web, "grpc_client.py", target, "idle", json.dumps({"streams": 20})) as client:
            assert client.hear("open")["good"] == 20
            opened = time.monotonic()
            for round_ in range(3):
                shop.service(f"other-{round_}", [shop.cart], DECLARED)
                shop.apply()
                generation = lambda: (s := shop.nodes[0].weft.status())["generations"]["agree"] and any(x["name"] == f"other-{round_}" for x in s["services"])  # noqa: E731, B023
                eventually(generation, within=10)
                client.tell("again")
                assert client.hear("alive")["good"] == 20
            shop.service("orders", [shop.stock, shop.cart], DECLARED)
            shop.apply()
            eventually(lambda: time.monotonic() - opened > 3.5, within=10, what="three idle limits have passed")
            client.tell("again")
            assert client.hear("alive")["good"] == 20
            client.tell("end")
            assert client.hear("done")["codes"] == {"OK": 20}


def test_1000_idle_streams_are_all_alive(shop, orders):
    """A thousand open conversations on one channel cost little, and every one of them goes on after resting."""
    node = shop.nodes[0]
    play(shop.web, f"{shop.address('orders')}:50051", "many", streams=100, messages=1, size=10)
    before = resident(node)
    with Guest(shop.web, "grpc_client.py", f"{shop.address('orders')}:50051", "idle", json.dumps({"streams": 1000})) as client:
        assert client.hear("open", within=60)["good"] == 1000
        assert resident(node) - before < 40 << 20
        assert play(shop.web, f"{shop.address('orders')}:50051", "single")["code"] == "OK", "others are served meanwhile"
        client.tell("again")
        assert client.hear("alive", within=60)["good"] == 1000
        client.tell("end")
        assert client.hear("done", within=60)["codes"] == {"OK": 1000}
