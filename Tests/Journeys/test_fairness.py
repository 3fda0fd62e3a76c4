"""One proxy for all pods of a node must not belong to the loudest of them.

One worker, alone on its core. A quiet pod asks 200 times a second; beside it another pod does its worst. The quiet
pod's p99 must stay under twice what it is without the neighbour. Client and server of the quiet pod run with real-time
priority on the other core, so what is measured is the proxy and not the fight for the rest of the machine.
"""

import json
import os
import subprocess

import pytest

from mesh.machine import TOOLS
from shop import Load, serve, target

pytestmark = pytest.mark.exclusive

PROXY_CORE, LOAD_CORE = 1, 0
NOISE = {
    "connections": ["-x", "-c", 64],
    "large heads": ["-c", 64, "-g", 30_000],
    "slow readers": ["-c", 200, "-s", 2048, "-p", "/s/50000000"],
    "bulk transfer": ["-Q", "-c", 8, "-p", "/s/1073741824"],
    "bulk upload": ["-Q", "-c", 8, "-b", 50_000_000],
    "ten times the load": ["-c", 64, "-r", 2000],
    "as fast as it can": ["-c", 128],
}


@pytest.fixture(scope="module")
def street():
    """One node: quiet → shop, noisy → yard; the proxy alone on one core."""
    from conftest import _close, _open
    if os.cpu_count() < 2:
        pytest.fail("two cores are needed to tell the proxy from its load")
    world = _open(nodes=1)
    try:
        node = world.nodes[0]
        for name in ("quiet", "noisy", "yard"):
            node.pod(name)
        serve(world.yard)
        world.start(workers=1)
        subprocess.run(["taskset", "-a", "-p", "-c", str(PROXY_CORE), str(node.weft.pid("proxy"))], check=True, capture_output=True)
        for pod, priority in ((world.cart, "-f 20"), (world.yard, "-i 0")):
            for pid in pod.pids():
                subprocess.run(["taskset", "-a", "-p", "-c", str(LOAD_CORE), str(pid)], check=True, capture_output=True)
                subprocess.run(["chrt", *priority.split()[:1], "-p", priority.split()[1], str(pid)], check=True, capture_output=True)
        yield world
    finally:
        _close(world)


def quiet(street, seconds=2.5):
    """p99 of the quiet pod in microseconds."""
    done = street.quiet.run("taskset", "-c", LOAD_CORE, "chrt", "-f", 20, TOOLS / "lg", "-t", target(street.cart.ip, 8080), "-c", 4, "-d", seconds, "-r", 200, "-p", "/s/512")
    report = json.loads(done.stdout)
    assert (report["non200"], report["err_inflight"], report["err_connect"]) == (0, 0, 0), report
    return report["p99"]


@pytest.mark.parametrize("noise", NOISE)
def test_a_noisy_neighbour(street, noise):
    """At most two repeats: the machine may be disturbed by others, the proxy may not."""
    tries = []
    for _ in range(3):
        alone = quiet(street)
        with Load(street.noisy, street.yard.ip, 8080, "-e", "-d", 30, *NOISE[noise]) as flood:
            subprocess.run(["taskset", "-a", "-p", "-c", str(LOAD_CORE), str(flood.process.pid)], check=True, capture_output=True)
            subprocess.run(["chrt", "-i", "-p", "0", str(flood.process.pid)], check=True, capture_output=True)
            beside = quiet(street)
        tries.append(f"{alone:.0f} → {beside:.0f} µs")
        if beside < 2 * alone:
            return
    pytest.fail(f"p99 of the quiet pod beside {noise}: {', '.join(tries)}")
