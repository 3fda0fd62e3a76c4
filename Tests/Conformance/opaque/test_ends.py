"""Opaque TCP: what one end does reaches the other as what it is: bytes, a FIN, a reset, an urgent byte."""

import errno
import select
import socket
import struct
import threading
import time

import pytest

from host import LOOPBACK, Proxy, free_port

MEGABYTE = 1 << 20


class Pair:
    """A client's socket and the server's other end of it, the proxy between."""

    def __init__(self, proxy, listener, receive_buffer=None):
        self.client = socket.socket()
        if receive_buffer:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.client.settimeout(10)
        self.client.connect(proxy.address)
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server, _ = listener.accept()
        self.server.settimeout(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.server.close()


def abort(end):
    """Closes with a reset."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def outcome(end):
    """What was read until the end, and how it ended."""
    read = bytearray()
    try:
        while piece := end.recv(65536):
            read += piece
    except ConnectionResetError:
        return bytes(read), "reset"
    return bytes(read), "end"


@pytest.fixture(scope="module")
def listener():
    with LOOPBACK.listen(free_port()) as made:
        made.settimeout(10)
        yield made


@pytest.fixture(scope="module", params=["tcp"])
def proxy(request, listener):
    with Proxy([listener.getsockname()[1]], request.param, limits={"lingerMilliseconds": 500}) as started:
        yield started


@pytest.fixture(params=["client", "server"])
def ends(request, proxy, listener):
    """The pair as (who acts, who sees it)."""
    with Pair(proxy, listener) as pair:
        yield (pair.client, pair.server) if request.param == "client" else (pair.server, pair.client)


def test_half_close_and_the_answer_after_it(ends):
    one, other = ends
    one.sendall(b"question")
    one.shutdown(socket.SHUT_WR)
    assert outcome(other) == (b"question", "end")
    other.sendall(b"answer" * 100_000)
    other.close()
    assert outcome(one) == (b"answer" * 100_000, "end")


def test_a_reset_stays_one(ends):
    one, other = ends
    abort(one)
    assert outcome(other) == (b"", "reset")


def test_a_reset_follows_what_was_said_before(ends):
    one, other = ends
    said = bytes(range(256)) * 100
    one.sendall(said)
    assert len(other.recv(1)) == 1
    one.sendall(b"last words")
    time_to_travel(other, len(said) - 1 + 10)
    abort(one)
    read, end = outcome(other)
    assert (read, end) == (said[1:] + b"last words", "reset")


def time_to_travel(end, count):
    """Waits until so many bytes lie before the other end."""
    from mesh import eventually
    eventually(lambda: len(end.recv(MEGABYTE, socket.MSG_PEEK)) >= count, within=5, what="the bytes to arrive")


def test_closing_with_unread_bytes_is_a_reset(ends):
    one, other = ends
    other.sendall(b"nobody reads this")
    time_to_travel(one, 17)
    one.close()
    assert outcome(other)[1] == "reset"


def test_a_reset_after_a_fin_is_passed_on(ends):
    one, other = ends
    one.shutdown(socket.SHUT_WR)
    assert outcome(other) == (b"", "end")
    other.sendall(b"more")
    time_to_travel(one, 4)
    abort(one)
    # A server that goes on sending hears of it, as without a mesh.
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            other.sendall(b"and more")
            select.select([], [], [], 0.01)


def test_a_reset_passes_a_reader_who_does_not_read(ends):
    one, other = ends
    one.setblocking(False)
    try:
        while one.send(b"x" * MEGABYTE):
            pass
    except BlockingIOError:
        pass
    abort(one)
    # Some bytes are on their way, then nothing moves: half a second later it is over, whoever reads.
    watcher = select.poll()
    watcher.register(other, 0)
    assert watcher.poll(5000), "no reset"
    read, end = outcome(other)
    assert end == "reset" and set(read) <= {ord("x")}


def test_bulk_both_ways_at_once(ends):
    one, other = ends
    block = bytes(range(256)) * 4096
    seen = {}

    def talk(end, name):
        sender = threading.Thread(target=lambda: (end.sendall(block * 32), end.shutdown(socket.SHUT_WR)))
        sender.start()
        seen[name] = outcome(end)
        sender.join()

    talkers = [threading.Thread(target=talk, args=(end, name)) for end, name in ((one, "one"), (other, "other"))]
    for talker in talkers:
        talker.start()
    for talker in talkers:
        talker.join(60)
    assert seen == {"one": (block * 32, "end"), "other": (block * 32, "end")}


def test_an_urgent_byte_stays_in_its_place_and_breaks_nothing(ends):
    one, other = ends
    one.sendall(b"before")
    one.send(b"!", socket.MSG_OOB)
    one.sendall(b"after" * 20_000)
    one.shutdown(socket.SHUT_WR)
    watcher = select.poll()
    watcher.register(other, select.POLLPRI)
    assert watcher.poll(5000), "nothing urgent came"
    assert other.recv(1, socket.MSG_OOB) == b"!"
    assert outcome(other) == (b"before" + b"after" * 20_000, "end")


def test_bulk_of_200_streams_all_progress(proxy, listener):
    pairs = [Pair(proxy, listener) for _ in range(200)]
    block = b"y" * MEGABYTE

    def feed(pair):
        try:
            for _ in range(4):
                pair.server.sendall(block)
            pair.server.shutdown(socket.SHUT_WR)
        except OSError as error:
            return error

    feeders = [threading.Thread(target=feed, args=(pair,)) for pair in pairs]
    for feeder in feeders:
        feeder.start()
    totals = {pair.client: 0 for pair in pairs}
    open_ends = set(totals)
    while open_ends:
        ready, _, _ = select.select(list(open_ends), [], [], 10)
        assert ready, f"{len(open_ends)} streams stand still"
        for end in ready:
            piece = end.recv(65536)
            totals[end] += len(piece)
            if not piece:
                open_ends.discard(end)
    assert set(totals.values()) == {4 * MEGABYTE}
    for pair in pairs:
        pair.client.close()
        pair.server.close()


def test_slow_readers_hold_no_more_pipes_than_there_are(proxy, listener):
    """200 readers that do not read: their bytes wait in bounded memory, and one that reads is served."""
    pairs = [Pair(proxy, listener, receive_buffer=16384) for _ in range(200)]
    for pair in pairs:
        pair.server.setblocking(False)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        for pair in pairs:
            try:
                pair.server.send(b"z" * MEGABYTE)
            except BlockingIOError:
                pass
    with Pair(proxy, listener) as quick:
        quick.server.sendall(b"q" * 100)
        assert quick.client.recv(100, socket.MSG_WAITALL) == b"q" * 100
    for pair in pairs:
        pair.client.close()
        pair.server.close()


def test_refused_is_told_at_once():
    """Nothing listens: the connection, accepted already, is reset as soon as the refusal is known."""
    port = free_port()
    with Proxy([port], "tcp") as refusing:
        began = time.monotonic()
        # Often so soon that the client's connect() is not over yet.
        with pytest.raises(ConnectionResetError), socket.create_connection(refusing.address, 5) as client:
            client.recv(1)
        assert time.monotonic() - began < 1
        metrics = refusing.metrics()
        assert metrics.sum("istio_tcp_connections_closed_total", response_flags="UF") == 1
