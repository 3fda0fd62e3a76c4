"""Taking back what a caller was given: by a policy, by a list in a file. Nothing new from then on, and nothing that is open outlives the second."""

import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from http1 import Client, Request, Wire, ok
from mesh import eventually
from mesh.authority import DAY, identity, now, pem, replace
from tcp import Plain, echo

WEB = identity("shop", "web")
pytestmark = pytest.mark.exclusive


def revocation_list(authority, *serials):
    """What `openssl ca -gencrl` would write."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.intermediate.subject).last_update(now() - DAY).next_update(now() + DAY)
    for serial in serials:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now()).build())
    return pem(builder.sign(authority.key, hashes.SHA256()))


def serial(shop, name):
    """Of the certificate that a pod of the shop has."""
    return x509.load_pem_x509_certificates((shop.identities.path / "shop" / name / "tls.crt").read_bytes())[0].serial_number


class Hesitant:
    """Answers requests only when it is told to."""

    def __init__(self, pod):
        self.asked, self.go = threading.Event(), threading.Event()
        self.server = Plain(pod, self._converse)
        self.port = self.server.port

    def _converse(self, made):
        wire = Wire(made)
        while Request.read(wire) is not None:
            self.asked.set()
            self.go.wait(30)
            made.sendall(ok())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go.set()
        self.server.close()


class Open:
    """What `web` has open towards a pod: bytes, a request under way, a kept connection; and what `till` has."""

    def __init__(self, shop, stack):
        self.shop = shop
        self.bytes, self.slow = stack(Plain(shop.stock, echo)), stack(Hesitant(shop.stock))
        self.opaque = stack(Client(shop.web, shop.stock.ip, self.bytes.port))
        self.opaque.send(b"\0hello")
        assert self.opaque.wire.exactly(6) == b"\0hello"
        self.waiting = stack(Client(shop.web, shop.stock.ip, self.slow.port))
        self.waiting.send("GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n")
        assert self.slow.asked.wait(5)
        self.kept = stack(Client(shop.web, shop.stock.ip, 8080))
        assert self.kept.get("/s/10").status == 200
        self.others = stack(Client(shop.web, shop.cart.ip, 8080))
        assert self.others.get("/s/10").status == 200

    def all_ends(self, since):
        """Each hears in its own way that it is over, within a second."""
        assert self.opaque.ended(within=2)
        self.waiting.socket.settimeout(2)
        reply = self.waiting.reply()
        took = time.monotonic() - since
        assert (reply.status, reply["x-weft-reason"]) == (403, "access-denied")
        assert took < 1.0, f"it took {took:.2f} s"
        with Client(self.shop.web, self.shop.stock.ip, 8080) as new:
            for client in (self.kept, new):
                reply = client.get("/s/10")
                assert (reply.status, reply["x-weft-reason"]) == (403, "access-denied")
        with Client(self.shop.web, self.shop.stock.ip, self.bytes.port) as refused:
            refused.send(b"\0hello")
            assert refused.ended(within=5)


@pytest.fixture
def stack():
    """Closes what it is given, the last first."""
    held = []

    def enter(made):
        held.append(made)
        return made.__enter__()
    yield enter
    for made in reversed(held):
        made.__exit__(None, None, None)


def counted(node, name, **labels):
    """A counter of a node."""
    return node.weft.metrics().sum(name, **labels)


def handshakes_are_refused(shop):
    """The session is gone, and a request that needs another one hears the same as on the session that ended."""
    eventually(lambda: counted(shop.nodes[1], "weft_http2_sessions_open", side="downstream") == 0, within=5, what="the session's end")
    before = counted(shop.nodes[1], "weft_tls_handshakes_total", side="server", result="revoked")
    with Client(shop.web, shop.stock.ip, 8080) as refused:
        reply = refused.get("/s/10")
    assert (reply.status, reply["x-weft-reason"]) == (403, "access-denied")
    assert counted(shop.nodes[1], "weft_tls_handshakes_total", side="server", result="revoked") > before
    assert counted(shop.nodes[0], "weft_upstream_failures_total", reason="caller_revoked") >= 1


def test_a_list_in_a_file(fresh, stack):
    """`--crl-file`: an entry more, and that certificate opens nothing and keeps nothing; without it again, it is as good as before."""
    shop = fresh(start=False)
    path = shop.directory / "revoked.pem"
    replace(path, revocation_list(shop.authority))
    shop.start(words=["--crl-file", str(path)])
    node = shop.nodes[1]
    serving = stack(Plain(shop.stock, echo))
    mine = Open(shop, stack)
    with Client(shop.till, shop.cart.ip, 8080) as other:
        assert other.get("/s/10").status == 200
        since = time.monotonic()
        replace(path, revocation_list(shop.authority, serial(shop, "web")))
        mine.all_ends(since)
        assert other.get("/s/10").status == 200, "nobody else is touched"
    assert mine.others.get("/s/10").status == 200, "on its own node there is no certificate to show"
    handshakes_are_refused(shop)
    assert counted(node, "weft_tls_session_ends_total", reason="revoked") == 1
    assert counted(node, "weft_access_ended_total") >= 2
    for said in ("revocations in force", "access ended reason=access-denied caller=shop/web destination=shop/stock"):
        eventually(lambda: said in node.weft.log_path.read_text(), within=5, what=said)
    # A file that is none changes nothing, and is told.
    replace(path, b"nothing of the kind\n")
    eventually(lambda: "those known stay in force" in node.weft.log_path.read_text(), within=5)
    with Client(shop.web, shop.stock.ip, 8080) as refused:
        assert refused.get("/s/10").status == 403
    replace(path, revocation_list(shop.authority))

    def served():
        with Client(shop.web, shop.stock.ip, 8080) as again:
            return again.get("/s/10").status == 200
    eventually(served, within=10, what="the certificate is good again")
    with Client(shop.web, shop.stock.ip, serving.port) as again:
        again.send(b"\0hello")
        assert again.wire.exactly(6) == b"\0hello"


@pytest.mark.parametrize("by", ["identities", "serials"])
def test_a_policy(fresh, stack, by):
    """`revoked` of a mesh-wide policy: the same, from the manifest's change on; an identity is revoked on its own node too."""
    shop = fresh()
    node = shop.nodes[1]
    mine = Open(shop, stack)
    since = time.monotonic()
    shop.extra["gone.yaml"] = [{
        "apiVersion": "weft.mesh/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": "gone", "namespace": "weft-system"},
        "spec": {"revoked": {by: [WEB if by == "identities" else f"{serial(shop, 'web'):x}"]}}}]
    shop.namespace("weft-system")
    shop.apply()
    mine.all_ends(since)
    assert mine.others.get("/s/10").status == (403 if by == "identities" else 200)
    handshakes_are_refused(shop)
    assert counted(node, "weft_tls_session_ends_total", reason="revoked") == 1
    eventually(lambda: "access ended reason=access-denied" in node.weft.log_path.read_text(), within=5)
