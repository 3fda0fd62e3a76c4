"""The shop that most journeys take place in.

    node 1: web (client), cart (server), stranger (not meshed)      node 2: stock (server), till (client)

Servers answer on 8080 with their name in X-Pod. Services: cart → cart, stock → stock, both → cart and stock,
pods → both pods, headless.
"""

import json
import subprocess

from mesh import Mesh, eventually
from mesh.machine import TOOLS

HTTP = [{"name": "http", "port": 80, "targetPort": 8080}]


class Shop(Mesh):
    """A `Mesh` with pods, servers and services in place."""

    def __init__(self, nodes=2, failure=None, annotations=None, abroad=False):
        super().__init__(nodes)
        try:
            self.namespace("shop", failure=failure)
            if abroad:
                self.nodes[-1].is_ours = False
                self.nodes[-1].pod("depot")
            first, last = self.nodes[0], self.nodes[-2 if abroad else -1]
            annotations = annotations or {}
            for node, name, options in ((first, "web", {}), (first, "cart", {}), (first, "stranger", {"meshed": False}), (last, "stock", {}), (last, "till", {})):
                node.pod(name, annotations=annotations.get(name), **options)
            for name in ("cart", "stock"):
                serve(self.pods[name])
            pods = self.pods
            self.service("cart", [pods["cart"]], HTTP)
            self.service("stock", [pods["stock"]], HTTP)
            self.both = self.service("both", [pods["cart"], pods["stock"]], HTTP)
            self.service("pods", [pods["cart"], pods["stock"]], HTTP, headless=True)
        except BaseException:
            self.close()
            raise

    def address(self, service, family=4):
        """Cluster IP of a service."""
        from mesh.manifests import cluster_addresses
        return cluster_addresses(self.services["shop", service]["number"])[0 if family == 4 else 1]


def serve(pod, port=8080):
    """The C server, in a pod."""
    pod.start(TOOLS / "backend", port, "::", pod.name)
    pod.listens(port)


def target(address, port):
    """host:port as the load tools want it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def load(pod, address, port, *options, **named):
    """Runs lg in a pod to its end; returns its report."""
    done = pod.run(TOOLS / "lg", "-t", target(address, port), *options, timeout=named.get("timeout", 120))
    return json.loads(done.stdout.splitlines()[0])


class Load:
    """lg in the background: `with Load(pod, ip, 8080, "-c", 8, "-d", 30) as running: …; report = running.report()`."""

    def __init__(self, pod, address, port, *options):
        self.process = pod.start(TOOLS / "lg", "-t", target(address, port), *options, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def report(self, timeout=120):
        """Waits for its end."""
        out, err = self.process.communicate(timeout=timeout)
        assert out, f"lg ended with {self.process.returncode}: {err}"
        report = json.loads(out.splitlines()[0])
        report["alive"] = next((int(line.split()[1]) for line in out.splitlines() if line.startswith("ALIVE")), None)
        return report

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def way(client, server, address, port, first=b"hello\n"):
    """How a new connection from `client` reaches `server`: "direct" (the server's peer is the client's own socket) or
    "meshed" (someone carries it). Also returns both ends' view, for what the apps are told."""
    with server.listen(port) as listener:
        listener.settimeout(10)
        with client.connect(address, port) as near:
            near.sendall(first)
            far, peer = listener.accept()
            with far:
                far.settimeout(10)
                assert far.recv(64) == first
                far.sendall(b"seen\n")
                assert near.recv(64) == b"seen\n"
                own, asked = near.getsockname(), near.getpeername()
                kind = "direct" if own[:2] == peer[:2] or (plain(own[0]), own[1]) == (plain(peer[0]), peer[1]) else "meshed"
                return kind, {"asked": (plain(asked[0]), asked[1]), "peer": plain(peer[0]), "server": plain(far.getsockname()[0])}


def plain(address):
    """An address without the v4-mapped prefix."""
    return address.removeprefix("::ffff:")


def requests(node, **labels):
    """istio_requests_total of one node."""
    return node.weft.metrics().sum("istio_requests_total", **labels)


def counted(node, before, by, **labels):
    """Waits until the request counter has grown by `by` since `before`."""
    return eventually(lambda: requests(node, **labels) - before >= by, within=5, what=f"istio_requests_total{labels} + {by}")
