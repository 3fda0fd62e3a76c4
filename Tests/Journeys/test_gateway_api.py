"""The mesh conformance tables of the Gateway API: what each of its tests asks of a mesh, asked here through real proxies.

    node 1: web (the client), cart (echo-v1), visitor (a client of namespace consumer)      node 2: stock (echo-v2)
"""

import itertools
import json
import threading
from collections import Counter

import pytest
import yaml

from guest import Guest
from http1 import Backend, Client, ok
from mesh import eventually

PORTS = [
    {"name": "http", "port": 80, "targetPort": 9080, "appProtocol": "http"}, {"name": "http-alt", "port": 8080, "targetPort": 9080, "appProtocol": "http"},
    {"name": "https", "port": 443, "targetPort": 9443}, {"name": "tcp", "port": 9090}, {"name": "grpc", "port": 7070, "appProtocol": "grpc"},
]
ECHO = "shop.Orders"
NUMBERS = itertools.count(1)


def echo(name):
    """Answers with what was asked, and who was."""
    def answer(request):
        asked = {}
        for field, value in request.fields:
            asked[field] = f"{asked[field]},{value}" if field in asked else value
        return ok(json.dumps({"pod": name, "path": request.target, "method": request.method, "headers": asked}).encode())
    return answer


@pytest.fixture(scope="module")
def world(shop):
    """Services echo, echo-v1 and echo-v2 as the conformance suite has them, and a client in another namespace."""
    shop.namespace("consumer")
    visitor = shop.nodes[0].pod("visitor", namespace="consumer")
    versions = {"echo-v1": shop.cart, "echo-v2": shop.stock}
    servers = {name: Backend(pod, 9080, echo(name)) for name, pod in versions.items()}
    for name, pod in versions.items():
        shop.service(name, [pod], PORTS)
    shop.service("echo", list(versions.values()), PORTS)
    with Guest(shop.cart, "grpc_server.py", 7070, "echo-v1") as first, Guest(shop.stock, "grpc_server.py", 7070, "echo-v2") as second:
        first.hear("serving"), second.hear("serving")
        shop.apply()
        shop.nodes[0].weft.wait_ready([visitor.name])
        yield World(shop, visitor, servers)
    shop.extra.clear()


class World:
    """The client's side of the tables."""

    def __init__(self, shop, visitor, servers):
        self.shop, self.visitor, self.servers = shop, visitor, servers
        self.clients = {}

    def routes(self, *routes):
        """These routes and no others; returns when the client's node goes by them."""
        mark = f"mark-{next(NUMBERS)}"
        note = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": mark, "namespace": "shop"},
                "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "echo-v2", "port": 8080}]}}
        self.shop.extra = {"routes.yaml": [yaml.safe_load(route) for route in routes], "mark.yaml": [note]}
        self.shop.apply()
        weft = self.shop.nodes[0].weft

        def known():
            status = weft.status()
            return status["generations"]["agree"] and any(route["name"] == mark for route in status.get("routes", []))
        eventually(known, within=10, what="the routes are in force")
        return self.status()

    def status(self):
        """Every route with its conditions: name → {type: (status, reason)} of its first parent."""
        return {
            route["name"]: {c["type"]: (c["status"], c["reason"]) for c in (route["parents"] or [{"conditions": []}])[0]["conditions"]}
            for route in self.shop.nodes[0].weft.status()["routes"]
        }

    def ask(self, path="/", host="echo", headers=None, port=80, client=None, address=None, method="GET"):
        """One request; the reply, with what the echo saw under `.seen` (None when it was not the echo who answered)."""
        service = host if address is None else None
        with Client(client or self.shop.web, address or self.shop.address(service), port) as connection:
            reply = connection.get(path, *(f"{name}: {value}" for name, value in (headers or {}).items()), host=host, method=method)
        reply.seen = json.loads(reply.body) if reply.body.startswith(b"{") else None
        return reply

    def call(self, method="Unary", headers=None, service=ECHO, calls=1, client=None):
        """Calls of gRPC at echo:7070."""
        scene = json.dumps({"service": service, "method": method, "headers": headers or {}, "calls": calls})
        with Guest(client or self.shop.web, "grpc_client.py", f"{self.shop.address('echo')}:7070", "told_headers", scene) as guest:
            return guest.hear("done", 60.0)


def route(name, rules, kind="HTTPRoute", parent="echo", port=80, namespace="shop"):
    """A route of the Service `parent`."""
    return yaml.safe_dump({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": parent, "namespace": "shop", **({"port": port} if port else {})}], "rules": yaml.safe_load(rules)},
    })


V1, V2 = "backendRefs: [{name: echo-v1, port: 8080}]", "backendRefs: [{name: echo-v2, port: 8080}]"


def test_without_routes_a_service_is_reached(world):
    """MeshBasic."""
    world.routes()
    assert world.ask().seen["pod"] in ("echo-v1", "echo-v2")


def test_a_route_sends_a_service_elsewhere(world):
    """MeshHTTPRouteSimpleSameNamespace; the status says that it is in force."""
    status = world.routes(route("simple", f"[{{{V1}}}]"))
    assert status["simple"] == {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}
    assert {world.ask().seen["pod"] for _ in range(10)} == {"echo-v1"}


def test_split(world):
    """MeshTrafficSplit: by whole paths."""
    world.routes(route("split", f"[{{matches: [{{path: {{type: Exact, value: /v1}}}}], {V1}}}, {{matches: [{{path: {{type: Exact, value: /v2}}}}], {V2}}}]"))
    assert [world.ask(path).seen["pod"] for path in ("/v1", "/v2")] == ["echo-v1", "echo-v2"]
    assert world.ask("/v3").status == 404


def test_matching(world):
    """MeshHTTPRouteMatching: prefixes by whole elements, headers."""
    world.routes(route("matching", f"""
        - {{matches: [{{path: {{type: PathPrefix, value: /}}}}, {{headers: [{{name: version, value: one}}]}}], {V1}}}
        - {{matches: [{{path: {{type: PathPrefix, value: /v2}}}}, {{headers: [{{name: version, value: two}}]}}], {V2}}}
        """))
    for path, headers, pod in (
        ("/", {}, "echo-v1"), ("/example", {}, "echo-v1"), ("/", {"Version": "one"}, "echo-v1"), ("/v2", {}, "echo-v2"), ("/v2/example", {}, "echo-v2"),
        ("/", {"Version": "two"}, "echo-v2"), ("/v2/", {}, "echo-v2"), ("/v2example", {}, "echo-v1"), ("/foo/v2/example", {}, "echo-v1"),
    ):
        assert world.ask(path, headers=headers).seen["pod"] == pod, (path, headers)


def test_query_parameters(world):
    """MeshHTTPRouteQueryParamMatching: exact values, alone and with paths and headers, and their precedence."""
    def match(query, path=None, header=None):
        parts = [f"queryParams: [{{name: animal, value: {query}}}]"] if query else []
        parts += [f"path: {{type: PathPrefix, value: {path}}}"] if path else []
        parts += [f"headers: [{{name: version, value: {header}}}]"] if header else []
        return "{" + ", ".join(parts) + "}"
    rules = [(match("whale"), V1), (match("dolphin"), V2), (match("whale", "/path1"), V1), (match("whale", header="one"), V2), (match("shark", "/path3") + ", " + match("kraken", "/path4", "three"), V1),
             (match("hydra", "/path5"), V1), (match("hydra", header="four"), V2)]
    world.routes(route("query", "[" + ", ".join(f"{{matches: [{matches}], {target}}}" for matches, target in rules) + "]"))
    for path, headers, pod in (
        ("/?animal=whale", {}, "echo-v1"), ("/?animal=dolphin", {}, "echo-v2"), ("/?animal=whale&otherparam=irrelevant", {}, "echo-v1"), ("/?animal=dolphin&color=yellow", {}, "echo-v2"),
        ("/?color=blue", {}, 404), ("/?animal=dog", {}, 404), ("/?animal=whaledolphin", {}, 404), ("/", {}, 404), ("/path1?animal=whale", {}, "echo-v1"),
        ("/?animal=whale", {"version": "one"}, "echo-v2"), ("/path3?animal=shark", {}, "echo-v1"), ("/path4?animal=kraken", {"version": "three"}, "echo-v1"),
        ("/?animal=shark", {}, 404), ("/path4?animal=kraken", {}, 404), ("/path5?animal=hydra", {"version": "four"}, "echo-v1"),
    ):
        reply = world.ask(path, headers=headers)
        assert (reply.seen["pod"] if reply.seen else reply.status) == pod, (path, headers)


MODIFIERS = """
    - {%s: [{path: {type: PathPrefix, value: /set}}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Header-Set, value: set-overwrites-values}]}}], %s}
    - {%s: [{path: {type: PathPrefix, value: /add}}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: X-Header-Add, value: add-appends-values}]}}], %s}
    - {%s: [{path: {type: PathPrefix, value: /remove}}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [X-Header-Remove]}}], %s}
    - {%s: [{path: {type: PathPrefix, value: /multiple}}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {
        set: [{name: X-Header-Set-1, value: header-set-1}, {name: X-Header-Set-2, value: header-set-2}],
        add: [{name: X-Header-Add-1, value: header-add-1}, {name: X-Header-Add-2, value: header-add-2}, {name: X-Header-Add-3, value: header-add-3}], remove: [X-Header-Remove-1, X-Header-Remove-2]}}], %s}
    - {%s: [{path: {type: PathPrefix, value: /case-insensitivity}}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {
        set: [{name: X-Header-Set, value: header-set}], add: [{name: X-Header-Add, value: header-add}], remove: [X-Header-Remove]}}], %s}
    """
MODIFIED = [
    ("/set", {"Some-Other-Header": "val"}, {"some-other-header": "val", "x-header-set": "set-overwrites-values"}, ()),
    ("/set", {"Some-Other-Header": "val", "X-Header-Set": "some-other-value"}, {"some-other-header": "val", "x-header-set": "set-overwrites-values"}, ()),
    ("/add", {"Some-Other-Header": "val"}, {"some-other-header": "val", "x-header-add": "add-appends-values"}, ()),
    ("/add", {"X-Header-Add": "some-other-value"}, {"x-header-add": "some-other-value,add-appends-values"}, ()),
    ("/remove", {"X-Header-Remove": "val"}, {}, ("x-header-remove",)),
    ("/multiple", {"X-Header-Set-2": "set-val-2", "X-Header-Add-2": "add-val-2", "X-Header-Remove-2": "remove-val-2", "Another-Header": "another-header-val"},
     {"x-header-set-1": "header-set-1", "x-header-set-2": "header-set-2", "x-header-add-1": "header-add-1", "x-header-add-2": "add-val-2,header-add-2", "x-header-add-3": "header-add-3", "another-header": "another-header-val"},
     ("x-header-remove-1", "x-header-remove-2")),
    ("/case-insensitivity", {"x-header-set": "original-val-set", "x-header-add": "original-val-add", "x-header-remove": "original-val-remove", "Another-Header": "another-header-val"},
     {"x-header-set": "header-set", "x-header-add": "original-val-add,header-add", "another-header": "another-header-val"}, ("x-header-remove",)),
]


def compact(text):
    """A header's value as one list: members joined by a comma alone."""
    return ",".join(part.strip() for part in text.split(","))


@pytest.mark.parametrize("place", ["rule", "backend"])
def test_request_headers(world, place):
    """MeshHTTPRouteRequestHeaderModifier, and the same filters at a backend."""
    rules = yaml.safe_load(MODIFIERS % tuple(itertools.chain.from_iterable(("matches", V1) for _ in range(5))))
    if place == "backend":
        for rule in rules:
            rule["backendRefs"][0]["filters"] = rule.pop("filters")
    status = world.routes(route("modifier", json.dumps(rules)))
    assert status["modifier"]["Accepted"] == ("True", "Accepted")
    for path, sent, seen, absent in MODIFIED:
        found = world.ask(path, headers=sent).seen
        assert found["pod"] == "echo-v1" and found["path"] == path
        assert {name: compact(found["headers"].get(name, "")) for name in seen} == seen, (path, sent)
        assert not any(name in found["headers"] for name in absent), (path, sent)


# rule: match prefix, the redirect; then path asked, status, and what Location says (scheme, host, port, path)
REDIRECTS = {
    "host and status": [
        ("/hostname-redirect", "{hostname: example.org}", "/hostname-redirect", 302, "http://example.org/hostname-redirect"),
        ("/host-and-status", "{hostname: example.org, statusCode: 301}", "/host-and-status", 301, "http://example.org/host-and-status"),
        ("/host-and-status-303", "{hostname: example.org, statusCode: 303}", "/host-and-status-303", 303, "http://example.org/host-and-status-303"),
        ("/host-and-temporary", "{hostname: example.org, statusCode: 307}", "/host-and-temporary", 307, "http://example.org/host-and-temporary"),
        ("/host-and-permanent", "{hostname: example.org, statusCode: 308}", "/host-and-permanent", 308, "http://example.org/host-and-permanent"),
        ("/see-other", "{statusCode: 303}", "/see-other", 303, "http://echo/see-other"), ("/temporary", "{statusCode: 307}", "/temporary", 307, "http://echo/temporary"),
        ("/permanent", "{statusCode: 308}", "/permanent", 308, "http://echo/permanent"),
    ],
    "path": [
        ("/original-prefix", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /replacement-prefix}}", "/original-prefix/lemon", 302, "http://echo/replacement-prefix/lemon"),
        ("/full", "{path: {type: ReplaceFullPath, replaceFullPath: /full-path-replacement}}", "/full/path/original", 302, "http://echo/full-path-replacement"),
        ("/path-and-host", "{hostname: example.org, path: {type: ReplacePrefixMatch, replacePrefixMatch: /replacement-prefix}}", "/path-and-host", 302, "http://example.org/replacement-prefix"),
        ("/path-and-status", "{statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /replacement-prefix}}", "/path-and-status", 301, "http://echo/replacement-prefix"),
        ("/full-path-and-host", "{hostname: example.org, path: {type: ReplaceFullPath, replaceFullPath: /replacement-full}}", "/full-path-and-host", 302, "http://example.org/replacement-full"),
        ("/full-path-and-status", "{statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /replacement-full}}", "/full-path-and-status", 301, "http://echo/replacement-full"),
    ],
    "port": [
        ("/port", "{port: 8083}", "/port", 302, "http://echo:8083/port"), ("/port-and-host", "{hostname: example.org, port: 8083}", "/port-and-host", 302, "http://example.org:8083/port-and-host"),
        ("/port-and-status", "{port: 8083, statusCode: 301}", "/port-and-status", 301, "http://echo:8083/port-and-status"),
        ("/port-and-host-and-status", "{port: 8083, hostname: example.org, statusCode: 302}", "/port-and-host-and-status", 302, "http://example.org:8083/port-and-host-and-status"),
    ],
    "scheme": [
        ("/scheme", "{scheme: https}", "/scheme", 302, "https://echo/scheme"), ("/scheme-and-host", "{scheme: https, hostname: example.org}", "/scheme-and-host", 302, "https://example.org/scheme-and-host"),
        ("/scheme-and-status", "{scheme: https, statusCode: 301}", "/scheme-and-status", 301, "https://echo/scheme-and-status"),
        ("/scheme-and-host-and-status", "{scheme: https, hostname: example.org, statusCode: 302}", "/scheme-and-host-and-status", 302, "https://example.org/scheme-and-host-and-status"),
    ],
}


@pytest.mark.parametrize("table", REDIRECTS)
def test_redirects(world, table):
    """MeshHTTPRouteRedirectHostAndStatus, …303Redirect, …307Redirect, …308Redirect, …RedirectPath, …RedirectPort, …SchemeRedirect."""
    rows = REDIRECTS[table]
    world.routes(route("redirect", "[" + ", ".join(
        f"{{matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}], filters: [{{type: RequestRedirect, requestRedirect: {redirect}}}]}}" for prefix, redirect, *_ in rows) + "]"))
    for _, _, path, status, location in rows:
        reply = world.ask(path)
        assert (reply.status, reply["location"]) == (status, location), path


def test_rewrites(world):
    """MeshHTTPRouteRewritePath: prefixes and whole paths, beside header changes."""
    headers = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Header-Set, value: set-overwrites-values}], add: [{name: X-Header-Add, value: header-val-1}, {name: X-Header-Add-Append, value: header-val-2}], remove: [X-Header-Remove]}}"

    def rule(prefix, kind, field, value, more=""):
        return f"{{matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}], filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: {kind}, {field}: {value}}}}}}}{more}], {V1}}}"
    world.routes(route("rewrite", "[" + ", ".join([
        rule("/prefix/one", "ReplacePrefixMatch", "replacePrefixMatch", "/one"), rule("/strip-prefix", "ReplacePrefixMatch", "replacePrefixMatch", "/"),
        rule("/full/one", "ReplaceFullPath", "replaceFullPath", "/one"), rule("/full/rewrite-path-and-modify-headers", "ReplaceFullPath", "replaceFullPath", "/test", ", " + headers),
        rule("/prefix/rewrite-path-and-modify-headers", "ReplacePrefixMatch", "replacePrefixMatch", "/prefix", ", " + headers),
    ]) + "]"))
    for path, seen in (("/prefix/one/two", "/one/two"), ("/strip-prefix/three", "/three"), ("/strip-prefix", "/"), ("/full/one/two", "/one")):
        assert world.ask(path).seen["path"] == seen, path
    sent = {"X-Header-Remove": "remove-val", "X-Header-Add-Append": "append-val-1", "X-Header-Set": "set-val"}
    for path, rewritten in (("/full/rewrite-path-and-modify-headers/test", "/test"), ("/prefix/rewrite-path-and-modify-headers/one", "/prefix/one")):
        found = world.ask(path, headers=sent).seen
        assert found["path"] == rewritten and found["pod"] == "echo-v1"
        wanted = {"x-header-add": "header-val-1", "x-header-add-append": "append-val-1,header-val-2", "x-header-set": "set-overwrites-values"}
        assert {name: compact(found["headers"].get(name, "")) for name in wanted} == wanted and "x-header-remove" not in found["headers"]


def test_named_rules(world):
    """MeshHTTPRouteNamedRule."""
    world.routes(route("named", f"[{{name: named-rule, matches: [{{path: {{type: PathPrefix, value: /named}}}}], {V1}}}, {{matches: [{{path: {{type: PathPrefix, value: /unnamed}}}}], {V2}}}]"))
    assert [world.ask(path).seen["pod"] for path in ("/named", "/unnamed")] == ["echo-v1", "echo-v2"]


def shared(counts, total):
    return abs(counts["echo-v1"] / total - 0.7) < 0.05 and abs(counts["echo-v2"] / total - 0.3) < 0.05 and sum(counts.values()) == total


def test_weights(world):
    """MeshHTTPRouteWeight: 70 to 30 of 500 requests, ten at a time, within 5 %; a weight of 0 gets none."""
    world.routes(route("weight", "[{backendRefs: [{name: echo-v1, port: 8080, weight: 70}, {name: echo-v2, port: 8080, weight: 30}, {name: nobody, port: 80, weight: 0}]}]"))

    def once():
        counts, lock = Counter(), threading.Lock()

        def batch():
            with Client(world.shop.web, world.shop.address("echo"), 80) as client:
                found = [json.loads(client.get("/", host="echo").body)["pod"] for _ in range(50)]
            with lock:
                counts.update(found)
        threads = [threading.Thread(target=batch) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return counts
    seen = []
    assert any(shared(seen[-1], 500) for _ in range(10) if seen.append(once()) is None), seen


SET = "filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Header-Set, value: %s}]}}]"


def test_a_route_is_for_the_service_not_for_its_pods_nor_for_a_name(world):
    """MeshFrontend, MeshFrontendHostname: what counts is the address asked, not what Host says; a pod's own address has no routes."""
    world.routes(route("frontend", f"[{{{SET % 'set'}, {V2}}}]", parent="echo-v2", port=None))
    reply = world.ask(host="echo-v2")
    assert (reply.status, reply["x-header-set"], reply.seen["pod"]) == (200, "set", "echo-v2")
    reply = world.ask(host=f"{world.shop.stock.ip}:9080", address=world.shop.stock.ip, port=9080)
    assert (reply.status, reply["x-header-set"], reply.seen["pod"]) == (200, None, "echo-v2")
    reply = world.ask(host="echo-v1", address=world.shop.address("echo-v2"))
    assert (reply.status, reply["x-header-set"], reply.seen["pod"]) == (200, "set", "echo-v2")
    reply = world.ask(host="echo-v2", address=world.shop.address("echo-v1"))
    assert (reply.status, reply["x-header-set"], reply.seen["pod"]) == (200, None, "echo-v1")


def test_ports(world):
    """MeshPorts: a parentRef with a port is that port's, one without is every port's."""
    world.routes(
        route("with-port", f"[{{{SET % 'v1'}, {V1}}}]", parent="echo-v1", port=80),
        route("without-port", f"[{{{SET % 'v2'}, {V2}}}]", parent="echo-v2", port=None))
    for service, port, value in (("echo-v1", 80, "v1"), ("echo-v1", 8080, None), ("echo-v2", 80, "v2")):
        reply = world.ask(host=service, port=port)
        assert (reply.status, reply["x-header-set"], reply.seen["pod"]) == (200, value, service), (service, port)


def test_a_consumers_route_is_for_its_own_namespace(world):
    """MeshConsumerRoute."""
    world.routes(route("consumer", f"[{{{SET % 'set'}, backendRefs: [{{name: echo-v1, namespace: shop, port: 8080}}]}}]", parent="echo-v1", port=None, namespace="consumer"))
    reply = world.ask(host="echo-v1", client=world.visitor)
    assert (reply.status, reply["x-header-set"], reply.seen["pod"]) == (200, "set", "echo-v1")
    reply = world.ask(host="echo-v1")
    assert (reply.status, reply["x-header-set"], reply.seen["pod"]) == (200, None, "echo-v1")


def test_mirrors(world):
    """A copy goes elsewhere, its answer to nobody."""
    world.routes(route("mirror", f"[{{matches: [{{path: {{type: PathPrefix, value: /mirror}}}}], filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: echo-v2, port: 8080}}}}}}], {V1}}}]"))
    copies = world.servers["echo-v2"].requests
    before = len(copies)
    assert world.ask("/mirror").seen["pod"] == "echo-v1"
    eventually(lambda: any(request.target == "/mirror" for request in copies[before:]), within=5, what="the copy arrives")


# MARK: gRPC


GRPC = f"{{method: {{service: {ECHO}, method: Unary}}%s}}"
G1, G2 = "backendRefs: [{name: echo-v1, port: 7070}]", "backendRefs: [{name: echo-v2, port: 7070}]"


def test_grpc_request_headers(world):
    """MeshGRPCRouteRequestHeaderModifier."""
    def rule(case, edits, target):
        return f"{{matches: [{GRPC % f', headers: [{{name: x-test-case, value: {case}}}]'}], filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {edits}}}], {target}}}"
    status = world.routes(route("calls", "[" + ", ".join([
        rule("set", "{set: [{name: X-Header-Set, value: set-overwrites-values}]}", G1), rule("add", "{add: [{name: X-Header-Add, value: add-appends-values}]}", G1),
        rule("remove", "{remove: [X-Header-Remove]}", G1),
        rule("multi", "{set: [{name: X-Header-Set-1, value: header-set-1}, {name: X-Header-Set-2, value: header-set-2}], add: [{name: X-Header-Add-1, value: header-add-1}, {name: X-Header-Add-2, value: header-add-2}], "
             "remove: [X-Header-Remove-1, X-Header-Remove-2]}", G2),
    ]) + "]", kind="GRPCRoute", port=7070))
    assert status["calls"]["Accepted"] == ("True", "Accepted")
    for case, sent, seen, absent, server in (
        ("set", {"x-some-other-header": "kept", "x-header-set": "overwritten"}, {"x-some-other-header": "kept", "x-header-set": "set-overwrites-values"}, (), "echo-v1"),
        ("add", {"x-header-add": "first"}, {"x-header-add": "first,add-appends-values"}, (), "echo-v1"), ("remove", {"x-header-remove": "gone"}, {}, ("x-header-remove",), "echo-v1"),
        ("multi", {"x-header-set-2": "a", "x-header-add-2": "add-header-2", "x-header-remove-2": "b"},
         {"x-header-set-1": "header-set-1", "x-header-set-2": "header-set-2", "x-header-add-1": "header-add-1", "x-header-add-2": "add-header-2,header-add-2"}, ("x-header-remove-1", "x-header-remove-2"), "echo-v2"),
    ):
        found = world.call(headers={"x-test-case": case, **sent})
        assert found["codes"] == {"OK": 1} and found["servers"] == {server: 1}, (case, found)
        back = {}
        for name, value in found["back"]:
            back[name] = f"{back[name]},{value}" if name in back else value
        assert {name: compact(back.get(name, "")) for name in seen} == seen and not any(name in back for name in absent), (case, back)


def test_grpc_mirrors(world):
    """MeshGRPCRouteRequestMirror: the copy of a call, with the changes the call itself has."""
    mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: echo-v2, port: 7070}}}"
    edits = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Header-Set, value: set-overwrites-values}], remove: [X-Header-Remove]}}"
    world.routes(route("calls", f"[{{matches: [{{headers: [{{name: x-mirror-only, value: \"true\"}}]}}], filters: [{mirror}], {G1}}}, "
                                f"{{matches: [{{headers: [{{name: x-mirror-and-modify, value: \"true\"}}]}}], filters: [{edits}, {mirror}], {G1}}}]", kind="GRPCRoute", port=7070))
    node = world.shop.nodes[1]

    def arrived():
        return node.weft.metrics().sum("istio_requests_total", reporter="destination", destination_workload="stock", request_protocol="grpc")
    for headers in ({"x-mirror-only": "true"}, {"x-mirror-and-modify": "true", "x-header-remove": "a"}):
        before = arrived()
        found = world.call(headers=headers)
        assert found["codes"] == {"OK": 1} and found["servers"] == {"echo-v1": 1}, found
        eventually(lambda before=before: arrived() > before, within=5, what="the copy arrives")


def test_grpc_weights(world):
    """MeshGRPCRouteWeight."""
    world.routes(route("calls", "[{backendRefs: [{name: echo-v1, port: 7070, weight: 70}, {name: echo-v2, port: 7070, weight: 30}]}]", kind="GRPCRoute", port=7070))
    seen = []
    assert any(shared(seen[-1], 500) for _ in range(10) if seen.append(Counter(world.call(calls=500)["servers"])) is None), seen


def test_a_call_that_no_rule_takes(world):
    """Methods and services are compared whole; what no rule takes is UNIMPLEMENTED, a backend that is not there UNAVAILABLE."""
    world.routes(route("calls", f"[{{matches: [{GRPC % ''}], {G1}}}, {{matches: [{{method: {{service: {ECHO}, method: Total}}}}], backendRefs: [{{name: nobody, port: 7070}}]}}]", kind="GRPCRoute", port=7070))
    assert world.call()["servers"] == {"echo-v1": 1}
    assert world.call(method="Fail")["codes"] == {"UNIMPLEMENTED": 1}
    assert world.call(service="shop.OrdersToo")["codes"] == {"UNIMPLEMENTED": 1}
    assert world.call(method="Total")["codes"] == {"UNAVAILABLE": 1}
    assert world.status()["calls"]["ResolvedRefs"] == ("False", "BackendNotFound")
