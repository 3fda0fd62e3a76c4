"""Many opaque connections at rest: they hold no pipe and no buffer, and are alive."""

import resource
import socket
import threading

import pytest

from host import LOOPBACK, Proxy, free_port
from mesh import eventually

CONNECTIONS = 8000


@pytest.fixture
def descriptors():
    """Both ends of every connection are this process's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * CONNECTIONS + 500:
        pytest.fail(f"needs {2 * CONNECTIONS + 500} descriptors, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.exclusive
@pytest.mark.parametrize("protocol", ["tcp", "undeclared"])
def test_8000_at_rest(descriptors, protocol):
    servers, clients = [], []

    def accept(listener):
        while True:
            try:
                servers.append(listener.accept()[0])
            except OSError:
                return

    # Two pods: three quarters of the descriptors are the most that one may have.
    with LOOPBACK.listen(free_port()) as listener, Proxy([listener.getsockname()[1]], protocol, listeners=2) as proxy:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        before = proxy.resident()
        try:
            for number in range(CONNECTIONS):
                client = socket.create_connection(proxy.listeners[number % 2], 10)
                client.sendall(b"\0 said")
                clients.append(client)
            eventually(lambda: len(servers) == CONNECTIONS, within=60, what="every connection to arrive")
            for server in servers:
                assert server.recv(100) == b"\0 said"
                server.sendall(b"heard")
            for client in clients:
                assert client.recv(100) == b"heard"

            def at_rest():
                metrics = proxy.metrics()
                return metrics.sum("weft_connections_open") == CONNECTIONS and \
                    (metrics.sum("weft_pipes_in_use"), metrics.sum("weft_pipes"), metrics.sum("weft_buffered_bytes")) == (0, 0, 0)
            eventually(at_rest, within=5, what="nothing to be held")
            assert (proxy.resident() - before) / CONNECTIONS < 3000
            for server in servers[::100]:
                server.sendall(b"still there")
            eventually(lambda: sum(_said(client) for client in clients) == len(servers[::100]), within=10, what="them to be alive")
        finally:
            for end in clients + servers:
                end.close()


def _said(client):
    client.setblocking(False)
    try:
        return client.recv(100, socket.MSG_PEEK) == b"still there"
    except BlockingIOError:
        return False
