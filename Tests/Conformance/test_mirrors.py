"""Copies of requests: they reach their backend, nobody hears the answer, and nobody waits for them."""

import threading

import pytest

from host import LOOPBACK
from http2 import Client2
from mesh import eventually
from steering import Scene, Server, to


def test_copies_go_to_the_mirror_and_nobody_hears_it(crossing):
    rule = to("v1", mirrors=[{"service": "mirror:80"}], request={"set": {"x-rule": "yes"}})
    mirror = Server("mirror", crossing[1], status=500, body=b"nobody hears this" * 5_000)
    with Scene(crossing, [rule], servers=("v1", mirror)) as scene:
        bodies = [None, b"small", b"b" * 200_000]
        for number, body in enumerate(bodies):
            reply = scene.ask(f"/{number}?q", ("x-id", str(number)), method="POST" if body else "GET", body=body)
            assert (reply.status, reply.server, reply.body) == (200, "v1", b"ok")
        eventually(lambda: len(mirror.requests) == 3, within=5)
        for number, copy in enumerate(sorted(mirror.requests, key=lambda copy: copy["x-id"])):
            eventually(lambda: copy.body == (bodies[number] or b""), within=5)
            assert (copy.target, copy.host, copy["x-id"], copy["x-rule"]) == (f"/{number}?q", "shop.test", str(number), "yes")
        eventually(lambda: scene.counted("istio_requests_total", reporter="source") == 3 + (crossing == ("2", "1")) * 2, within=5)
        assert scene.counted("weft_mirrored_requests_total", outcome="sent") == 3
        eventually(lambda: not scene.counted("weft_buffered_bytes"), within=5)


def test_a_mirror_that_is_gone_or_silent_holds_nobody_up(crossing):
    go = threading.Event()
    silent = Server("silent", crossing[1], wait=lambda: go.wait(30))
    gone = Server("gone", crossing[1])
    rule = to("v1", mirrors=[{"service": "silent:80"}, {"service": "gone:80"}, {"service": "nobody:80"}, {"service": None}])
    with Scene(crossing if crossing != ("2", "1") else ("1", "1"), [rule], servers=("v1", silent, gone), limits={"mirrorsPerPodMax": 8}) as scene:
        gone.close()
        for number in range(40):
            assert scene.ask("/", method="POST", body=b"x" * 1_000).server == "v1"
        assert scene.counted("weft_mirrored_requests_total", outcome="left_out") > 0
        eventually(lambda: scene.counted("weft_mirrored_requests_total", outcome="failed") > 0, within=5)
        go.set()


# Not from HTTP/2 to HTTP/1.1: whether a mirror speaks HTTP/2 cannot be learnt from one that is silent.
@pytest.mark.parametrize("crossing", [("1", "1"), ("1", "2"), ("2", "2")], ids="to".join)
def test_a_mirror_that_does_not_read_is_cut_off(crossing):
    """A large upload goes on at the pace of the one who matters."""
    stuck = LOOPBACK.listen(0)
    port = stuck.getsockname()[1]
    mirror = type("Stuck", (), {"name": "stuck", "spoken": "1", "status": 200, "close": stuck.close,
                                "service": lambda self, port_=80: {"name": "stuck", "port": 80, "spoken": "http", "endpoints": [f"127.0.0.1:{port}"]}})()
    body = b"u" * (20 << 20)
    with Scene(crossing, [to("v1", mirrors=[{"service": "stuck:80"}])], servers=("v1", mirror)) as scene:
        assert scene.ask("/", method="POST", body=body).server == "v1"
        assert scene.servers["v1"].last().body == body
        eventually(lambda: scene.counted("weft_mirrored_requests_total", outcome="cut_off") == 1, within=15)
        eventually(lambda: not scene.counted("weft_buffered_bytes"), within=5)


def test_one_request_in_four_is_copied():
    """2,000 requests, within five standard deviations."""
    rule = to("v1", mirrors=[{"service": "mirror:80", "numerator": 25, "denominator": 100}])
    with Scene(("2", "2"), [rule], servers=("v1", "mirror")) as scene, Client2(LOOPBACK, *scene.proxy.address) as client:
        for _ in range(40):
            for stream in [client.ask("/") for _ in range(50)]:
                assert client.reply(stream).status == 200
        sent = scene.counted("weft_mirrored_requests_total", outcome="sent")
        assert 403 <= sent <= 597, sent
        eventually(lambda: len(scene.servers["mirror"].requests) == sent, within=10)
