"""Port 15008 as another node's proxy, a foreign peer and a forger meet it: HTTP/2 by another library, on TLS by another."""

import socket
import ssl
import threading
import time

import pytest

from door import CART, WEB, Door, free_port_at
from host import LOOPBACK
from http1 import ok
from mesh import eventually
from mesh.authority import Authority, identity
from peer import HBONE, WEFT, context, secure

FORWARDED = "x-forwarded-client-cert"


@pytest.fixture(scope="module")
def door():
    """One door for all that do not wear it out."""
    with Door() as made:
        yield made


@pytest.fixture
def asked(door):
    """A client between two Weft nodes, and a backend in the pod."""
    with door.backend(answer=lambda request: ok(request.body or b"ok")) as backend, door.client() as client:
        yield client, backend


def refused(door, reason):
    """Streams that the door has turned away for this reason."""
    return door.metrics().value("weft_connect_refusals_total", reason=reason)


def handshakes(door, result):
    """Handshakes that ended so."""
    return door.metrics().value("weft_tls_handshakes_total", side="server", result=result)


# Requests between Weft nodes

@pytest.mark.parametrize("spoken", ["http1", "http2", "grpc"])
def test_a_request_reaches_the_port_it_names(asked, spoken):
    client, backend = asked
    reply = client.get("/a?b", ("x-weft-destination", f"{backend.port};{spoken}"), authority="cart.shop:80")
    assert (reply.status, reply.body) == (200, b"ok")
    seen = backend.requests[-1]
    assert (seen.target, seen["host"]) == ("/a?b", "cart.shop:80")
    assert not seen.all("x-weft-destination")
    assert backend.peers[-1] == "127.0.0.1", "the application sees who calls"


def test_the_application_is_told_who_calls_and_nothing_else(asked):
    """The field comes from the handshake, whatever the caller writes."""
    client, backend = asked
    forged = f"By=spiffe://x/ns/a/sa/b;URI={identity('kube-system', 'admin')}"
    client.get("/", ("x-weft-destination", f"{backend.port};http1"), (FORWARDED, forged), (FORWARDED, forged))
    assert backend.requests[-1].all(FORWARDED) == [f"By={CART};URI={WEB}"]


@pytest.mark.parametrize("fields, reason", [
    ([], "missing_destination"),
    ([("x-weft-destination", "")], "malformed_destination"),
    ([("x-weft-destination", "80")], "malformed_destination"),
    ([("x-weft-destination", "080;http1")], "malformed_destination"),
    ([("x-weft-destination", "80;http9")], "malformed_destination"),
    ([("x-weft-destination", "65536;http1")], "malformed_destination"),
    ([("x-weft-destination", "80;http1"), ("x-weft-destination", "81;http1")], "malformed_destination"),
])
def test_a_request_that_does_not_say_where_to_is_refused(door, fields, reason):
    before = refused(door, reason)
    with door.client() as client:
        reply = client.get("/", *fields)
        assert (reply.status, reply["x-weft-reason"]) == (400, reason.replace("_", "-"))
        client.ping(1)
        client.until(lambda: client.pongs, "the session goes on")
    assert refused(door, reason) == before + 1


@pytest.mark.parametrize("port", [15001, 15006, 15008])
def test_wefts_own_ports_are_nobodys_destination(door, port):
    before = refused(door, "own_port")
    with door.client() as client:
        assert client.get("/", ("x-weft-destination", f"{port};http1")).status == 403
        assert client.connect(f"{door.pod.address}:{port}").status == 403
    assert refused(door, "own_port") == before + 2


@pytest.mark.parametrize("protocol", [WEFT, HBONE])
@pytest.mark.parametrize("authority, status, reason", [
    ("10.1.2.3:80", 403, "foreign_destination"), ("[fd00::1]:80", 403, "foreign_destination"), ("127.0.0.1:80", 403, "foreign_destination"),
    ("cart.shop:80", 403, "named_destination"), ("localhost:80", 403, "named_destination"), ("0x7f.1:80", 403, "named_destination"),
])
def test_the_door_is_no_relay(door, protocol, authority, status, reason):
    before = refused(door, reason)
    with door.client(door.settings(protocols=(protocol,))) as client:
        assert client.connect(authority).status == status
    assert refused(door, reason) == before + 1


@pytest.mark.parametrize("destination, status, reason", [
    ("bridge", 403, "own_port"), ("tunnel", 400, "malformed_destination"),
])
def test_http_in_a_tunnel_between_weft_nodes_is_no_way_round(door, destination, status, reason):
    """What a Weft proxy says of a CONNECT opens nothing that the CONNECT itself would not."""
    before = refused(door, reason)
    with door.client() as client:
        assert client.connect(f"{door.pod.address}:15006", ("x-weft-destination", f"80;{destination}")).status == status
    assert refused(door, reason) == before + 1


def test_a_foreign_peer_may_only_connect(door):
    before = refused(door, "not_connect")
    with door.client(door.settings(protocols=(HBONE,))) as client:
        assert client.get("/", ("x-weft-destination", "80;http1")).status == 405
    assert refused(door, "not_connect") == before + 1


def test_twenty_megabytes_each_way(door):
    body = bytes(range(256)) * (20 << 12)

    def echo(connection):
        with connection.makefile("rb") as stream:
            while (line := stream.readline()) not in (b"\r\n", b""):
                assert b"chunked" not in line.lower()
            came = stream.read(len(body))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(came))
        connection.sendall(came)
    with door.backend(conversation=echo) as backend, door.client(timeout=30) as client:
        reply = client.get(
            "/", ("x-weft-destination", f"{backend.port};http1"), ("content-length", str(len(body))), method="POST", content=body)
        assert reply.status == 200 and reply.body == body


def test_requests_share_their_session(asked):
    client, backend = asked
    streams = [client.ask(f"/{n}", ("x-weft-destination", f"{backend.port};http1")) for n in range(100)]
    assert [client.reply(stream).status for stream in streams] == [200] * 100


# Opaque connections

def talk(connection, last=b""):
    """The conversation of an echo: half-closes as it is half-closed."""
    while data := connection.recv(1 << 16):
        connection.sendall(data)
    connection.sendall(last)
    connection.shutdown(socket.SHUT_WR)


@pytest.fixture
def echo(door):
    """A TCP echo in the pod."""
    with door.backend(conversation=lambda connection: talk(connection, b" and goodbye")) as backend:
        yield backend


def test_an_opaque_connection_ends_one_side_at_a_time(door, echo):
    with door.client() as client:
        stream = client.connect(f"{door.pod.address}:{echo.port}")
        assert stream.status == 200
        client.send(stream.number, b"hello")
        client.until(lambda: b"".join(stream.pieces) == b"hello", "the echo")
        client.send(stream.number, b"", end=True)
        client.until(lambda: stream.over, "the end")
        assert (stream.body, stream.reset) == (b"hello and goodbye", None)


def test_what_the_server_says_first_comes_unasked(door):
    with door.backend(conversation=lambda connection: (connection.sendall(b"220 ready\r\n"), connection.recv(1))) as backend, door.client() as client:
        stream = client.connect(f"{door.pod.address}:{backend.port}")
        client.until(lambda: b"".join(stream.pieces) == b"220 ready\r\n", "the greeting")


def test_a_server_that_closes_first_has_its_bytes_delivered(door):
    body = b"y" * (20 << 20)

    def hasty(connection):
        connection.recv(16)
        connection.sendall(body)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    with door.backend(conversation=hasty) as backend, door.client() as client:
        for _ in range(3):
            stream = client.connect(f"{door.pod.address}:{backend.port}")
            client.send(stream.number, b"go")
            client.until(lambda: stream.over, "the end")
            assert (len(stream.body), stream.reset) == (len(body), None)
            client.send(stream.number, b"", end=True)


def test_nobody_listens(door):
    with door.client() as client:
        stream = client.connect(f"{door.pod.address}:{free_port_at(door.pod)}")
        assert (stream.status, stream["x-weft-reason"]) == (503, "upstream-connect-failed")


def test_a_reset_of_the_application_is_a_reset_of_the_stream(door):
    def rude(connection):
        connection.recv(16)
        connection.sendall(b"so far")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    with door.backend(conversation=rude) as backend, door.client() as client:
        stream = client.connect(f"{door.pod.address}:{backend.port}")
        client.send(stream.number, b"go")
        client.until(lambda: stream.over, "the end")
        assert stream.reset is not None and stream.reset.name == "CONNECT_ERROR"


@pytest.mark.parametrize("code, flagged", [(0, False), (8, True)])
def test_what_came_before_a_reset_is_delivered(door, code, flagged):
    heard, ended = [], threading.Event()

    def listen(connection):
        try:
            while data := connection.recv(1 << 16):
                heard.append(data)
            heard.append("end")
        except ConnectionResetError:
            heard.append("reset")
        ended.set()
    with door.backend(conversation=listen) as backend, door.client() as client:
        stream = client.connect(f"{door.pod.address}:{backend.port}")
        for _ in range(16):
            client.send(stream.number, b"z" * 10_000)
        client.reset(stream.number, code)
        assert ended.wait(10)
        assert b"".join(heard[:-1]) == b"z" * 160_000
        assert heard[-1] == ("reset" if flagged else "end")


# Foreign peers: CONNECT, and what is inside is looked at like anything that arrives

def inside(door, client, port):
    """A stream to the port, as a file would be."""
    stream = client.connect(f"{door.pod.address}:{port}")
    assert stream.status == 200
    return stream


def test_http_in_a_tunnel_is_http(door):
    with door.backend(answer=lambda request: ok(request.body or b"ok")) as backend, door.client(door.settings(protocols=(HBONE,))) as client:
        stream = inside(door, client, backend.port)
        client.send(stream.number, b"GET /x HTTP/1.1\r\nHost: cart\r\nX-Forwarded-Client-Cert: URI=forged\r\n\r\n")
        client.until(lambda: b"".join(stream.pieces).endswith(b"\r\n\r\nok"), "the reply")
        seen = backend.requests[-1]
        assert seen.target == "/x" and seen.all(FORWARDED) == [f"By={CART};URI={WEB}"]
        client.send(stream.number, b"GET /y HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n", end=True)
        client.until(lambda: stream.over, "the end")
        assert stream.reset is None and stream.body.count(b"HTTP/1.1 200") == 2
    assert door.metrics().value("istio_requests_total", reporter="destination", response_code="200") >= 2


def test_anything_in_a_tunnel_is_opaque(door, echo):
    with door.client(door.settings(protocols=(HBONE,))) as client:
        stream = inside(door, client, echo.port)
        client.send(stream.number, b"\x00\x01binary", end=True)
        client.until(lambda: stream.over, "the end")
        assert (stream.body, stream.reset) == (b"\x00\x01binary and goodbye", None)


def test_a_large_reply_in_a_tunnel_is_whole_though_its_server_closes(door):
    body = b"w" * (20 << 20)
    with door.backend(conversation=lambda connection: (connection.recv(1 << 16), connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + body), connection.close())) as backend:
        with door.client(door.settings(protocols=(HBONE,))) as client:
            for _ in range(5):
                stream = inside(door, client, backend.port)
                client.send(stream.number, b"GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n")
                client.until(lambda: stream.over, "the end")
                assert stream.reset is None, stream.reset
                assert stream.body.count(b"w") >= len(body)


# Who is let in

def rejected(door, settings):
    """How a client is turned away: TLS's word, or the end of the connection."""
    try:
        with secure(LOOPBACK, door.pod.address, settings) as client:
            return "closed" if not client.recv(9) else "welcome"
    except ssl.SSLError as error:
        return error.reason or str(error)
    except OSError as error:
        return type(error).__name__


def test_who_is_refused_and_why(door):
    issue, other = door.authority.issue, Authority("another")
    cases = {
        "no_certificate": context(door.authority, None, (WEFT,)),
        "unknown_ca": context(door.authority, other.issue(WEB), (WEFT,)),
        "wrong_trust_domain": door.settings(issue(identity("shop", "web", "elsewhere.test"))),
        "several_uri_names": door.settings(issue(WEB, CART)),
        "no_uri_name": door.settings(issue(dns=("web.shop",))),
        "not_spiffe": door.settings(issue("spiffe://cluster.local/web")),
        "no_protocol": door.settings(protocols=("http/1.1",)),
        "protocol_version": door.settings(version=ssl.TLSVersion.TLSv1_2),
    }
    for reason, settings in cases.items():
        before = handshakes(door, reason)
        assert rejected(door, settings) != "welcome", reason
        eventually(lambda: handshakes(door, reason) == before + 1, within=5, what=f"{reason} counted")


def test_what_is_no_tls_is_refused(door):
    before = handshakes(door, "not_tls")
    with LOOPBACK.connect(door.pod.address, 15008) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.settimeout(5)
        try:
            while client.recv(100):
                pass
        except ConnectionResetError:
            pass
    eventually(lambda: handshakes(door, "not_tls") == before + 1, within=5, what="the refusal counted")


def test_a_silent_client_has_its_time():
    with Door(limits={"handshakeMilliseconds": 300}) as door, LOOPBACK.connect(door.pod.address, 15008) as client:
        client.settimeout(5)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert handshakes(door, "timeout") == 1


def test_handshakes_that_stop_are_bounded_and_do_not_close_the_door_for_long():
    with Door(limits={"handshakesPerPodMax": 3, "handshakeMilliseconds": 1000}) as door:
        begun = [LOOPBACK.connect(door.pod.address, 15008) for _ in range(5)]
        try:
            for stopped in begun:
                stopped.sendall(b"\x16\x03\x01\x01")
            eventually(lambda: door.metrics().value("weft_connections_refused_total", reason="handshakes") == 2, within=5)
            eventually(lambda: handshakes(door, "timeout") == 3, within=5)
            with door.client() as client:
                client.hear_settings()
        finally:
            for stopped in begun:
                stopped.close()


def test_records_of_one_byte_arrive_and_hold_nobody_up(door):
    """A read of the socket then brings much that is no content: what one turn does with it is bounded, and the rest is not forgotten."""
    with door.backend() as backend, door.client() as client, door.client() as other:
        to = ("x-weft-destination", f"{backend.port};http1")
        stream = client.ask("/", to, ("content-length", "30000"), method="POST", end=False)
        client.until(lambda: client.h2.local_flow_control_window(stream.number) >= 30_000, "a window")
        client.h2.send_data(stream.number, b"b" * 15_000)
        client.h2.send_data(stream.number, b"b" * 15_000, end_stream=True)
        crumbs = client.h2.data_to_send()
        waits = []
        for place in range(len(crumbs)):
            client.socket.sendall(crumbs[place:place + 1])
            if place % 3000 == 0:
                since = time.monotonic()
                assert other.get("/", to).status == 200
                waits.append(time.monotonic() - since)
        assert client.reply(stream).status == 200
        assert any(request.body == b"b" * 30_000 for request in backend.requests)
        assert sorted(waits)[len(waits) // 2] < 0.5


def test_nothing_is_left_behind():
    """Whatever ended, and however: no stream, session, connection or byte stays on the books."""
    with Door(limits={"handshakeMilliseconds": 500, "lingerMilliseconds": 200}) as door, door.backend(conversation=lambda connection: talk(connection)) as backend:
        nowhere = f"{door.pod.address}:{free_port_at(door.pod)}"
        for protocol in (WEFT, HBONE):
            with door.client(door.settings(protocols=(protocol,))) as client:
                streams = [client.connect(f"{door.pod.address}:{backend.port}") for _ in range(4)]
                for stream in streams:
                    client.send(stream.number, b"v" * 10_000)
                client.reset(streams[0].number, 0)
                client.reset(streams[1].number, 8)
                client.send(streams[2].number, b"", end=True)
                client.until(lambda: streams[2].over, "an end in order")
                assert client.connect(nowhere).status in (200, 503)
                assert client.connect("10.1.2.3:80").status == 403
        with LOOPBACK.connect(door.pod.address, 15008) as stopped:
            stopped.sendall(b"\x16\x03\x01\x01")
            eventually(lambda: handshakes(door, "timeout") == 1, within=5)
        with LOOPBACK.connect(door.pod.address, 15008) as nonsense:
            nonsense.sendall(b"nonsense\r\n\r\n")
        gauges = ("weft_connections_open", "weft_http2_sessions_open", "weft_http2_streams_open", "weft_buffered_bytes")

        def left():
            page = door.metrics()
            return {name: value for name in gauges if (value := page.value(name))}
        eventually(lambda: not left(), within=10, what="the books to be empty")
        page = door.metrics()
        assert page.value("istio_tcp_connections_opened_total", reporter="destination") == page.value("istio_tcp_connections_closed_total", reporter="destination") > 0
