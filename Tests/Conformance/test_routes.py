"""What routes do to requests and replies, on every crossing from one HTTP to the other."""

import threading
import time

import pytest

from http1 import Client
from host import LOOPBACK
from http2 import Client2
from mesh import eventually
from steering import Scene, Server, to


def prefix(path, rule, **more):
    """A match by prefix."""
    return {"path": f"prefix:{path}", "rule": rule, **more}


# Which rule, which backend

def test_the_rule_that_takes_a_request_names_its_backend(crossing):
    """The new version gets what is meant for it and nothing else, and the metrics say which Service it was."""
    with Scene(crossing, [to("v2"), to("v1")], [prefix("/new", 0), {"headers": [["x-canary", "exact:yes"]], "rule": 0}, prefix("/", 1)], ("v1", "v2")) as scene:
        before = scene.counted("istio_requests_total", destination_service_name="v2", response_code="200")
        assert scene.ask("/new/thing").server == "v2"
        assert scene.ask("/old", ("X-Canary", "yes")).server == "v2"
        assert scene.ask("/old", ("x-canary", "no")).server == "v1"
        assert scene.ask("/newer", method="POST", body=b"x" * 100_000).server == "v1"
        assert scene.servers["v1"].last().body == b"x" * 100_000
        eventually(lambda: scene.counted("istio_requests_total", destination_service_name="v2", response_code="200") == before + 2, within=5)


def test_what_no_rule_takes_is_404_and_what_leads_nowhere_is_500(crossing):
    rules = [to("v1"), {"backends": [{"service": None}]}, {"backends": []}, {"backends": [{"service": "v1:80", "weight": 0}]}, to("nobody")]
    matches = [prefix("/here", 0), prefix("/unresolved", 1), prefix("/none", 2), prefix("/zero", 3), prefix("/unknown", 4)]
    with Scene(crossing, rules, matches) as scene:
        expected = {"/": (404, "no-matching-route"), "/unresolved": (500, "backend-unresolved"), "/none": (500, "no-backend"),
                    "/zero": (500, "no-backend"), "/unknown": (500, "backend-unresolved")}
        for target, outcome in expected.items():
            reply = scene.ask(target)
            assert (reply.status, reply["x-weft-reason"]) == outcome, target
        # The connection is as good as before.
        assert scene.ask("/here").status == 200
        assert len(scene.servers["v1"].requests) == 1
        assert scene.counted("weft_route_refusals_total", reason="no_match") == 1
        assert scene.counted("istio_requests_total", response_code="404", response_flags="NR") == 1


def test_a_grpc_client_is_told_in_its_own_words():
    with Scene(("2", "2"), [to("v1"), {"backends": []}], [prefix("/shop.Cart", 0), prefix("/shop.Stock", 1)]) as scene:
        grpc = (("content-type", "application/grpc"), ("te", "trailers"))
        for target, status in (("/shop.Other/Get", "12"), ("/shop.Stock/Get", "14")):
            reply = scene.ask(target, *grpc, method="POST", body=b"\0\0\0\0\0")
            assert (reply.status, reply["grpc-status"]) == (200, status)


def test_one_request_in_a_hundred_goes_to_the_canary():
    """10,000 requests: within five standard deviations of one in a hundred, and none of them lost."""
    rule = {"backends": [{"service": "v1:80", "weight": 99}, {"service": "v2:80", "weight": 1}]}
    with Scene(("2", "2"), [rule], servers=("v1", "v2")) as scene, Client2(LOOPBACK, *scene.proxy.address) as client:
        canaries = 0
        for _ in range(100):
            streams = [client.ask("/") for _ in range(100)]
            for stream in streams:
                reply = client.reply(stream)
                assert reply.status == 200
                canaries += reply["x-server"] == "v2"
        assert 50 <= canaries <= 150, canaries


def test_a_change_of_routes_is_one_moment(crossing):
    """Each request sees the old rules or the new ones, whole: never the old backend with the new header."""
    def rules(version):
        return [to(version, request={"set": {"x-version": version}}, response={"set": {"x-said": version}})]
    with Scene(crossing, rules("v1"), servers=("v1", "v2")) as scene:
        seen = set()
        for turn in range(40):
            version = ("v2", "v1")[turn % 2]
            scene.proxy.publish(scene.routes(rules(version)))
            for _ in range(5):
                reply = scene.ask("/")
                assert reply.status == 200
                assert reply["x-said"] == reply.server == scene.servers[reply.server].last()["x-version"]
                seen.add(reply.server)
        assert seen == {"v1", "v2"}


def test_a_reply_is_edited_by_the_rule_its_request_was_judged_by(crossing):
    """The routes change while a request waits: its reply belongs to the old ones."""
    go = threading.Event()
    slow = Server("v1", crossing[1])
    with Scene(crossing, [to("v1", response={"set": {"x-said": "old"}})], servers=(slow,)) as scene:
        slow.wait = lambda: go.wait(10)
        answers = []
        asking = threading.Thread(target=lambda: answers.append(scene.ask("/")))
        asking.start()
        slow.last()
        for number in range(3):
            scene.proxy.publish(scene.routes([to("v1", response={"set": {"x-said": f"new {number}"}})]))
        go.set()
        asking.join(10)
        assert answers[0]["x-said"] == "old"
        assert scene.ask("/")["x-said"] == "new 2"


# Fields

def test_fields_of_requests_are_set_added_and_removed(crossing):
    """First as the rule wants it, then as its backend does."""
    rule = {
        "backends": [{"service": "v1:80", "request": {"add": {"x-add": "backend"}, "set": {"x-backend": "yes"}}}],
        "request": {"set": {"x-set": "new", "x-fresh": "1"}, "add": {"x-add": "rule", "x-first": "2"}, "remove": ["x-remove", "x-not-there"]}}
    with Scene(crossing, [rule]) as scene:
        sent = [("x-set", "old"), ("x-set", "older"), ("x-add", "client"), ("x-remove", "a"), ("x-keep", "kept"), ("x-remove", "b"), ("x-last", "end")]
        for body in (None, b"with a body"):
            reply = scene.ask("/", *sent, method="POST" if body else "GET", body=body)
            assert reply.status == 200
            asked = scene.servers["v1"].last()
            assert asked.all("x-set") == ["new"] and asked.all("x-fresh") == ["1"] and asked.all("x-first") == ["2"]
            assert asked.all("x-add") == ["client,rule,backend"] and asked.all("x-backend") == ["yes"]
            assert asked.all("x-remove") == [] and asked.all("x-keep") == ["kept"] and asked.all("x-last") == ["end"]
            assert asked.body == (body or b"") and asked.host == "shop.test"


def test_fields_of_replies_are_set_added_and_removed(crossing):
    rule = {
        "backends": [{"service": "v1:80", "response": {"set": {"x-backend": "yes"}}}],
        "response": {"set": {"server": "weft"}, "add": {"x-add": "rule", "set-cookie": "b=2"}, "remove": ["x-powered-by"]}}
    fields = [("server", "old/1.0"), ("x-add", "server"), ("x-powered-by", "steam"), ("set-cookie", "a=1"), ("x-keep", "kept")]
    with Scene(crossing, [rule], fields=fields, body=b"z" * 70_000) as scene:
        reply = scene.ask("/")
        assert reply.all("server") == ["weft"] and reply.all("x-add") == ["server,rule"] and reply.all("x-powered-by") == []
        assert reply.all("set-cookie") == ["a=1", "b=2"] and reply.all("x-backend") == ["yes"] and reply.all("x-keep") == ["kept"]
        assert reply.body == b"z" * 70_000
        assert scene.ask("/", method="HEAD")["server"] == "weft"


def test_no_edit_makes_two_messages_of_one(crossing):
    """A route that names what frames a message, or what this hop lives by, changes nothing of it."""
    forbidden = {"content-length": "0", "transfer-encoding": "chunked", "connection": "x-keep", "host": "evil.test", "te": "gzip", "upgrade": "h2c",
                 "x-weft-destination": "1;http1", "x-forwarded-client-cert": "URI=forged"}
    rule = to("v1", request={"set": forbidden}, response={"set": {k: v for k, v in forbidden.items() if k != "host"}})
    with Scene(crossing, [rule]) as scene:
        for _ in range(2):
            reply = scene.ask("/", ("x-keep", "kept"), method="POST", body=b"hello")
            assert reply.status == 200 and reply.body == b"ok" and reply["connection"] is None
            asked = scene.servers["v1"].last()
            assert asked.body == b"hello" and asked.host == "shop.test" and asked["x-keep"] == "kept"
            assert not asked.all("x-weft-destination") and not asked.all("x-forwarded-client-cert")
        assert not getattr(scene.servers["v1"].server, "violations", [])


def test_a_head_that_grows_too_large_is_refused(crossing):
    rule = to("v1", request={"set": {f"x-{number}": "v" * 4_000 for number in range(15)}})
    with Scene(crossing, [rule]) as scene:
        assert scene.ask("/").status == 200
        reply = scene.ask("/", ("x-large", "y" * 10_000))
        assert (reply.status, reply["x-weft-reason"]) == (431, "head-too-large")
        assert scene.counted("weft_route_heads_too_large_total") == 1


# Rewrites and redirects

# Request, prefix that matches, replacement, outcome: the table of the Gateway API's HTTPPathModifier, and beyond it.
PREFIXES = [
    ("/foo/bar", "/foo", "/xyz", "/xyz/bar"), ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"), ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"), ("/foo", "/foo", "/xyz", "/xyz"), ("/foo/", "/foo", "/xyz", "/xyz/"), ("/foo/bar", "/foo", "", "/bar"),
    ("/foo/", "/foo", "", "/"), ("/foo", "/foo", "", "/"), ("/foo/", "/foo", "/", "/"), ("/foo", "/foo", "/", "/"),
    ("/foo/bar?a=b&c=/foo", "/foo", "/xyz", "/xyz/bar?a=b&c=/foo"), ("/foo?a", "/foo", "", "/?a"), ("/a/b", "/", "/xyz", "/xyz/a/b"),
    ("/%66oo/b%2Fc", "/foo", "/xyz", "/xyz/b%2Fc"), ("/x/../foo/bar", "/foo", "/xyz", "/xyz/bar"), ("/foo//bar", "/foo", "/xyz", "/xyz//bar"),
]


def test_a_prefix_is_rewritten_by_whole_elements(crossing):
    rules = [to("v1", rewrite={"path": {"prefix": replacement}}) for _, _, replacement, _ in PREFIXES]
    matches = [prefix(matched.rstrip("/"), number, headers=[["x-row", f"exact:{number}"]]) for number, (_, matched, _, _) in enumerate(PREFIXES)]
    with Scene(crossing, rules, matches) as scene:
        for number, (asked, _, _, expected) in enumerate(PREFIXES):
            assert scene.ask(asked, ("x-row", str(number))).status == 200, asked
            assert scene.servers["v1"].last().target == expected, PREFIXES[number]


def test_path_and_host_are_rewritten(crossing):
    with Scene(crossing, [to("v1", rewrite={"hostname": "inner.test", "path": {"full": "/one"}}), to("v1", rewrite={"hostname": "other.test"})],
               [prefix("/full", 0), prefix("/", 1)]) as scene:
        scene.ask("/full/path?q=1", host="shop.test:8080", method="POST", body=b"abc")
        asked = scene.servers["v1"].last()
        assert (asked.target, asked.host, asked.body) == ("/one?q=1", "inner.test", b"abc")
        scene.ask("/else", host="shop.test")
        asked = scene.servers["v1"].last()
        assert (asked.target, asked.host) == ("/else", "other.test")


def test_a_path_that_grows_too_long_is_refused(crossing):
    with Scene(crossing, [to("v1", rewrite={"path": {"prefix": "/" + "y" * 1_000}})], [prefix("/foo", 0)]) as scene:
        reply = scene.ask("/foo/" + "x" * 16_000)
        assert reply.status in (414, 431)
        assert scene.counted("weft_route_heads_too_large_total") == 1
        assert scene.ask("/foo/bar").status == 200


# Redirect, request, expected address. {port} is the service's own.
REDIRECTS = [
    ({"hostname": "example.org"}, "/a?b=c", 302, "http://example.org:{port}/a?b=c"),
    ({"scheme": "https"}, "/a", 302, "https://shop.test/a"),
    ({"scheme": "http"}, "/a", 302, "http://shop.test/a"),
    ({"scheme": "https", "hostname": "example.org", "status": 301}, "/", 301, "https://example.org/"),
    ({"port": 80}, "/a", 302, "http://shop.test/a"),
    ({"port": 443}, "/a", 302, "http://shop.test:443/a"),
    ({"scheme": "https", "port": 443}, "/a", 302, "https://shop.test/a"),
    ({"scheme": "https", "port": 8443}, "/a", 302, "https://shop.test:8443/a"),
    ({"port": 8083, "hostname": "example.org"}, "/a", 302, "http://example.org:8083/a"),
    ({"path": {"prefix": "/other"}, "port": 80}, "/row/x?y", 302, "http://shop.test/other/x?y"),
    ({"path": {"prefix": ""}, "port": 80}, "/row", 302, "http://shop.test/"),
    ({"path": {"full": "/whole"}, "port": 80, "status": 303}, "/row/x?y", 303, "http://shop.test/whole?y"),
    ({"port": 80, "status": 307}, "/a", 307, "http://shop.test/a"),
    ({"port": 80, "status": 308}, "/a", 308, "http://shop.test/a"),
]


def test_clients_are_sent_elsewhere(crossing):
    rules = [{"redirect": redirect} for redirect, _, _, _ in REDIRECTS]
    matches = [{"path": "prefix:/row" if "path" in redirect else "prefix:", "headers": [["x-row", f"exact:{number}"]], "rule": number}
               for number, (redirect, _, _, _) in enumerate(REDIRECTS)]
    with Scene(crossing, rules, matches) as scene:
        for number, (redirect, target, status, location) in enumerate(REDIRECTS):
            reply = scene.ask(target, ("x-row", str(number)), host="shop.test:1234")
            assert (reply.status, reply["location"]) == (status, location.replace("{port}", str(scene.proxy.address[1]))), redirect
        assert scene.ask("/row", ("x-row", "9"), method="HEAD")["location"] == "http://shop.test/other"
        reply = scene.ask("/row", ("x-row", "9"), method="POST", body=b"x" * 50_000)
        assert (reply.status, reply["location"]) == (302, "http://shop.test/other")
        assert not scene.servers["v1"].requests
        assert scene.counted("weft_route_answers_total", answer="redirect") == len(REDIRECTS) + 2


# Cross-origin requests

SHOP = {"origins": ["https://www.foo.com", "https://*.bar.com", "http://local.test:8080"], "methods": ["GET", "OPTIONS"], "headers": ["x-header-1", "x-header-2"],
        "exposedHeaders": ["x-header-3", "x-header-4"], "allowsCredentials": True, "maxAgeSeconds": 3600}
ALLOWED = ["https://www.foo.com", "https://www.bar.com", "https://xpto.www.bar.com", "https://www.foo.com:443", "http://local.test:8080"]
NOT_ALLOWED = ["https://foobar.com", "http://www.foo.com", "https://bar.com", "https://www.foo.com:8443", "https://www.foo.com.evil.test", "null",
               "https://evilbar.com", "http://local.test", "https://", "x" * 400]


def asking(origin, method="GET", *more):
    """The fields of a preflight."""
    return [("origin", origin), ("access-control-request-method", method), *more]


def test_a_browser_that_asks_first_is_answered_here(crossing):
    with Scene(crossing, [to("v1", cors=SHOP)]) as scene:
        for origin in ALLOWED:
            reply = scene.ask("/", *asking(origin, "GET", ("access-control-request-headers", "x-header-1")), method="OPTIONS")
            assert reply.status == 200 and reply.body == b""
            said = {name: reply[f"access-control-{name}"] for name in ("allow-origin", "allow-methods", "allow-headers", "expose-headers", "max-age", "allow-credentials")}
            assert said == {"allow-origin": origin, "allow-methods": "GET, OPTIONS", "allow-headers": "x-header-1, x-header-2",
                            "expose-headers": "x-header-3, x-header-4", "max-age": "3600", "allow-credentials": "true"}
        for origin in NOT_ALLOWED:
            reply = scene.ask("/", *asking(origin), method="OPTIONS")
            assert reply.status == 200 and not [name for name, _ in reply.message.fields if name.startswith("access-control")], origin
        assert not scene.servers["v1"].requests
        # Without the question it is a request like any other.
        assert scene.ask("/", ("origin", ALLOWED[0]), method="OPTIONS").server == "v1"


def test_replies_say_who_may_read_them(crossing):
    fields = [("access-control-allow-origin", "http://wrong.test"), ("vary", "accept-encoding")]
    with Scene(crossing, [to("v1", cors=SHOP)], fields=fields) as scene:
        for origin in ALLOWED:
            reply = scene.ask("/", ("origin", origin))
            assert reply.all("access-control-allow-origin") == [origin] and reply["access-control-allow-credentials"] == "true"
            assert reply["vary"] == "accept-encoding,Origin" and reply["access-control-expose-headers"] == "x-header-3, x-header-4"
        for origin in NOT_ALLOWED:
            assert scene.ask("/", ("origin", origin))["access-control-allow-credentials"] is None, origin
        assert scene.ask("/")["vary"] == "accept-encoding"


@pytest.mark.parametrize("credentials", [False, True])
def test_where_anything_is_allowed_what_was_asked_about_is(crossing, credentials):
    cors = {"origins": ["*"], "methods": ["*"], "headers": ["*"], "exposedHeaders": ["*"], "allowsCredentials": credentials}
    with Scene(crossing, [to("v1", cors=cors)]) as scene:
        reply = scene.ask("/", *asking("https://other.foo.com:12345", "PUT", ("access-control-request-headers", "x-header-1, x-header-2")), method="OPTIONS")
        assert reply["access-control-allow-origin"] == "https://other.foo.com:12345"
        assert reply["access-control-allow-methods"] == "PUT" and reply["access-control-allow-headers"] == "x-header-1, x-header-2"
        assert reply["access-control-allow-credentials"] == ("true" if credentials else None)
        assert reply["access-control-expose-headers"] == (None if credentials else "*")
        assert reply["access-control-max-age"] == "5"


def test_a_browser_may_read_why_its_request_has_failed(crossing):
    with Scene(crossing, [to("v1", cors=SHOP)], servers=("v1",)) as scene:
        scene.servers["v1"].close()
        reply = eventually(lambda: (said := scene.ask("/", ("origin", ALLOWED[0]))).status == 503 and said, within=5)
        assert reply["access-control-allow-origin"] == ALLOWED[0] and reply["x-weft-reason"] == "upstream-connect-failed"


# Callers

def test_consumer_routes_are_for_their_namespace_alone():
    """The proxy's pods are in namespace `test`: routes of another namespace's consumers are not theirs."""
    with Scene(("1", "1"), [to("v1")], servers=("v1", "v2")) as scene:
        elsewhere = scene.routes([to("v2")], callersNamespace="elsewhere")["routes"][0]
        routes = scene.routes([to("v1")])
        routes["routes"].append(elsewhere)
        scene.proxy.publish(routes)
        assert scene.ask("/").server == "v1"
        routes["routes"].append({**elsewhere, "callersNamespace": "test"})
        scene.proxy.publish(routes)
        assert scene.ask("/").server == "v2"


def test_pipelined_requests_find_their_own_routes():
    """Answers of the proxy's own and of servers come in the order of the requests."""
    with Scene(("1", "1"), [to("v1"), {"redirect": {"hostname": "elsewhere.test", "port": 80}}], [prefix("/v1", 0), prefix("/away", 1)]) as scene:
        with Client(LOOPBACK, *scene.proxy.address) as client:
            client.send("".join(f"GET {target} HTTP/1.1\r\nhost: a\r\n\r\n" for target in ("/v1", "/away", "/none", "/v1")))
            assert [client.reply().status for _ in range(4)] == [200, 302, 404, 200]


# Time

@pytest.mark.parametrize("limit", ["requestMilliseconds", "backendRequestMilliseconds"])
def test_a_request_that_takes_too_long_is_given_up(crossing, limit):
    """A hanging server costs its caller as long as the route says, not as long as the server likes; the others are not touched."""
    go = threading.Event()
    hanging = Server("v1", crossing[1], wait=lambda: go.wait(20))
    with Scene(crossing if crossing != ("2", "1") else ("1", "1"), [to("v1", **{limit: 300}), to("v2", **{limit: 5_000})], [prefix("/slow", 0), prefix("/", 1)], (hanging, "v2")) as scene:
        since = time.monotonic()
        reply = scene.ask("/slow")
        # An attempt that is given up is told as its server's silence.
        assert reply.status == 504 and reply["x-weft-reason"] in {"requestMilliseconds": ["deadline-exceeded"], "backendRequestMilliseconds": ["deadline-exceeded", "upstream-timeout"]}[limit]
        assert 0.29 <= time.monotonic() - since < 3
        reply = scene.ask("/slow", method="POST", body=b"x" * 100_000)
        assert reply.status == 504
        assert scene.ask("/").status == 200
        go.set()


def test_no_time_is_no_limit(crossing):
    """`0s` says so; the mesh's own limits stay."""
    with Scene(crossing, [to("v1", requestMilliseconds=0, backendRequestMilliseconds=0)]) as scene:
        assert scene.ask("/").status == 200
