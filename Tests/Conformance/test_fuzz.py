"""Random and mutated frames over the socket, from a client and from a server: the proxy stays alive, and right afterwards.

The seed is printed; WEFT_FUZZ_SEED repeats a run, WEFT_FUZZ_SECONDS lengthens it.
"""

import os
import random
import select
import socket
import struct
import time

import pytest

from frames import (
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PADDED, PING, PREFACE, PRIORITIZED, PRIORITY, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, integer, literal, priority_fields, rst_stream, settings, window_update,
)
from host import LOOPBACK, Proxy, free_port, serve_each
from http1 import Backend, Client, Violation, ok
from judge import Judge
from mesh import eventually

SECONDS = float(os.environ.get("WEFT_FUZZ_SECONDS", 4))
SEED = int(os.environ.get("WEFT_FUZZ_SEED") or random.SystemRandom().getrandbits(32))

NAMES = [":method", ":path", ":scheme", ":authority", ":status", ":protocol", "host", "content-length", "transfer-encoding", "te", "trailer", "cookie", "connection",
         "expect", "grpc-timeout", "content-type", "upgrade", "x-a", "X-A", "x a", "", "x" * 300]
VALUES = ["GET", "POST", "CONNECT", "HEAD", "OPTIONS", "/", "*", "/a?b", "http", "fuzz.test", "200", "103", "101", "5", "0", "-1", "trailers", "chunked", "websocket",
          "100-continue", "1S", "application/grpc", "", " x", "a\r\nb", "\0", "v" * 5000]
EDGES = [0, 1, 2, 3, 5, 255, 16383, 16384, 16385, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]


def block(dice, fields):
    """A header block, sometimes with a representation nobody should send."""
    said = b""
    for name, value in fields:
        said += literal(name, value, dice.choice((0x00, 0x10, 0x40)), dice.random() < 0.3)
    if dice.random() < 0.2:
        said += dice.choice((bytes([dice.randrange(256)]), integer(dice.choice(EDGES), 7, 0x80), integer(dice.choice(EDGES), 6, 0x40), integer(dice.choice(EDGES), 5, 0x20), dice.randbytes(8)))
    return said


def plausible(dice, first):
    """Fields of a message, mostly right."""
    fields = list(first) if dice.random() < 0.9 else [one for one in first if dice.random() < 0.7]
    for _ in range(dice.choice((0, 0, 1, 2, 8))):
        fields.insert(dice.randrange(len(fields) + 1) if dice.random() < 0.2 else len(fields), (dice.choice(NAMES), dice.choice(VALUES)))
    return fields


def one_frame(dice, first):
    """A frame: a usual one, or one with usual parts in the wrong places."""
    stream = dice.choice((0, 1, 1, 1, 3, 3, 5, 7, 2, 101, (1 << 31) - 1))
    flags = dice.choice((0, END_STREAM, END_HEADERS, END_HEADERS | END_STREAM, END_HEADERS | END_STREAM, PADDED, PRIORITIZED, 0xFF))
    kind = dice.choice((HEADERS, HEADERS, HEADERS, DATA, DATA, CONTINUATION, SETTINGS, PING, RST_STREAM, WINDOW_UPDATE, PRIORITY, GOAWAY, PUSH_PROMISE, 0xEE))
    if kind in (HEADERS, CONTINUATION):
        payload = block(dice, plausible(dice, first))
        if flags & PADDED:
            payload = bytes([dice.choice((0, 1, 8, 255))]) + payload + bytes(8)
        return frame(kind, flags, stream, payload)
    if kind == DATA:
        return frame(DATA, flags, stream, dice.randbytes(dice.choice((0, 0, 1, 5, 100, 16384, 16385))))
    if kind == SETTINGS:
        return dice.choice((settings(flags=ACK), settings(*[(dice.randrange(0, 10), dice.choice(EDGES)) for _ in range(dice.randrange(4))]), frame(SETTINGS, flags, stream, dice.randbytes(5))))
    if kind == WINDOW_UPDATE:
        return window_update(stream, dice.choice(EDGES))
    if kind == RST_STREAM:
        return rst_stream(stream, dice.choice((0, 1, 5, 7, 8, 11, 0xFF)))
    if kind == PRIORITY:
        return frame(PRIORITY, flags, stream, priority_fields(dice.choice((0, 1, 3, stream & 0x7FFFFFFF)), dice.randrange(256), dice.random() < 0.5))
    if kind == GOAWAY:
        return frame(GOAWAY, 0, 0, struct.pack(">II", dice.choice((0, 1, 3, (1 << 31) - 1)), dice.choice((0, 1, 11))))
    if kind == PUSH_PROMISE:
        return frame(PUSH_PROMISE, END_HEADERS, stream, b"\0\0\0\2" + block(dice, first))
    return frame(kind, flags if kind != PING else flags & ACK, stream if kind != PING else 0, dice.randbytes(8))


def mutated(dice, octets):
    """Some octets changed, lost, doubled or moved."""
    said = bytearray(octets)
    for _ in range(dice.choice((0, 0, 0, 1, 1, 2, 5))):
        at = dice.randrange(len(said) or 1)
        how = dice.randrange(5)
        if how == 0 and said:
            said[at % len(said)] ^= 1 << dice.randrange(8)
        elif how == 1:
            del said[at:at + dice.randrange(1, 20)]
        elif how == 2:
            said[at:at] = said[at:at + dice.randrange(1, 40)]
        elif how == 3:
            said[at:at] = dice.randbytes(dice.randrange(1, 10))
        else:
            del said[at:]
    return bytes(said)


REQUEST = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "fuzz.test")]
RESPONSE = [(":status", "200")]


def decent(dice, first, stream):
    """A message on one stream as it should be: head, perhaps in pieces, content, trailers, or taken back."""
    written = block(random.Random(0), first if dice.random() < 0.6 else plausible(dice, first))
    ends, cut = dice.random() < 0.5, dice.randrange(len(written) + 1)
    said = [frame(HEADERS, END_HEADERS | (END_STREAM if ends else 0), stream, written)]
    if dice.random() < 0.2:
        said = [frame(HEADERS, END_STREAM if ends else 0, stream, written[:cut]), frame(CONTINUATION, END_HEADERS, stream, written[cut:])]
    if not ends:
        said += [frame(DATA, 0, stream, dice.randbytes(dice.choice((0, 1, 100, 16384)))) for _ in range(dice.randrange(3))]
        said.append(dice.choice((frame(DATA, END_STREAM, stream, b"x"), rst_stream(stream), frame(HEADERS, END_HEADERS | END_STREAM, stream, literal("x-sum", "1")), b"")))
    if dice.random() < 0.3:
        said.append(window_update(dice.choice((0, stream)), 1000))
    return said


def conversation(dice, first, streams=(1, 3, 5, 7)):
    """Messages, some frames among them that do not belong there, and in every second one octets that are wrong."""
    said = [one for stream in streams[:dice.randrange(1, len(streams) + 1)] for one in decent(dice, first, stream)]
    for _ in range(dice.choice((0, 0, 1, 2, 10))):
        said.insert(dice.randrange(len(said) + 1), one_frame(dice, first))
    return mutated(dice, b"".join(said)) if dice.random() < 0.5 else b"".join(said)


def listen_a_moment(connection, patience):
    """Reads what comes until the other side ends it, or says nothing for a moment."""
    while select.select([connection], [], [], patience)[0]:
        try:
            if not connection.recv(1 << 16):
                return
        except OSError:
            return


def test_a_clients_frames(capsys):
    """Handshake, then anything; in pieces, or cut short."""
    dice, said = random.Random(SEED), 0
    with Backend(LOOPBACK, free_port(), lambda asked: ok(b"x" * 512)) as backend, Proxy([backend.port], "http", limits={"headMilliseconds": 2000}) as proxy:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            seed = dice.getrandbits(64)
            own = random.Random(seed)
            octets = PREFACE + settings((INITIAL_WINDOW_SIZE, own.choice((0, 1, 65535, 1 << 20)))) + conversation(own, REQUEST)
            if own.random() < 0.05:
                octets = mutated(own, octets)
            with socket.create_connection(proxy.address, 5) as connection:
                try:
                    connection.sendall(octets)
                    if own.random() < 0.5:
                        connection.shutdown(socket.SHUT_WR)
                    listen_a_moment(connection, 0.005)
                except OSError:
                    pass
            said += 1
            if said % 50 == 0:
                try:
                    proxy.running()
                except RuntimeError as ended:
                    pytest.fail(f"seed {SEED}, after conversation {seed} at the latest: {ended}")
        with Judge.to(proxy.address) as client:
            client.peer = proxy
            client.handshake().request().responds()
        assert all(request.target[:1] in "/*f" for request in backend.requests)
        with capsys.disabled():
            print(f" seed {SEED}: {said} conversations, {len(backend.requests)} requests passed", end="")


class FuzzingServer:
    """Answers every stream with something like a response; `/good` with a right one."""

    def __init__(self, dice):
        self.dice, self.port, self.said = dice, free_port(), 0
        self.listener = LOOPBACK.listen(self.port)
        serve_each(self.listener, lambda made: self._serve(made, random.Random(self.dice.getrandbits(64))))

    def _serve(self, made, dice):
        with made:
            made.settimeout(5)
            heard = Judge(made, patience=5)
            try:
                while len(heard.buffer) < 24:
                    piece = made.recv(24 - len(heard.buffer))
                    if not piece:
                        return
                    heard.buffer += piece
                heard.buffer = b""
                heard.send(settings())
                while not isinstance(found := heard.wait(), str):
                    if found.kind == SETTINGS and not found.acknowledges:
                        heard.send(settings(flags=ACK))
                    if found.kind != HEADERS:
                        continue
                    path = dict(heard.decoder.decode(found.payload)).get(":path")
                    if path == "/good":
                        heard.headers(found.stream, b"\x88", end=False).data(found.stream, b"good", end=True)
                        continue
                    self.said += 1
                    whole = frame(HEADERS, END_HEADERS, found.stream, b"\x88") + frame(DATA, END_STREAM, found.stream, b"x" * 100)
                    made.sendall(dice.choice((whole, b"", b"")) + conversation(dice, RESPONSE, (found.stream,)))
                    if dice.random() < 0.3:
                        return
            except (OSError, ValueError):
                return


def test_a_servers_frames(capsys):
    """Anything for an answer; the client always hears something, in time."""
    dice = random.Random(SEED)
    server = FuzzingServer(dice)
    with Proxy([server.port], "http2", limits={"replyMilliseconds": 300, "stallMilliseconds": 300}) as proxy:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            with Client(LOOPBACK, *proxy.address, timeout=5) as client:
                try:
                    assert 200 <= client.get("/", host="fuzz.test").status < 600
                except (ConnectionError, Violation):
                    pass  # cut off, which a client can tell
            proxy.running()

        def good():
            with Client(LOOPBACK, *proxy.address) as client:
                reply = client.get("/good", host="fuzz.test")
                return reply.status == 200 and reply.body == b"good"
        eventually(good, within=10, what="a right answer afterwards")
        with capsys.disabled():
            print(f" seed {SEED}: {server.said} answers", end="")
    server.listener.close()
