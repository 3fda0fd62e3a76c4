"""What the proxy does when the process gets no more memory: it refuses what needs it, says so, and goes on with the rest."""

import resource
import subprocess
from pathlib import Path

import pytest

from frames import Connection
from host import LOOPBACK, Proxy, free_port
from http1 import Backend, Client

#: Less than the buffers of the first sessions are mapped in, more than anything else asks for at once.
LITTLE = 700_000


def limit_address_space(pid, octets):
    """As the process's own user: changing another's limits takes a capability that not every root has."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    user, group = status["Uid"].split()[0], status["Gid"].split()[0]
    subprocess.run(
        ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "prlimit", f"--pid={pid}", f"--as={octets}:unlimited"], check=True)


def test_without_address_space_sessions_are_refused():
    with Backend(LOOPBACK, free_port()) as backend, Proxy([backend.port], "http") as proxy, Client(LOOPBACK, *proxy.address) as other:
        assert other.get().status == 200
        used = int(Path(f"/proc/{proxy.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        limit_address_space(proxy.pid, used + LITTLE)
        with pytest.raises((AssertionError, ConnectionError)):
            Connection.to(proxy.address).handshake()
        assert proxy.metrics().value("weft_http2_sessions_refused_total", side="downstream") == 1
        assert other.get().status == 200, "who needs no more memory is served"
        limit_address_space(proxy.pid, "unlimited")
        Connection.to(proxy.address).handshake().close()
        assert proxy.metrics().value("weft_http2_sessions_refused_total", side="downstream") == 1
