"""Someone else's end of a 15008 connection: Python's TLS with whatever certificate, and HTTP/2 frames by the h2 library on it."""

import ssl
import tempfile
from pathlib import Path

from http2 import Client2
from mesh.authority import Authority

HBONE, WEFT = "h2", "weft-h2"


def context(authority, certificate=None, protocols=(HBONE,), version=None):
    """TLS settings of a client that trusts `authority` and shows `certificate`. Names are not looked at: the mesh has none."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.load_verify_locations(cadata=authority.bundle.decode())
    made.set_alpn_protocols(list(protocols))
    if version is not None:
        made.maximum_version = version
    if certificate is not None:
        with tempfile.TemporaryDirectory() as place:
            made.load_cert_chain(*certificate.files(Path(place)))
    return made


def secure(pod, address, settings, port=15008, timeout=10.0):
    """A TLS connection of a pod."""
    plain = pod.connect(address, port, timeout)
    try:
        return settings.wrap_socket(plain)
    except BaseException:
        plain.close()
        raise


def knock(pod, address, settings):
    """What a TLS client meets at the door: "welcome" (the server's SETTINGS), or how it is turned away."""
    try:
        with secure(pod, address, settings) as door:
            # In TLS 1.3 the server's word on the client's certificate comes behind the handshake.
            first = door.recv(9)
    except ssl.SSLError as error:
        return error.reason or str(error)
    except OSError as error:
        return type(error).__name__
    return "welcome" if len(first) == 9 and first[3] == 4 else "closed"


class Peer(Client2):
    """An HTTP/2 client on a TLS connection to 15008."""

    def __init__(self, pod, address, settings, **options):
        self.settings = settings
        super().__init__(pod, address, 15008, **options)

    def dial(self, pod, address, port, timeout):
        return secure(pod, address, self.settings, port, timeout)

    def connect(self, authority, *fields):
        """A CONNECT stream; its head has been answered when this returns."""
        stream = self.ask(None, *fields, method="CONNECT", authority=authority, end=False)
        self.until(lambda: stream.began or stream.over, f"an answer to CONNECT {authority}")
        return stream


__all__ = ["Authority", "HBONE", "WEFT", "Peer", "context", "knock", "secure"]
