"""A strict namespace: nothing gets past the proxy, whatever dies; UDP neither; and the kubelet still asks its pods how they are."""

import errno
import contextlib
import os
import signal
import socket
import threading

import pytest

from mesh import eventually
from mesh.controller import Controller
from mesh.machine import TOOLS, run
from mesh.pods import Place
from mesh.weft import WeftNode
from test_survival import attempt

pytestmark = pytest.mark.exclusive


@pytest.fixture
def strict(fresh):
    """Makes a shop whose namespace is strict and would let traffic pass by if it were not; `web` and `cart` live on the first node.
    Each node has a cgroup for its kubelet, `node.kubelet` is a place in it."""
    def make(mtls="strict", door=None):
        shop = fresh(start=False, failure="open")
        shop.namespace("shop", failure="open", mtls=mtls)
        shop.cart.containers = [{"name": "app", "readinessProbe": {"httpGet": {"path": "/s/1", "port": 8080}}}]
        shop.apply()
        issuer = door(shop.nodes[0]).start() if door else None
        for node in shop.ours:
            node.kubelet = Place(shop, f"kubelet-{node.short}", node.netns, node.root / "kubelet")
            shop.kubelets = [*getattr(shop, "kubelets", []), node.kubelet]
            node.weft = weft(node, *(issuer.arguments(node) if issuer else ())).start()
        shop.ready()
        return shop
    return make


def weft(node, *options):
    """Weft on a node that has a kubelet."""
    return WeftNode(node, extra=["--kubelet-cgroup", node.kubelet.cgroup, *options])


class Intruder:
    """Connects to a strict pod in the clear, from outside the mesh, over and over; remembers whether the app ever answered."""

    def __init__(self, place, *targets):
        self.place, self.targets = place, targets
        self.outcomes, self.ending = {}, threading.Event()
        self.thread = threading.Thread(target=self._go)

    def _go(self):
        while not self.ending.is_set():
            for address, port in self.targets:
                outcome, _ = attempt(self.place, address, port, timeout=1)
                self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()


def verdict(node, name):
    """How often the hooks of a node decided so."""
    return node.weft.metrics().sum("weft_capture_verdicts_total", verdict=name)


def test_a_strict_pod_serves_the_mesh_and_nobody_else(strict):
    """Within the mesh calls go on; a pod outside it and a process of the host are turned away, on both families and at once."""
    shop = strict()
    for caller in (shop.web, shop.till):
        for address in (shop.cart.ip, shop.cart.ip6):
            assert eventually(lambda: attempt(caller, address, 8080)[0] == "answered", within=5, every=0.1, what=f"{caller.name} is served at {address}")
    for place in (shop.stranger, shop.nodes[0], shop.nodes[1]):
        for address in (shop.cart.ip, shop.cart.ip6):
            outcome, took = attempt(place, address, 8080)
            assert outcome in ("closed", "ConnectionResetError") and took < 2, (place.name, address, outcome, took)


@pytest.mark.parametrize("part", ["proxy", "agent", "node", "all"])
def test_strict_holds_while_processes_are_killed(strict, part):
    """kill -9: before, during and after it nobody gets a plain answer out of a strict pod, and a strict pod gets none from outside. When
    everything is back the mesh serves again. The hooks stay in the kernel, so that also holds while nothing of Weft runs."""
    shop = strict()
    node = shop.nodes[0]
    shop.stranger.start("python3", "-m", "http.server", "8081", "--bind", shop.stranger.ip)
    shop.stranger.listens(8081)
    with Intruder(shop.stranger, (shop.cart.ip, 8080), (shop.cart.ip6, 8080)) as intruder:
        eventually(lambda: sum(intruder.outcomes.values()) > 5, what="some attempts")
        if part == "all":
            # Found first: the others follow node by themselves.
            for pid in [node.weft.pid(each) for each in ("node", "proxy", "agent")]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            node.weft.kill(part)
        if part in ("node", "all"):
            node.weft.process.wait()
            eventually(lambda: not node.weft.node.weft_cgroup.joinpath("proxy/cgroup.procs").read_text().split(), what="the proxy's end")
            for pod, address in ((shop.web, shop.stranger.ip), (shop.web, shop.cart.ip), (shop.web, shop.cart.ip6), (shop.web, shop.stock.ip)):
                outcome, took = attempt(pod, address, 8081 if address == shop.stranger.ip else 8080)
                assert outcome == "refused" and took < 0.5, (pod.name, address, outcome, took)
            for caller in (shop.till, shop.nodes[1], shop.nodes[0]):
                outcome, _ = attempt(caller, shop.cart.ip, 8080)
                assert outcome != "answered", caller.name
            with shop.web.socket(kind=socket.SOCK_DGRAM) as asking, pytest.raises(PermissionError):
                asking.sendto(b"x", (shop.stranger.ip, 9000))
            assert attempt(node.kubelet, shop.cart.ip, 8080)[0] == "answered", "a probe asks the app, not Weft"
            node.weft = weft(node).start()
        shop.ready()
        eventually(lambda: attempt(shop.web, shop.cart.ip, 8080)[0] == "answered", within=10, every=0.1, what="service within the mesh")
        seen = sum(intruder.outcomes.values())
        eventually(lambda: sum(intruder.outcomes.values()) > seen + 5, what="attempts after it")
    assert "answered" not in intruder.outcomes and "timeout" not in intruder.outcomes, intruder.outcomes


@pytest.mark.parametrize("door", [None, Controller], ids=["files", "controller"])
def test_keys_outlive_the_proxy(strict, door):
    """Both proxies are killed while both agents stand still: the next ones have their pods' keys and certificates from node, and the mesh goes on
    with mutual TLS. Whoever made a key is gone; nobody else ever held it in memory."""
    shop = strict(door=door)

    def served():
        return attempt(shop.till, shop.cart.ip, 8080)[0] == "answered"
    eventually(served, within=10, every=0.1, what="calls from node to node")
    for node in shop.nodes:
        node.weft.kill("agent", signal.SIGSTOP)
    try:
        for _ in range(2):      # the second time nobody who made a key is left
            before = [node.weft.pid("proxy") for node in shop.nodes]
            for node in shop.nodes:
                node.weft.kill("proxy")
            eventually(lambda: _others(shop.nodes, before), within=5, what="new proxies")
            eventually(served, within=5, every=0.1, what="calls from node to node without an agent")
            assert attempt(shop.stranger, shop.cart.ip, 8080)[0] != "answered"
    finally:
        for node in shop.nodes:
            node.weft.kill("agent", signal.SIGCONT)
    shop.ready()
    assert served()


def _others(nodes, before):
    try:
        return all(node.weft.pid("proxy") != pid for node, pid in zip(nodes, before))
    except LookupError:
        return False


def test_an_ordinary_stop_leaves_strict_pods_closed(strict):
    """An upgrade ends a node too. Others go on without the mesh; strict ones wait for the next node, or for whoever gives them up."""
    shop = strict()
    node = shop.nodes[0]
    shop.namespaces["free"] = shop.namespaces["shop"] | {"metadata": {**shop.namespaces["shop"]["metadata"], "name": "free", "annotations": {}}}
    free = node.pod("free", namespace="free")
    free.start(TOOLS / "backend", 8080, "::", "free")
    free.listens(8080)
    shop.apply()
    shop.ready()
    assert node.weft.stop() == 0
    for address in (shop.cart.ip, shop.cart.ip6):
        assert attempt(shop.stranger, address, 8080)[0] == "refused"
        assert attempt(shop.web, address, 8080)[0] == "refused"
    assert attempt(node.kubelet, shop.cart.ip, 8080)[0] == "answered"
    assert attempt(shop.stranger, free.ip, 8080)[0] == "answered"
    node.weft = weft(node).start()
    shop.ready()
    eventually(lambda: attempt(shop.web, shop.cart.ip, 8080)[0] == "answered", within=10, every=0.1, what="service by the next node")
    assert attempt(shop.stranger, shop.cart.ip, 8080)[0] != "answered"
    assert node.weft.stop() == 0
    run(*node.weft.command("--cleanup"), timeout=20)
    assert attempt(shop.stranger, shop.cart.ip, 8080)[0] == "answered"
    assert node.weft.leftovers() == []


def test_a_proxy_that_hangs_closes_a_strict_pod(strict):
    """SIGSTOP: after two seconds the hooks refuse for it, although the namespace's `failure` is open."""
    shop = strict()
    node = shop.nodes[0]
    node.weft.kill("proxy", signal.SIGSTOP)
    try:
        eventually(lambda: attempt(shop.web, shop.cart.ip, 8080, timeout=0.25)[0] == "refused", within=4, what="refusal outbound")
        assert attempt(shop.stranger, shop.cart.ip, 8080)[0] == "refused"
        assert attempt(node.kubelet, shop.cart.ip, 8080)[0] == "answered"
    finally:
        node.weft.kill("proxy", signal.SIGCONT)
    eventually(lambda: attempt(shop.web, shop.cart.ip, 8080, timeout=1)[0] == "answered", within=10, what="service after it")


def test_the_mode_changes_while_pods_run(strict):
    """The namespace's annotation alone decides, in both directions, without a restart of anything."""
    shop = strict(mtls=None)
    assert attempt(shop.stranger, shop.cart.ip, 8080)[0] == "answered"
    for mtls, wanted in (("strict", False), ("permissive", True)):
        shop.namespace("shop", failure="open", mtls=mtls)
        shop.apply()
        eventually(lambda: (attempt(shop.stranger, shop.cart.ip, 8080, timeout=1)[0] == "answered") is wanted, within=10, every=0.1, what=f"{mtls} in force")
        assert attempt(shop.web, shop.cart.ip, 8080)[0] == "answered"


def probe(place, pod):
    """Who answers on the probe's port: the app itself ("direct"), the proxy for it ("meshed"), or nobody."""
    before = verdict(pod.node, "inbound_passed_probe")
    outcome, _ = attempt(place, pod.ip, 8080)
    if outcome != "answered":
        return "refused"
    return "direct" if verdict(pod.node, "inbound_passed_probe") > before else "meshed"


@pytest.mark.parametrize("mtls", ["strict", None])
def test_probes_reach_the_app_and_the_hosts_address_proves_nothing(strict, mtls):
    """The kubelet's socket is known by its cgroup. Another process of the host, with the same address, is one caller among others."""
    shop = strict(mtls=mtls)
    node = shop.nodes[0]
    assert probe(node.kubelet, shop.cart) == "direct"
    assert probe(node, shop.cart) == ("refused" if mtls else "meshed")
    # A port that no probe names is none, whoever asks.
    with shop.cart.listen(8090):
        before = verdict(node, "inbound_steered")
        attempt(node.kubelet, shop.cart.ip, 8090, timeout=1)
        assert verdict(node, "inbound_steered") == before + 1


def ask(place, address, port, bind=None):
    """One datagram and its answer: the answer, or the name of what happened instead."""
    with place.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(1)
        if bind:
            asking.bind(("", bind))
        try:
            asking.connect((address, port))
            asking.send(b"question")
            return asking.recv(64).decode()
        except TimeoutError:
            return "timeout"
        except OSError as error:
            return errno.errorcode[error.errno]


class Answering:
    """A UDP server of a pod, on both families."""

    def __init__(self, pod, port):
        self.socket = pod.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(("::", port))
        self.socket.settimeout(0.1)
        self.name, self.ending = pod.name, threading.Event()
        self.thread = threading.Thread(target=self._go)

    def _go(self):
        while not self.ending.is_set():
            try:
                _, sender = self.socket.recvfrom(64)
                self.socket.sendto(self.name.encode(), sender)
            except OSError:
                pass

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
        self.socket.close()


def test_udp_of_a_strict_pod_is_refused_but_for_dns(strict):
    """To and from it, both families; names are still resolved; a permissive pod notices nothing."""
    shop = strict()
    node = shop.nodes[0]
    with Answering(shop.stranger, 53), Answering(shop.stranger, 9000), Answering(shop.cart, 7000):
        for address, own in ((shop.stranger.ip, shop.cart.ip), (shop.stranger.ip6, shop.cart.ip6)):
            assert ask(shop.web, address, 9000) == "EPERM"
            assert ask(shop.web, address, 53) == "stranger"
            assert ask(shop.stranger, own, 7000) == "ECONNREFUSED"
            assert ask(shop.cart, own, 7000) == "cart"
        # Answers that nobody asked for come from port 53 as well.
        assert ask(shop.nodes[0], shop.cart.ip, 7000, bind=53) == "ECONNREFUSED"
        assert verdict(node, "udp_refused") == 2 and verdict(node, "inbound_udp_dropped") == 3
        shop.namespace("shop", failure="open", mtls="permissive")
        shop.apply()
        eventually(lambda: ask(shop.web, shop.stranger.ip, 9000) == "stranger", within=10, every=0.1, what="permissive again")
        refused = verdict(node, "udp_refused")
        assert ask(shop.stranger, shop.cart.ip, 7000) == "cart"
        assert verdict(node, "udp_refused") == refused


def test_udp_exceptions_are_named_by_the_pod(strict):
    """A pod says which further ports it needs."""
    shop = strict()
    with Answering(shop.stranger, 9000):
        assert ask(shop.web, shop.stranger.ip, 9000) == "EPERM"
        shop.web.annotations["weft.mesh/udp-exception-ports"] = "53,9000"
        shop.apply()
        eventually(lambda: ask(shop.web, shop.stranger.ip, 9000) == "stranger", within=10, every=0.1, what="the exception")
