"""Certificates that end, are replaced and are revoked while sessions go on that began with them."""

import datetime
import threading
import time

import pytest
from cryptography.hazmat.primitives import serialization

from departure import Departure, Foreign
from door import CART, WEB, Door
from host import LOOPBACK
from http1 import ok
from mesh import eventually
from mesh.authority import Authority, identity
from peer import HBONE, WEFT
from test_arrivals import handshakes, rejected, talk
from test_departures import Opaque, answer, client, everything


# At the door

@pytest.mark.parametrize("line", ["identity", "serial"])
def test_who_is_revoked_is_gone_within_a_second(line):
    with Door() as door, door.backend() as backend:
        mine = door.authority.issue(WEB)
        with door.client(door.settings(mine)) as client, door.client(door.settings(door.authority.issue(identity("shop", "till")))) as other:
            to = ("x-weft-destination", f"{backend.port};http1")
            assert client.get("/", to).status == other.get("/", to).status == 200
            door.revoke(f"identity {WEB}" if line == "identity" else f"serial {mine.serial}")
            since = time.monotonic()
            client.socket.settimeout(3)
            while client.pump() is not None:
                pass
            assert time.monotonic() - since < 1.2
            assert rejected(door, door.settings(mine)) != "welcome"
            eventually(lambda: handshakes(door, "revoked") == 1, within=5, what="the refusal counted")
            assert other.get("/", to).status == 200, "nobody else is touched"
            assert door.metrics().value("weft_tls_session_ends_total", reason="revoked") == 1


@pytest.mark.parametrize("protocol", [WEFT, HBONE])
def test_a_revoked_caller_is_refused_and_not_just_lost(protocol):
    """What it has under way, and what it asks before it knows, is answered 403; its tunnels are reset; then the session closes."""
    def hear(connection):
        while connection.recv(1 << 16):
            pass
    with Door() as door, door.backend(conversation=hear) as silent, door.client(door.settings(protocols=(protocol,))) as client:
        to = ("x-weft-destination", f"{silent.port};http1")
        tunnel = client.connect(f"{door.pod.address}:{silent.port}")
        assert tunnel.status == 200
        under_way = client.ask("/", to) if protocol == WEFT else None
        eventually(lambda: silent.connections >= (2 if protocol == WEFT else 1), within=5)
        door.revoke(f"identity {WEB}")
        eventually(lambda: door.metrics().value("weft_tls_session_ends_total", reason="revoked") == 1, within=5)
        late = client.ask(None, method="CONNECT", authority=f"{door.pod.address}:{silent.port}", end=False) if protocol == HBONE else client.ask("/", to)
        client.until(lambda: tunnel.over, "the end of the tunnel")
        assert tunnel.reset is not None
        for stream in filter(None, (under_way, late)):
            client.until(lambda: stream.began, "an answer")
            assert (stream.status, stream["x-weft-reason"]) == (403, "access-denied")
        while client.pump() is not None:
            pass
        page = door.metrics()
        assert page.value("weft_access_ended_total") == (2 if protocol == WEFT else 1)
        assert page.value("weft_access_refused_total", reason="caller_revoked") >= 1
        eventually(lambda: "access ended reason=access-denied caller=shop/web" in door.tail(), within=5, what="a line in the log")


def test_a_new_certificate_drains_the_sessions_of_the_old_one():
    """GOAWAY in two steps: what is under way ends well, and whoever comes again is shown the new one."""
    with Door() as door:
        wait = threading.Event()

        def answer(request):
            if request.target == "/slow":
                wait.wait(10)
            return ok()
        with door.backend(answer=answer) as backend, door.client() as client:
            to = ("x-weft-destination", f"{backend.port};http1")
            slow = client.ask("/slow", to)
            eventually(lambda: backend.requests, within=5)
            fresh = door.authority.issue(CART)
            door.issue(fresh)
            door.reread()
            client.until(lambda: client.goaway is not None, "GOAWAY")
            assert client.goaway == 0
            wait.set()
            assert client.reply(slow).status == 200
            while client.pump() is not None:
                pass
            with door.client() as again:
                assert again.get("/", to).status == 200
                shown = again.socket.getpeercert(binary_form=True)
                assert shown == fresh.leaf.public_bytes(serialization.Encoding.DER)
        assert door.metrics().value("weft_tls_session_ends_total", reason="replaced") == 1


def test_a_pod_without_a_certificate_takes_nobody():
    with Door(certificate=Authority("another").issue(CART), waits=False) as door:
        eventually(lambda: "is refused" in door.tail(), within=10)
        with LOOPBACK.connect(door.pod.address, 15008) as client:
            client.sendall(b"\x16\x03\x01")
            client.settimeout(5)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert door.metrics().value("weft_connections_refused_total", reason="no_identity") == 1


def test_a_session_ends_with_its_clients_certificate():
    """Its client is told to go elsewhere in time, and needs a certificate that holds to come again."""
    with Door() as door, door.backend() as backend:
        brief = door.authority.issue(WEB, ends=datetime.timedelta(seconds=4))
        with door.client(door.settings(brief)) as client:
            assert client.get("/", ("x-weft-destination", f"{backend.port};http1")).status == 200
            client.until(lambda: client.goaway is not None, "GOAWAY")
            assert client.goaway == 0
        assert door.metrics().value("weft_tls_session_ends_total", reason="expired") == 1


def test_what_lives_longer_than_its_certificate_ends_five_minutes_after_it():
    """A tunnel cannot move to another session. It stays for as long as clocks may differ, and no longer."""
    with Door() as door, door.backend(conversation=lambda connection: talk(connection)) as backend:
        brief = door.authority.issue(WEB, ends=datetime.timedelta(seconds=-295))
        with door.client(door.settings(brief)) as client:
            stream = client.connect(f"{door.pod.address}:{backend.port}")
            client.send(stream.number, b"still")
            client.until(lambda: b"".join(stream.pieces) == b"still", "its own words")
            while client.pump() is not None:
                pass
        assert door.metrics().value("weft_tls_session_ends_total", reason="expired") == 1


# On the way there

@pytest.mark.parametrize("line", ["identity", "serial"])
def test_a_caller_that_is_revoked_hears_so(line):
    """At every moment a request is answered by its server or refused with 403: what is under way, what comes while the session ends, and what would
    need another handshake."""
    authority = Authority()
    mine = authority.issue(WEB)
    with Door(authority) as other, other.backend(answer=answer) as backend, \
            Departure(authority, other.pod.address, backend.port, ("http", "tcp"), certificate=mine) as departure:
        told, enough = [], threading.Event()

        def call(method):
            with client(departure) as caller:
                while not enough.is_set():
                    caller.send(f"{method} / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 1\r\n\r\nx")
                    reply = caller.reply()
                    told.append((reply.status, reply["x-weft-reason"]))
        callers = [threading.Thread(target=call, args=(method,)) for method in ("GET", "POST", "GET", "POST")]
        for caller in callers:
            caller.start()
        eventually(lambda: len(told) > 100, within=10)
        other.revoke(f"identity {WEB}" if line == "identity" else f"serial {mine.serial}")
        eventually(lambda: departure.metrics().value("weft_upstream_failures_total", reason="caller_revoked") > 20, within=10)
        enough.set()
        for caller in callers:
            caller.join()
        assert set(told) == {(200, None), (403, "access-denied")}
        with departure.dial() as opaque:
            opaque.sendall(b"\7")
            assert everything(opaque) == (b"", "reset")


def test_a_certificate_that_is_replaced_ends_no_request():
    with Door() as other, other.backend(answer=answer) as backend, Departure(other.authority, other.pod.address, backend.port) as departure:
        statuses, done = [], threading.Event()

        def call():
            with client(departure) as caller:
                while not done.is_set():
                    statuses.append(caller.get("/bytes/20000").status)
        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        eventually(lambda: statuses, within=10, what="the first reply")
        for _ in range(5):
            before = departure.handshakes()
            departure.issue()
            other.issue()
            departure.reread()
            other.reread()
            eventually(lambda: departure.handshakes() > before, within=10, what="a session with the new certificate")
        done.set()
        for caller in callers:
            caller.join()
        assert set(statuses) == {200}
        # For its own certificate's sake, or because the other side has said so for its own: whichever comes first.
        after = departure.metrics()
        assert sum(after.value("weft_http2_retirements_total", reason=reason) for reason in ("credentials", "goaway")) >= 5


def test_an_opaque_connection_ends_with_the_certificates_it_began_with():
    """Five minutes after the other end's has ended, though that one would go on."""
    def converse(made):
        made.sendall(made.recv(1))
        return everything(made)
    ends = datetime.timedelta(seconds=-293)
    authority = Authority()
    with Foreign(authority, authority.issue(CART, ends=ends)) as other, Opaque(other, converse) as server, \
            Departure(authority, other.pod.address, server.port, ("tcp",), limits={"pingMilliseconds": 500}) as departure, departure.dial() as made:
        made.sendall(b"\x08")
        assert everything(made) == (b"\x08", "reset")
        assert departure.metrics().value("weft_http2_retirements_total", reason="credentials") == 1


def test_the_next_session_continues_the_last():
    with Door() as other, other.backend() as backend, \
            Departure(other.authority, other.pod.address, backend.port, limits={"sessionRestMilliseconds": 300, "pingMilliseconds": 200}) as departure:
        for sessions in range(1, 4):
            with client(departure) as caller:
                assert caller.get().status == 200
            eventually(lambda: departure.metrics().value("weft_http2_sessions_open", side="upstream") == 0, within=10, what="the session to end")
            assert departure.handshakes() == sessions
        assert departure.metrics().value("weft_tls_resumed_total", side="client") == 2
