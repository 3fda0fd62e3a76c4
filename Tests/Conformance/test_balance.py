"""Endpoints that fail, on the wire: what a Service without any policy does for those who call it."""

from collections import Counter

from host import LOOPBACK, Proxy, free_port
from http1 import Backend, Client, ok
from mesh import eventually


def ask(proxy, count):
    """So many requests on one connection; the statuses, and who answered."""
    statuses, names = Counter(), Counter()
    with Client(LOOPBACK, *proxy.address) as user:
        for _ in range(count):
            reply = user.get()
            statuses[reply.status] += 1
            names[reply.body.decode()] += 1
    return statuses, names


def replica(name, status="200 OK"):
    """A server that says its name."""
    return Backend(LOOPBACK, free_port(), lambda asked: ok(name.encode(), status=status))


def test_one_sick_replica_of_three_is_soon_left_alone():
    """One has lost its database. Five answers of 500 in a row, and it gets nothing for half a minute."""
    with replica("sick", "500 Oops") as sick, replica("one") as one, replica("two") as two:
        with Proxy([sick.port, one.port, two.port]) as proxy:
            statuses, _ = ask(proxy, 60)
            assert 5 <= statuses[500] <= 8, statuses
            eventually(lambda: proxy.metrics().sum("weft_endpoints_ejected") == 1, what="the gauge shows it")
            assert proxy.metrics().sum("weft_endpoint_ejections_total", reason="consecutive_failures") == 1
            statuses, names = ask(proxy, 200)
            assert statuses == {200: 200} and names["one"] > 60 and names["two"] > 60, (statuses, names)
            assert "endpoint ejected reason=consecutive_failures for_ms=30000" in proxy.tail()


def test_a_dead_replica_costs_nobody_a_request():
    """Nobody listens at one of three addresses: refused connections go elsewhere, and after five of them nobody tries."""
    with replica("one") as one, replica("two") as two:
        with Proxy([free_port(), one.port, two.port]) as proxy:
            statuses, _ = ask(proxy, 200)
            assert statuses == {200: 200}, statuses
            refused = proxy.metrics().sum("weft_upstream_failures_total", reason="refused")
            assert 5 <= refused <= 8
            ask(proxy, 200)
            assert proxy.metrics().sum("weft_upstream_failures_total", reason="refused") == refused


def test_the_last_one_is_asked_whatever_it_says():
    """Alone, a failing replica is better than none."""
    with replica("only", "503 Busy") as only, Proxy([only.port]) as proxy:
        assert ask(proxy, 30)[0] == {503: 30} and len(only.requests) == 30


def test_whoever_asks_wrongly_ejects_nobody():
    """404, 429 and 501 are answers to the request; all replicas keep their share."""
    statuses = iter(["404 No", "429 Slow", "501 Never"] * 200)
    with Backend(LOOPBACK, free_port(), lambda asked: ok(b"a", status=next(statuses))) as first, replica("b") as second:
        with Proxy([first.port, second.port]) as proxy:
            _, names = ask(proxy, 200)
            assert names["a"] > 60 and names["b"] > 60, names
            assert proxy.metrics().sum("weft_endpoints_ejected") == 0
