"""HTTP/2 through the mesh: load generators, file servers and curl, towards servers of either version."""

import hashlib
import itertools
import re

import pytest
from h2.settings import SettingCodes

from http1 import Backend, ok
from http2 import Backend2, Client2, ok2
from mesh import eventually
from shop import requests

PORTS = itertools.count(27000)
NGINX = """
daemon off; user root; worker_processes 1; pid nginx.pid; error_log error.log;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;
    server {
        listen [::]:%(port)d http2 ipv6only=off; root files; client_max_body_size 0; http2_max_concurrent_streams 128; keepalive_requests 100000;
        location /hello { default_type text/plain; return 200 "hello from nginx\\n"; }
        location /old { add_header Set-Cookie "a=1"; add_header Set-Cookie "b=2"; return 302 /hello; }
    }
}
"""


@pytest.fixture(scope="module")
def files(shop):
    """What the file servers serve, and uploads are made of: content that compresses badly."""
    place = shop.directory / "files"
    place.mkdir(mode=0o755)
    content = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(20 << 15))
    (place / "large").write_bytes(content)
    (place / "medium").write_bytes(content[:4 << 20])
    (place / "small").write_bytes(content[:1000])
    return {"place": place, "large": content, "medium": content[:4 << 20]}


@pytest.fixture(scope="module")
def servers(shop, files):
    """HTTP/2 servers of the world, declared by Services: nghttpd (which echoes uploads) and nginx."""
    made = {}
    for name, pod in (("nghttpd", shop.stock), ("nginx", shop.cart)):
        port = next(PORTS)
        if name == "nghttpd":
            pod.start("nghttpd", "--no-tls", "--echo-upload", "--trailer=x-digest: abc", "-d", files["place"], port)
        else:
            work = shop.directory / "nginx"
            work.mkdir()
            (work / "files").symlink_to(files["place"])
            (work / "nginx.conf").write_text(NGINX % {"port": port})
            pod.start("nginx", "-p", work, "-e", work / "error.log", "-c", work / "nginx.conf")
        pod.listens(port)
        shop.service(name, [pod], [{"name": "http2", "port": 80, "targetPort": port}])
        made[name] = port
    shop.apply()
    for name in made:
        eventually(lambda name=name: shop.web.curl(f"http://{shop.address(name)}/small", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}") == "200", within=10, every=0.1)
    return made


def h2load(pod, url, *options, count=3000, clients=4, streams=10):
    """Runs it; every request must have succeeded."""
    said = pod.run("h2load", "-n", count, "-c", clients, "-m", streams, *options, url, timeout=60).stdout
    assert re.search(rf"requests: {count} total, {count} started, {count} done, {count} succeeded, 0 failed, 0 errored", said), said
    assert re.search(rf"status codes: {count} 2xx, 0 3xx, 0 4xx, 0 5xx", said), said


# --- strangers ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("target", ["same-node", "other-node", "service"])
def test_h2load_to_an_http1_server(shop, target):
    """A load generator that speaks HTTP/2 only and a server that knows HTTP/1.1 only."""
    url = {"same-node": f"http://{shop.cart.ip}:8080", "other-node": f"http://{shop.stock.ip}:8080", "service": f"http://{shop.address('stock')}:80"}[target]
    before = requests(shop.nodes[0], reporter="source", response_code=200)
    h2load(shop.web, url + "/s/1024")
    eventually(lambda: requests(shop.nodes[0], reporter="source", response_code=200) - before >= 3000, within=5)


@pytest.mark.parametrize("name", ["nghttpd", "nginx"])
def test_h2load_to_an_http2_server(shop, servers, name):
    """HTTP/2 all the way, and counted request by request."""
    labels = {"reporter": "source", "response_code": 200, "destination_service_name": name, "request_protocol": "http"}
    before = requests(shop.nodes[0], **labels)
    h2load(shop.web, f"http://{shop.address(name)}/small")
    eventually(lambda: requests(shop.nodes[0], **labels) - before >= 3000, within=5)


@pytest.mark.parametrize("name", ["nghttpd", "nginx"])
def test_h2load_with_http1_to_an_http2_server(shop, servers, name):
    """A client of HTTP/1.1 only and a server of HTTP/2 only."""
    h2load(shop.web, f"http://{shop.address(name)}/small", "--h1", streams=1, clients=8)


def test_h2load_to_a_pods_address(shop, servers):
    """Nobody declared the port; both sides speak HTTP/2 by prior knowledge and the mesh finds out."""
    before = requests(shop.nodes[0], reporter="source", destination_workload="stock", response_code=200)
    h2load(shop.web, f"http://{shop.stock.ip}:{servers['nghttpd']}/small")
    eventually(lambda: requests(shop.nodes[0], reporter="source", destination_workload="stock", response_code=200) - before >= 3000, within=5)


def test_two_workers(fresh):
    """Connections of several clients are spread over two workers, each with connections of its own towards the server."""
    shop = fresh(workers=2)
    h2load(shop.web, f"http://{shop.stock.ip}:8080/s/1024", count=6000, clients=16)
    h2load(shop.web, f"http://{shop.cart.ip}:8080/s/1024", count=6000, clients=16)


def test_pings_are_answered(shop):
    """A client that asks twenty times whether we are there, without a request under way, is told so and not taken for a flood."""
    with Client2(shop.web, shop.stock.ip, 8080) as client:
        assert client.get("/s/1").status == 200
        for number in range(20):
            before = client.pongs
            client.ping(number)
            client.until(lambda: client.pongs > before, "PING with ACK")  # noqa: B023
        assert client.goaway is None and client.get("/s/1").status == 200


def test_nghttp(shop, servers, files):
    """Its own reading of a conversation: several files at once, an upload that comes back, trailers both ways."""
    url = f"http://{shop.address('nghttpd')}"
    said = shop.web.run("nghttp", "-nv", "-m", 5, f"{url}/small", f"{url}/large", timeout=60).stdout
    assert len(re.findall(r":status: 200", said)) == 10 and "x-digest: abc" in said, said[-2000:]
    assert "RST_STREAM" not in said, said[-2000:]
    upload = shop.directory / "upload"
    upload.write_bytes(files["large"][:300_000])
    back = shop.directory / "back"
    shop.web.run("sh", "-c", f"nghttp --trailer='x-sum: 1' -d {upload} {url}/echo >{back}", timeout=60)
    assert back.read_bytes() == files["large"][:300_000]


@pytest.mark.parametrize("asked", ["--http1.1", "--http2-prior-knowledge"])
@pytest.mark.parametrize("server", ["http1", "nginx", "nghttpd"])
def test_curl_and_every_server(shop, servers, files, server, asked):
    """The same client in both languages and servers of either: head, content and length are the same."""
    if server == "http1":
        url, large = f"http://{shop.stock.ip}:8080", "/s/20971520"
        small, size = "/s/1000", 1000
    else:
        url, large, small, size = f"http://{shop.address(server)}", "/large", "/small", 1000
    version = "2" if "2" in asked[6:] else "1.1"
    assert shop.web.curl(url + small, asked, "-o", "/dev/null", "-w", "%{http_code} %{http_version} %{size_download}") == f"200 {version} {size}"
    head = shop.web.curl(url + small, asked, "-I")
    assert re.search(r"(?i)^content-length: 1000\r?$", head, re.M), head
    got = shop.directory / "got"
    shop.web.curl(url + large, asked, "-o", got, timeout=60)
    assert got.stat().st_size == 20 << 20
    if server != "http1":
        assert got.read_bytes() == files["large"]


@pytest.mark.parametrize("asked", ["--http1.1", "--http2-prior-knowledge"])
@pytest.mark.parametrize("server", ["http1", "http2"])
def test_curl_uploads(shop, files, server, asked):
    """4 MB up, with a length and without one, and by Expect: 100-continue."""
    source = files["place"] / "medium"
    digests = []
    if server == "http1":
        backend = Backend(shop.stock, next(PORTS), lambda request: ok(hashlib.sha256(request.body).hexdigest().encode()))
    else:
        backend = Backend2(shop.stock, next(PORTS), lambda wire, stream: ok2(wire, stream, hashlib.sha256(stream.body).hexdigest().encode()))
    with backend:
        name = f"up-{server}-{asked[6]}"
        shop.service(name, [shop.stock], [{"name": "http2" if server == "http2" else "http", "port": 80, "targetPort": backend.port}])
        shop.apply()
        url = f"http://{shop.address(name)}/up"
        eventually(lambda: shop.web.curl(url, asked, "--fail", check=False), within=10, every=0.1)
        for options in (["-T", source], ["-T", source, "-H", "Transfer-Encoding: chunked"] if asked == "--http1.1" else ["-T", source, "-H", "Content-Length:"],
                        ["--data-binary", f"@{source}", "-H", "Expect: 100-continue"]):
            digests.append(shop.web.curl(url, asked, *options, timeout=60))
        assert digests == [hashlib.sha256(files["medium"]).hexdigest()] * 3
        assert not ([v for v in backend.violations if "PRI * HTTP/2.0" not in v] if server == "http1" else backend.faults)


# --- HTTP/2 at both ends --------------------------------------------------------------------------------------------

def test_http2_to_http2_without_a_declaration(shop):
    """A pod's address: what the client speaks is tried, the server agrees, everything arrives."""
    def answer(wire, stream):
        wire.head(stream.number, [(":status", "103"), ("link", "</b>")])
        ok2(wire, stream, stream.body or b"none", ("x-seen", stream[":authority"]), trailers=[("x-sum", "1")])
    with Backend2(shop.stock, next(PORTS), answer) as backend, Client2(shop.web, shop.stock.ip, backend.port) as client:
        reply = client.get("/", ("te", "trailers"), method="POST", content=b"12345" * 10_000, trailers=[("x-digest", "abc")])
        assert reply.body == b"12345" * 10_000 and reply["x-seen"] == "shop.test" and reply.trailers == [("x-sum", "1")]
        assert [m["link"] for m in reply.interim] == ["</b>"]
        assert backend.last().trailers == [("x-digest", "abc")] and backend.faults == []


def test_a_server_with_few_streams_is_not_overrun(shop):
    """MAX_CONCURRENT_STREAMS of 4 and forty requests at once: more connections or patience, but every answer."""
    with Backend2(shop.stock, next(PORTS), settings={SettingCodes.MAX_CONCURRENT_STREAMS: 4}) as backend, Client2(shop.web, shop.stock.ip, backend.port) as client:
        client.get("/")
        asked = [client.ask(f"/{number}") for number in range(40)]
        assert all(client.reply(stream).status == 200 for stream in asked)
        assert backend.faults == []


def test_goaway_from_the_server_loses_no_request(shop):
    """The server retires its connection after every fifth request; unprocessed ones are asked again elsewhere."""
    def answer(wire, stream):
        ok2(wire, stream)
        if stream.number >= 9 and not getattr(wire, "retired", False):
            wire.retired = True
            with wire.lock:
                wire.h2.close_connection(last_stream_id=stream.number)
                wire.flush()
    with Backend2(shop.stock, next(PORTS), answer) as backend, Client2(shop.web, shop.stock.ip, backend.port) as client:
        for number in range(100):
            assert client.get(f"/{number}").status == 200
        assert backend.connections >= 5
