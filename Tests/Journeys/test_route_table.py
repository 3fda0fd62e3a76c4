"""The table of route decisions once more, on the wire: the objects through the agent, each request through a proxy, as it is written.

    one node: callers web (shop), guest (lab), driver (depot); servers house (shop: cart, v1 … v4) and barn (lab: far, spare)
"""

import itertools
import json
from pathlib import Path

import pytest

from conftest import WORLDS
from http1 import Backend, Client, ok
from mesh import Mesh, eventually
from mesh.manifests import cluster_addresses

SCENARIOS = json.loads((Path(__file__).parents[1] / "Routes" / "decisions.json").read_text())
CALLERS = {"shop": "web", "lab": "guest", "depot": "driver"}
SERVERS = {"cart": "shop", "v1": "shop", "v2": "shop", "v3": "shop", "v4": "shop", "far": "lab", "spare": "lab"}
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def world():
    """The mesh that the table speaks of. Every Service has a server of its own, which says its name."""
    with Mesh(nodes=1) as mesh:
        for namespace in ("lab", "depot"):
            mesh.namespace(namespace)
        node = mesh.nodes[0]
        for namespace, caller in CALLERS.items():
            node.pod(caller, namespace=namespace)
        houses = {"shop": node.pod("house"), "lab": node.pod("barn", namespace="lab")}
        servers = []
        for number, (name, namespace) in enumerate(SERVERS.items()):
            port = 9001 + number
            servers.append(Backend(houses[namespace], port, lambda _, name=name: ok(b"", f"x-service: {name}")))
            numbers = (80, 8080, 7070) if name == "cart" else (80,)
            mesh.service(name, [houses[namespace]], [{"name": f"http-{n}", "port": n, "targetPort": port, "appProtocol": "http"} for n in numbers], namespace=namespace)
        WORLDS.append(mesh)
        try:
            yield mesh.start()
        finally:
            WORLDS.remove(mesh)
            for server in servers:
                server.close()


def manifest(short):
    """An object of the table as Kubernetes writes it."""
    metadata = {"name": short["name"], "namespace": short["namespace"]}
    if "created" in short:
        metadata["creationTimestamp"] = short["created"]
    version = "v1beta1" if short["kind"] == "ReferenceGrant" else "v1"
    return {"apiVersion": f"gateway.networking.k8s.io/{version}", "kind": short["kind"], "metadata": metadata, "spec": short["spec"]}


def publish(mesh, objects):
    """These objects and no others; returns when the node goes by them."""
    mark = f"mark-{next(NUMBERS)}"
    note = manifest({"kind": "HTTPRoute", "name": mark, "namespace": "lab", "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "spare"}]}})
    mesh.extra = {"table.yaml": [*(manifest(short) for short in objects), note]}
    mesh.apply()

    def known():
        status = mesh.nodes[0].weft.status()
        return status["generations"]["agree"] and any(route["name"] == mark for route in status["routes"])
    eventually(known, within=10, what="the routes are in force")


def fate(mesh, request):
    """Who has answered a request, or with which status it was answered here."""
    target = request.get("to", "cart.shop:80")
    method = request.get("method", "GET")
    fields = "".join(f"{name}: {value}\r\n" for name, value in request.get("headers", []))
    caller = mesh.pods[CALLERS[request.get("from", "shop")]]
    address = cluster_addresses(mesh.services["shop", "cart"]["number"])[0]
    with Client(caller, address, int(target.split(":")[1])) as client:
        length = "content-length: 0\r\n" if method in ("POST", "PUT", "PATCH") else ""
        client.send(f"{method} {request['path']} HTTP/1.1\r\nhost: {request.get('host', target)}\r\n{fields}{length}\r\n")
        reply = client.reply(method)
    return reply["x-service"] or str(reply.status)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario["name"] for scenario in SCENARIOS])
def test_every_request_goes_where_the_table_says(world, scenario):
    publish(world, scenario["objects"])
    found = [(request, fate(world, request)) for request in scenario["requests"]]
    assert not [(request, answer) for request, answer in found if answer != str(request["expect"])]
