"""Journeys: what a pod's traffic goes through, told like the incidents they prevent.

Every scenario has peers, the mesh, one action, and what each side saw. The world is real: namespaces, cgroups, BPF,
the shipped programs. `mesh/` is the harness (also behind `make demo`); nothing here reaches into the product.
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mesh import Missing, requirements, sweep  # noqa: E402
from shop import Shop  # noqa: E402

WORLDS = []


def pytest_configure(config):
    if config.option.collectonly or os.environ.get("WEFT_UNPRIVILEGED") == "1":
        return
    try:
        requirements()
    except Missing as missing:
        pytest.exit(f"the journeys cannot run: {missing}", returncode=69)
    sweep()


def pytest_collection_modifyitems(items):
    if os.environ.get("WEFT_UNPRIVILEGED") == "1":
        for item in items:
            item.add_marker(pytest.mark.skip(reason="WEFT_UNPRIVILEGED=1: journeys need root, BPF and cgroup v2"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure carries the end of every log of its world."""
    report = (yield).get_result()
    if report.failed:
        for world in WORLDS:
            for node in world.nodes:
                if node.weft is not None:
                    report.sections.append((f"log of weft on {node.name}", node.weft.tail()))


def _open(**options):
    world = Shop(**options)
    WORLDS.append(world)
    return world


def _close(world):
    WORLDS.remove(world)
    world.close()


@pytest.fixture(scope="module")
def shop():
    """A running shop shared by the scenarios of one file: they must leave it as they found it."""
    world = _open()
    try:
        yield world.start()
    finally:
        _close(world)


@pytest.fixture(scope="module")
def abroad():
    """The shop with a third node that another mesh looks after: pod `depot` is meshed, but not by Weft."""
    world = _open(nodes=3, abroad=True)
    try:
        yield world.start()
    finally:
        _close(world)


@pytest.fixture(scope="module")
def impatient():
    """A shop whose proxies wait less and carry less, so that limits are met within seconds."""
    world = _open()
    try:
        yield world.start(limits={"headMilliseconds": 1200, "replyMilliseconds": 1500, "bodyBytesMax": 1_000_000})
    finally:
        _close(world)


@pytest.fixture
def fresh():
    """Makes shops of one's own, for scenarios that break things: `fresh()` or `fresh(start=False, failure="closed")`."""
    opened = []

    def make(start=True, workers=1, limits=None, controller=None, **options):
        world = _open(**options)
        opened.append(world)
        return world.start(workers=workers, limits=limits, controller=controller) if start else world

    try:
        yield make
    finally:
        for world in opened:
            _close(world)
