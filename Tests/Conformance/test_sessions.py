"""Sessions: who has begun with one endpoint stays with it while it is ready."""

import pytest

from steering import Scene, Server, to


def endpoints(servers):
    """One service of several endpoints."""
    return {"name": "pool", "port": 80, "spoken": "http2" if servers[0].spoken == "2" else "http", "endpoints": [f"127.0.0.1:{server.port}" for server in servers]}


@pytest.fixture
def pool(crossing):
    """A scene whose routes lead to one service of four endpoints."""
    servers = tuple(Server(f"e{number}", crossing[1]) for number in range(4))

    def begin(session, **options):
        scene = Scene(crossing, [], servers=servers, **options)
        plain = scene.routes

        def routes(rules, matches=None, only=servers, **table):
            found = plain(rules, matches, **table)
            found["services"].append(endpoints(only))
            return found
        scene.routes = routes
        scene.proxy.publish(routes([to("pool", session=session)]))
        return scene
    return begin, servers


def test_a_cookie_keeps_a_session_with_one_endpoint(pool):
    begin, servers = pool
    with begin({"name": "cart", "usesCookie": True}) as scene:
        first = scene.ask("/")
        cookie, *attributes = first["set-cookie"].split("; ")
        assert cookie.startswith("cart=") and attributes == ["Path=/", "HttpOnly"]
        for _ in range(30):
            reply = scene.ask("/", ("cookie", f"theme=dark; {cookie}; x=y"))
            assert reply.server == first.server and reply["set-cookie"] is None
        # Others are spread, and what is no token is nobody's.
        assert len({scene.ask("/").server for _ in range(40)}) > 1
        for nonsense in ("cart=", "cart=zz", "cart=" + "0" * 60, "cart=" + "f" * 60, "CART=1"):
            assert scene.ask("/", ("cookie", nonsense))["set-cookie"] is not None
        # Its endpoint goes: the session moves, and stays where it has gone to.
        left = [server for server in servers if server.name != first.server]
        scene.proxy.publish(scene.routes([to("pool", session={"name": "cart"})], only=left))
        moved = scene.ask("/", ("cookie", cookie))
        assert moved.server != first.server and moved["set-cookie"] is not None
        again = moved["set-cookie"].split("; ")[0]
        assert {scene.ask("/", ("cookie", again)).server for _ in range(20)} == {moved.server}
        assert scene.counted("weft_session_requests_total", outcome="moved") >= 1


def test_a_header_keeps_a_session_too(pool):
    begin, _ = pool
    with begin({"name": "x-session", "usesCookie": False}) as scene:
        first = scene.ask("/")
        token = first["x-session"]
        assert {scene.ask("/", ("X-Session", token)).server for _ in range(20)} == {first.server}


def test_sessions_end_when_they_must(pool):
    begin, _ = pool
    with begin({"name": "cart", "usesCookie": True, "isPermanent": True, "absoluteTimeoutSeconds": 3600, "idleTimeoutSeconds": 600}) as scene:
        first = scene.ask("/")
        cookie = first["set-cookie"].split("; ")[0]
        assert "Max-Age=3600" in first["set-cookie"]
        # Used once more it rests from now on; the token says so.
        renewed = scene.ask("/", ("cookie", cookie))
        assert renewed.server == first.server and renewed["set-cookie"] is not None
        token = cookie.removeprefix("cart=")
        begun, used = int(token[44:52], 16), int(token[52:60], 16)
        aged = f"cart={token[:44]}{begun - 3601:08x}{used:08x}"
        rested = f"cart={token[:44]}{begun:08x}{used - 601:08x}"
        for old in (aged, rested):
            fresh = scene.ask("/", ("cookie", old))["set-cookie"].split("; ")[0].removeprefix("cart=")
            assert int(fresh[44:52], 16) >= begun


def test_a_session_stays_with_its_version():
    """The split is 50 to 50; whoever has seen the new version goes on seeing it, also when it gets no new sessions any more."""
    rule = {"backends": [{"service": "v1:80"}, {"service": "v2:80"}], "session": {"name": "v", "usesCookie": True}}
    with Scene(("1", "1"), [rule], servers=("v1", "v2")) as scene:
        for _ in range(10):
            first = scene.ask("/")
            cookie = first["set-cookie"].split("; ")[0]
            assert {scene.ask("/", ("cookie", cookie)).server for _ in range(10)} == {first.server}
        while (first := scene.ask("/")).server != "v2":
            pass
        rule["backends"][1]["weight"] = 0
        scene.proxy.publish(scene.routes([rule]))
        assert scene.ask("/", ("cookie", first["set-cookie"].split("; ")[0])).server == "v2"
        assert {scene.ask("/").server for _ in range(20)} == {"v1"}
