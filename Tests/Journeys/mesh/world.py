"""The mesh under test: simulated nodes joined by a link, their pods, the objects that describe them, and Weft on each."""

import itertools
import os
import random
import string
import tempfile
from pathlib import Path

from . import manifests
from .authority import Authority, IdentityFiles
from .controller import Controller
from .ledger import Ledger
from .machine import cgroup2, proxy, run
from .pods import Place, Pod, batch
from .weft import WeftNode


class SimulatedNode(Place):
    """A node: a network namespace with one veth per pod and a link to the other nodes. As a place it is the host side."""

    def __init__(self, mesh, index, name=None):
        self.index = index
        self.short = name or f"n{index}"
        self.root = mesh.cgroup / self.short
        super().__init__(mesh, name or f"{mesh.name}-{self.short}", f"{mesh.name}-{self.short}", self.root / "host")
        self.pods_cgroup, self.weft_cgroup = self.root / "pods", self.root / "weft"
        for made in (self.pods_cgroup, self.weft_cgroup, self.root):
            mesh.ledger.note("cgroups", str(made))
            made.mkdir(parents=True, exist_ok=True)
        self.gateway, self.gateway6 = f"10.77.{index}.1", f"fd77:{index}::1"
        self.ip, self.ip6 = f"10.78.0.{index}", f"fd78::{index}"
        self.pods = {}
        self.weft = None
        #: Weft runs here; else its pods are another mesh's.
        self.is_ours = True
        self._next_index = 11
        self._wire()

    def _wire(self):
        self.mesh.ledger.note("namespaces", self.netns)
        run("ip", "netns", "add", self.netns)
        batch(self.netns, f"""
            link set lo up
            addr add {self.gateway}/32 dev lo
            -6 addr add {self.gateway6}/128 dev lo nodad""")
        run("ip", "netns", "exec", self.netns, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0", "net.core.somaxconn=4096")

    def join(self, other):
        """A link to another node, with routes to its pods."""
        run("ip", "link", "add", f"to-n{other.index}", "netns", self.netns, "type", "veth", "peer", "name", f"to-n{self.index}", "netns", other.netns)
        for near, far in ((self, other), (other, self)):
            link = f"to-n{far.index}"
            batch(near.netns, f"""
                addr add {near.ip}/24 dev {link}
                link set {link} addrgenmode none
                link set {link} up
                route add 10.77.{far.index}.0/24 via {far.ip} dev {link} src {near.ip}
                -6 addr add {near.ip6}/64 dev {link} nodad
                -6 addr add fe80::{near.index}/64 dev {link} nodad
                -6 route add fd77:{far.index}::/64 via {far.ip6} dev {link} src {near.ip6}""")

    def pod(self, name, **options):
        """A new running pod."""
        made = Pod(self, name, self._next_index, **options)
        self._next_index += 1
        made.wire()
        self.pods[name] = made
        return made

    def manifest(self):
        """The Node object."""
        return {
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.name, "labels": {"topology.kubernetes.io/zone": f"zone-{self.index}"}},
            "status": {"addresses": [{"type": "InternalIP", "address": self.ip}, {"type": "InternalIP", "address": self.ip6}]},
        }


class Mesh:
    """`with Mesh(nodes=2) as mesh:` — pods and services are added, `apply()` publishes them, `start()` runs Weft on every
    node. `nodes` is how many, or their names; without a `name` worlds get distinct ones, so several fit on one machine."""

    def __init__(self, nodes=2, name=None, directory=None):
        self.name = name or "wj-" + "".join(random.choices(string.ascii_lowercase + string.digits, k=4))
        self.ledger = Ledger(self.name)
        self.directory = Path(directory or tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.directory.chmod(0o755)
        if directory is None:
            self.ledger.note("directories", str(self.directory))
        self.cgroup = cgroup2() / self.name
        self.ledger.note("cgroups", str(self.cgroup))
        self._logs = {}
        self.namespaces = {"shop": manifests.namespace("shop", meshed=True)}
        self.services = {}
        self.extra = {}
        self.published = manifests.Directory(self.directory / "manifests")
        self.authority = Authority(self.name)
        self.identities = IdentityFiles(self.directory / "identities", self.authority)
        self._identified = set()
        self.controller = None
        try:
            names = [None] * nodes if isinstance(nodes, int) else nodes
            self.nodes = [SimulatedNode(self, index + 1, name) for index, name in enumerate(names)]
            for near, far in itertools.combinations(self.nodes, 2):
                near.join(far)
        except BaseException:
            self.ledger.close()
            raise

    def log(self, name):
        """The file that collects what programs of `name` print."""
        if name not in self._logs:
            self._logs[name] = open(self.directory / f"{name}.log", "ab", buffering=0)
        return self._logs[name]

    @property
    def pods(self):
        """All pods by name."""
        return {name: pod for node in self.nodes for name, pod in node.pods.items()}

    def __getattr__(self, name):
        try:
            return self.__dict__["nodes"][0].mesh.pods[name]
        except KeyError:
            raise AttributeError(f"the mesh has no pod called {name}") from None

    @property
    def ours(self):
        """The nodes that Weft runs on."""
        return [node for node in self.nodes if node.is_ours]

    def namespace(self, name, **options):
        """Declares (or changes) a namespace: meshed, failure, mtls."""
        self.namespaces[name] = manifests.namespace(name, **options)

    def service(self, name, pods, ports, namespace="shop", headless=False, spec=None):
        """Declares a Service over `pods`, with more fields of its spec; returns its cluster addresses (v4, v6)."""
        number = len(self.services) + 10
        if (namespace, name) in self.services:
            number = self.services[namespace, name]["number"]
        self.services[namespace, name] = {"number": number, "pods": list(pods), "ports": ports, "headless": headless, "spec": spec}
        return manifests.cluster_addresses(number)

    def objects(self):
        """Every Kubernetes object of this mesh, by file."""
        files = {
            "namespaces.yaml": list(self.namespaces.values()),
            "nodes.yaml": [node.manifest() for node in self.nodes],
            "pods.yaml": [pod.manifest() for pod in self.pods.values()],
        }
        for (namespace, name), spec in self.services.items():
            files[f"service-{namespace}-{name}.yaml"] = manifests.service(name, namespace, **spec)
        return files

    def apply(self):
        """Publishes the objects; each file is replaced at once. Identities come first: whoever is enrolled has one."""
        for pod in self.pods.values():
            if (pod.namespace, pod.account) not in self._identified:
                self._identified.add((pod.namespace, pod.account))
                self.identities.put(pod.namespace, pod.account)
        self.published.write(self.objects() | self.extra)

    def start(self, workers=1, enrolled=None, wait=True, limits=None, controller=None, words=()):
        """Publishes everything and runs Weft on every node; returns when every meshed pod is enrolled. `limits` changes
        limits of the proxies by name; with `controller`, its options, identities come from one on the first node, which the nodes join. `words` go to every `weft node`."""
        self.apply()
        if controller is not None:
            self.controller = Controller(self.nodes[0], controller).start()
        for node in self.ours:
            joins = self.controller.arguments(node) if controller is not None else ()
            node.weft = WeftNode(node, workers=workers, proxy_path=self.limited_proxy(limits) if limits else None, extra=[*joins, *words])
            node.weft.start()
        if wait:
            self.ready(enrolled)
        return self

    def limited_proxy(self, limits):
        """A program that runs weft-proxy with other limits."""
        script = self.directory / "weft-proxy-limited"
        options = " ".join(f"--limit {name}={value}" for name, value in limits.items())
        script.write_text(f'#!/bin/sh\nexec {proxy()} "$@" {options}\n')
        script.chmod(0o755)
        return script

    def ready(self, enrolled=None):
        """Waits until every node answers ready and has enrolled its meshed pods."""
        for node in self.ours:
            wanted = [p.name for p in node.pods.values() if p.meshed is not False] if enrolled is None else [n for n in enrolled if n in node.pods]
            node.weft.wait_ready(wanted)

    def close(self):
        """Stops Weft and removes everything."""
        if self.controller is not None:
            self.controller.stop()
        for node in self.nodes:
            if node.weft is not None:
                node.weft.stop()
        for place in [*self.pods.values(), *self.nodes]:
            place.close()
        for log in self._logs.values():
            log.close()
        if os.environ.get("WEFT_KEEP_LOGS"):
            self.ledger.forget("directories", str(self.directory))
        self.ledger.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
