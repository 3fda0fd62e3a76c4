"""What routes do on the way: to a pod of the same node and over mutual TLS to another node's, each with the objects that the incident called for.

    node 1: web (the client), cart (version 1)      node 2: stock (version 2)
"""

import json
import threading
import time

import pytest
import yaml

from http1 import Backend, Client, ok
from http2 import Client2
from mesh import eventually

PORTS = [{"name": "http", "port": 80, "targetPort": 9180, "appProtocol": "http"}]
# Version 1 is behind the same proxy, version 2 behind another node's.
VERSIONS = ["v1", "v2"]


class Version:
    """A version of the shop: answers with what it was asked. `slow` makes it wait on /slow."""

    def __init__(self, name, pod):
        self.name, self.slow = name, threading.Event()
        self.server = Backend(pod, 9180, self.answer)

    def answer(self, request):
        """The echo."""
        if request.target.startswith("/slow"):
            self.slow.wait(10)
        told = {"version": self.name, "path": request.target, "method": request.method, "fields": dict(request.fields), "bytes": len(request.body)}
        return ok(json.dumps(told).encode(), "X-Powered-By: steam")


@pytest.fixture(scope="module")
def world(shop):
    """The Service `front` of both versions, and one of each."""
    made = {"v1": Version("v1", shop.cart), "v2": Version("v2", shop.stock)}
    for name, pod in (("v1", shop.cart), ("v2", shop.stock)):
        shop.service(name, [pod], PORTS)
    shop.service("front", [shop.cart, shop.stock], PORTS)
    yield World(shop, made)
    shop.extra.clear()
    for version in made.values():
        version.slow.set()
        version.server.close()


class World:
    """The client's side."""

    def __init__(self, shop, versions):
        self.shop, self.versions, self.number = shop, versions, 0

    def routes(self, rules):
        """A route of `front` with these rules; returns when the client's node goes by it."""
        self.number += 1
        route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": f"front-{self.number}", "namespace": "shop"},
                 "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "front", "port": 80}], "rules": yaml.safe_load(rules)}}
        self.shop.extra = {"routes.yaml": [route]}
        self.shop.apply()
        weft = self.shop.nodes[0].weft

        def known():
            status = weft.status()
            mine = [found for found in status.get("routes", []) if found["name"] == route["metadata"]["name"]]
            return status["generations"]["agree"] and mine and mine[0]
        found = eventually(known, within=10, what="the route is in force")
        conditions = {c["type"]: (c["status"], c["reason"], c.get("message")) for c in found["parents"][0]["conditions"]}
        assert conditions["Accepted"][0] == "True", conditions

    def ask(self, path="/", *fields, method="GET", body=None):
        """One request; what the version saw is `.seen`."""
        with Client(self.shop.web, self.shop.address("front"), 80) as client:
            length = [f"content-length: {len(body)}"] if body is not None else []
            head = "".join(f"{field}\r\n" for field in [*fields, *length])
            client.send(f"{method} {path} HTTP/1.1\r\nhost: front\r\n{head}\r\n".encode() + (body or b""))
            reply = client.reply(method)
        reply.seen = json.loads(reply.body) if reply.body.startswith(b"{") else None
        return reply

    def sent(self, outcome):
        """Copies of requests."""
        return self.shop.nodes[0].weft.metrics().sum("weft_mirrored_requests_total", outcome=outcome) or 0


def to(version):
    """A rule's backend."""
    return f"backendRefs: [{{name: {version}, port: 80}}]"


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_rule_wants_reaches_the_version_wherever_it_is(world, version):
    """Fields, path and host change on the caller's node; the version sees the outcome and nothing of how it came about."""
    world.routes(f"""
        - matches: [{{path: {{type: PathPrefix, value: /shop}}}}]
          filters:
          - {{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-tenant, value: shop}}], add: [{{name: x-seen, value: weft}}], remove: [x-debug]}}}}
          - {{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-version, value: {version}}}], remove: [x-powered-by]}}}}
          - {{type: URLRewrite, urlRewrite: {{hostname: inner.test, path: {{type: ReplacePrefixMatch, replacePrefixMatch: /v}}}}}}
          {to(version)}
        """)
    reply = world.ask("/shop/items?q=1", "x-tenant: evil", "x-seen: client", "x-debug: 1", method="POST", body=b"b" * 100_000)
    fields = reply.seen["fields"]
    assert (reply.seen["version"], reply.seen["path"], reply.seen["bytes"], fields["host"]) == (version, "/v/items?q=1", 100_000, "inner.test")
    assert (fields["x-tenant"], fields["x-seen"]) == ("shop", "client,weft") and "x-debug" not in fields and "x-weft-destination" not in fields
    assert reply["x-version"] == version and reply["x-powered-by"] is None
    assert world.ask("/elsewhere")["x-weft-reason"] == "no-matching-route"
    with Client2(world.shop.web, world.shop.address("front"), 80) as client:
        reply = client.get("/shop/x", ("x-debug", "1"))
        assert (reply.status, reply["x-version"], json.loads(reply.body)["path"]) == (200, version, "/v/x")


def test_a_canary_gets_its_share(world):
    """One request in ten, of 600, within five standard deviations; and who asks for it always."""
    world.routes(f"""
        - matches: [{{headers: [{{name: x-canary, value: always}}]}}]
          {to('v2')}
        - backendRefs: [{{name: v1, port: 80, weight: 90}}, {{name: v2, port: 80, weight: 10}}]
        """)
    seen = [world.ask().seen["version"] for _ in range(600)]
    assert 24 <= seen.count("v2") <= 96, seen.count("v2")
    assert {world.ask("/", "x-canary: always").seen["version"] for _ in range(10)} == {"v2"}


@pytest.mark.parametrize("version, mirror", [("v1", "v2"), ("v2", "v1")])
def test_the_next_version_is_tried_with_real_requests(world, version, mirror):
    """Each request goes to both; only one is heard."""
    world.routes(f"[{{filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: {mirror}, port: 80}}}}}}], {to(version)}}}]")
    before = world.sent("sent")
    for number in range(5):
        reply = world.ask(f"/order/{number}", f"x-run: {world.number}", method="POST", body=b"o" * 10_000)
        assert reply.seen["version"] == version
    backend = world.versions[mirror].server
    copies = eventually(lambda: len(found := [r for r in backend.requests if r["x-run"] == str(world.number)]) == 5 and found, within=5)
    assert {copy.target for copy in copies} == {f"/order/{number}" for number in range(5)} and all(copy.body == b"o" * 10_000 for copy in copies)
    assert world.sent("sent") - before == 5


def test_a_browser_of_another_origin(world):
    """The shop's page may ask, a stranger's may not."""
    world.routes(f"""
        - filters: [{{type: CORS, cors: {{allowOrigins: ["https://*.shop.test"], allowMethods: [GET, PUT], allowHeaders: [x-token], allowCredentials: true, maxAge: 60}}}}]
          {to('v1')}
        """)
    page = ("origin: https://www.shop.test",)
    asked = world.ask("/", *page, "access-control-request-method: PUT", "access-control-request-headers: x-token", method="OPTIONS")
    assert asked.status == 200 and asked["access-control-allow-origin"] == "https://www.shop.test" and asked["access-control-allow-methods"] == "GET, PUT"
    assert asked["access-control-max-age"] == "60" and asked["access-control-allow-credentials"] == "true"
    assert world.ask("/", *page)["access-control-allow-origin"] == "https://www.shop.test"
    assert world.ask("/", "origin: https://evil.test")["access-control-allow-origin"] is None


def test_a_basket_stays_where_it_is(world):
    """Half of the requests go to each version; who has begun with one stays with it, also from another node."""
    world.routes("[{backendRefs: [{name: v1, port: 80}, {name: v2, port: 80}], sessionPersistence: {sessionName: basket, type: Cookie}}]")
    sessions = {}
    while len(sessions) < 2:
        reply = world.ask()
        sessions[reply.seen["version"]] = reply["set-cookie"].split(";")[0]
    for version, cookie in sessions.items():
        assert cookie.startswith("basket=")
        assert {world.ask("/", f"cookie: {cookie}").seen["version"] for _ in range(10)} == {version}
        with Client(world.shop.till, world.shop.address("front"), 80) as client:
            assert json.loads(client.get("/", f"cookie: {cookie}").body)["version"] == version


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_that_hangs_costs_no_more_than_was_allowed(world, version):
    world.routes(f"[{{timeouts: {{request: 400ms}}, {to(version)}}}]")
    since = time.monotonic()
    reply = world.ask("/slow")
    assert reply.status == 504 and 0.39 <= time.monotonic() - since < 4
    assert world.ask("/fast").status == 200


def test_clients_are_sent_to_where_the_shop_has_moved(world):
    world.routes("""
        - matches: [{path: {type: PathPrefix, value: /old}}]
          filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: new.test, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}, statusCode: 301}}]
        """)
    reply = world.ask("/old/thing?a=b")
    assert (reply.status, reply["location"]) == (301, "https://new.test/new/thing?a=b")
