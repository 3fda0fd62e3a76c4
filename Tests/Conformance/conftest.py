"""Conformance: what HTTP/2 demands of a server, what a broken or hostile peer may do to one, said in frames made by hand.

`pytest Tests/Conformance` tries the shipped weft-proxy. `--peer HOST:PORT` tries any other HTTP/2 server with the suite
alone, judged as conformance suites do; so the suite itself can be tried.
"""

import os
import socket
from dataclasses import dataclass

import pytest

from host import LOOPBACK, NGHTTPServer, Proxy, free_port
from http1 import Backend, ok
from judge import Judge
from steering import CROSSINGS


@dataclass
class Peer:
    """Whom the cases talk to."""

    address: tuple
    authority: str
    exact: bool
    patience: float
    proxy: Proxy = None


def pytest_addoption(parser):
    parser.addoption("--peer", metavar="HOST:PORT", help="try this HTTP/2 server instead of weft-proxy")


def pytest_collection_modifyitems(items):
    if os.environ.get("WEFT_UNPRIVILEGED") == "1":
        for item in items:
            if item.get_closest_marker("exclusive"):
                item.add_marker(pytest.mark.skip(reason="WEFT_UNPRIVILEGED=1: real-time priority needs root"))


def pytest_generate_tests(metafunc):
    if "peer" in metafunc.fixturenames:
        outside = metafunc.config.getoption("--peer")
        metafunc.parametrize("peer", [outside] if outside else ["to HTTP/1.1", "to HTTP/2"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def peer(request):
    """weft-proxy before an HTTP/1.1 and before an HTTP/2 server; or who else was asked for."""
    if request.config.getoption("--peer"):
        host, _, port = request.param.rpartition(":")
        yield Peer((host, int(port)), request.param, exact=False, patience=2)
    elif request.param == "to HTTP/1.1":
        with Backend(LOOPBACK, free_port(), lambda asked: ok(b"x" * 1024)) as backend, Proxy([backend.port], "http") as proxy:
            yield Peer(proxy.address, proxy.authority, True, 10, proxy)
    else:
        with NGHTTPServer() as backend, Proxy([backend.port], "http2") as proxy:
            yield Peer(proxy.address, proxy.authority, True, 10, proxy)


@pytest.fixture
def client(peer):
    """A new connection; afterwards the proxy must still be there."""
    made = socket.create_connection(peer.address, 5)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with Judge(made, peer, peer.exact, peer.patience) as connected:
        yield connected
    if peer.proxy:
        peer.proxy.running()


@pytest.fixture(params=CROSSINGS, ids=lambda pair: f"{pair[0]}to{pair[1]}")
def crossing(request):
    """Which HTTP the client and the server speak."""
    return request.param
