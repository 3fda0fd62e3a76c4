"""Which replica gets a request: the sick, the dead, the new, the near, and those that a rolling update replaces."""

import itertools
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from guest import Guest
from http1 import Backend, Client, ok
from mesh import eventually

GUESTS = Path(__file__).resolve().parent / "guests"
HTTP = [{"name": "http", "port": 80, "targetPort": 9100}]


def policy(name, **spec):
    """A MeshPolicy for the Service of that name."""
    target = {"group": "", "kind": "Service", "name": name}
    return {"apiVersion": "weft.mesh/v1alpha1", "kind": "MeshPolicy", "metadata": {"name": name, "namespace": "shop"}, "spec": {"targetRefs": [target], **spec}}


class Replica:
    """A pod with a server that says its name, and says 500 while it is sick."""

    def __init__(self, pod, port=9100):
        self.pod, self.port, self.name, self.is_sick, self.server, self.asked = pod, port, pod.name, False, None, 0
        self.start()

    def start(self):
        """Listens."""
        self.server = Backend(self.pod, self.port, self.answer)
        return self

    def answer(self, request):
        """One reply."""
        if request.target == "/healthz":
            return ok(status="500 Sick" if self.is_sick else "200 OK")
        self.asked += 1
        return ok(self.name.encode(), status="500 Sick" if self.is_sick else "200 OK")

    def die(self):
        """Nobody listens any more."""
        self.server.close()


class Market:
    """A service over replicas on both nodes, and its client on the first. `near` and `far` are how many on each."""

    def __init__(self, shop, near, far, name="market", spec=None, **settings):
        self.shop, self.name, self.spec, self.settings = shop, name, spec, settings
        numbers = itertools.count(1)
        pods = [node.pod(f"{name}-{next(numbers)}") for node, count in zip(shop.nodes, (near, far)) for _ in range(count)]
        self.replicas = [Replica(pod) for pod in pods]
        self.publish()

    def publish(self, *pods):
        """Its objects, over these pods (or all)."""
        self.shop.service(self.name, pods or [replica.pod for replica in self.replicas], HTTP, spec=self.spec)
        if self.settings:
            self.shop.extra["policies.yaml"] = [policy(self.name, **self.settings)]
        self.shop.apply()

    def ready(self, *pods):
        """Waits until the node has its objects."""
        self.shop.ready()
        eventually(lambda: self.ask().status in (200, 500), what="the service answers")
        return self

    def ask(self, target="/", *fields):
        """One request of the client, on a connection of its own."""
        with Client(self.shop.web, self.shop.address(self.name), 80) as client:
            return client.get(target, *fields)

    def many(self, count, target="/", *fields):
        """So many, on one connection; who answered how often, and the statuses."""
        names, statuses = Counter(), Counter()
        with Client(self.shop.web, self.shop.address(self.name), 80) as client:
            for _ in range(count):
                reply = client.get(target, *fields)
                names[reply.body.decode()] += 1
                statuses[reply.status] += 1
        return names, statuses

    def metric(self, name, **labels):
        """Of the client's node."""
        return self.shop.nodes[0].weft.metrics().sum(name, **labels)


@pytest.fixture
def market(fresh):
    """Makes a running market."""
    def make(near, far, limits=None, **options):
        shop = fresh(start=False)
        made = Market(shop, near, far, **options)
        shop.start(limits=limits)
        return made.ready()
    return make


def test_a_replica_that_fails_is_left_alone_and_comes_back(market):
    """One of three replicas has lost its database and answers 500. After five of those it gets nothing; when it is well again it gets its share."""
    scene = market(1, 2, outlierEjection={"duration": "1s"})
    sick, others = scene.replicas[1], [scene.replicas[0], scene.replicas[2]]
    sick.is_sick = True
    eventually(lambda: scene.many(20) and scene.metric("weft_endpoints_ejected") == 1, what="the sick one is ejected")
    assert scene.metric("weft_endpoint_ejections_total", reason="consecutive_failures") == 1
    asked = sick.asked
    _, statuses = scene.many(200)
    # Its time may just be over: on probation, one failure is enough.
    assert statuses[200] >= 198 and sick.asked - asked <= 2, statuses
    sick.is_sick = False
    eventually(lambda: scene.metric("weft_endpoints_ejected") == 0, what="it is back")
    names = eventually(lambda: (found := scene.many(300)[0])[sick.name] > 60 and found, within=20, what="it has its share again")
    assert all(names[other.name] > 60 for other in others), names
    assert "endpoint ejected reason=consecutive_failures" in scene.shop.nodes[0].weft.log_path.read_text()


def test_a_zone_dies_and_returns(market):
    """All replicas of the callers' own zone die at once. Nobody notices: refused connections go to the other zone, and after a few of them nobody
    asks the dead. When the zone is back, its callers come back to it."""
    scene = market(2, 2, spec={"trafficDistribution": "PreferSameZone"}, outlierEjection={"duration": "1s"})
    near, far = scene.replicas[:2], scene.replicas[2:]
    names, _ = scene.many(100)
    assert set(names) == {replica.name for replica in near}, names
    for replica in near:
        replica.die()
    statuses = Counter()
    def all_ejected():
        statuses.update(scene.many(10)[1])
        return scene.metric("weft_endpoints_ejected") == 2
    eventually(all_ejected, what="the dead zone is known")
    refused = scene.metric("weft_upstream_failures_total", reason="refused")
    names, found = scene.many(100)
    statuses.update(found)
    assert set(statuses) == {200} and set(names) <= {replica.name for replica in far}, (statuses, names)
    assert scene.metric("weft_upstream_failures_total", reason="refused") - refused <= 2
    for replica in near:
        replica.start()
    def all_near():
        names, found = scene.many(50)
        statuses.update(found)
        return not set(names) - {replica.name for replica in near}
    eventually(all_near, within=30, what="requests stay in the zone again")
    assert set(statuses) == {200}, statuses


def test_near_replicas_are_preferred_as_the_service_says(market):
    """`PreferSameNode`: the callers' own node, while somebody is there."""
    scene = market(1, 2, spec={"trafficDistribution": "PreferSameNode"})
    assert set(scene.many(60)[0]) == {scene.replicas[0].name}
    scene.publish(*[replica.pod for replica in scene.replicas[1:]])
    eventually(lambda: scene.replicas[0].name not in scene.many(20)[0], what="the others take over")
    assert set(scene.many(60)[0]) == {replica.name for replica in scene.replicas[1:]}


def test_a_user_stays_with_a_replica_and_only_those_of_a_gone_one_move(market):
    """A cache that keeps each user's basket in one replica's memory: Maglev over the header x-user."""
    scene = market(2, 2, balancing={"algorithm": "maglev", "hashOn": {"header": "x-user"}})
    users = [f"user-{number}" for number in range(120)]
    def homes():
        with Client(scene.shop.web, scene.shop.address(scene.name), 80) as client:
            return {user: client.get("/", f"x-user: {user}").body.decode() for user in users}
    before = homes()
    assert homes() == before
    shares = Counter(before.values())
    assert len(shares) == 4 and max(shares.values()) <= 50, shares
    gone = scene.replicas[3]
    scene.publish(*[replica.pod for replica in scene.replicas[:3]])
    after = eventually(lambda: gone.name not in (found := homes()).values() and found, what="the replica is gone")
    moved = [user for user in users if before[user] != after[user]]
    assert {user for user in users if before[user] == gone.name} <= set(moved) and len(moved) <= 1.5 * 120 / 4, len(moved)


def test_a_new_replica_begins_slowly(market):
    """Three replicas, the third just started with cold caches: at first it gets a tenth of its share, and the whole of it after the slow start."""
    scene = market(2, 1, slowStart="4s")
    late = scene.replicas[2]
    scene.publish(*[replica.pod for replica in scene.replicas[:2]])
    eventually(lambda: late.name not in scene.many(30)[0], what="two replicas")
    scene.publish()
    first = eventually(lambda: late.asked > (asked := late.asked - 0) - 1 and (found := scene.many(40)[0])[late.name] and found, what="the third gets something")
    early = scene.many(150)[0]
    assert early[late.name] < 35, (first, early)     # a third would be 50
    eventually(lambda: scene.many(150)[0][late.name] > 35, within=10, what="its whole share")


def test_a_health_check_finds_what_no_request_has_found(market):
    """A replica says at /healthz that it is about to fail. It gets no requests before one of them had to fail."""
    scene = market(1, 2, healthCheck={"http": {"path": "/healthz"}, "interval": "200ms", "timeout": "150ms", "unhealthyAfter": 2, "healthyAfter": 1})
    ill = scene.replicas[2]
    eventually(lambda: any(asked.target == "/healthz" for asked in ill.server.requests), what="it is asked how it is")
    agent = next(asked for asked in ill.server.requests if asked.target == "/healthz")["user-agent"]
    assert agent == "weft-health"
    before = scene.metric("istio_requests_total", reporter="source")
    ill.answer = lambda request: ok(status="500 Ill" if request.target == "/healthz" else "200 OK", body=b"ill")
    ill.server.answer = ill.answer
    eventually(lambda: scene.metric("weft_endpoints_unwell") >= 1, what="it is found out")
    # Nobody in the pod has asked: questions are not the pod's requests.
    assert scene.metric("istio_requests_total", reporter="source") == before
    names, statuses = scene.many(100)
    assert set(statuses) == {200} and b"ill".decode() not in names, names
    ill.server.answer = Replica.answer.__get__(ill)
    eventually(lambda: scene.metric("weft_endpoints_unwell") == 0, what="it is well again")
    eventually(lambda: scene.many(60)[0][ill.name] > 5, within=15, what="it has requests again")


def test_a_connection_that_can_be_made_is_enough_where_nothing_else_is_asked(market):
    """A replica on another node stops listening while nobody calls it, and listens again."""
    scene = market(1, 2, healthCheck={"tcp": {}, "interval": "200ms", "timeout": "150ms", "unhealthyAfter": 2, "healthyAfter": 1})
    gone = scene.replicas[2]
    eventually(lambda: scene.many(5) and gone.server.connections > 2, what="connections of the check")
    refused = scene.metric("weft_endpoint_ejections_total")
    gone.die()
    eventually(lambda: scene.metric("weft_endpoints_unwell") >= 1, what="it is found out")
    names, statuses = scene.many(60)
    assert set(statuses) == {200} and gone.name not in names and scene.metric("weft_endpoint_ejections_total") == refused, (names, statuses)
    gone.start()
    eventually(lambda: scene.metric("weft_endpoints_unwell") == 0, what="it is well again")


def test_a_grpc_server_says_itself_that_it_does_not_serve(fresh):
    """gRPC's own health service, on this node and, by mutual TLS, on the other."""
    shop = fresh(start=False)
    shop.service("ledger", [shop.cart, shop.stock], [{"name": "grpc", "port": 50051}])
    shop.extra["policies.yaml"] = [policy("ledger", healthCheck={"grpc": {}, "interval": "200ms", "timeout": "150ms", "unhealthyAfter": 2, "healthyAfter": 1})]
    with Guest(shop.cart, "grpc_health.py", 50051) as near, Guest(shop.stock, "grpc_health.py", 50051) as far:
        near.hear("serving")
        far.hear("serving")
        shop.start()
        unwell = lambda: shop.nodes[0].weft.metrics().sum("weft_endpoints_unwell")  # noqa: E731
        with Client(shop.web, shop.address("ledger"), 50051) as client:
            client.get("/shop.Ledger/Any", method="POST")
            for server in (near, far):
                server.tell("not-serving")
                eventually(lambda: unwell() >= 1, what="it is found out")
                server.tell("serving")
                eventually(lambda: unwell() == 0, what="it is well again")


def test_a_rolling_update_loses_no_request(fresh):
    """A Deployment of three is replaced pod by pod while 10,000 GETs and PUTs and more pass: each new pod is ready before an old one is told to end, which
    it does up to two seconds later. The service's clients see nothing of it."""
    shop = fresh(start=False)
    names = itertools.count(1)
    def replica():
        number = next(names)
        pod = shop.nodes[number % 2].pod(f"depot-{number}")
        server = pod.start(sys.executable, "-S", GUESTS / "draining_server.py", 9100, pod.name)
        pod.listens(9100)
        return pod, server
    current = [replica() for _ in range(3)]
    publish = lambda: (shop.service("depot", [pod for pod, _ in current], HTTP), shop.apply())  # noqa: E731
    publish()
    shop.start()
    address = shop.address("depot")
    is_over, lock, results, served = threading.Event(), threading.Lock(), Counter(), Counter()

    def client(seed):
        chance = random.Random(seed)
        with Client(shop.web, address, 80) as connection:
            while True:
                if is_over.is_set() and results.total() >= 10_000:
                    return
                if chance.random() < 0.5:
                    reply = connection.get("/")
                else:
                    reply = connection.send("PUT /thing HTTP/1.1\r\nHost: depot\r\nContent-Length: 5\r\n\r\nvalue").reply("PUT")
                with lock:
                    results[reply.status] += 1
                    served[reply.body.decode()] += 1
    callers = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    old = list(current)
    ended = []
    for pod, server in old:
        fresh_one = replica()
        shop.apply()
        fresh_one[0].node.weft.wait_ready([fresh_one[0].name])
        current.append(fresh_one)
        publish()
        eventually(lambda name=fresh_one[0].name: served[name] > 0, what="the new one serves")
        # The pod is told to end at the moment in which its endpoint becomes terminating, as by the kubelet.
        pod.terminating = True
        publish()
        server.send_signal(signal.SIGTERM)
        ended.append((pod, server, time.monotonic()))
        eventually(lambda: server.poll() is not None, within=10, what="it has ended")
        current.remove((pod, server))
        publish()
    is_over.set()
    for caller in callers:
        caller.join(120)
    assert set(results) == {200} and results[200] >= 10_000, results
    assert all(served[pod.name] > 0 for pod, _ in [*old, *current]), served
