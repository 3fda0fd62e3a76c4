"""TCP that nobody reads: what one side does to its socket, the other side sees. Nothing is held for those who rest."""

import os
import socket
import threading
import time

import pytest

from http1 import Backend, Client
from mesh import eventually
from tcp import PORTS, Plain, echo, everything, exactly, hard_close

GREETING = b"220 shop ready\r\n"


@pytest.fixture(params=["same-node", "other-node"])
def pod(request, shop):
    """Where the server is."""
    return shop.cart if request.param == "same-node" else shop.stock


def descriptors(node, kind=None):
    """Open descriptors of the proxy, of one kind if told."""
    place = f"/proc/{node.weft.pid('proxy')}/fd"
    names = []
    for entry in os.listdir(place):
        try:
            names.append(os.readlink(f"{place}/{entry}"))
        except OSError:
            pass
    return sum(1 for name in names if kind is None or name.startswith(kind))


def resident(node):
    """Resident bytes of the proxy."""
    for line in open(f"/proc/{node.weft.pid('proxy')}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
    raise LookupError("no VmRSS")


# --- the end of a connection ----------------------------------------------------------------------------------------

def test_half_close_by_the_client(shop, pod):
    """It ends its sending side; the server reads the end and still answers at length."""
    answer = os.urandom(1 << 20)

    def conversation(connection):
        assert everything(connection) == b"\0question"
        connection.sendall(answer)
        connection.close()
    with Plain(pod, conversation) as server, shop.web.connect(pod.ip, server.port) as near:
        near.sendall(b"\0question")
        near.shutdown(socket.SHUT_WR)
        assert everything(near) == answer


def test_half_close_by_the_server(shop, pod):
    """The server has nothing more to say; the client goes on sending."""
    heard, content = [], os.urandom(1 << 20)

    def conversation(connection):
        connection.recv(1)
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        heard.append(everything(connection))
    with Plain(pod, conversation) as server, shop.web.connect(pod.ip, server.port) as near:
        near.sendall(b"\0")
        assert everything(near) == b"bye"
        near.sendall(content)
        near.shutdown(socket.SHUT_WR)
        assert eventually(lambda: heard, within=10)[0] == content


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_reset_stays_a_reset(shop, pod, side):
    """RST on one side is RST on the other, not a polite end."""
    with Plain(pod, None) as server:
        near = shop.web.connect(pod.ip, server.port)
        near.sendall(b"\0first")
        far = eventually(lambda: server.accepted)[0]
        assert far.recv(100) == b"\0first"
        far.sendall(b"\0answer")
        assert near.recv(100) == b"\0answer"
        ours, theirs = (near, far) if side == "client" else (far, near)
        hard_close(ours)
        theirs.settimeout(5)
        with pytest.raises(ConnectionResetError):
            assert theirs.recv(100) != b"", "a FIN came instead of a RST"
        theirs.close()


def test_a_reset_by_the_server_before_it_said_anything(shop, pod):
    """It reads and resets."""
    def conversation(connection):
        connection.recv(100)
        hard_close(connection)
    with Plain(pod, conversation) as server, shop.web.connect(pod.ip, server.port) as near:
        near.sendall(b"\0first")
        with pytest.raises(ConnectionResetError):
            assert near.recv(100) != b"", "a FIN came instead of a RST"


def test_nobody_listens(shop, pod):
    """The client learns at once, by a reset: a connection that was taken for it and then could not be made."""
    began = time.monotonic()
    try:
        with shop.web.connect(pod.ip, next(PORTS), timeout=10) as near:
            near.sendall(b"\0first")
            ended = near.recv(100)
            assert ended != b"", "a FIN says that the server was there"
            pytest.fail(f"somebody answered {ended!r}")
    except ConnectionError:
        pass
    assert time.monotonic() - began < 1


def test_everything_said_before_the_end_arrives(shop, pod):
    """A hundred servers that say 300 KB and close at once: nothing is cut off."""
    content = os.urandom(300_000)

    def conversation(connection):
        connection.recv(10)
        connection.sendall(content)
        connection.close()
    with Plain(pod, conversation) as server:
        for _ in range(100):
            with shop.web.connect(pod.ip, server.port) as near:
                near.sendall(b"\0")
                assert everything(near) == content


# --- who speaks first -----------------------------------------------------------------------------------------------

def test_first_bytes_one_at_a_time(shop, pod):
    """A protocol that is not HTTP, typed slowly: detection never eats or delays a byte for long."""
    with Plain(pod, echo) as server, shop.web.connect(pod.ip, server.port) as near:
        for byte in b"PRI \x00HTTP? GET no":
            near.sendall(bytes([byte]))
        assert exactly(near, 17) == b"PRI \x00HTTP? GET no"


def test_a_server_that_speaks_first_is_remembered(shop):
    """The first connection waits at most the detection deadline, the next ones do not; others on the node neither. The decision is visible."""
    def conversation(connection):
        connection.sendall(GREETING)
        echo(connection)
    with Plain(shop.stock, conversation) as server:
        shop.service("mail", [shop.stock], [{"name": "mail", "port": 2525, "targetPort": server.port}])
        shop.apply()
        eventually(lambda: any(s["name"] == "mail" for s in shop.nodes[0].weft.status()["services"]) and shop.nodes[0].weft.status()["generations"]["agree"], within=10)
        took = []
        for number in range(10):
            began = time.monotonic()
            with shop.web.connect(shop.address("mail"), 2525) as near:
                assert exactly(near, len(GREETING)) == GREETING
                took.append(time.monotonic() - began)
                near.sendall(b"HELO web\r\n")
                assert exactly(near, 10) == b"HELO web\r\n"
        assert took[0] < 1.0 and max(took[2:]) < 0.1, took
        decided = lambda: shop.nodes[0].weft.metrics().all("weft_protocol_decisions_total", destination_service_name="mail", protocol="tcp")  # noqa: E731
        reasons = eventually(lambda: {found["reason"]: value for found, value in decided()}, within=5)
        assert sum(reasons.values()) >= 10 and {"server-first", "remembered"} <= set(reasons), reasons
        assert "server-first" in shop.nodes[0].weft.status_text()


@pytest.mark.parametrize("kind", ["declared", "undeclared"])
def test_idle_clients_do_not_turn_an_http_port_opaque(shop, kind):
    """Connections that say nothing for longer than the deadline, then ask; and others meanwhile: all are HTTP to the mesh."""
    with Backend(shop.stock, next(PORTS)) as backend:
        name = f"patient-{kind}"
        shop.service(name, [shop.stock], [{"name": "http" if kind == "declared" else "web", "port": 80, "targetPort": backend.port}])
        shop.apply()
        node, address = shop.nodes[0], shop.address(name)

        def known():
            with Client(shop.web, address, 80) as client:
                return client.get("/").status == 200
        eventually(known, within=10, every=0.1)
        labels = {"reporter": "source", "destination_service_name": name, "response_code": 200}
        total = lambda: node.weft.metrics().sum("istio_requests_total", **labels)  # noqa: E731
        before = eventually(lambda: total() >= 1 and total())
        idlers = [Client(shop.web, address, 80) for _ in range(5)]
        began = time.monotonic()
        eventually(lambda: time.monotonic() - began > 0.8, what="well past the deadline of detection")
        for _ in range(5):
            with Client(shop.web, address, 80) as client:
                assert client.get("/").status == 200
        for client in idlers:
            assert client.get("/").status == 200
            client.close()
        eventually(lambda: total() - before >= 10, within=5, what="all ten were read as HTTP")


# --- many -----------------------------------------------------------------------------------------------------------

def test_200_bulk_streams_all_move(shop):
    """More streams than there are pipes: every one moves all the time, the pipes stay within their bound, and are given back."""
    moved, stop = [0] * 200, threading.Event()

    def conversation(connection):
        number = int.from_bytes(exactly(connection, 4), "big") & 0xffff
        while (piece := connection.recv(1 << 18)):
            moved[number] += len(piece)
    node = shop.nodes[0]
    with Plain(shop.stock, conversation) as server:
        nears = [shop.web.connect(shop.stock.ip, server.port) for _ in range(200)]
        for number, near in enumerate(nears):
            near.sendall((0xff000000 | number).to_bytes(4, "big"))
            near.setblocking(False)
        eventually(lambda: len(server.accepted) == 200, within=10)
        content = bytes(1 << 16)

        def pump():
            while not stop.is_set():
                for near in nears:
                    try:
                        near.send(content)
                    except (BlockingIOError, OSError):
                        pass
        sender = threading.Thread(target=pump, daemon=True)
        sender.start()
        try:
            for _ in range(3):
                before = list(moved)
                eventually(lambda: all(now - then > 1 << 17 for now, then in zip(moved, before)), within=20, what="every stream moved")
                assert descriptors(node, "pipe:") <= 2 * 130 and resident(node) < 300 << 20
            held = node.weft.metrics()
            assert held.value("weft_pipes_in_use") <= held.value("weft_pipes") <= 128, [s for s in held.samples if "pipe" in s[0]]
        finally:
            stop.set()
            sender.join()
        for near in nears:
            near.close()
        eventually(lambda: node.weft.metrics().value("weft_pipes_in_use") == 0, within=10, what="every pipe is back")


def test_a_slow_reader_holds_little(shop):
    """One side sends for ever, the other does not read: the sender is held, memory is not."""
    node = shop.nodes[0]
    with Plain(shop.stock, None) as server:
        before = resident(node)
        nears = [shop.web.connect(shop.stock.ip, server.port) for _ in range(8)]
        content, sent = bytes(1 << 16), [0] * len(nears)
        for near in nears:
            near.sendall(b"\xff")
            near.setblocking(False)
        for number, near in enumerate(nears):  # until the kernel's buffers and ours are full: a tenth of a second without taking a byte
            taken = time.monotonic()
            while time.monotonic() - taken < 0.1:
                try:
                    sent[number] += near.send(content)
                    taken = time.monotonic()
                except BlockingIOError:
                    pass
            assert sent[number] < 100 << 20
        assert resident(node) - before < 16 << 20
        with Plain(shop.cart, echo) as other, shop.web.connect(shop.cart.ip, other.port) as near:
            near.sendall(b"\0still alive")
            assert exactly(near, 12) == b"\0still alive"
        for near in nears:
            hard_close(near)


# --- what is counted ------------------------------------------------------------------------------------------------

def test_tcp_metrics(shop, pod):
    """Opened, closed and the bytes of either direction, at the source; and at the destination's own node."""
    sides = [(shop.nodes[0], "source")] + ([(shop.nodes[1], "destination")] if pod is shop.stock else [])

    def read():
        return [[side.weft.metrics().sum(f"istio_tcp_{what}_total", reporter=reporter, source_workload="web", destination_workload=pod.name)
                 for what in ("connections_opened", "connections_closed", "received_bytes", "sent_bytes")] for side, reporter in sides]
    before = read()

    def conversation(connection):
        exactly(connection, 10_000)
        connection.sendall(bytes(30_000))
        connection.close()
    with Plain(pod, conversation) as server:
        for _ in range(5):
            with shop.web.connect(pod.ip, server.port) as near:
                near.sendall(b"\0" * 10_000)
                assert len(everything(near)) == 30_000

    def grown():
        return [[now - then for now, then in zip(*pair)] for pair in zip(read(), before)]
    eventually(lambda: all(side[:2] == [5, 5] for side in grown()), within=5)
    assert all(side == [5, 5, 50_000, 150_000] for side in grown()), grown()


# --- what is not TCP ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("port", [53, 8080])
def test_udp_is_not_touched(shop, family, port):
    """Questions and answers of the size of DNS, between meshed pods, from and to the addresses that were meant; unanswered ones are refused as usual."""
    version, address = (socket.AF_INET, shop.stock.ip) if family == 4 else (socket.AF_INET6, shop.stock.ip6)
    with shop.stock.socket(version, socket.SOCK_DGRAM) as far, shop.web.socket(version, socket.SOCK_DGRAM) as near:
        far.bind(("0.0.0.0" if family == 4 else "::", port))
        far.settimeout(5)
        near.settimeout(5)
        near.connect((address, port))
        for number in range(20):
            near.send(b"question %d" % number * 30)
            asked, peer = far.recvfrom(2000)
            assert peer[0] == (shop.web.ip if family == 4 else shop.web.ip6)
            far.sendto(asked[::-1], peer)
            assert near.recv(2000) == (b"question %d" % number * 30)[::-1]
        far.close()
        near.send(b"anyone?")
        with pytest.raises(ConnectionRefusedError):
            near.recv(100)
