"""Weft on one simulated node: started as the DaemonSet would start it, watched through what an operator can see."""

import json
import os
import signal
import subprocess

from .machine import BPF_FILE_SYSTEM, NODE_CAPABILITIES, bpf_object, processes_in, proxy, run, weft
from .metrics import Metrics
from .waiting import eventually

PARTS = ("node", "agent", "proxy")


class WeftNode:
    """`weft node` in the node's network namespace, with its own state directory, cgroups and pins."""

    def __init__(self, node, workers=1, proxy_path=None, extra=()):
        self.node, self.mesh, self.workers = node, node.mesh, workers
        self.state = self.mesh.directory / f"state-{node.short}"
        self.pins = BPF_FILE_SYSTEM / "weft" / node.name
        self.log_path = self.mesh.directory / f"weft-{node.short}.log"
        self.proxy_path, self.extra = proxy_path or proxy(), list(extra)
        self.process = None

    def command(self, *more):
        """The command line, from namespace and capabilities to arguments."""
        bounding = "-all," + ",".join(f"+{c}" for c in NODE_CAPABILITIES)
        return [
            "nsenter", f"--net=/run/netns/{self.node.netns}", "--", "setpriv", f"--bounding-set={bounding}", "--inh-caps=-all", "--",
            str(weft()), "node", "--manifests", str(self.mesh.published.path), "--node-name", self.node.name, "--state-dir", str(self.state),
            "--pods-cgroup", str(self.node.pods_cgroup), "--weft-cgroup", str(self.node.weft_cgroup), "--workers", str(self.workers),
            "--metrics-address", "0.0.0.0:15020", "--proxy", str(self.proxy_path), "--bpf-object", str(bpf_object()),
            "--namespaces-root", "/run/netns", *self.doors(), *self.extra, *more,
        ]

    def doors(self):
        """Where its certificates come from, unless it is told otherwise: files of the world's own authority."""
        return [] if "--controller" in self.extra else ["--identity-files", str(self.mesh.identities.path)]

    def start(self):
        """Starts it; `wait_ready` waits."""
        self.mesh.ledger.note("pins", str(self.pins))
        with open(self.log_path, "ab", buffering=0) as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.mesh.ledger.note_process(self.process.pid)
        return self

    def pid(self, part):
        """Pid of `node`, `agent` or `proxy`; LookupError while there is none."""
        if part == "node":
            return self.process.pid
        members = processes_in(self.node.weft_cgroup / part)
        if not members:
            raise LookupError(f"{self.node.name} has no {part}")
        return members[0]

    def kill(self, part, number=signal.SIGKILL):
        """Sends a signal to one of the three."""
        os.kill(self.pid(part), number)

    def http(self, path="/metrics", port=15020, timeout=5.0):
        """Status and body of the agent's HTTP endpoint, asked from the node itself."""
        return self.node.http(port, path, timeout)

    def metrics(self):
        """One scrape."""
        status, body = self.http("/metrics")
        assert status == 200, f"/metrics answered {status}"
        return Metrics(body)

    def status(self, *options):
        """`weft status --json`, parsed."""
        return json.loads(self.status_text("--json", *options))

    def status_text(self, *options):
        """What `weft status` prints."""
        return run(weft(), "status", "--admin", self.state / "agent" / "admin.sock", *options, timeout=10)

    def enrolled(self):
        """Names of the pods that are captured, as `weft status` tells."""
        return {pod["name"] for pod in self.status()["pods"] if pod["state"] == "enrolled"}

    def wait_ready(self, pods=(), within=20.0):
        """Until /readyz says so and every pod of `pods` is enrolled."""
        def there():
            if self.process.poll() is not None:
                raise RuntimeError(f"weft node ended with {self.process.returncode}:\n{self.tail()}")
            if self.http("/readyz")[0] != 200:
                return False
            return set(pods) <= self.enrolled()
        try:
            return eventually(there, within=within, every=0.05, what=f"{self.node.name} ready with {sorted(pods)}")
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.tail()}") from None

    def stop(self, within=10.0):
        """Ends it as an operator does; returns its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=within)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                return "killed"
        return self.process.returncode

    def leftovers(self):
        """What exists of this Weft: processes, pins, listeners, rules and routes in its pods."""
        found = [f"{part} process {pid}" for part in PARTS for pid in processes_in(self.node.weft_cgroup / part)]
        if self.pins.exists():
            found += [f"pin {p}" for p in self.pins.rglob("*")] or [f"pin directory {self.pins}"]
        for pod in self.node.pods.values():
            for port in (15001, 15006):
                listening = run("ip", "netns", "exec", pod.netns, "ss", "-Hltn", f"sport = :{port}").strip()
                if listening:
                    found.append(f"{pod.name}: listener {listening}")
            for family in ("-4", "-6"):
                rules = [r for r in run("ip", "-n", pod.netns, family, "rule", "show").splitlines() if "fwmark" in r]
                found += [f"{pod.name}: rule {rule}" for rule in rules]
            routes = run("ip", "-n", pod.netns, "-6", "route", "show", "table", "all")
            found += [f"{pod.name}: route {route}" for route in routes.splitlines() if "fd6d:" in route]
        tree = run("bpftool", "cgroup", "tree", str(self.node.root), check=False)
        found += [f"attached: {line.strip()}" for line in tree.splitlines() if "weft" in line.lower() or "connect4" in line]
        return found

    def tail(self, lines=40):
        """The last lines of the log."""
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"
