"""The directory of Kubernetes objects: a fault stays where it is, a change happens at once."""

import subprocess

import pytest
import yaml

from http1 import Client
from mesh import eventually
from mesh.machine import weft
from shop import HTTP, Load, load

BROKEN = """apiVersion: v1
kind: Service
metadata:
  name: stock
  namespace: shop
spec:
  clusterIP: {address}
  ports:
  - name: http
    port: eighty
"""


def faults(shop, node=0):
    """What `weft status` tells about the configuration."""
    return shop.nodes[node].weft.status()["configuration"]["faults"]


def served_by(shop):
    """Which pod answers for the cart service."""
    with Client(shop.web, shop.address("cart"), 80) as client:
        return client.get("/s/1")["x-pod"]


@pytest.fixture(autouse=True)
def restored(shop):
    """Every scenario leaves the directory as it was."""
    yield
    shop.extra.clear()
    shop.apply()
    eventually(lambda: not faults(shop), within=5, what="no faults left")


def test_a_faulty_object_is_named_and_its_previous_version_stays(shop):
    """File, object, field; the service goes on as it was; everything else applies."""
    name = "service-shop-stock.yaml"
    good = (shop.published.path / name).read_text()
    try:
        documents = [d for d in yaml.safe_load_all(good) if d["kind"] != "Service"]
        shop.published.put(name, BROKEN.format(address=shop.address("stock")) + "---\n" + yaml.safe_dump_all(documents))
        fault = eventually(lambda: [f for f in faults(shop) if "stock" in str(f)], within=5, what="the fault is reported")[0]
        text = str(fault)
        assert name in text and "Service" in text and "port" in text, fault
        assert load(shop.web, shop.address("stock"), 80, "-c", 2, "-n", 50)["ok"] >= 50
        assert name in shop.nodes[0].weft.status_text()
    finally:
        shop.published.put(name, good)


@pytest.mark.parametrize("text, word", [
    ("{ this is: not: yaml\n", "broken.yaml"),
    ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: nowhere\n", "nowhere"),
    ("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: odd\n  annotations:\n    weft.mesh/failure: sometimes\n", "failure"),
    ("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: odd\n  namespace: shop\n  labels: {kubernetes.io/service-name: odd}\naddressType: IPv4\nendpoints:\n- addresses: [not-an-address]\nports: [{port: 80}]\n", "odd"),
], ids=["not YAML", "pod without spec", "unknown failure", "bad address"])
def test_other_faults(shop, text, word):
    """Each is reported with its file; the mesh goes on."""
    shop.published.put("broken.yaml", text)
    try:
        eventually(lambda: [f for f in faults(shop) if "broken.yaml" in str(f) and word in str(f)], within=5, what=word)
        assert load(shop.web, shop.address("stock"), 80, "-c", 1, "-n", 5)["ok"] >= 5
    finally:
        shop.published.remove("broken.yaml")


def test_kinds_nobody_knows_are_not_faults(shop):
    """A directory of a whole application may hold Deployments and ConfigMaps."""
    shop.published.put("other.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\n")
    shop.service("witness", [shop.cart], HTTP)
    shop.apply()
    shop.published.put("other.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n")
    eventually(lambda: load(shop.web, shop.address("witness"), 80, "-e", "-c", 1, "-n", 1)["ok"] == 1, within=5, every=0.1)
    assert not faults(shop)
    shop.published.remove("other.yaml")


def test_a_change_is_atomic_and_fails_nothing(shop):
    """A service moves between pods ten times under load: every request finds one of them."""
    with Load(shop.web, shop.address("cart"), 80, "-x", "-c", 4, "-d", 4, "-r", 400) as renewed, Load(shop.web, shop.address("cart"), 80, "-c", 4, "-d", 4, "-r", 400) as kept:
        for turn in range(10):
            shop.service("cart", [shop.stock if turn % 2 else shop.cart], HTTP)
            shop.apply()
            eventually(lambda: served_by(shop) == ("stock" if turn % 2 else "cart"), within=2, what="the move")
        reports = renewed.report(), kept.report()
    shop.service("cart", [shop.cart], HTTP)
    shop.apply()
    for report in reports:
        assert (report["err_connect"], report["err_inflight"], report["non200"]) == (0, 0, 0), report


def test_a_service_moves(shop):
    """The change is in force soon after the file is renamed into place."""
    try:
        shop.service("cart", [shop.stock], HTTP)
        shop.apply()
        eventually(lambda: served_by(shop) == "stock", within=2, what="cart is served by stock")
    finally:
        shop.service("cart", [shop.cart], HTTP)
        shop.apply()


ROUTE = """apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: split, namespace: shop}}
spec:
  parentRefs: [{{group: "", kind: Service, name: cart, port: 80}}]
  rules:
  - backendRefs: [{{name: stock, port: 80}}]
  - matches: [{{path: {{value: /new}}}}]
    {more}
"""


@pytest.mark.parametrize("more, field, words", [
    ("backendRefs: [{name: stock, port: 80}]", None, "Accepted=True, ResolvedRefs=True"),
    ("backendRefs: [{name: nobody, port: 80}]", "spec.rules[1].backendRefs[0].name", "Accepted=True, ResolvedRefs=False (BackendNotFound"),
    ("backendRef: [{name: stock, port: 80}]", "spec.rules[1].backendRef", "PartiallyInvalid=True (UnsupportedValue: Dropped Rule spec.rules[1]"),
    ("filters: [{type: ExternalAuth, externalAuth: {}}]", "spec.rules[1].filters[0].type", "PartiallyInvalid=True (UnsupportedValue: Dropped Rule spec.rules[1]"),
], ids=["right", "no such backend", "misspelt field", "unsupported filter"])
def test_a_route_is_checked_before_it_is_applied(shop, tmp_path, more, field, words):
    """What would not work is said with file, object, field and condition, before anybody's requests meet it; the exit code says it to a pipeline."""
    for path in shop.published.path.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "route.yaml").write_text(ROUTE.format(more=more))
    done = subprocess.run([weft(), "config", "check", tmp_path], capture_output=True, text=True, timeout=30)
    assert done.returncode == (0 if field is None else 1), done.stdout + done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("HTTPRoute shop/split at Service shop/cart port 80: ")]
    assert len(told) == 1 and words in told[0], done.stdout
    if field:
        assert any("route.yaml:" in line and f"HTTPRoute shop/split: {field}: " in line for line in done.stdout.splitlines()), done.stdout


def test_the_status_shows_routes_and_a_broken_version_changes_nothing(shop):
    """Text and JSON, with the conditions of the API; after a broken edit the last good version is still in force, and it is said why."""
    def route():
        return next((found for found in shop.nodes[0].weft.status()["routes"] if found["name"] == "split"), None)

    def conditions():
        return {c["type"]: (c["status"], c["reason"]) for c in route()["parents"][0]["conditions"]} if route() else {}
    shop.extra["route.yaml"] = ROUTE.format(more="backendRefs: [{name: stock, port: 80}]")
    shop.apply()
    good = {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}
    eventually(lambda: conditions() == good, within=5, what="the route is in force")
    assert route()["parents"][0]["parentRef"] == {"group": "", "kind": "Service", "namespace": "shop", "name": "cart", "port": 80}
    assert "HTTPRoute shop/split" in shop.nodes[0].weft.status_text()
    shop.extra["route.yaml"] = ROUTE.format(more="backendRef: [{name: stock, port: 80}]")
    shop.apply()
    eventually(lambda: "PartiallyInvalid" in conditions(), within=5, what="the broken version is told")
    assert {**good, "PartiallyInvalid": ("True", "UnsupportedValue")} == conditions()
    fault = next(found for found in faults(shop) if found["object"] == "HTTPRoute shop/split")
    assert (fault["field"], fault["consequence"]) == ("spec.rules[1].backendRef", "previousKept")
    assert "Fall Back" in shop.nodes[0].weft.status_text()
