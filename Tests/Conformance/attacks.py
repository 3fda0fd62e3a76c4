"""The attacks on one HTTP/2 connection, as scripts for `flood`: what is said once, and what is said over and over."""

import struct
from dataclasses import dataclass

from frames import (
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, PADDED, PING, PREFACE, PRIORITY, WINDOW,
    frame, integer, literal, priority_fields, rst_stream, settings, window_update,
)

OPEN = END_HEADERS
WHOLE = END_HEADERS | END_STREAM
HELLO = PREFACE + settings((INITIAL_WINDOW_SIZE, WINDOW))
STREAMS = 2000


def request(method="GET", path="/s/512", *more, authority="h1.test"):
    """A header block that leaves the dynamic table alone. The attacks go to h1.test."""
    fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", authority), *more]
    return b"".join(literal(name, value) for name, value in fields)


def get(stream=1, path="/s/512"):
    """A whole request."""
    return frame(HEADERS, WHOLE, stream, request(path=path))


def many(count, made):
    """`made(stream)` for the first `count` streams of a client."""
    return b"".join(made(1 + 2 * number) for number in range(count))


def block_of(size, method="GET", *more):
    """A request whose field section is about `size` octets, in HEADERS and CONTINUATION on stream 1; a GET is whole with it."""
    block = request(method, "/s/512", *more, *((f"x-large-{number}", "h" * 4000) for number in range(size // 4050)))
    pieces = [block[at:at + 16384] for at in range(0, len(block), 16384)]
    return frame(HEADERS, END_STREAM if method == "GET" else 0, 1, pieces[0]) + b"".join(
        frame(CONTINUATION, END_HEADERS if piece is pieces[-1] else 0, 1, piece) for piece in pieces[1:])


@dataclass
class Attack:
    """`before` once per connection, then `again`, its stream identifiers moved by `step` each time; `rounds` per connection, 0 for no end."""

    again: bytes
    before: bytes = HELLO
    step: int = 2
    rounds: int = 0
    options: tuple = ()
    #: How often the p99 of the slowest control the p99 under it may be. More than 2 is a debt, measured as the comment beside it says.
    factor: float = 2
    #: Reason of `weft_http2_faults_total` that must have moved; None: nothing forbidden was said, and a comment says what bounds it.
    fault: str | None = None

    def script(self):
        """What `flood` reads."""
        return struct.pack("<4I", len(self.before), len(self.again), self.step, self.rounds) + self.before + self.again


HELD = frame(HEADERS, OPEN, 1, request("POST", "/s/512", ("content-length", "1000000")))
INSERT = frame(HEADERS, WHOLE, 1, request("GET", "/s/512") + literal("x-bomb", "b" * 4000, 0x40))

ATTACKS = {
    # CVE-2023-44487: ask and take it back.
    "rapid reset": Attack(get() + rst_stream(1), fault="rapid_reset"),
    # CVE-2025-8671: ask, and make the server take it back.
    "made you reset, by an empty increment": Attack(get() + window_update(1, 0), fault="rapid_reset", factor=3),  # 1.0 to 2.5 in the attacker's pod, 1.1 to 1.2 in another
    "made you reset, by data after the end": Attack(get() + frame(DATA, 0, 1, b"x"), fault="closed_stream"),
    "made you reset, by a malformed request": Attack(frame(HEADERS, WHOLE, 1, request() + literal("connection", "close")), fault="rapid_reset"),
    "heads for a stream that was reset": Attack(
        frame(HEADERS, OPEN, 3, request() + bytes([0x80 | 62]) * 200), HELLO + INSERT + frame(HEADERS, OPEN, 3, request() + literal("connection", "close")), step=0, fault="control_flood"),
    # CVE-2024-24549 and others: a header block that never ends.
    "continuation flood": Attack(frame(CONTINUATION, 0, 1, literal("x-more", "m" * 1000)), HELLO + frame(HEADERS, END_STREAM, 1, request()), step=0, fault="continuation_flood"),
    "continuation flood, empty": Attack(frame(CONTINUATION, 0, 1), HELLO + frame(HEADERS, END_STREAM, 1, request()), step=0, fault="continuation_flood"),
    # CVE-2019-9515, -9512, -9511, -9517, -9518, -9513.
    "settings flood": Attack(settings((INITIAL_WINDOW_SIZE, 65535), (MAX_FRAME_SIZE, 16384)), step=0, fault="control_flood"),
    "settings that change every window": Attack(settings((INITIAL_WINDOW_SIZE, 1)) + settings((INITIAL_WINDOW_SIZE, 0)), HELLO + settings((INITIAL_WINDOW_SIZE, 0)) + many(STREAMS, get), step=0, fault="control_flood",
        factor=5),  # 2.5 to 4.9 in the attacker's pod, 1.1 to 3.2 in another
    "ping flood": Attack(frame(PING, 0, 0, bytes(8)), step=0, fault="control_flood"),
    "ping flood, answers unread": Attack(frame(PING, 0, 0, bytes(8)), step=0, options=("-n",), fault="control_flood"),
    "one octet of window at a time": Attack(
        many(STREAMS, lambda stream: window_update(stream, 1)), HELLO + settings((INITIAL_WINDOW_SIZE, 0)) + many(STREAMS, lambda stream: get(stream, "/s/16000")), step=0, fault="window_update_flood",
        factor=3),  # 2.0 to 2.3 in the attacker's pod, 1.5 to 2.1 in another
    "windows shut, many requests": Attack(get(1, "/s/65000"), HELLO + settings((INITIAL_WINDOW_SIZE, 0)), rounds=STREAMS * 2, options=("-r", "2000"), fault="rapid_reset"),
    "answers unread": Attack(get(1, "/s/65000"), HELLO + settings((INITIAL_WINDOW_SIZE, (1 << 31) - 1)) + window_update(0, (1 << 31) - 1 - WINDOW), options=("-n",), fault="rapid_reset"),
    "empty data": Attack(frame(DATA, 0, 1), HELLO + HELD, step=0, fault="empty_data_flood"),
    "tiny data": Attack(frame(DATA, 0, 1, b"x"), HELLO + HELD, step=0, fault="tiny_data_flood"),
    "data that is all padding": Attack(frame(DATA, PADDED, 1, b"\xff" + bytes(255)), HELLO + HELD, step=0, fault="empty_data_flood"),
    "priority flood": Attack(frame(PRIORITY, 0, 1, priority_fields(on=0)) + frame(PRIORITY, 0, 3, priority_fields(on=1, exclusive=True)), step=4, fault="priority_flood"),
    "window update flood": Attack(window_update(0, 1), step=0, fault="window_update_flood"),
    "window update flood on a stream": Attack(window_update(1, 1), HELLO + HELD, step=0, fault="window_update_flood"),
    "unknown frames": Attack(frame(0xEE, 0xFF, 0, bytes(8)), step=0, fault="control_flood"),
    # A table entry of 4 KB, named a thousand times per request.
    "HPACK bomb": Attack(frame(HEADERS, WHOLE, 3, request() + bytes([0x80 | 62]) * 1000), HELLO + INSERT, fault="head_bomb"),
    "HPACK bomb that stays small": Attack(frame(HEADERS, WHOLE, 3, request() + bytes([0x80 | 62]) * 60), HELLO + INSERT, fault="head_bomb"),
    # Valid requests: bounded by the streams that may be open. A resized table is an empty one, and costs nothing.
    "HPACK table, resized without end": Attack(frame(HEADERS, WHOLE, 1, integer(0, 5, 0x20) + integer(4096, 5, 0x20) + request()), options=("-r", "5000")),
    # Valid requests: bounded by the list's limit and the streams that may be open.
    "header lists near the limit": Attack(block_of(56_000), options=("-r", "2000")),
    "header lists near the limit, every stream held": Attack(block_of(56_000, "POST", ("content-length", "1000000")), options=("-r", "2000"), fault="rapid_reset"),
    "header lists beyond the limit": Attack(block_of(80_000), options=("-r", "2000"), fault="head_bomb"),
    "a header block, octet by octet": Attack(
        frame(CONTINUATION, 0, 1, b"\x82"), HELLO + frame(HEADERS, END_STREAM, 1, request()), step=0, options=("-r", "2000", "-c", "200"),
        fault="continuation_flood"),
    "every stream held": Attack(HELD, options=("-r", "4000"), fault="rapid_reset"),
}
