"""HTTP/2 in the raw: frames made by hand, and one end of a connection that sends whatever it is told to.

Nothing here refuses to break the protocol. A wait ends with a `Frame` or with one of the four ends below.
"""

import socket
import struct
import time
from dataclasses import dataclass

from hpack import Decoder, Encoder
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
KINDS = ("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION")

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, \
    COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, HTTP_1_1_REQUIRED = range(14)

ACK = END_STREAM = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)
ENABLE_CONNECT_PROTOCOL = 8

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 65535

#: How a connection ends: FIN between frames, FIN inside a frame, RST. And no answer within the patience.
CLOSED, TORN, RESET, SILENCE = "FIN", "FIN inside a frame", "RST", "silence"


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    """One frame; `length` lies about the payload's."""
    return struct.pack(">I", len(payload) if length is None else length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs, flags=0, stream=0):
    """SETTINGS with (identifier, value) pairs."""
    return frame(SETTINGS, flags, stream, b"".join(struct.pack(">HI", name, value) for name, value in pairs))


def window_update(stream, increment):
    """WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def rst_stream(stream, code=CANCEL):
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def priority_fields(on=0, weight=255, exclusive=False):
    """The five octets of RFC 7540 §5.3; `weight` as on the wire, one less than meant."""
    return struct.pack(">IB", on | (exclusive << 31), weight)


_HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def literal(name, value, kind=0x00, coded=False):
    """A field as HPACK literal: `kind` 0x00 without indexing, 0x10 never indexed, 0x40 with; `coded` with Huffman's code."""
    def text(given):
        octets = given.encode("latin-1") if isinstance(given, str) else given
        octets = _HUFFMAN.encode(octets) if coded else octets
        return integer(len(octets), 7, 0x80 if coded else 0) + octets
    return bytes([kind]) + text(name) + text(value)


def integer(value, bits, first=0):
    """RFC 7541 §5.1; `first` is what stands before the prefix."""
    full = (1 << bits) - 1
    if value < full:
        return bytes([first | value])
    octets, value = [first | full], value - full
    while value >= 128:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes([*octets, value])


@dataclass
class Frame:
    """A frame as received."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self):
        """Error code of RST_STREAM or GOAWAY."""
        return struct.unpack_from(">I", self.payload, 4 if self.kind == GOAWAY else 0)[0]

    @property
    def ends(self):
        """END_STREAM."""
        return bool(self.flags & END_STREAM)

    @property
    def acknowledges(self):
        """ACK of SETTINGS or PING."""
        return bool(self.flags & ACK)

    def __str__(self):
        name = KINDS[self.kind] if self.kind < len(KINDS) else f"type {self.kind}"
        code = f" code {self.code}" if self.kind in (RST_STREAM, GOAWAY) and len(self.payload) >= 4 else ""
        return f"{name}(stream {self.stream}, flags {self.flags:#x}, {len(self.payload)} octets{code})"


class Connection:
    """One end of an HTTP/2 connection. Writing to a peer that is gone is not an error: what came back decides."""

    def __init__(self, made, patience=2.0):
        self.socket, self.patience = made, patience
        self.buffer, self.ended = b"", None
        self.settings, self.encoder, self.decoder = {}, Encoder(), Decoder()
        self.seen = []
        self._window = {0: WINDOW}

    @classmethod
    def to(cls, address, patience=10.0):
        """Connects."""
        made = socket.create_connection(address, timeout=5)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(made, patience=patience)

    # --- out ---------------------------------------------------------------------------------------------------------

    def send(self, octets):
        """Raw bytes."""
        try:
            self.socket.settimeout(10)
            self.socket.sendall(octets)
        except OSError:
            pass
        return self

    def block(self, fields):
        """A header block in this connection's compression context."""
        return self.encoder.encode(fields)

    def headers(self, stream, block, end=True, whole=True, flags=0, before=b"", after=b""):
        """HEADERS; `before` and `after` surround the block (padding, priority)."""
        return self.send(frame(HEADERS, flags | (END_STREAM if end else 0) | (END_HEADERS if whole else 0), stream, before + block + after))

    def continuation(self, stream, block, whole=True):
        """CONTINUATION."""
        return self.send(frame(CONTINUATION, END_HEADERS if whole else 0, stream, block))

    def data(self, stream, octets, end=False):
        """DATA."""
        return self.send(frame(DATA, END_STREAM if end else 0, stream, octets))

    def ping(self, octets=bytes(8), acknowledges=False, stream=0):
        """PING."""
        return self.send(frame(PING, ACK if acknowledges else 0, stream, octets))

    # --- in ----------------------------------------------------------------------------------------------------------

    def wait(self, patience=None):
        """The next frame, or how the connection ended, or SILENCE."""
        if self.ended:
            return self.ended
        until = time.monotonic() + (self.patience if patience is None else patience)
        while (found := self._parsed()) is None:
            left = until - time.monotonic()
            if left <= 0:
                return SILENCE
            self.socket.settimeout(left)
            try:
                octets = self.socket.recv(1 << 16)
            except TimeoutError:
                return SILENCE
            except ConnectionResetError:
                self.ended = RESET
                return RESET
            if not octets:
                self.ended = TORN if self.buffer else CLOSED
                return self.ended
            self.buffer += octets
        self.seen.append(found)
        if found.kind == DATA:
            self._give_window_back(found)
        return found

    def _parsed(self):
        if len(self.buffer) < 9:
            return None
        length = int.from_bytes(self.buffer[:3], "big")
        if len(self.buffer) < 9 + length:
            return None
        kind, flags, stream = struct.unpack_from(">BBI", self.buffer, 3)
        payload, self.buffer = self.buffer[9:9 + length], self.buffer[9 + length:]
        return Frame(kind, flags, stream & 0x7FFFFFFF, payload)

    def _give_window_back(self, found):
        for stream in (found.stream, 0):
            left = self._window.get(stream, WINDOW) - len(found.payload)
            if left <= 0:
                self.send(window_update(stream, WINDOW - left))
                left = WINDOW
            self._window[stream] = left

    def until(self, kind, patience=None):
        """The next frame of one kind, or how waiting for it ended."""
        while True:
            found = self.wait(patience)
            if isinstance(found, str) or found.kind == kind:
                return found

    def handshake(self, *pairs):
        """Preface and SETTINGS, until both sides' SETTINGS are acknowledged."""
        self.send(PREFACE + settings((INITIAL_WINDOW_SIZE, WINDOW), *pairs))
        mine = theirs = False
        while not (mine and theirs):
            found = self.until(SETTINGS)
            if isinstance(found, str):
                raise AssertionError(f"handshake ended with {found}; seen: {self.told()}")
            if found.acknowledges:
                mine = True
            else:
                theirs = True
                self.settings.update(struct.iter_unpack(">HI", found.payload))
                self.send(settings(flags=ACK))
        return self

    def told(self):
        """Everything received, for messages."""
        return ", ".join(map(str, self.seen)) or "nothing"

    def close(self):
        """Closes."""
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
