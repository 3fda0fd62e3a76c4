"""What passes over the link between two nodes, as tcpdump sees it."""

import socket
import struct
import subprocess

from mesh import eventually

MTLS_PORT = 15008
HANDSHAKE, CHANGE_CIPHER_SPEC, ALERT, APPLICATION_DATA = 22, 20, 21, 23
TLS13 = b"\x00\x2b\x00\x02\x03\x04"  # the extension supported_versions of a ServerHello (RFC 8446 §4.2.1)


class Capture:
    """`with Capture(node, link) as seen: …` — then `seen.conversations()` and `seen.raw`."""

    def __init__(self, node, link):
        self.path = node.mesh.directory / f"{node.short}-{link}.pcap"
        self.process = node.start("tcpdump", "-i", link, "-s", 0, "-U", "--immediate-mode", "-B", 32768, "-Z", "root", "-w", self.path, stderr=subprocess.PIPE)
        self.raw = b""

    def __enter__(self):
        eventually(lambda: self.path.exists() and self.path.stat().st_size >= 24, within=10, what="tcpdump captures")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        said = self.process.stderr.read().decode()
        self.process.wait(timeout=10)
        assert "\n0 packets dropped by kernel" in said, said
        self.raw = self.path.read_bytes()

    def packets(self):
        """(source, source port, destination, destination port, sequence, payload) of every TCP segment with content."""
        order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}[self.raw[:4]]
        at = 24
        while at + 16 <= len(self.raw):
            size, whole = struct.unpack_from(order + "8xII", self.raw, at)
            assert size == whole, "a packet was cut"
            frame, at = self.raw[at + 16:at + 16 + size], at + 16 + size
            kind, = struct.unpack_from("!H", frame, 12)
            if kind == 0x0800 and frame[23] == socket.IPPROTO_TCP:
                header, length = 14, struct.unpack_from("!H", frame, 16)[0]
                tcp, end = header + (frame[14] & 15) * 4, header + length
                source, destination = (socket.inet_ntop(socket.AF_INET, frame[a:a + 4]) for a in (26, 30))
            elif kind == 0x86DD and frame[20] == socket.IPPROTO_TCP:
                tcp, end = 54, 54 + struct.unpack_from("!H", frame, 18)[0]
                source, destination = (socket.inet_ntop(socket.AF_INET6, frame[a:a + 16]) for a in (22, 38))
            else:
                continue
            near, far, sequence = struct.unpack_from("!HHI", frame, tcp)
            payload = frame[tcp + (frame[tcp + 12] >> 4) * 4:end]
            if payload:
                yield source, near, destination, far, sequence, payload

    def conversations(self):
        """Bytes of each direction, by its four addresses, put together by sequence numbers."""
        found = {}
        for source, near, destination, far, sequence, payload in self.packets():
            first, pieces = found.setdefault((source, near, destination, far), (sequence, {}))
            pieces.setdefault((sequence - first) & 0xFFFFFFFF, payload)
        return {key: _joined(pieces) for key, (_, pieces) in found.items()}


def _joined(pieces):
    whole = bytearray()
    for offset in sorted(pieces):
        if offset <= len(whole):
            whole[offset:offset + len(pieces[offset])] = pieces[offset]
    return bytes(whole)


def records(stream):
    """(type, content) of the TLS records in a direction; ValueError for anything that is none."""
    at = 0
    while at + 5 <= len(stream):
        kind, major, minor, size = struct.unpack_from("!BBBH", stream, at)
        if kind not in (HANDSHAKE, CHANGE_CIPHER_SPEC, ALERT, APPLICATION_DATA) or major != 3 or minor > 3 or size > (1 << 14) + 256:
            raise ValueError(f"not a TLS record at {at}: {stream[at:at + 40]!r}")
        yield kind, stream[at + 5:at + 5 + size]
        at += 5 + size


def is_tls13(stream, from_server):
    """Handshake in the clear only up to the hellos, everything else as application data, and the server's hello says 1.3."""
    kinds = list(records(stream))
    clear = [content for kind, content in kinds if kind == HANDSHAKE]
    if from_server:
        return len(clear) == 1 and clear[0][:1] == b"\x02" and TLS13 in clear[0]
    return bool(clear) and all(content[:1] == b"\x01" for content in clear)
