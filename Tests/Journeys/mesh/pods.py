"""A pod: a network namespace, a v2 cgroup, and programs started inside both. Nothing in it knows about Weft."""

import contextlib
import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from .machine import processes_in, run
from .waiting import eventually

#: Runs inside the pod and makes sockets there on request: a socket belongs to the namespace and cgroup of its maker,
#: so a test may use it from outside and is still treated as that pod.
_SOCKET_MAKER = """
import array, socket, struct
door = socket.socket(fileno=0)
while True:
    wish = door.recv(64)
    if not wish: break
    try:
        made = socket.socket(*struct.unpack("iii", wish))
        door.sendmsg([b"\\0\\0\\0\\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [made.fileno()]))])
        made.close()
    except OSError as error:
        door.send(struct.pack("i", error.errno))
"""


class Place:
    """A namespace plus a cgroup in which programs and sockets can be made. Pods are places; so is a node's host side."""

    def __init__(self, mesh, name, namespace, cgroup):
        self.mesh, self.name, self.netns, self.cgroup = mesh, name, namespace, Path(cgroup)
        self.programs = []
        self._door = None
        self._lock = threading.Lock()
        mesh.ledger.note("cgroups", str(self.cgroup))
        self.cgroup.mkdir(parents=True, exist_ok=True)

    def argv(self, command):
        """`command` as it is started here: first the cgroup, then the namespace, then the program itself (same pid)."""
        join = f'echo 0 > "{self.cgroup}/cgroup.procs" && exec ip netns exec {self.netns} "$@"'
        return ["sh", "-c", join, "sh", *map(str, command)]

    def start(self, *command, **options):
        """Starts a program; it ends with the world."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", self.mesh.log(self.name))
        options.setdefault("stderr", self.mesh.log(self.name))
        program = subprocess.Popen(self.argv(command), **options)
        self.programs.append(program)
        self.mesh.ledger.note_process(program.pid)
        return program

    def run(self, *command, timeout=30, check=True, **options):
        """Runs a program to its end; returns the completed process (text)."""
        done = subprocess.run(self.argv(command), capture_output=True, text=True, timeout=timeout, **options)
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {' '.join(map(str, command))}: exit {done.returncode}: {done.stdout[-300:]}{done.stderr[-600:]}")
        return done

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
        """A socket that belongs to this place."""
        with self._lock:
            if self._door is None:
                self._door, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self.start(sys.executable, "-S", "-c", _SOCKET_MAKER, stdin=far)
                far.close()
            self._door.send(struct.pack("iii", family, kind, protocol))
            answer, descriptors, _, _ = socket.recv_fds(self._door, 16, 1)
        if not descriptors:
            if not answer:
                raise OSError(f"{self.name}: the socket maker is gone")
            number = struct.unpack("i", answer)[0]
            raise OSError(number, os.strerror(number))
        return socket.socket(fileno=descriptors[0])

    def http(self, port, path, timeout=5.0):
        """Status and body of what listens on loopback here."""
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        asked.sock = self.connect("127.0.0.1", port, timeout)
        with contextlib.closing(asked):
            try:
                asked.request("GET", path, headers={"Connection": "close"})
                reply = asked.getresponse()
                return reply.status, reply.read().decode()
            except http.client.HTTPException as broken:  # it ended in the middle
                raise ConnectionError(f"{self.name}:{port}{path}: {broken!r}") from broken

    def connect(self, address, port, timeout=10.0):
        """A TCP connection from here."""
        made = self.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        made.settimeout(timeout)
        try:
            made.connect((address, port))
        except OSError:
            made.close()
            raise
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def listen(self, port, address="::", backlog=1024):
        """A listener of this place; `::` takes both families."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = self.socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address == "::":
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address, port))
        made.listen(backlog)
        return made

    def listens(self, port):
        """Waits until something in this namespace listens on `port`."""
        def present():
            return run("ip", "netns", "exec", self.netns, "ss", "-Hltn", f"sport = :{port}").strip()
        return eventually(present, within=10, what=f"{self.name}: listener on {port}")

    def curl(self, url, *options, timeout=30, check=True):
        """What curl prints in this pod."""
        return self.run("curl", "-sS", "--max-time", str(timeout), *options, url, timeout=timeout + 5, check=check).stdout

    def sysctl(self, **values):
        """Sets sysctls of this namespace; `net__ipv4__x` stands for net.ipv4.x."""
        for name, value in values.items():
            run("ip", "netns", "exec", self.netns, "sysctl", "-qw", f"{name.replace('__', '.')}={value}")

    def pids(self):
        """Processes in the cgroup."""
        return processes_in(self.cgroup)

    def close(self):
        """Ends what was started here."""
        if self._door is not None:
            self._door.close()
            self._door = None
        for program in self.programs:
            if program.poll() is None:
                program.terminate()
        for program in self.programs:
            try:
                program.wait(timeout=2)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
            for stream in (program.stdin, program.stdout, program.stderr):
                if stream is not None and hasattr(stream, "close"):
                    stream.close()
        self.programs = []


class Pod(Place):
    """A pod of a simulated node; `manifest()` is what Kubernetes would say about it."""

    def __init__(self, node, name, index, namespace="shop", labels=None, annotations=None, meshed=None, addresses=None):
        super().__init__(node.mesh, name, f"{node.mesh.name}-{name}", node.pods_cgroup / name)
        self.node, self.namespace, self.meshed = node, namespace, meshed
        self.labels = {"app": name, "version": "v1", **(labels or {})}
        self.annotations = dict(annotations or {})
        self.ip, self.ip6 = addresses or (f"10.77.{node.index}.{index}", f"fd77:{node.index}::{index:x}")
        self.ready, self.terminating = True, False
        #: As in the pod's spec: ports, probes.
        self.containers = []

    @property
    def account(self):
        """Its service account."""
        return self.labels["app"]

    def wire(self):
        """Makes the namespace and joins it to the node by a veth pair, with /32 routes as Calico lays them."""
        here, host = self.netns, self.node.netns
        gateway = self.node.gateway
        self.mesh.ledger.note("namespaces", here)
        run("ip", "netns", "add", here)
        link = f"p-{self.name}"[:15]
        run("ip", "link", "add", link, "netns", host, "type", "veth", "peer", "name", "eth0", "netns", here)
        batch(host, f"""
            link set {link} addrgenmode none
            link set {link} up
            -6 addr add fe80::1/64 dev {link} nodad
            route add {self.ip}/32 dev {link}
            -6 route add {self.ip6}/128 dev {link}""")
        batch(here, f"""
            link set lo up
            link set eth0 addrgenmode none
            link set eth0 up
            addr add {self.ip}/32 dev eth0
            -6 addr add {self.ip6}/128 dev eth0 nodad
            route add {gateway}/32 dev eth0 scope link
            route add default via {gateway} src {self.ip}
            -6 addr add fe80::2/64 dev eth0 nodad
            -6 route add default via fe80::1 dev eth0 src {self.ip6}""")
        run("ip", "netns", "exec", here, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0", "net.core.somaxconn=4096")

    def hosts(self, names):
        """Name resolution inside the pod (`ip netns exec` lays these files over /etc): address → name."""
        place = Path("/etc/netns") / self.netns
        place.mkdir(parents=True, exist_ok=True)
        (place / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n" + "".join(f"{address} {name}\n" for address, name in names))

    def location(self):
        """The annotations that stand for the kubelet: where this pod's namespace and cgroup are."""
        return {"weft.mesh/network-namespace": f"/run/netns/{self.netns}", "weft.mesh/cgroup": str(self.cgroup)}

    def manifest(self):
        """The Pod object."""
        labels = dict(self.labels)
        if self.meshed is not None:
            labels["weft.mesh/mode"] = "enabled" if self.meshed else "disabled"
        return {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": self.name, "namespace": self.namespace, "uid": f"{self.mesh.name}-{self.name}", "labels": labels,
                "annotations": {**self.location(), **self.annotations},
            },
            "spec": {"nodeName": self.node.name, "serviceAccountName": self.account, "containers": self.containers},
            "status": {
                "phase": "Running", "podIP": self.ip, "podIPs": [{"ip": self.ip}, {"ip": self.ip6}],
                "conditions": [{"type": "Ready", "status": "True" if self.ready else "False"}],
            },
        }

    def remove(self):
        """Deletes the pod from the machine (its manifest is the mesh's business)."""
        self.close()
        run("ip", "netns", "del", self.netns, check=False)
        self.mesh.ledger.forget("namespaces", self.netns)


def batch(namespace, commands):
    """Several `ip` commands in one process. Lines starting with -6 are given the family first."""
    plain = [line.strip() for line in commands.strip().splitlines()]
    for family in ("-4", "-6"):  # all of v4 first: links must be up before v6 addresses stick
        lines = [line.removeprefix("-6 ") for line in plain if line.startswith("-6 ") == (family == "-6")]
        if lines:
            run("ip", "-n", namespace, *([] if family == "-4" else ["-6"]), "-batch", "-", input="\n".join(lines) + "\n")
