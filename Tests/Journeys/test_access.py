"""Who may call what: the table of decisions as real requests, and `weft explain` of the same mind; what a refusal looks like; policies that
change under what is open."""

import json
import socket
import subprocess
from pathlib import Path

import pytest

from http1 import Client, ok
from mesh import Mesh, eventually
from mesh.machine import weft
from shop import serve
from tcp import Plain, echo

TABLE = json.loads((Path(__file__).resolve().parent.parent / "Access" / "decisions.json").read_text())
WEB = "spiffe://cluster.local/ns/shop/sa/web"


def answer(connection):
    """Any request whose head has come is answered 200."""
    heard = b""
    while piece := connection.recv(1 << 16):
        heard += piece
        while b"\r\n\r\n" in heard:
            heard = heard.split(b"\r\n\r\n", 1)[1]
            connection.sendall(ok())


class Stage(Mesh):
    """The pods of the table: on node 1 servers and clients, on node 2 the same clients again, under the same accounts."""

    def __init__(self):
        super().__init__(2)
        try:
            for name in ("shop", "lab", "depot", "weft-system"):
                self.namespace(name)
            near, far = self.nodes
            for namespace, name in (("shop", "cart"), ("depot", "stock"), ("shop", "web"), ("shop", "admin"), ("lab", "robot")):
                near.pod(name, namespace=namespace)
            near.pod("stranger", namespace="lab", meshed=False)
            for namespace, name in (("shop", "web"), ("shop", "admin"), ("lab", "robot")):
                far.pod(f"{name}-far", namespace=namespace, labels={"app": name})
            far.pod("stranger-far", namespace="lab", labels={"app": "stranger"}, meshed=False)
            self.servers = []
            for name in ("cart", "stock"):
                self.servers += [Plain(self.pods[name], answer, 8080), Plain(self.pods[name], echo, 5432)]
            self.service("cart", [self.pods["cart"]], [{"name": "http", "port": 80, "targetPort": 8080}])
            self.in_force = []
        except BaseException:
            self.close()
            raise

    def close(self):
        for server in getattr(self, "servers", []):
            server.close()
        super().close()

    def enforce(self, policies):
        """Puts these policies into force: every node's proxy routes by them."""
        if policies == self.in_force:
            return
        before = {node: node.weft.status()["generations"]["published"] for node in self.nodes}
        self.extra["policies.yaml"] = [
            {"apiVersion": "weft.mesh/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": p["name"], "namespace": p["namespace"]}, "spec": p["spec"]}
            for p in policies]
        self.apply()
        self.in_force = policies
        serving = self.nodes[0]

        def there():
            generations = serving.weft.status()["generations"]
            return generations["agree"] and generations["published"] > before[serving]
        eventually(there, what=f"{len(policies)} policies in force")
        assert not serving.weft.status()["configuration"]["faults"]

    def caller(self, name, where):
        """The pod that calls for a name of the table."""
        short = "stranger" if name == "unauthenticated" else name.split("/")[1]
        return self.pods[short if where == "same-node" else f"{short}-far"]

    def explain(self, call):
        """What `weft explain` says about a call of the table."""
        options = [word for name, value in call.get("headers", []) for word in ("--header", f"{name}: {value}")]
        if "host" in call:
            options += ["--host", call["host"]]
        asked = [call["method"], call["path"]] if "method" in call else []
        done = subprocess.run(
            [weft(), "explain", "--admin", self.nodes[0].weft.state / "agent" / "admin.sock", "--json", "--from", call["from"], "--to", call["to"], *options, *asked],
            capture_output=True, text=True, timeout=20)
        assert done.returncode in (0, 1) and done.stdout, done.stderr
        told = json.loads(done.stdout)
        assert all(d["isAllowed"] for d in told["destinations"]) == (done.returncode == 0)
        return told["destinations"][0]


@pytest.fixture(scope="module")
def stage():
    with Stage() as world:
        yield world.start()


def place(stage, call):
    pod, port = call["to"].split("/")[1].split(":")
    return stage.pods[pod].ip, int(port)


def attempt(stage, call, where):
    """Does what the call says; returns "allow", or the reason of the refusal."""
    address, port = place(stage, call)
    with Client(stage.caller(call["from"], where), address, port) as client:
        if "method" not in call:
            client.send(b"\0hello")
            try:
                return "allow" if client.wire.exactly(6) == b"\0hello" else "something else"
            except (ConnectionResetError, ValueError, Exception) as end:  # noqa: BLE001
                if isinstance(end, (TimeoutError, socket.timeout)):
                    raise
                return "closed"
        fields = [f"{name}: {value}" for name, value in call.get("headers", [])]
        reply = client.get(call["path"], *fields, host=call.get("host", "cart.shop"), method=call["method"])
        if reply.status == 200:
            return "allow"
        assert reply.status == 403, reply
        return reply["x-weft-reason"]


REASONS = {"rule": "access-denied", "noRule": "access-denied", "revoked": "access-denied", "ambiguousPath": "ambiguous-path", "notHTTP": "access-needs-http"}


@pytest.mark.parametrize("where", ["same-node", "other-node"])
@pytest.mark.parametrize("scenario", TABLE, ids=lambda s: s["name"].replace(" ", "-"))
def test_the_table_of_decisions(stage, scenario, where):
    """Every call of the table is sent, and treated as the table says; `weft explain` says the same, and by which rule."""
    stage.enforce(scenario["policies"])
    node, wrong = stage.nodes[0], []
    for call in scenario["calls"]:
        audited = node.weft.metrics().sum("weft_access_audited_total")
        found = attempt(stage, call, where)
        if call["expect"] == "deny":
            is_right = found == "closed" if "method" not in call else found == REASONS[call["why"]]
        else:
            is_right = found == "allow"
        if not is_right:
            wrong.append((call, found))
        if call["expect"] == "audit":
            eventually(lambda: node.weft.metrics().sum("weft_access_audited_total") > audited, within=5, what=f"{call} is counted")
        if where == "same-node":
            told = stage.explain(call)
            rule = f"{told.get('policy')} {told.get('field')}"
            if told["isAllowed"] != (call["expect"] != "deny") or call["expect"] == "deny" and told["fault"] != call["why"]:
                wrong.append((call, "explained", told))
            if call["expect"] == "audit":
                rule = f"{told['audit']['policy']} {told['audit']['field']}"
            if call.get("by") and rule != call["by"]:
                wrong.append((call, "explained by", rule))
    assert not wrong, wrong


DENY_ROBOTS = [{"namespace": "shop", "name": "no-robots", "spec": {"action": "deny", "rules": [{"from": [{"namespaces": ["lab"]}]}]}}]


@pytest.mark.parametrize("where", ["same-node", "other-node"])
def test_a_refusal_says_why_to_each_in_its_way(stage, where):
    """HTTP/1.1 and HTTP/2 hear 403, gRPC PERMISSION_DENIED, opaque bytes a closed connection; counted, and told in the log with rule and caller."""
    stage.enforce(DENY_ROBOTS)
    robot, cart, node = stage.caller("lab/robot", where), stage.pods["cart"], stage.nodes[0]
    before = node.weft.metrics().sum("weft_access_refused_total", reason="rule")
    with Client(robot, cart.ip, 8080) as client:
        reply = client.get("/")
        assert (reply.status, reply["x-weft-reason"]) == (403, "access-denied")
        assert client.get("/again").status == 403, "a refusal need not cost the connection"
    told = robot.curl(f"http://{cart.ip}:8080/", "--http2-prior-knowledge", "-i", check=False)
    assert "HTTP/2 403" in told and "access-denied" in told, told
    told = robot.curl(f"http://{cart.ip}:8080/shop.Cart/Get", "--http2-prior-knowledge", "-i", "-H", "content-type: application/grpc", "-H", "te: trailers", "-d", "", check=False)
    assert "grpc-status: 7" in told, told
    assert attempt(stage, {"from": "lab/robot", "to": "shop/cart:5432"}, where) == "closed"
    assert node.weft.metrics().sum("weft_access_refused_total", reason="rule") >= before + 5
    eventually(
        lambda: "access refused" in node.weft.tail() and "policy=shop/no-robots rule=spec.rules[0] caller=lab/robot destination=shop/cart port=8080" in node.weft.tail(),
        within=5, what="a log line with rule and caller")


@pytest.mark.parametrize("where", ["same-node", "other-node"])
def test_a_new_policy_ends_what_is_open(stage, where):
    """An opaque connection whose caller is denied from now on ends within a second of the policy; so does the next request of a kept connection."""
    stage.enforce([])
    robot, cart, node = stage.caller("lab/robot", where), stage.pods["cart"], stage.nodes[0]
    with Client(robot, cart.ip, 5432) as opaque, Client(robot, cart.ip, 8080) as kept, Client(stage.caller("shop/web", where), cart.ip, 5432) as other:
        for client in (opaque, other):
            client.send(b"\0hello")
            assert client.wire.exactly(6) == b"\0hello"
        assert kept.get("/").status == 200
        stage.enforce(DENY_ROBOTS)
        assert opaque.ended(within=1.0)
        assert kept.get("/").status == 403
        other.send(b"\0still")
        assert other.wire.exactly(6) == b"\0still", "whoever is not denied stays"
    assert node.weft.metrics().sum("weft_access_ended_total") >= 1


def test_a_silent_client_of_an_http_only_port_is_not_closed(stage):
    """Clients that open connections ahead of their requests are silent for a while; that is not opaque yet."""
    stage.enforce([{"namespace": "shop", "name": "items", "spec": {"action": "allow", "rules": [{"http": [{"paths": ["/items*"]}]}]}}])
    with Client(stage.pods["web"], stage.pods["cart"].ip, 8080) as client:
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(10)
        assert client.get("/items").status == 200
        assert client.get("/other").status == 403


@pytest.mark.parametrize("where", ["same-node", "other-node"])
def test_an_upgrade_is_a_request_to_rules(stage, where):
    """To WebSocket or to anything else: rules about HTTP see it, and what they allow passes."""
    stage.enforce([{"namespace": "shop", "name": "items", "spec": {"action": "allow", "rules": [{"http": [{"methods": ["POST"], "paths": ["/items*"]}]}]}}])
    for upgrade in ("websocket", "shouting"):
        with Client(stage.caller("shop/web", where), stage.pods["cart"].ip, 8080) as client:
            fields = ("Connection: upgrade", f"Upgrade: {upgrade}", "Content-Length: 0")
            assert client.get("/items", *fields, method="POST").status == 200, upgrade
            reply = client.get("/other", *fields, method="POST")
            assert (reply.status, reply["x-weft-reason"]) == (403, "access-denied"), upgrade


def test_nobody_calls_a_pod_whose_rules_are_not_known(fresh):
    """No snapshot can be made: what is in force stays, and a pod that comes now is called by nobody until its rules are known."""
    shop = fresh()
    too_many = [{"from": [{"serviceAccounts": [f"nobody-{number}"]}]} for number in range(250)]
    shop.extra["policies.yaml"] = [
        {"apiVersion": "weft.mesh/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": f"too-many-{number}", "namespace": "shop"}, "spec": {"action": "deny", "rules": too_many}}
        for number in range(5)]
    node = shop.nodes[0]
    shop.apply()
    eventually(lambda: any("no snapshot can be made" in reason for reason in node.weft.status()["notReady"]), within=10)
    late = node.pod("late")
    serve(late)
    shop.apply()
    eventually(lambda: "late" in node.weft.enrolled(), within=15, what="the new pod is enrolled")
    with Client(shop.web, shop.cart.ip, 8080) as client:
        assert client.get("/s/10").status == 200
    for caller in (shop.web, shop.till):
        with Client(caller, late.ip, 8080) as client:
            try:
                assert client.get("/s/10").status in (403, 502, 503)
            except ConnectionError:
                pass
    assert node.weft.metrics().sum("weft_connections_refused_total", reason="plaintext") >= 1
    del shop.extra["policies.yaml"]
    shop.apply()

    def called():
        with Client(shop.web, late.ip, 8080) as client:
            return client.get("/s/10").status == 200
    eventually(called, within=15, what="the pod to be called")


def test_status_lists_the_policies(stage):
    """What is in force here, and for how many pods of this node."""
    stage.enforce(DENY_ROBOTS)
    listed = stage.nodes[0].weft.status()["policies"]
    assert [(p["namespace"], p["name"], p["action"], p["mode"], p["strength"], p["rules"]) for p in listed] == [("shop", "no-robots", "deny", "enforce", "namespace", 1)]
    assert listed[0]["podsHere"] == 3
    assert "shop/no-robots" in stage.nodes[0].weft.status_text()
