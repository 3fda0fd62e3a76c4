"""Whom a door that wants mutual TLS lets in: one request through it with this certificate or that, or none."""

import socket
import ssl

#: A complete HTTP/2 connection of one request, as Weft's proxies open it, up to the fields that depend on the destination.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
HEADERS, SETTINGS = 1, 4
#: `:status: 200` of the static table (RFC 7541, appendix A).
STATUS_200 = 0x88
HTTP1 = b"GET /s/10 HTTP/1.1\r\nHost: h0.test\r\n\r\n"


def _literal(name, value):
    """A field that leaves the dynamic table alone (RFC 7541, 6.2.2)."""
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


def _weft(port):
    """GET /s/10 of that port's application, as a stream."""
    block = b"\x82\x86" + _literal(b":path", b"/s/10") + _literal(b":authority", b"h0.test") + _literal(b"x-weft-destination", b"%d;http1" % port)
    return PREFACE + len(block).to_bytes(3, "big") + bytes((HEADERS, 5, 0, 0, 0, 1)) + block


def _is_served(bytes_, inner):
    """Whether a reply with status 200 has come; None: not yet."""
    if inner is None:
        return bytes_.startswith(b"HTTP/1.1 200") if len(bytes_) >= 12 else None
    at = 0
    while len(bytes_) - at >= 10:
        length, kind, stream = int.from_bytes(bytes_[at:at + 3], "big"), bytes_[at + 3], int.from_bytes(bytes_[at + 5:at + 9], "big")
        if kind == HEADERS and stream == 1:
            return bytes_[at + 9] == STATUS_200
        at += 9 + length
    return None


def lets_in(target, inner, roots, certificate=None, version=None):
    """Whether a client with these gets a reply. `inner`: the application's port when the door speaks weft-h2, else it speaks HTTP/1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(roots)
    context.set_alpn_protocols(["http/1.1" if inner is None else "weft-h2"])
    if version is not None:
        context.maximum_version = version
    if certificate is not None:
        context.load_cert_chain(*certificate)
    host, port = target.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), 5) as plain, context.wrap_socket(plain) as door:
            door.sendall(HTTP1 if inner is None else _weft(inner))
            received = b""
            while (served := _is_served(received, inner)) is None:
                part = door.recv(4096)
                if not part:
                    return False
                received += part
            return served
    except OSError:  # ssl.SSLError too
        return False
