"""What each process's death costs. Time is measured here, so these run alone."""

import json
import os
import signal
import socket
import stat
import subprocess
import time

import pytest

from mesh import eventually
from mesh.machine import processes_in, proxy, run, weft
from shop import Load, load, requests, way

pytestmark = pytest.mark.exclusive


def attempt(pod, address, port, timeout=5.0):
    """One connection and one request: "answered", or the name of what happened instead; and how long it took."""
    began = time.monotonic()
    try:
        with pod.connect(address, port, timeout) as near:
            near.sendall(b"GET /s/10 HTTP/1.1\r\nHost: shop\r\n\r\n")
            outcome = "answered" if b" 200 " in near.recv(4096) else "closed"
    except (TimeoutError, socket.timeout):
        outcome = "timeout"
    except ConnectionRefusedError:
        outcome = "refused"
    except OSError as error:
        outcome = type(error).__name__
    return outcome, time.monotonic() - began


def test_kill_9_of_the_proxy_under_load(fresh):
    """No connect is refused, service is back in under half a second, the counters go on."""
    shop = fresh()
    node = shop.nodes[0]
    load(shop.web, shop.stock.ip, 8080, "-c", 4, "-n", 200)
    eventually(lambda: requests(node, reporter="source", destination_workload="stock") >= 200)
    counted_before = requests(node, reporter="source", destination_workload="stock")
    first = node.weft.pid("proxy")
    with Load(shop.web, shop.stock.ip, 8080, "-x", "-e", "-c", 16, "-d", 3, "-r", 500) as fresh_ones, Load(shop.web, shop.cart.ip, 8080, "-e", "-c", 8, "-d", 3, "-r", 400) as kept:
        eventually(lambda: requests(node, reporter="source", destination_workload="stock") > counted_before + 200, within=2)
        node.weft.kill("proxy")
        fresh_ones, kept = fresh_ones.report(), kept.report()
    for report in (fresh_ones, kept):
        assert report["err_connect"] == 0, report
        assert report["err_span_ms"] < 500, report
        assert report["max"] < 500_000, report
        assert report["err_inflight"] + report["non200"] <= 48, report
    assert node.weft.pid("proxy") != first
    after = requests(node, reporter="source", destination_workload="stock")
    assert after >= counted_before + fresh_ones["ok"] - 50, "counters continue where they were"
    assert node.weft.process.poll() is None


def test_kill_9_of_the_agent(fresh):
    """Traffic does not notice; the agent comes back, knows everything again, and changes apply again."""
    shop = fresh()
    node = shop.nodes[0]
    first = node.weft.pid("agent")
    with Load(shop.web, shop.stock.ip, 8080, "-x", "-c", 8, "-d", 3, "-r", 300) as running:
        node.weft.kill("agent")
        report = running.report()
    assert (report["err_connect"], report["err_inflight"], report["non200"]) == (0, 0, 0), report
    assert report["max"] < 500_000
    eventually(lambda: node.weft.pid("agent") != first, what="a new agent")
    shop.ready()
    shop.service("again", [shop.stock], [{"name": "http", "port": 80, "targetPort": 8080}])
    shop.apply()
    eventually(lambda: load(shop.web, shop.address("again"), 80, "-e", "-c", 1, "-n", 1)["ok"] == 1, within=5, every=0.1, what="a change made after the agent's death")


@pytest.mark.parametrize("failure", ["open", "closed"])
def test_a_proxy_that_is_stopped(fresh, failure):
    """SIGSTOP: nobody may queue behind a backlog that no one reads. Within about 2 s the namespace's `failure` applies,
    outbound and inbound; when the proxy goes on, so does the mesh."""
    shop = fresh(failure=failure)
    node = shop.nodes[0]
    assert attempt(shop.web, shop.stock.ip, 8080)[0] == "answered"
    node.weft.kill("proxy", signal.SIGSTOP)
    began = time.monotonic()
    wanted = "answered" if failure == "open" else "refused"
    try:
        eventually(lambda: attempt(shop.web, shop.stock.ip, 8080, timeout=0.25)[0] == wanted, within=3.5, what=f"outbound: {wanted}")
        assert time.monotonic() - began < 3.0
        for _ in range(20):
            outcome, took = attempt(shop.web, shop.stock.ip, 8080)
            assert (outcome, took < 0.5) == (wanted, True)
            outcome, took = attempt(shop.stranger, shop.cart.ip, 8080)
            assert (outcome, took < 0.5) == (wanted, True), f"inbound: {outcome} after {took:.3f} s"
    finally:
        if node.weft.process.poll() is None and processes_in(node.weft_cgroup / "proxy"):
            node.weft.kill("proxy", signal.SIGCONT)
    eventually(lambda: way(shop.web, shop.stranger, shop.stranger.ip, 9011)[0] == "meshed", within=10, every=0.1, what="the mesh is back")


def test_connections_queued_behind_a_stopped_proxy_are_closed(fresh):
    """Those that came in the two seconds nobody knew are not left hanging."""
    shop = fresh()
    shop.nodes[0].weft.kill("proxy", signal.SIGSTOP)
    queued = [shop.web.connect(shop.stock.ip, 8080, timeout=10) for _ in range(5)]
    began = time.monotonic()
    for near in queued:
        try:
            near.sendall(b"GET /s/10 HTTP/1.1\r\nHost: shop\r\n\r\n")
            near.recv(4096)
        except ConnectionError:
            pass  # reset: that is an answer
        near.close()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("failure", ["open", "closed"])
def test_a_proxy_that_exits_at_start_ten_times(fresh, failure):
    """The first ten starts fail. Nobody hangs meanwhile, `failure` applies, and the eleventh start serves."""
    shop = fresh(start=False, failure=failure)
    directory = shop.directory / "faulty"
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    count, script = directory / "starts", directory / "proxy"
    script.write_text(f'#!/bin/sh\necho x >>{count}\n[ "$(wc -l <{count})" -gt 10 ] || exit 1\nexec {proxy()} "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    from mesh import WeftNode
    shop.apply()
    for node in shop.nodes:
        node.weft = WeftNode(node, proxy_path=script if node.index == 1 else None).start()
    node = shop.nodes[0]
    wanted = "answered" if failure == "open" else "refused"
    starts = lambda: len(count.read_text().splitlines()) if count.exists() else 0  # noqa: E731
    eventually(lambda: "web" in node.weft.enrolled(), within=15, what="pods are enrolled although the proxy is not there")
    eventually(lambda: attempt(shop.web, shop.stock.ip, 8080, timeout=0.25)[0] == wanted or starts() > 10, within=3, what=wanted)
    while starts() < 10:
        outcome, took = attempt(shop.web, shop.stock.ip, 8080)
        assert took < 3 and outcome in (wanted, "answered"), (outcome, took)
    eventually(lambda: way(shop.web, shop.stranger, shop.stranger.ip, 9012)[0] == "meshed", within=60, every=0.2, what="the eleventh start serves")
    assert starts() >= 11


@pytest.mark.parametrize("failure", ["open", "closed"])
def test_kill_9_of_node(fresh, failure):
    """Its children end with it. Open: direct; closed: refused, not a timeout; both ways. A restart takes over what is there."""
    shop = fresh(failure=failure)
    node = shop.nodes[0]
    children = [node.weft.pid("agent"), node.weft.pid("proxy")]
    node.weft.kill("node")
    node.weft.process.wait()
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}/root/") and processes_in(node.weft_cgroup / part) for pid, part in zip(children, ("agent", "proxy"))), within=2, what="the children end")
    wanted = "answered" if failure == "open" else "refused"
    eventually(lambda: attempt(shop.web, shop.stock.ip, 8080, timeout=0.5)[0] == wanted, within=3.5, what=f"outbound {wanted}")
    for _ in range(10):
        outcome, took = attempt(shop.web, shop.stock.ip, 8080)
        assert outcome == wanted and took < 0.5, (outcome, took)
        outcome, took = attempt(shop.stranger, shop.cart.ip, 8080)
        assert outcome == wanted and took < 0.5, ("inbound", outcome, took)
    node.weft.start()
    shop.ready()
    assert way(shop.web, shop.stranger, shop.stranger.ip, 9013)[0] == "meshed"
    assert load(shop.web, shop.stock.ip, 8080, "-c", 4, "-n", 100)["ok"] >= 100
    assert node.weft.stop() == 0
    assert node.weft.leftovers() == []


def test_a_pod_deleted_while_node_was_dead(fresh):
    """The restarted node finds it enrolled in the maps it adopts, and lets it go."""
    shop = fresh()
    node = shop.nodes[0]
    node.weft.kill("node")
    node.weft.process.wait()
    shop.web.meshed = False
    shop.apply()
    node.weft.start()
    node.weft.wait_ready(["cart"])
    assert way(shop.web, shop.stranger, shop.stranger.ip, 9014)[0] == "direct"
    assert "web" not in node.weft.enrolled()


def test_cleanup_after_kill_9(fresh):
    """`weft node --cleanup` removes what a killed node left; twice is fine."""
    shop = fresh()
    node = shop.nodes[0]
    node.weft.kill("node")
    node.weft.process.wait()
    assert node.weft.leftovers(), "a kill -9 leaves pins"
    for _ in range(2):
        run(*node.weft.command("--cleanup"), timeout=20)
        eventually(lambda: node.weft.leftovers() == [] or node.weft.leftovers(), within=1)
    assert node.weft.leftovers() == []
    assert way(shop.web, shop.stranger, shop.stranger.ip, 9015)[0] == "direct"


def bpf(kind):
    """What the kernel holds: bpf("prog") or bpf("map")."""
    return json.loads(run("bpftool", "-j", kind, "show"))


def test_two_nodes_of_one_name(fresh):
    """A second node of the same name is refused, and so is cleaning up under the first, even with another state directory."""
    shop = fresh()
    first = shop.nodes[0].weft
    other = first.command()
    other[other.index("--state-dir") + 1] = str(shop.directory / "another-state")
    with Load(shop.web, shop.both[0], 80, "-c", 2, "-d", 3, "-r", 100) as running:
        for command in (other, [*other, "--cleanup"], first.command(), first.command("--cleanup")):
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
            assert done.returncode == 1 and "another weft node" in done.stderr, (done.returncode, done.stderr[-500:])
        report = running.report()
    assert report["err_connect"] == 0 and report["non200"] == 0, report
    assert way(shop.web, shop.stock, shop.stock.ip, 9017)[0] == "meshed"
    assert first.enrolled() >= {"web", "cart"}


def test_a_pod_replaced_behind_our_back(fresh):
    """Its namespace is destroyed and made anew, same name, same addresses, same manifest: the new one is captured."""
    shop = fresh()
    node = shop.nodes[0]
    old = shop.web
    run("ip", "-n", node.netns, "link", "del", "p-web")
    old.remove()
    node._next_index = 11
    new = node.pod("web")
    def listens():
        return all(run("ip", "netns", "exec", new.netns, "ss", "-Hltn", f"sport = :{port}").strip() for port in (15001, 15006))
    eventually(listens, within=5, what="the new pod has its doors")
    eventually(lambda: "web" in node.weft.enrolled(), within=5)
    assert way(new, shop.stock, shop.stock.ip, 9018)[0] == "meshed"
    assert way(shop.till, new, new.ip, 9018)[0] == "meshed"
    assert node.weft.stop() == 0 and node.weft.leftovers() == []


def test_a_clean_stop_leaves_nothing(fresh):
    """Programs, maps, pins, listeners, rules: gone; and traffic goes on without Weft."""
    known = {program["id"] for program in bpf("prog")}
    shop = fresh()
    ours = [program for program in bpf("prog") if program["id"] not in known and program.get("name", "").startswith("weft")]
    assert ours, "Weft has programs"
    programs, maps = {p["id"] for p in ours}, {m for p in ours for m in p.get("map_ids", [])}
    with Load(shop.web, shop.stock.ip, 8080, "-x", "-e", "-c", 4, "-d", 2, "-r", 200) as running:
        codes = [node.weft.stop() for node in shop.nodes]
        report = running.report()
    assert codes == [0, 0]
    assert report["err_connect"] == 0, report
    for node in shop.nodes:
        assert node.weft.leftovers() == []
    eventually(lambda: not programs & {p["id"] for p in bpf("prog")}, within=5, what="the programs are unloaded")
    eventually(lambda: not maps & {m["id"] for m in bpf("map")}, within=5, what="the maps are gone")
    assert way(shop.web, shop.stock, shop.stock.ip, 9016)[0] == "direct"


def test_weft_says_what_a_machine_lacks(fresh):
    """Without its capabilities it ends at once with 69 and names what is missing."""
    shop = fresh(start=False)
    shop.apply()
    from mesh import WeftNode
    command = WeftNode(shop.nodes[0]).command()
    command = [part.replace("+bpf,", "") for part in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 69, (done.returncode, done.stderr[-500:])
    assert "bpf" in done.stderr.lower()
    assert weft().exists()
