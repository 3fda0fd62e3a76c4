"""What a MeshPolicy does for a service's callers, from the object in the API to the wire: each test is the incident that it prevents.

The web pod calls; cart answers on its own node, stock on the other one.
"""

import itertools
import random
import threading
import time

import pytest

from http1 import Backend, Client, ok
from mesh import eventually

PORTS = itertools.count(21000)


@pytest.fixture(scope="module")
def stage(make_shop):
    """The shop with a Service over one server of our own, and whatever policies a test writes."""
    with make_shop() as world:
        yield world


@pytest.fixture(scope="module")
def make_shop():
    from shop import Shop
    import conftest

    class Stage(Shop):
        def __enter__(self):
            conftest.WORLDS.append(self)
            self.start(workers=2)
            return self

        def __exit__(self, *stack):
            conftest.WORLDS.remove(self)
            super().__exit__(*stack)

        def enforce(self, *objects):
            """Puts these objects, and the services as they are now, into force on every node."""
            before = {node: node.weft.status()["generations"]["published"] for node in self.nodes}
            self.extra["resilience.yaml"] = list(objects)
            self.apply()
            for node in self.nodes:
                def there(node=node):
                    generations = node.weft.status()["generations"]
                    return generations["agree"] and generations["published"] > before[node]
                eventually(there, what=f"the objects in force on {node.name}")
                assert not node.weft.status()["configuration"]["faults"]

        def serve(self, name, pods, port):
            """A Service of these pods, whose servers listen on `port`; returns its address."""
            return self.service(name, pods, [{"name": "http", "port": 80, "targetPort": port}])[0]
    return Stage


def policy(name, **spec):
    """A MeshPolicy for the Service of the same name."""
    return {"apiVersion": "weft.mesh/v1alpha1", "kind": "MeshPolicy", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"targetRefs": [{"kind": "Service", "name": name}], **spec}}


def failing(body=b"no"):
    """An answer that is an error."""
    return ok(body, status="503 Service Unavailable")


def total(stage, name, **labels):
    """A counter of all proxies together."""
    return sum(node.weft.metrics().sum(name, **labels) for node in stage.nodes)


@pytest.mark.parametrize("where", ["same-node", "other-node"])
def test_an_object_in_the_api_is_in_force_on_the_wire(stage, where):
    """One in two answers fails for a moment: with a policy the callers never know."""
    pod, port = stage.cart if where == "same-node" else stage.stock, next(PORTS)
    turns = itertools.cycle([failing(), ok(b"fine")])
    lock = threading.Lock()

    def answer(asked):
        with lock:
            return next(turns)
    with Backend(pod, port, answer) as server:
        name = f"flaky-{where}"
        address = stage.serve(name, [pod], port)
        stage.enforce(policy(name, retries={"attempts": 1, "statuses": [503], "budgetPercent": 100, "minPerSecond": 1000}))
        with Client(stage.web, address, 80) as user:
            assert [user.get().status for _ in range(20)] == [200] * 20
        assert len(server.requests) == 40 and all(asked["x-weft-attempt"] is None for asked in server.requests)


def test_a_policy_changes_while_requests_pass(stage):
    """The limit is halved in the middle of the traffic: no request fails for it, and the new one is in force."""
    port = next(PORTS)
    with Backend(stage.cart, port):
        address = stage.serve("limited", [stage.cart], port)
        stage.enforce(policy("limited", rateLimits=[{"requests": 1000000, "per": "1s"}]))
        with Client(stage.web, address, 80) as user:
            assert {user.get().status for _ in range(50)} == {200}
            stage.enforce(policy("limited", rateLimits=[{"requests": 5, "per": "1h"}]))
            assert [user.get().status for _ in range(20)] == [200] * 5 + [429] * 15


def test_the_caller_is_who_it_is_and_not_what_it_says(stage):
    """Each service account has a bucket of its own: web's greed is not the till's problem."""
    port = next(PORTS)
    with Backend(stage.stock, port):
        address = stage.serve("shared", [stage.stock], port)
        stage.enforce(policy("shared", rateLimits=[{"requests": 10, "per": "1h", "key": {"caller": True}}]))
        with Client(stage.web, address, 80) as greedy, Client(stage.till, address, 80) as modest:
            assert [greedy.get().status for _ in range(20)] == [200] * 10 + [429] * 10
            assert [modest.get().status for _ in range(10)] == [200] * 10


def test_a_deadline_is_shorter_at_each_hop_and_nobody_works_past_it(stage):
    """The caller gives two seconds; the server hears how much of it is left, and after it the caller hears so."""
    port = next(PORTS)

    def answer(asked):
        if asked.target == "/slow":
            time.sleep(1)
        return ok()
    with Backend(stage.stock, port, answer) as server:
        address = stage.serve("patient", [stage.stock], port)
        stage.enforce()
        with Client(stage.web, address, 80) as user:
            assert user.get("/", "X-Request-Timeout: 2s").status == 200
            left = server.last()["x-request-timeout"]
            assert left.endswith("ms") and 1000 < int(left[:-2]) <= 2000
            begun = time.monotonic()
            reply = user.get("/slow", "X-Request-Timeout: 200ms")
            assert (reply.status, reply["x-weft-reason"]) == (504, "deadline-exceeded") and time.monotonic() - begun < 0.8


class Relay:
    """An application that asks the next one and passes on what it hears, with the request's identifier, as for tracing."""

    def __init__(self, pod, port, next_address):
        self.pod, self.next_address = pod, next_address
        self.local = threading.local()
        self.backend = Backend(pod, port, self.answer)

    def answer(self, asked):
        if not hasattr(self.local, "client"):
            self.local.client = Client(self.pod, self.next_address, 80)
        try:
            reply = self.local.client.get("/", f"X-Request-ID: {asked['x-request-id']}")
        except (ConnectionError, OSError):
            del self.local.client
            return ok(b"lost", status="502 Bad Gateway")
        if reply["connection"] == "close":
            self.local.client.close()
            del self.local.client
        return ok(reply.body, status=f"{reply.status} Passed On")

    def close(self):
        self.backend.close()


def test_an_outage_three_hops_away_costs_hardly_more_than_its_requests(stage):
    """web → first (other node) → second (web's node) → third (other node), which fails for everybody. Each hop may try three times, within its
    budget; the last server sees at most 1.3 times what web has asked, not 64 times."""
    asked, lock = [0], threading.Lock()

    def fail(request):
        with lock:
            asked[0] += 1
        time.sleep(0.002)
        return failing()
    ports = [next(PORTS) for _ in range(3)]
    third = Backend(stage.till, ports[2], fail)
    third_address = stage.serve("third", [stage.till], ports[2])
    second_address = stage.serve("second", [stage.cart], ports[1])
    first_address = stage.serve("first", [stage.stock], ports[0])
    retries = {"attempts": 3, "statuses": [502, 503], "budgetPercent": 20, "minPerSecond": 3}
    stage.enforce(*(policy(name, retries=retries) for name in ("first", "second", "third")))
    second, first = Relay(stage.cart, ports[1], third_address), Relay(stage.stock, ports[0], second_address)
    try:
        sent, begun = [0] * 20, time.monotonic()

        def user(number):
            with Client(stage.web, first_address, 80) as client:
                while time.monotonic() - begun < 6:
                    assert client.get().status in (502, 503)
                    sent[number] += 1
        threads = [threading.Thread(target=user, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        requests = sum(sent)
        assert requests > 300
        assert asked[0] <= 1.3 * requests + 3 * 7, f"{asked[0]} attempts for {requests} requests"
        assert total(stage, "weft_retries_refused_total", reason="already_retried") > 0
    finally:
        for server in (first, second, third):
            server.close()


class Overloaded:
    """A server that does eight requests at a time, ten milliseconds each, and while it is sick fails half of them, at the same cost."""

    def __init__(self, pod, port):
        self.room, self.sick, self.chance = threading.Semaphore(8), False, random.Random(7)
        self.attempts = self.good = 0
        self.lock = threading.Lock()
        self.backend = Backend(pod, port, self.answer)

    def answer(self, asked):
        with self.room:
            time.sleep(0.01)
            with self.lock:
                self.attempts += 1
                fails = self.sick and self.chance.random() < 0.5
                self.good += not fails
        return failing() if fails else ok()


@pytest.mark.parametrize("kind", ["budget", "naive"])
def test_a_storm_of_retries_does_not_follow_a_storm(stage, kind):
    """Half of the answers fail while ten times as many callers come as the server can serve. Within its budget the mesh sends a fifth more
    than was asked, what the server does well reaches somebody, and a second after it has healed nobody notices any more. Retries without
    a budget (the control) send far more for it."""
    port = next(PORTS)
    server = Overloaded(stage.cart, port)
    name = f"storm-{kind}"
    address = stage.serve(name, [stage.cart], port)
    budget = {"budgetPercent": 20, "minPerSecond": 3} if kind == "budget" else {"budgetPercent": 100, "minPerSecond": 10000}
    stage.enforce(policy(name, retries={"attempts": 3, "statuses": [503], **budget}))
    stop, healed, answers, lock = threading.Event(), [0.0], [], threading.Lock()

    def user(_):
        with Client(stage.web, address, 80) as client:
            while not stop.is_set():
                status = client.get().status
                with lock:
                    answers.append((time.monotonic(), status))
    try:
        server.sick = True
        threads = [threading.Thread(target=user, args=(number,)) for number in range(80)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        eventually(lambda: server.attempts >= 2_000, within=30, what="two thousand attempts of the storm")
        with server.lock:
            attempts, good, told = server.attempts, server.good, len(answers)
            served = sum(status == 200 for _, status in answers)
            server.sick, healed[0] = False, time.monotonic()
        eventually(lambda: sum(at > healed[0] + 1 for at, _ in answers) >= 200, within=30, what="answers a second after it has healed")
        stop.set()
        for thread in threads:
            thread.join()
        late = [status for at, status in answers if at > healed[0] + 1]
        share = attempts / max(1, told)
        print(f"{kind}: {attempts} attempts for {told} answers ({share:.2f}), {served} of {good} good ones told, after {time.monotonic() - begun:.1f} s")
        assert late and late.count(200) == len(late), "a second after it has healed, somebody still hears of failures"
        if kind == "budget":
            assert share <= 1.35 and served >= 0.95 * good - 80
        else:
            assert share > 1.4, "the control shows no storm"
    finally:
        stop.set()
        server.backend.close()
