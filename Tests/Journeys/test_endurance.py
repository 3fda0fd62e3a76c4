"""What must not grow: memory over requests, descriptors over connections, anything over idle connections."""

import os

import pytest

from mesh import eventually
from shop import Load, load
from tcp import Plain, exactly

pytestmark = pytest.mark.exclusive


def resident(node, part="proxy"):
    """Resident bytes."""
    for line in open(f"/proc/{node.weft.pid(part)}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
    raise LookupError("no VmRSS")


def descriptors(node, part):
    """Open descriptors."""
    return len(os.listdir(f"/proc/{node.weft.pid(part)}/fd"))


def constant_memory(shop, requests):
    node = shop.nodes[0]
    load(shop.web, shop.cart.ip, 8080, "-c", 64, "-n", 20_000)
    before = {part: resident(node, part) for part in ("node", "agent", "proxy")}
    report = load(shop.web, shop.cart.ip, 8080, "-c", 64, "-n", requests, "-d", 600, timeout=600)
    assert report["ok"] >= requests and report["non200"] == report["err_inflight"] == 0, report
    after = {part: resident(node, part) for part in before}
    assert after["proxy"] - before["proxy"] < 1 << 20, (before, after)
    assert after["node"] - before["node"] < 1 << 20, (before, after)
    assert after["agent"] - before["agent"] < 16 << 20, (before, after)


def test_memory_is_constant_over_200000_requests(shop):
    """Not a byte per request."""
    constant_memory(shop, 200_000)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_memory_is_constant_over_1000000_requests(shop):
    """The size that the issue names."""
    constant_memory(shop, 1_000_000)


def no_leak(shop, connections):
    node = shop.nodes[0]
    load(shop.web, shop.stock.ip, 8080, "-x", "-c", 32, "-n", 1000)
    eventually(lambda: descriptors(node, "proxy") < 400, within=15, every=0.2, what="the warm-up's connections end")
    before = {part: descriptors(node, part) for part in ("node", "agent", "proxy")}
    report = load(shop.web, shop.stock.ip, 8080, "-x", "-c", 32, "-n", connections, "-d", 600, timeout=600)
    assert report["ok"] >= connections and report["non200"] == report["err_inflight"] == report["err_connect"] == 0, report
    for part, count in before.items():
        eventually(lambda part=part, count=count: descriptors(node, part) <= count + 80, within=30, every=0.5, what=f"{part} is back at {count} descriptors")


def test_no_descriptor_leak_over_20000_connections(shop):
    """What was opened is closed, in all three processes."""
    no_leak(shop, 20_000)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_no_descriptor_leak_over_100000_connections(shop):
    """The size that the issue names."""
    no_leak(shop, 100_000)


def test_8000_idle_opaque_connections_hold_no_pipe(shop):
    """Connections that have spoken and rest: a record each, two sockets each, and not one pipe between them; then every one goes on."""
    node, count = shop.nodes[0], 8000
    with Plain(shop.stranger, None) as server:
        before = resident(node)
        nears = []
        for number in range(count):  # from two pods: one alone may not take all descriptors
            near = (shop.web, shop.cart)[number % 2].connect(shop.stranger.ip, server.port)
            near.sendall(b"\0first")
            nears.append(near)
        eventually(lambda: len(server.accepted) == count, within=20, what="all are accepted")
        for far in server.accepted:
            assert exactly(far, 6) == b"\0first"
            far.sendall(b"answer")
        for near in nears:
            assert exactly(near, 6) == b"answer"
        assert eventually(lambda: node.weft.metrics().value("weft_pipes_in_use") == 0, within=5, what="no pipe is held at rest")
        assert resident(node) - before < 60 << 20, f"{(resident(node) - before) / count:.0f} bytes of memory per idle connection"
        assert descriptors(node, "proxy") < 2 * count + 1000
        for near in nears:
            near.sendall(b"again")
        for far in server.accepted:
            assert exactly(far, 5) == b"again"
        for near in nears:
            near.close()
    eventually(lambda: descriptors(node, "proxy") < 1000, within=30, every=0.2, what="all are closed")


def test_10000_idle_connections(shop):
    """They stay open, cost little, and others are served as before."""
    node = shop.nodes[0]
    load(shop.web, shop.cart.ip, 8080, "-c", 8, "-n", 1000)
    before = resident(node)
    with Load(shop.web, shop.cart.ip, 8080, "-i", "-c", 10_000, "-k", 64) as idle:
        first = idle.process.stdout.readline()
        assert idle.process.stdout.readline() == "READY\n", first
        cost = resident(node) - before
        assert load(shop.web, shop.stock.ip, 8080, "-c", 4, "-n", 200)["ok"] >= 200
        out, _ = idle.process.communicate("q", timeout=20)
    assert "ALIVE 10000" in out, (first, out)
    assert cost < 40 << 20, f"{cost / 10_000:.0f} bytes of memory per idle connection"
    assert '"err_connect":0' in first and '"err_inflight":0' in first, first
