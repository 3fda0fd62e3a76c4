"""What the proxy does when the process gets no more memory: it refuses what needs it, says so, and goes on with the rest."""

import resource
from pathlib import Path

import pytest

from frames import Connection
from host import LOOPBACK, Proxy, free_port
from http1 import Backend, Client

#: Less than the buffers of the first sessions are mapped in, more than anything else asks for at once.
LITTLE = 700_000


def test_without_address_space_sessions_are_refused():
    with Backend(LOOPBACK, free_port()) as backend, Proxy([backend.port], "http") as proxy, Client(LOOPBACK, *proxy.address) as other:
        assert other.get().status == 200
        used = int(Path(f"/proc/{proxy.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        before = resource.prlimit(proxy.pid, resource.RLIMIT_AS, (used + LITTLE, resource.RLIM_INFINITY))
        with pytest.raises((AssertionError, ConnectionError)):
            Connection.to(proxy.address).handshake()
        assert proxy.metrics().value("weft_http2_sessions_refused_total", side="downstream") == 1
        assert other.get().status == 200, "who needs no more memory is served"
        resource.prlimit(proxy.pid, resource.RLIMIT_AS, before)
        Connection.to(proxy.address).handshake().close()
        assert proxy.metrics().value("weft_http2_sessions_refused_total", side="downstream") == 1
