"""What leaves a node: nothing that an eavesdropper on the link between two nodes could read."""

import itertools
import subprocess
from pathlib import Path

import pytest

from guest import Guest
from http1 import Backend, Client, ok
from link import MTLS_PORT, Capture, is_tls13
from mesh import eventually
from test_grpc import play
from test_strangers import as_user, home

PORTS = itertools.count(29000)
SECRET = "vermilion-otter-7731"


@pytest.fixture
def traffic(request):
    """HTTP over both families, gRPC and PostgreSQL between the nodes, each carrying the secret both ways."""
    def make(shop):
        port, place = next(PORTS), home(shop, f"postgres-{next(PORTS)}", "postgres")
        programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
        subprocess.run(as_user("postgres", programs / "initdb", "-D", place / "data", "-A", "trust", "--no-sync", "-E", "UTF8"), check=True, capture_output=True, cwd=place)
        with open(place / "data" / "pg_hba.conf", "a") as access:
            access.write("host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n")
        shop.stock.start(*as_user("postgres", programs / "postgres", "-D", place / "data", "-k", place, "-p", port, "-c", "listen_addresses=*", "-c", "fsync=off", "-c", "ssl=off"), cwd=place)
        shop.stock.listens(port)
        backend = Backend(shop.stock, next(PORTS), answer=lambda asked: ok(f"reply {SECRET}".encode()))
        request.addfinalizer(backend.close)
        called = next(PORTS)
        grpc = Guest(shop.stock, "grpc_server.py", called, shop.stock.name)
        request.addfinalizer(grpc.close)
        grpc.hear("serving")

        def once():
            for address in (shop.stock.ip, shop.stock.ip6):
                with Client(shop.web, address, backend.port) as client:
                    assert SECRET.encode() in client.get(f"/{SECRET}", f"X-Secret: {SECRET}").body
            said = shop.web.run("psql", "-h", shop.stock.ip, "-p", port, "-U", "postgres", "-qAtX", "-c", f"select '{SECRET}'").stdout
            assert said.strip() == SECRET
            assert play(shop.web, f"{shop.stock.ip}:{called}", "echo", text=SECRET)["back"] == SECRET
        return once
    return make


def between_pods(shop, seen):
    """Conversations of which an end is a pod of either node."""
    pods = {address for pod in shop.pods.values() for address in (pod.ip, pod.ip6)}
    return {key: stream for key, stream in seen.conversations().items() if key[0] in pods or key[2] in pods}


def test_only_tls_leaves_a_node(fresh, traffic):
    """HTTP, gRPC and PostgreSQL between meshed pods: TLS 1.3 on one port, and the secret nowhere."""
    shop = fresh(start=False)
    with Capture(shop.nodes[1], "to-n1") as seen:
        shop.start()
        once = traffic(shop)
        for _ in range(3):
            once()
    found = between_pods(shop, seen)
    assert found, "nothing was seen on the link"
    for (source, near, destination, far), stream in found.items():
        assert MTLS_PORT in (near, far), f"{source}:{near} → {destination}:{far} in the clear: {stream[:80]!r}"
        assert is_tls13(stream, from_server=near == MTLS_PORT), (source, near, destination, far)
    assert SECRET.encode() not in seen.raw


def test_without_the_mesh_the_link_shows_everything(fresh, traffic):
    """The control: the same traffic, the same capture, no mesh."""
    shop = fresh(start=False)
    shop.namespace("shop", meshed=False)
    with Capture(shop.nodes[1], "to-n1") as seen:
        shop.start(enrolled=[])
        traffic(shop)()
    readable = [stream for stream in between_pods(shop, seen).values() if SECRET.encode() in stream]
    assert len(readable) >= 6, "HTTP twice, gRPC and PostgreSQL, both ways"


@pytest.mark.exclusive
def test_killing_the_strict_side_uncovers_nothing(fresh):
    """Proxy, agent and node of the strict side die one after the other under traffic: what is refused meanwhile is refused, and nothing is said
    in the clear."""
    shop = fresh(start=False)
    shop.namespace("shop", mtls="strict")
    with Capture(shop.nodes[1], "to-n1") as seen:
        shop.start()
        with Backend(shop.stock, next(PORTS), answer=lambda asked: ok(f"reply {SECRET}".encode())) as backend, \
                Backend(shop.cart, next(PORTS), answer=lambda asked: ok(f"reply {SECRET}".encode())) as back:
            def ask(pod, address, port):
                try:
                    with Client(pod, address, port, timeout=3) as client:
                        return client.get(f"/{SECRET}", f"X-Secret: {SECRET}").status
                except OSError:
                    return 0

            def both():
                return ask(shop.web, shop.stock.ip, backend.port) == 200 and ask(shop.till, shop.cart.ip, back.port) == 200
            eventually(both, within=10)
            for part in ("proxy", "agent", "node"):
                shop.nodes[1].weft.kill(part)
                outcomes = [ask(*way) for _ in range(20) for way in ((shop.web, shop.stock.ip, backend.port), (shop.till, shop.cart.ip, back.port))]
                assert set(outcomes) <= {0, 200, 502, 503, 504}, outcomes
                if part == "node":
                    shop.nodes[1].weft.process.wait(timeout=10)
                    assert ask(shop.web, shop.stock.ip, backend.port) != 200, "without its node a strict pod cannot be reached"
                    shop.nodes[1].weft.start()
                eventually(both, within=30, what=f"service after {part} was killed")
    assert SECRET.encode() not in seen.raw
    for (source, near, destination, far), stream in between_pods(shop, seen).items():
        assert MTLS_PORT in (near, far), f"{source}:{near} → {destination}:{far} in the clear: {stream[:80]!r}"
