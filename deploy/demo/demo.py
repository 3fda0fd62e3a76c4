#!/usr/bin/env python3
"""The demo: two simulated nodes, unmodified programs, real BPF, a real Prometheus. See README.md beside this file.

    demo.py            runs, shows what happened, cleans up
    demo.py --stay     leaves it running and opens a shell
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "Tests" / "Journeys"))

from mesh import Mesh, Missing, eventually, requirements, sweep  # noqa: E402
from mesh.controller import Controller  # noqa: E402
from mesh.machine import weft  # noqa: E402
from mesh.weft import WeftNode  # noqa: E402

SECONDS = 12  # how long the shopper shops before the bill is shown
PROMETHEUS = 9090


class Demo(Mesh):
    """The world that the YAML beside this file describes. Plays the kubelet."""

    def __init__(self):
        documents = {path.name: list(yaml.safe_load_all(path.read_text())) for path in sorted(HERE.glob("*.yaml"))}
        self.documents, self.controller = documents, None
        everything = [d for content in documents.values() for d in content]
        super().__init__([d["metadata"]["name"] for d in everything if d["kind"] == "Node"], name="weft-demo")
        try:
            nodes = {node.name: node for node in self.nodes}
            names = [(address, name) for d in everything if d["kind"] == "Service" for address in d["spec"]["clusterIPs"]
                     for name in (d["metadata"]["name"], f"{d['metadata']['name']}.shop.svc.cluster.local")]
            self.manifests = {d["metadata"]["name"]: d for d in everything if d["kind"] == "Pod"}
            for name, manifest in self.manifests.items():
                pod = nodes[manifest["spec"]["nodeName"]].pod(name, addresses=[a["ip"] for a in manifest["status"]["podIPs"]])
                pod.meshed = manifest["metadata"]["labels"].get("weft.mesh/mode") != "disabled"
                pod.hosts(names)
                manifest["metadata"].setdefault("annotations", {}).update(pod.location())
        except BaseException:
            self.close()
            raise

    def objects(self):
        """The YAML as it is, with the kubelet's annotations."""
        return self.documents

    def start_controller(self):
        """The authority of both nodes, on the first machine."""
        self.apply()
        self.controller = Controller(self.nodes[0]).start()

    def start(self):
        """Weft on both nodes; each joins the controller with a token that is good once."""
        for node in self.nodes:
            node.weft = WeftNode(node, extra=self.controller.arguments(node)).start()
        self.ready()
        eventually(lambda: all(identity["state"] == "active" for node in self.nodes for identity in node.weft.status()["identities"]["workloads"]),
                   within=20, what="every identity in force")

    def close(self):
        if self.controller is not None:
            self.controller.stop()
        super().close()

    def run_containers(self, names):
        """Starts the programs of these pods."""
        for name in names:
            work = self.directory / name
            work.mkdir()
            for container in self.manifests[name]["spec"]["containers"]:
                self.pods[name].start(*(part.replace("$(FILES)", str(HERE / "files")).replace("$(WORK)", str(work)).replace("$(PYTHON)", sys.executable) for part in container["command"]))

    def start_prometheus(self):
        """Debian's Prometheus in the first node, scraping both."""
        place = self.directory / "prometheus"
        place.mkdir()
        targets = [{"targets": [f"{node.ip}:15020"], "labels": {"node": node.name}} for node in self.nodes]
        (place / "prometheus.yml").write_text(yaml.safe_dump({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [{"job_name": "weft", "static_configs": targets}]}))
        self.nodes[0].start("prometheus", f"--config.file={place}/prometheus.yml", f"--storage.tsdb.path={place}/data",
                            f"--web.listen-address=127.0.0.1:{PROMETHEUS}", "--log.level=warn")

    def query(self, promql):
        """An instant query; returns [(labels, value)]."""
        with self.nodes[0].socket(socket.AF_INET) as asked:
            asked.settimeout(5)
            asked.connect(("127.0.0.1", PROMETHEUS))
            asked.sendall(f"GET /api/v1/query?query={urllib.parse.quote(promql)} HTTP/1.0\r\nHost: prometheus\r\n\r\n".encode())
            answer = b""
            while chunk := asked.recv(1 << 16):
                answer += chunk
        data = json.loads(answer.partition(b"\r\n\r\n")[2])
        return [(r["metric"], float(r["value"][1])) for r in data["data"]["result"]]


def title(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def table(rows):
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())


def show(demo):
    """Who called whom, how often, how long it took: from Prometheus. Then what each Weft says about itself."""
    by = "source_workload, destination_workload, request_protocol, response_code, reporter"
    calls = {tuple(labels.get(k, "") for k in by.split(", ")): value for labels, value in demo.query(f"sum by ({by}) (istio_requests_total)")}
    quantiles = {}
    for share in (0.5, 0.99):
        for labels, value in demo.query(f"histogram_quantile({share}, sum by (le, {by}) (istio_request_duration_milliseconds_bucket))"):
            quantiles[share, tuple(labels.get(k, "") for k in by.split(", "))] = value
    title("Who called whom (PromQL over both nodes)")
    rows = [("from", "to", "protocol", "code", "seen by", "requests", "p50 ms", "p99 ms")]
    for key, count in sorted(calls.items()):
        if count:
            rows.append((*key, f"{count:.0f}", f"{quantiles.get((0.5, key), float('nan')):.2f}", f"{quantiles.get((0.99, key), float('nan')):.2f}"))
    table(rows)
    title("Who was proven to whom (as the side that was called saw it)")
    by = "source_principal, source_workload, destination_principal, destination_workload, connection_security_policy"
    rows = [("from", "to", "policy", "caller's identity", "requests")]
    for labels, value in sorted(demo.query(f'sum by ({by}) (istio_requests_total{{reporter="destination"}})'), key=lambda row: sorted(row[0].items())):
        if value:
            rows.append((labels.get("source_workload", ""), labels.get("destination_workload", ""), labels.get("connection_security_policy", ""),
                         labels.get("source_principal", ""), f"{value:.0f}"))
    table(rows)
    title("Handshakes of mutual TLS on port 15008")
    rows = [("node", "side", "result", "count")]
    rows += [(labels.get("node", ""), labels.get("side", ""), labels.get("result", ""), f"{value:.0f}") for labels, value in demo.query("sum by (node, side, result) (weft_tls_handshakes_total)") if value]
    table(rows)
    title("How the hooks decided")
    rows = [("node", "verdict", "count")]
    rows += [(labels.get("node", ""), labels.get("verdict", ""), f"{value:.0f}") for labels, value in demo.query("sum by (node, verdict) (weft_capture_verdicts_total)") if value]
    table(rows)
    for node in demo.nodes:
        title(f"weft status on {node.name}")
        print(node.weft.status_text().rstrip())
    return calls


def identified(demo):
    """Who is who, and by whose word: from the audit log, the agents, and an attempt with a token that is spent."""
    title("Identities")
    for entry in map(json.loads, demo.controller.audit()):
        if entry["event"] in ("authority_created", "token_made", "node_joined"):
            print(f"  {entry['time']}  {entry['event']:<18} {entry.get('identity') or entry.get('detail') or entry.get('root', '')}")
    rows = [("node", "identity", "state", "until")]
    for node in demo.nodes:
        for identity in node.weft.status()["identities"]["workloads"]:
            rows.append((node.name, identity["identity"], identity["state"], time.strftime("%H:%M:%S %d %b", time.localtime(identity["notAfter"]))))
    table(rows)


def told(demo):
    """What the programs themselves see: nothing unusual."""
    title("What the programs see")
    print("  storefront asks cart, the answer says who asked:", demo.pods["storefront"].curl("http://cart/add/7"))
    print("  the same over IPv6:                             ", demo.pods["storefront"].curl("http://cart/add/7", "-6"))
    print("  storefront asks catalog on the other node:      ", demo.pods["storefront"].curl("http://catalog/item/1").strip())
    print("  the same in HTTP/2 (this nginx has only 1.1):   ", demo.pods["storefront"].curl("http://catalog/item/1", "--http2-prior-knowledge", "-w", "(HTTP/%{http_version})").replace("\n", " "))
    print("  storefront asks warehouse over gRPC:            ", demo.pods["storefront"].run(sys.executable, HERE / "files" / "order.py").stdout.strip())


def shell(demo):
    """Leaves it running, with words for poking at it."""
    join = """'echo 0 >"$0" && exec ip netns exec "$@"'"""  # in this order: `ip netns exec` hides the cgroups
    lines = [f'pod() {{ local p=$1; shift; sh -c {join} {demo.cgroup}/$(_node $p)/pods/$p/cgroup.procs {demo.name}-$p "$@"; }}', "_node() { case $1 in"]
    lines += [f"  {name}) echo {pod.node.name};;" for name, pod in demo.pods.items()] + ["esac; }"]
    lines += [f"node() {{ local n=$1; shift; nsenter --net=/run/netns/{demo.name}-$n -- \"$@\"; }}",
              f"weft-status() {{ {weft()} status --admin {demo.directory}/state-$1/agent/admin.sock \"${{@:2}}\"; }}", "PS1='weft-demo \\$ '"]
    words = demo.directory / "words.sh"
    words.write_text("\n".join(lines) + "\n")
    title("It runs. Poke at it:")
    print(f"""  . {words}                        (this shell knows these words already)
  pod storefront curl -sv http://cart/add/1         a program in a pod
  pod storefront curl -s http://[fd77:2::b]:8080/item/1
  node north curl -s localhost:15020/metrics | grep ^istio_requests_total
  node north curl -s 'localhost:{PROMETHEUS}/api/v1/query?query=istio_requests_total'
  weft-status north          weft-status south --json
  kill -9 $(cat {demo.nodes[0].weft_cgroup}/proxy/cgroup.procs)      and watch nothing happen
  edit {demo.published.path}/*.yaml      logs: {demo.directory}/*.log
Leave the shell (or Ctrl-C) to end and clean up.""", flush=True)
    if sys.stdin.isatty():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        subprocess.run(["bash", "--noprofile", "--rcfile", str(words), "-i"])
    else:
        signal.pause()


def main():
    try:
        requirements()
        if not shutil.which("prometheus"):
            raise Missing("`prometheus` is not installed: run `make setup`")
    except Missing as missing:
        print(f"demo: {missing}", file=sys.stderr)
        return 69
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    sweep()
    began = time.monotonic()
    title("Two nodes, six pods: namespaces, cgroups and veth pairs")
    try:
        with Demo() as demo:
            table([("pod", "node", "addresses", "runs")] + [(name, pod.node.name, f"{pod.ip}  {pod.ip6}", demo.manifests[name]["spec"]["containers"][0]["image"] + ("" if pod.meshed else "   (not meshed)")) for name, pod in demo.pods.items()])
            title("weft controller on north: the certificate authority of both")
            demo.start_controller()
            title("weft node on each: loads BPF, starts agent and proxy, joins the controller, enrols the pods")
            demo.start()
            print(f"  ready after {time.monotonic() - began:.1f} s")
            demo.run_containers(["cart", "catalog", "reviews", "warehouse"])
            for name, port in (("cart", 8000), ("catalog", 8080), ("reviews", 8000), ("warehouse", 50051)):
                demo.pods[name].listens(port)
            demo.start_prometheus()
            demo.run_containers(["storefront", "outsider"])
            identified(demo)
            told(demo)
            title(f"Traffic for {SECONDS} seconds, scraped by Prometheus")
            wanted = {("storefront", "catalog"), ("storefront", "cart"), ("cart", "catalog"), ("storefront", "reviews"), ("storefront", "warehouse"), ("outsider", "cart")}
            deadline = time.monotonic() + SECONDS

            def seen():
                pairs = {(labels.get("source_workload"), labels.get("destination_workload")) for labels, value in demo.query("istio_requests_total") if value}
                return wanted <= pairs and time.monotonic() >= deadline
            eventually(seen, within=SECONDS + 20, every=0.5, what="requests of all pods in Prometheus")
            show(demo)
            if "--stay" in sys.argv:
                shell(demo)
            title("Cleaning up")
        left = [name for name in os.listdir("/run/netns") if name.startswith("weft-demo")]
        print(f"  nothing is left ({time.monotonic() - began:.0f} s in all)" if not left else f"  left behind: {left}")
        return 1 if left else 0
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything was removed")
        return 130


if __name__ == "__main__":
    sys.exit(main())
