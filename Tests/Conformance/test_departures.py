"""What leaves for a pod of another node: by mutual TLS, to a proxy of Weft's own and to one that knows CONNECT only. Whoever calls sees what it
would without either."""

import array
import fcntl
import hashlib
import os
import re
import signal
import socket
import struct
import termios
import threading

import pytest

from departure import Departure, Foreign
from door import CART, WEB, At, Door, free_port_at
from host import LOOPBACK, serve_each
from http1 import Backend, Client, Request, Wire, ok
from http2 import Client2
from mesh import eventually
from mesh.authority import DAY, Authority, identity

EXPIRED = DAY / 24
FORWARDED = "x-forwarded-client-cert"
MEGABYTES = 20_000_000


@pytest.fixture(scope="module", params=["weft", "hbone"])
def other(request):
    """The other node's end."""
    with (Door if request.param == "weft" else Foreign)() as made:
        made.name = request.param
        yield made


@pytest.fixture
def called(other):
    """A backend in the pod, and a proxy whose pods call it by HTTP and otherwise."""
    with other.backend(answer=answer) as backend, \
            Departure(other.authority, other.pod.address, backend.port, ("http", "tcp", "undeclared")) as departure:
        yield backend, departure


def answer(request):
    """What it was asked for: a number of bytes, or what it was told."""
    if request.target.startswith("/bytes/"):
        return ok(b"x" * int(request.target[7:]))
    return ok(hashlib.sha256(request.body).hexdigest().encode() if len(request.body) > 1000 else request.body or b"ok", "x-said: " + request.target)


def client(departure, kind="http/1.1"):
    """A client of the pod that speaks HTTP."""
    return (Client if kind == "http/1.1" else Client2)(LOOPBACK, "127.0.0.1", departure.ports["http"])


def unsent(made):
    """Bytes that the other side has not acknowledged."""
    count = array.array("i", [0])
    fcntl.ioctl(made.fileno(), termios.TIOCOUTQ, count)
    return count[0]


def reset(made):
    """Closes with a reset."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made.close()


# HTTP

@pytest.mark.parametrize("kind", ["http/1.1", "http/2"])
def test_requests_of_either_http_arrive(called, other, kind):
    backend, departure = called
    with client(departure, kind) as caller:
        for path in ("/a?b", "/c"):
            reply = caller.get(path, ("x-weft-destination", "22;http1") if kind == "http/2" else "x-weft-destination: 22;http1")
            assert (reply.status, reply.body, reply["x-said"]) == (200, b"ok", path)
    seen = backend.requests[-1]
    assert seen["host"] == "shop.test" and not seen.all("x-weft-destination")
    if other.name == "weft":
        assert seen[FORWARDED] == f"By={CART};URI={WEB}"
    assert departure.handshakes() == 1


@pytest.mark.parametrize("kind", ["http/1.1", "http/2"])
def test_every_request_has_identifiers_of_its_own(called, kind):
    """Between Weft proxies nobody sends what both can make; the application sees no difference."""
    backend, departure = called
    with client(departure, kind) as caller:
        replies = [caller.get(f"/{number}").status for number in range(20)]
    assert replies == [200] * 20
    made = [(seen["x-request-id"], seen["traceparent"]) for seen in backend.requests[-20:]]
    assert len(set(made)) == 20 == len({trace for _, trace in made})
    for name, trace in made:
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", name)
        assert re.fullmatch(rf"00-{name.replace('-', '')}-[0-9a-f]{{16}}-00", trace) and not trace.endswith(f"-{0:016}-00")


def test_identifiers_that_the_caller_has_pass(called):
    backend, departure = called
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with client(departure) as caller:
        caller.get("/both", "x-request-id: mine", f"traceparent: {trace}")
        caller.get("/one", "x-request-id: mine")
    both, one = backend.requests[-2:]
    assert (both["x-request-id"], both["traceparent"]) == ("mine", trace)
    assert one["x-request-id"] == "mine" and re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", one["traceparent"])


def test_a_burst_shares_one_handshake(called):
    backend, departure = called
    replies = []

    def call(number):
        with client(departure) as caller:
            replies.append(caller.get(f"/{number}").status)
    callers = [threading.Thread(target=call, args=(number,)) for number in range(40)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert replies == [200] * 40
    assert departure.handshakes() == 1


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_twenty_megabytes_each_way(called, framing):
    backend, departure = called
    body = os.urandom(1 << 16) * (MEGABYTES >> 16)
    with client(departure) as caller:
        caller.socket.settimeout(60)
        if framing == "length":
            caller.socket.sendall(b"POST /p HTTP/1.1\r\nhost: shop.test\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        else:
            caller.socket.sendall(b"POST /p HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n")
            for start in range(0, len(body), 1 << 18):
                piece = body[start:start + (1 << 18)]
                caller.socket.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
            caller.socket.sendall(b"0\r\n\r\n")
        assert caller.reply().body.decode() == hashlib.sha256(body).hexdigest()
        assert len(caller.get(f"/bytes/{MEGABYTES}").body) == MEGABYTES


def test_an_upgrade_is_a_tunnel(other):
    """To anything: WebSocket is HTTP/2's own affair, what HTTP/2 does not know takes a connection."""
    def converse(made):
        asked = Request.read(Wire(made))
        made.sendall(f"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {asked['upgrade']}\r\n\r\n".encode())
        while piece := made.recv(1 << 16):
            made.sendall(piece.upper())
    with other.backend(conversation=converse) as backend, Departure(other.authority, other.pod.address, backend.port) as departure:
        with client(departure) as caller:
            caller.send("GET /up HTTP/1.1\r\nhost: shop.test\r\nconnection: upgrade\r\nupgrade: shouting\r\n\r\n")
            assert caller.reply(interim=True).status == 101
            for said in (b"hear", b"me"):
                caller.socket.sendall(said)
                assert caller.wire.exactly(len(said)) == said.upper()
        if other.name == "weft":
            eventually(
                lambda: other.metrics().value("istio_requests_total", reporter="destination", response_code="101", request_protocol="http") == 1,
                within=5, what="a request in the other proxy's books")


def test_nobody_listens(other):
    with Departure(other.authority, other.pod.address, free_port_at(other.pod), ("http", "tcp")) as departure:
        with client(departure) as caller:
            reply = caller.get()
        assert (reply.status, reply["x-weft-reason"]) == (503, "upstream-connect-failed")
        with departure.dial() as opaque:
            opaque.sendall(b"anybody?")
            with pytest.raises(ConnectionResetError):
                opaque.recv(1)


@pytest.mark.parametrize("kind", ["http/1.1", "http/2"])
@pytest.mark.parametrize("framing", ["length", "close"])
def test_a_reply_that_breaks_off_arrives_as_far_as_it_came(other, kind, framing):
    """Head and half of it, and then an end that cannot be taken for the whole one's. Nothing lies between the server's half and its reset."""
    half = b"half of it" * 10_000

    def converse(made):
        Request.read(Wire(made))
        made.sendall(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % (b"content-length: 200000" if framing == "length" else b"connection: close") + half)
        eventually(lambda: unsent(made) == 0, within=5, what="the half to leave")
        reset(made)
    with other.backend(conversation=converse) as backend, Departure(other.authority, other.pod.address, backend.port) as departure:
        for _ in range(20):
            with client(departure, kind) as caller:
                if kind == "http/1.1":
                    caller.send("GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n")
                    heard, ending = everything(caller.socket)
                    assert heard.startswith(b"HTTP/1.1 200") and heard.replace(b"\r\n", b"").count(b"half of it") >= 9_990
                else:
                    stream = caller.ask("/")
                    caller.until(lambda: stream.over, "its end")
                    assert (stream.status, stream.body) == (200, half)
                    ending = "reset" if stream.reset is not None else "end"
                assert ending == "reset"


# Opaque

class Opaque:
    """A server of raw bytes in the other pod; `conversation(socket)` is each connection's."""

    def __init__(self, other, conversation):
        self.pod, self.port, self.results = other.pod, free_port_at(other.pod), []
        self.conversation = conversation
        self.listener = self.pod.listen(self.port)
        serve_each(self.listener, self._serve)

    def _serve(self, made):
        self.results.append(self.conversation(made))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def everything(made):
    """What it says until its end, and how that comes."""
    heard = b""
    try:
        while piece := made.recv(1 << 16):
            heard += piece
    except ConnectionResetError:
        return heard, "reset"
    return heard, "end"


@pytest.fixture(params=["tcp", "undeclared"])
def opaque(other, request):
    """Begins a conversation: the server, and a connection of the pod to it."""
    stack = []

    def begin(conversation):
        server = Opaque(other, conversation)
        stack.append(server)
        departure = Departure(other.authority, other.pod.address, server.port, (request.param,))
        stack.append(departure)
        made = departure.dial(request.param)
        stack.append(made)
        return server, made, departure
    yield begin
    for each in reversed(stack):
        each.__exit__(None, None, None)


def test_the_client_ends_first(opaque):
    def converse(made):
        heard = everything(made)
        made.sendall(b"%d" % len(heard[0]))
        made.close()
        return heard[1]
    server, made, _ = opaque(converse)
    made.sendall(b"\0" + b"w" * 300_000)
    made.shutdown(socket.SHUT_WR)
    assert everything(made) == (b"300001", "end")
    eventually(lambda: server.results == ["end"], within=5, what="the end at the server")


def test_the_server_ends_first(opaque):
    def converse(made):
        made.sendall(b"\1bye")
        made.shutdown(socket.SHUT_WR)
        heard = everything(made)
        made.close()
        return heard
    server, made, _ = opaque(converse)
    assert everything(made) == (b"\1bye", "end")
    made.sendall(b"after" * 1_000)
    made.shutdown(socket.SHUT_WR)
    eventually(lambda: server.results == [(b"after" * 1_000, "end")], within=5, what="all that was said after the server's end")


def test_the_server_speaks_first(opaque):
    def converse(made):
        made.sendall(b"220 welcome\r\n")
        made.sendall(b"heard " + made.recv(100))
        made.close()
    _, made, _ = opaque(converse)
    assert made.recv(100) == b"220 welcome\r\n"
    made.sendall(b"EHLO\r\n")
    assert everything(made) == (b"heard EHLO\r\n", "end")


def test_bulk_crosses_both_ways_at_once(opaque):
    block = os.urandom(100_000)

    def converse(made):
        heard = []
        reader = threading.Thread(target=lambda: heard.append(everything(made)))
        reader.start()
        for _ in range(200):
            made.sendall(block)
        made.shutdown(socket.SHUT_WR)
        reader.join()
        made.close()
        return heard[0] == (block * 200, "end")
    server, made, _ = opaque(converse)
    made.settimeout(60)
    heard = []
    reader = threading.Thread(target=lambda: heard.append(everything(made)))
    made.sendall(block)     # it is the client that speaks first
    reader.start()
    for _ in range(199):
        made.sendall(block)
    made.shutdown(socket.SHUT_WR)
    reader.join(60)
    assert heard == [(block * 200, "end")]
    eventually(lambda: server.results == [True], within=10, what="the other way")


def test_a_reset_of_the_client_reaches_its_server(opaque):
    def converse(made):
        first = made.recv(1)
        begun.set()
        said, ending = everything(made)
        return first + said, ending
    begun = threading.Event()
    server, made, _ = opaque(converse)
    made.sendall(b"\2said")
    assert begun.wait(5), "who is reset before it was connected has called nobody"
    reset(made)
    eventually(lambda: server.results == [(b"\2said", "reset")], within=5, what="the reset")


def test_a_reset_of_the_server_comes_behind_its_last_words(opaque):
    def converse(made):
        made.recv(10)
        made.sendall(b"x" * 100_000)
        eventually(lambda: unsent(made) == 0, within=5, what="it to leave")
        reset(made)
    _, made, _ = opaque(converse)
    made.sendall(b"\3")
    assert everything(made) == (b"x" * 100_000, "reset")


def test_who_does_not_read_is_not_sent_to(opaque):
    """What is on the way is bounded by windows, not by the patience of a server that would send for ever."""
    sent = []

    def converse(made):
        made.recv(1)
        made.settimeout(1)
        try:
            while True:
                sent.append(made.send(b"z" * 65_536))
        except TimeoutError:
            return sum(sent)
    server, made, _ = opaque(converse)
    made.sendall(b"\4")
    eventually(lambda: server.results, within=20, what="the server to be held up")
    assert server.results[0] < 16 << 20


def test_a_burst_of_more_than_a_session_carries():
    """All of them wait for the first handshake, and none comes again to ask for another session."""
    def converse(made):
        made.sendall(made.recv(1))
        return everything(made)
    with Door() as other, Opaque(other, converse) as server, Departure(other.authority, other.pod.address, server.port, ("tcp",)) as departure:
        os.kill(other.pid, signal.SIGSTOP)
        try:
            callers = [departure.dial() for _ in range(600)]
            for caller in callers:
                caller.sendall(b"\6")
            eventually(lambda: departure.metrics().sum("weft_workload_pending_requests") == 600, within=5, what="all of them to wait")
        finally:
            os.kill(other.pid, signal.SIGCONT)
        for caller in callers:
            caller.settimeout(20)
            assert caller.recv(1) == b"\6"
        assert departure.handshakes() == 3
        for caller in callers:
            caller.close()


# Who is at the other end

def refusal(departure):
    """What a request is told."""
    with client(departure) as caller:
        reply = caller.get()
    return reply.status, reply["x-weft-reason"]


@pytest.mark.parametrize("case", ["another identity", "another authority", "expired", "no name"])
def test_an_other_end_that_is_not_believed_gets_nothing(case):
    authority = Authority()
    certificate, result = {
        "another identity": (lambda: authority.issue(identity("shop", "till")), "wrong_identity"),
        "another authority": (lambda: Authority("other").issue(CART), "unknown_ca"),
        "expired": (lambda: authority.issue(CART, starts=-EXPIRED * 2, ends=-EXPIRED), "expired"),
        "no name": (lambda: authority.issue(dns=["cart.shop"]), "no_uri_name"),
    }[case]
    with Foreign(authority, certificate()) as other, other.backend() as backend, \
            Departure(authority, other.pod.address, backend.port) as departure:
        assert refusal(departure) == (503, "upstream-not-secured")
        assert departure.handshakes(result) >= 1
        assert not other.asked and not backend.requests


def test_a_tunnel_that_is_refused_is_a_request_refused():
    with Foreign(status=403) as other, Departure(other.authority, other.pod.address, 80) as departure:
        assert refusal(departure) == (403, "upstream-tunnel-refused")


def test_a_peer_that_is_revoked_loses_what_it_has():
    with Door() as other, other.backend(answer=answer) as backend, \
            Departure(other.authority, other.pod.address, backend.port, ("http", "tcp")) as departure, client(departure) as caller:
        assert caller.get().status == 200
        with Opaque(other, everything) as server, Departure(other.authority, other.pod.address, server.port, ("tcp",)) as second:
            made = second.dial()
            made.sendall(b"\5")
            eventually(lambda: second.handshakes() == 1, within=5, what="a session")
            second.revoke(f"identity {CART}")
            made.settimeout(1)
            assert everything(made)[1] == "reset"
        departure.revoke(f"identity {CART}")
        eventually(lambda: refusal(departure) == (503, "upstream-not-secured"), within=5, what="new requests to be refused")


def test_a_pod_without_a_certificate_calls_nobody():
    """Not in the open either."""
    with Door() as other, other.backend() as backend, \
            Departure(other.authority, other.pod.address, backend.port, ("http", "tcp"), certificate=False) as departure:
        assert refusal(departure) == (503, "no-identity")
        with departure.dial() as opaque:
            assert everything(opaque) == (b"", "reset")
        assert not backend.connections
        assert departure.metrics().value("weft_upstream_failures_total", reason="no_identity") == 2


@pytest.mark.parametrize("failure", ["open", "closed"])
def test_a_node_whose_mesh_is_down(failure):
    """Nobody listens for mutual TLS there. Whether its pods are called in the open is the operator's choice."""
    authority, pod = Authority(), At("127.88.0.1")
    with Backend(pod, free_port_at(pod), answer, address=pod.address) as backend, \
            Departure(authority, pod.address, backend.port, ("http", "tcp"), words=("--failure", failure)) as departure:
        if failure == "open":
            with client(departure) as caller, departure.dial() as opaque:
                opaque.sendall(b"GET /opaque HTTP/1.1\r\nhost: shop.test\r\n\r\n")
                assert [caller.get().status for _ in range(3)] == [200] * 3
                assert opaque.recv(100).startswith(b"HTTP/1.1 200")
        else:
            with client(departure) as caller:
                reply = caller.get()
                assert (reply.status, reply["x-weft-reason"]) == (503, "upstream-connect-failed")
            # The refusal may come before connect() has returned.
            with pytest.raises(ConnectionResetError), departure.dial() as opaque:
                opaque.recv(1)
            assert not backend.connections
        assert departure.metrics().value("weft_mtls_fallbacks_total") == (4 if failure == "open" else 0)
