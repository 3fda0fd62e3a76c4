"""Who may come in by 15008, and as whom: every way of being nobody in particular, each refused and counted by its reason."""

import datetime
import itertools
import ssl

import pytest

from http1 import Backend, Client, ok
from http2 import Backend2
from mesh import eventually
from mesh.authority import Authority, identity
from peer import HBONE, WEFT, Peer, context, knock

PORTS = itertools.count(30000)
MINUTE = datetime.timedelta(minutes=1)
WEB = identity("shop", "web")
STRANGERS = Authority("strangers")


def handshakes(node, side, result):
    """weft_tls_handshakes_total of one node."""
    return node.weft.metrics().sum("weft_tls_handshakes_total", side=side, result=result)


#: How → (certificate from the mesh's authority, TLS version, why it is refused).
REFUSED = {
    "no certificate": (lambda authority: None, None, "no_certificate"),
    "unknown authority": (lambda authority: STRANGERS.issue(WEB), None, "unknown_ca"),
    "expired": (lambda authority: authority.issue(WEB, starts=-60 * MINUTE, ends=-10 * MINUTE), None, "expired"),
    "not yet valid": (lambda authority: authority.issue(WEB, starts=10 * MINUTE), None, "not_yet_valid"),
    "another trust domain": (lambda authority: authority.issue(identity("shop", "web", "elsewhere.test")), None, "wrong_trust_domain"),
    "two URI names": (lambda authority: authority.issue(WEB, identity("shop", "till")), None, "several_uri_names"),
    "no URI name": (lambda authority: authority.issue(dns=("web.shop.svc.cluster.local",)), None, "no_uri_name"),
    "no SPIFFE name": (lambda authority: authority.issue("https://web.shop.test/"), None, "not_spiffe"),
    "TLS 1.2": (lambda authority: authority.issue(WEB), ssl.TLSVersion.TLSv1_2, "protocol_version"),
}


@pytest.mark.parametrize("how", REFUSED)
@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_who_is_turned_away(shop, how, family):
    """By the reason that its counter names; the very next honest peer is served."""
    made, version, reason = REFUSED[how]
    node, address = shop.nodes[1], getattr(shop.stock, family)
    before = handshakes(node, "server", reason)
    found = knock(shop.stranger, address, context(shop.authority, made(shop.authority), version=version))
    assert found != "welcome"
    eventually(lambda: handshakes(node, "server", reason) == before + 1, within=5, what=f"{reason} is counted once; met {found}")
    assert knock(shop.stranger, address, context(shop.authority, shop.authority.issue(WEB))) == "welcome"


@pytest.mark.parametrize("key", ["p256", "p384", "ed25519", "rsa"])
@pytest.mark.parametrize("protocol", [HBONE, WEFT])
def test_who_is_let_in(shop, key, protocol):
    """Every sort of key, by both names of the protocol."""
    assert knock(shop.stranger, shop.stock.ip, context(shop.authority, shop.authority.issue(WEB, key=key), [protocol])) == "welcome"


@pytest.mark.parametrize("protocols", [["http/1.1"], ["h3"]])
def test_no_protocol_in_common(shop, protocols):
    """ALPN must name one of the two."""
    before = handshakes(shop.nodes[1], "server", "no_protocol")
    assert knock(shop.stranger, shop.stock.ip, context(shop.authority, shop.authority.issue(WEB), protocols)) != "welcome"
    eventually(lambda: handshakes(shop.nodes[1], "server", "no_protocol") > before, within=5)


@pytest.mark.parametrize("validity", [(4 * MINUTE, 60 * MINUTE), (-60 * MINUTE, -4 * MINUTE)], ids=["starts soon", "just over"])
def test_clocks_may_differ_by_five_minutes(shop, validity):
    """A certificate of a node whose clock is four minutes off is good."""
    starts, ends = validity
    assert knock(shop.stranger, shop.stock.ip, context(shop.authority, shop.authority.issue(WEB, starts=starts, ends=ends))) == "welcome"


def test_garbage_at_the_door(shop):
    """Bytes that are no TLS, and a silent client, harm nobody."""
    for said in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(64), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(range(256)) * 64):
        with shop.stranger.connect(shop.stock.ip, 15008) as door:
            door.sendall(said)
            try:
                while door.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    assert knock(shop.stranger, shop.stock.ip, context(shop.authority, shop.authority.issue(WEB))) == "welcome"


# --- not a relay ----------------------------------------------------------------------------------------------------

@pytest.fixture(params=[HBONE, WEFT])
def peer(request, shop):
    """An honest foreigner with web's identity, in a pod that is not meshed."""
    with Peer(shop.stranger, shop.stock.ip, context(shop.authority, shop.authority.issue(WEB), [request.param])) as made:
        yield made


@pytest.mark.parametrize("where, reason", [
    ("{cart.ip}:8080", "foreign_destination"), ("{till.ip}:8080", "foreign_destination"), ("[{cart.ip6}]:8080", "foreign_destination"), ("127.0.0.1:8080", "foreign_destination"),
    ("10.96.0.11:80", "foreign_destination"), ("{stock.ip}:15008", "own_port"), ("{stock.ip}:15001", "own_port"), ("{stock.ip}:15006", "own_port"),
    ("stock.shop.svc.cluster.local:8080", "named_destination"), ("localhost:8080", "named_destination"),
])
def test_15008_is_no_relay(shop, peer, where, reason):
    """CONNECT goes to the pod whose socket this is, by address, and to no port of Weft's: 403 else, with a counter."""
    node = shop.nodes[1]

    def counted():
        return node.weft.metrics().sum("weft_connect_refusals_total", reason=reason)
    before = counted()
    stream = peer.connect(where.format(cart=shop.cart, till=shop.till, stock=shop.stock))
    assert stream.status == 403, (stream.status, stream.reset)
    eventually(lambda: counted() == before + 1, within=5, what=f"{reason} is counted")


def test_connect_to_the_pod_itself(shop, peer):
    """And what is let in is bytes both ways, each end by itself."""
    def upside_down(connection):
        said = b""
        while piece := connection.recv(1 << 16):
            said += piece
        connection.sendall(said[::-1])
    with Backend(shop.stock, next(PORTS), conversation=upside_down) as backend:
        stream = peer.connect(f"{shop.stock.ip}:{backend.port}")
        assert stream.status == 200
        peer.send(stream.number, b"abc" * 1000, end=True)
        assert peer.reply(stream).body == b"cba" * 1000
        assert backend.peers[-1] == shop.stranger.ip, "the application sees who calls"


@pytest.mark.parametrize("said, status", [("8080;http1", 200), (None, 400), ("", 400), ("8080", 400), ("8080;gopher", 400), ("99999;http1", 400), ("15008;http1", 403), ("-1;http1", 400), ("8080;http1, 9090;http1", 400)])
def test_the_destination_of_a_request(shop, said, status):
    """Between Weft proxies a request names its port; nothing else will do."""
    with Peer(shop.stranger, shop.stock.ip, context(shop.authority, shop.authority.issue(WEB), [WEFT])) as peer:
        fields = [] if said is None else [("x-weft-destination", said)]
        assert peer.get("/s/10", *fields).status == status


def test_forged_fields_reach_nobody(shop):
    """x-weft-destination and x-forwarded-client-cert of an application are not the mesh's: neither steers, neither arrives."""
    with Backend(shop.stock, next(PORTS)) as backend:
        with Client(shop.web, shop.stock.ip, backend.port) as client:
            assert client.get("/", "X-Weft-Destination: 8080;http1", f"X-Forwarded-Client-Cert: By=x;URI={identity('shop', 'admin')}").status == 200
        seen = backend.last()
        assert seen["x-weft-destination"] is None
        assert seen.all("x-forwarded-client-cert") == [f"By={identity('shop', 'stock')};URI={WEB}"]


def test_forged_fields_of_a_peer(shop):
    """A peer with a good certificate cannot claim to be another either."""
    with Backend(shop.stock, next(PORTS)) as backend, Peer(shop.stranger, shop.stock.ip, context(shop.authority, shop.authority.issue(WEB), [WEFT])) as peer:
        reply = peer.get("/", ("x-weft-destination", f"{backend.port};http1"), ("x-forwarded-client-cert", f"URI={identity('shop', 'admin')}"))
        assert reply.status == 200
        assert backend.last().all("x-forwarded-client-cert") == [f"By={identity('shop', 'stock')};URI={WEB}"]


def test_plain_requests_carry_no_identity(shop):
    """Permissive: whoever comes without TLS is served, and says nothing about who it is."""
    with Backend(shop.stock, next(PORTS)) as backend, Client(shop.stranger, shop.stock.ip, backend.port) as client:
        assert client.get("/", f"X-Forwarded-Client-Cert: URI={WEB}").status == 200
        assert backend.last()["x-forwarded-client-cert"] is None


def test_both_sides_say_who(shop):
    """The books name both principals, and that the connection was mutual TLS; on the same node, the kernel's word is as good."""
    with Client(shop.web, shop.stock.ip, 8080) as client:
        assert client.get("/s/10").status == 200

    def found(node, reporter):
        return node.weft.metrics().sum(
            "istio_requests_total", reporter=reporter, connection_security_policy="mutual_tls", source_principal=WEB.removeprefix("spiffe://"),
            destination_principal=identity("shop", "stock").removeprefix("spiffe://"))
    eventually(lambda: found(shop.nodes[0], "source") and found(shop.nodes[1], "destination"), within=5)
