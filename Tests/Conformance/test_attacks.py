"""Held against one connection, no attack may be felt on another one of the same worker.

One worker, alone on its core. A well-behaved HTTP/2 client asks 400 times a second over four connections of its own; its
p99 under attack must stay under twice what it is without, each the median of slices taken in turn. Client and server have
real-time priority on the other core; the attacker, and the server it asks for, have idle priority there, so that what is
measured is the proxy.
"""

import json
import os
import signal
import statistics
import subprocess
import time

import pytest
from hpack import Decoder, HPACKError

from attacks import ATTACKS, request
from frames import HEADERS, DATA
from host import Process, Proxy, free_port, listens
from judge import Judge
from mesh import eventually
from mesh.machine import TOOLS

pytestmark = pytest.mark.exclusive

PROXY_CORE, LOAD_CORE = 1, 0
#: Client, servers and attacker share a core here: a tick of its scheduler (250 Hz) is what any of them may wait for another. A p99 below that is
#: no wait for the proxy; the line that is printed tells the ratio all the same.
TICK_MICROSECONDS = 4_000
SLICES = 3
SLICE_SECONDS = 1.0
SOAK_SECONDS = 30
#: How much the proxy's resident memory may grow under any attack, bytes.
MEMORY_MAX = 64 << 20


class Server(Process):
    """The cheapest HTTP/1.1 server, scheduled as told."""

    def __init__(self, *policy):
        self.port = free_port()
        super().__init__("taskset", "-c", LOAD_CORE, "chrt", *policy, TOOLS / "backend", self.port, ready=listens(self.port))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """The proxy on its core, a server behind it, the well-behaved client's request."""
    if os.cpu_count() < 2:
        pytest.fail("two cores are needed to tell the proxy from its load")
    directory = tmp_path_factory.mktemp("attacks")
    with Server("-f", 20) as calm, Server("-i", 0) as attacked, Proxy([calm.port, attacked.port], "http", listeners=2, hosts=2) as proxy:
        subprocess.run(["taskset", "-a", "-p", "-c", str(PROXY_CORE), str(proxy.pid)], check=True, capture_output=True)
        for task in os.listdir(f"/proc/{proxy.pid}/task"):
            os.setpriority(os.PRIO_PROCESS, int(task), -20)
        (directory / "block").write_bytes(request(authority="h0.test"))
        proxy.directory_of_scripts = directory
        yield proxy


def steady(proxy, seconds=SLICE_SECONDS):
    """p99 of the well-behaved client, microseconds."""
    done = subprocess.run(
        ["taskset", "-c", str(LOAD_CORE), "chrt", "-f", "20", TOOLS / "steady", str(proxy.address[1]), proxy.directory_of_scripts / "block",
         "-c", "4", "-r", "400", "-d", str(seconds)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    report = json.loads(done.stdout)
    assert (report["errors"], report["late"]) == (0, 0) and report["status200"] == report["n"] == int(400 * seconds), told(report)
    return report["p99"]


def told(report):
    """A report with the last answer that was no 200, as far as it can be read without its connection's table."""
    try:
        return str(report | {"other": Decoder().decode(bytes.fromhex(report["other"]))})
    except HPACKError:
        return str(report)


class Flood:
    """An attack under way."""

    def __init__(self, proxy, name, pod):
        attack, path = ATTACKS[name], proxy.directory_of_scripts / "script"
        path.write_bytes(attack.script())
        self.process = subprocess.Popen(
            ["taskset", "-c", str(LOAD_CORE), "chrt", "-i", "0", TOOLS / "flood", *attack.options, "%s:%d" % proxy.listeners[pod], path], stdout=subprocess.PIPE, text=True)

    def go(self, on):
        """Pauses it, or lets it go on."""
        os.kill(self.process.pid, signal.SIGCONT if on else signal.SIGSTOP)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go(True)
        self.process.terminate()
        out, _ = self.process.communicate(timeout=30)
        self.report = json.loads(out)


def processor_time(proxy):
    """CPU seconds of the proxy so far."""
    fields = open(f"/proc/{proxy.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settle(proxy):
    """Until what a paused attacker left is worked off: a tenth of a second with at most one tick of work."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        before = processor_time(proxy)
        time.sleep(0.1)
        if processor_time(proxy) - before <= 0.01:
            return


def faults(proxy):
    """Refusals so far, by reason."""
    return {labels["reason"]: value for labels, value in proxy.metrics().all("weft_http2_faults_total") if value}


def answers(proxy):
    """A new connection is served."""
    with Judge.to(proxy.address) as client:
        client.peer, client.exact = proxy, True
        client.handshake().headers(1, request(authority="h0.test"))
        client.expect(HEADERS)
        client.expect(DATA, lambda found: len(found.payload) == 512)
        return True


def hold(proxy, name, pod):
    """In turn with and without the attack: both p99, most memory, and what the attacker did."""
    alone, under, memory = [], [], []
    with Flood(proxy, name, pod) as flood:
        for _ in range(SLICES):
            flood.go(True)
            under.append(steady(proxy))
            memory.append(proxy.resident())
            flood.go(False)
            settle(proxy)
            alone.append(steady(proxy))
    return statistics.median(alone), statistics.median(under), max(memory), flood.report


def hold_long(proxy, name, pod):
    """Half a minute without a pause, the control before and after it."""
    alone, under, memory = [steady(proxy) for _ in range(5)], [], []
    with Flood(proxy, name, pod) as flood:
        until = time.monotonic() + SOAK_SECONDS
        while time.monotonic() < until:
            under.append(steady(proxy))
            memory.append(proxy.resident())
    settle(proxy)
    alone += [steady(proxy) for _ in range(5)]
    return statistics.median(alone), statistics.median(under), max(memory), flood.report


def withstands(proxy, name, pod, attack_once):
    """At most two repeats: the machine may be disturbed by others, the proxy may not."""
    answers(proxy)
    before, resident, tries = faults(proxy), proxy.resident(), []
    for _ in range(3):
        alone, under, memory, report = attack_once(proxy, name, pod)
        tries.append(f"{alone:.0f} → {under:.0f} µs, {(memory - resident) >> 10:+} KiB, {report}")
        assert report["rounds"] > 0, f"no attack: {tries}"
        assert memory - resident < MEMORY_MAX, f"memory grows: {tries}"
        if under < max(ATTACKS[name].factor * alone, TICK_MICROSECONDS):
            break
    else:
        pytest.fail(f"p99 of the well-behaved client under {name}: {'; '.join(tries)}")
    moved = {reason for reason, count in faults(proxy).items() if count > before.get(reason, 0)}
    print(f"{name}: {tries[-1]}, faults {sorted(moved) or 'none'}")
    if ATTACKS[name].fault:
        assert ATTACKS[name].fault in moved, f"counted as {moved}, not as {ATTACKS[name].fault}"
    eventually(lambda: answers(proxy), within=5, what="an answer after the attack")


#: The second listener: another pod than the well-behaved client's, for pods are what the proxy keeps apart.
ATTACKER = 1


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_not_felt_elsewhere(scene, name):
    withstands(scene, name, ATTACKER, hold)


@pytest.mark.soak
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_of_half_a_minute_is_not_felt_elsewhere(scene, name):
    withstands(scene, name, ATTACKER, hold_long)
