"""What Weft tells: metrics that Prometheus accepts, with bounded labels; a status that agrees with itself."""

import itertools
import subprocess

import pytest

from http1 import Backend, Client, ok
from mesh import eventually
from shop import counted, load, requests
from tcp import Plain, echo, exactly

PORTS = itertools.count(22000)
ISTIO = {"istio_requests_total", "istio_request_duration_milliseconds_bucket", "istio_request_bytes_bucket", "istio_response_bytes_bucket",
         "istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total", "istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"}
LABELS = {"reporter", "source_workload", "source_workload_namespace", "source_principal", "source_app", "source_version", "source_canonical_service",
          "destination_workload", "destination_workload_namespace", "destination_app", "destination_version", "destination_service", "destination_service_name",
          "destination_service_namespace", "destination_canonical_service", "request_protocol", "response_code", "response_flags", "connection_security_policy"}
#: A ClientHello of TLS 1.2 without extensions.
HELLO = bytes.fromhex("16030100310100002d0303") + bytes(range(32)) + bytes.fromhex("00" "0006" "c02bc02f00ff" "0100")
NODE = {"node_load1", "node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes", "node_cpu_seconds_total"}


def test_promtool_is_content(shop):
    """`promtool check metrics` finds nothing to complain about, on both nodes, after traffic of both kinds."""
    load(shop.web, shop.address("stock"), 80, "-c", 2, "-n", 20)
    opaque(shop)
    for node in shop.nodes:
        checked = subprocess.run(["promtool", "check", "metrics"], input=node.weft.metrics().text, capture_output=True, text=True)
        # Names that are someone else's standard (Istio's, node_exporter's) offend promtool's taste there too.
        complaints = [line for line in (checked.stdout + checked.stderr).splitlines() if line and not line.startswith(("istio_request_duration_milliseconds ", "node_memory_"))]
        assert complaints == [], "\n".join(complaints[:20])


def opaque(shop):
    """One TCP connection that is not HTTP."""
    def conversation(connection):
        connection.sendall(connection.recv(100) * 10)
    with Backend(shop.stock, next(PORTS), conversation=conversation) as backend, Client(shop.web, shop.stock.ip, backend.port) as client:
        client.send(b"\x00\x01binary" * 10)
        assert len(client.wire.exactly(700)) == 700


def test_names_and_labels(shop):
    """Istio's names with Istio's labels; node readings under node_exporter's names; process metrics."""
    load(shop.web, shop.address("stock"), 80, "-c", 2, "-n", 20)
    opaque(shop)
    eventually(lambda: shop.nodes[0].weft.metrics().sum("istio_tcp_connections_closed_total", reporter="source") >= 1, within=5)
    metrics = shop.nodes[0].weft.metrics()
    assert ISTIO <= metrics.names(), ISTIO - metrics.names()
    assert NODE <= metrics.names(), NODE - metrics.names()
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"} <= metrics.names()
    assert any("pressure" in name for name in metrics.names())
    found, _ = metrics.all("istio_requests_total", reporter="source", destination_service_name="stock", response_code=200)[0]
    assert LABELS <= set(found), LABELS - set(found)
    assert (found["source_workload"], found["source_app"], found["source_version"]) == ("web", "web", "v1")
    assert (found["destination_workload"], found["destination_service"]) == ("stock", "stock.shop.svc.cluster.local")
    assert found["request_protocol"] == "http"
    for family in ("weft_capture", "weft_snapshot", "weft_"):
        assert any(name.startswith(family) for name in metrics.names()), family


def test_histograms_add_up(shop):
    """The duration histogram counts what the request counter counts."""
    load(shop.web, shop.address("stock"), 80, "-c", 2, "-n", 50)
    labels = {"reporter": "source", "destination_service_name": "stock", "response_code": 200}
    metrics = shop.nodes[0].weft.metrics()
    total = metrics.sum("istio_requests_total", **labels)
    assert metrics.sum("istio_request_duration_milliseconds_count", **labels) == total
    assert metrics.sum("istio_request_duration_milliseconds_bucket", le="+Inf", **labels) == total
    before = metrics.sum("istio_response_bytes_sum", **labels)
    load(shop.web, shop.address("stock"), 80, "-c", 1, "-n", 10, "-p", "/s/1000")
    grown = eventually(lambda: shop.nodes[0].weft.metrics().sum("istio_response_bytes_sum", **labels) - before, within=5)
    assert 10_000 <= grown <= 30_000


def test_response_codes_and_failures_are_told_apart(shop):
    """A 404 of the app is the app's; a 503 of the proxy carries a flag."""
    with Backend(shop.stock, next(PORTS), lambda request: ok(status="404 Not Found")) as backend:
        before = requests(shop.nodes[0], reporter="source", response_code=404)
        with Client(shop.web, shop.stock.ip, backend.port) as client:
            client.get("/")
        counted(shop.nodes[0], before, 1, reporter="source", response_code=404)
    with Client(shop.web, shop.stock.ip, next(PORTS)) as client:
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.reply().status == 503
    flagged = lambda: [f for node in shop.nodes for f, _ in node.weft.metrics().all("istio_requests_total", response_code=503) if f["response_flags"] not in ("", "-")]  # noqa: E731
    eventually(flagged, within=5, what="the side that could not connect says so")


def test_label_cardinality_is_bounded(shop):
    """Paths, hosts and addresses that a client invents do not become label values."""
    before = len(shop.nodes[0].weft.metrics().samples)
    with Client(shop.web, shop.stock.ip, 8080) as client:
        for number in range(500):
            client.get(f"/s/{number % 7}?{number}", host=f"invented-{number}.example", method="GET")
    metrics = eventually(shop.nodes[0].weft.metrics)
    assert "invented" not in metrics.text
    assert len(metrics.samples) - before < 400, "500 different hosts and paths may cost a series or two, not hundreds"


def test_methods_and_codes_a_peer_invents_are_bounded(shop):
    """A backend that answers with every status there is: the number of series stays within the table, and what does not fit is counted."""
    def answer(request):
        return ok(status=f"{request.target[1:]} Invented")
    with Backend(shop.stock, next(PORTS), answer) as backend, Client(shop.web, shop.stock.ip, backend.port) as client:
        for status in range(200, 600):
            if status not in (204, 205, 304):
                client.get(f"/{status}")
    metrics = shop.nodes[0].weft.metrics()
    assert len(metrics.values("istio_requests_total", "response_code")) <= 420
    assert metrics.sum("istio_requests_total", reporter="source", response_code=200) > 0


def test_counters_survive_a_restart_of_the_proxy(fresh):
    """A new proxy goes on where the old one was."""
    shop = fresh()
    node = shop.nodes[0]
    load(shop.web, shop.stock.ip, 8080, "-c", 2, "-n", 100)
    before = eventually(lambda: (n := requests(node, reporter="source")) >= 100 and n)
    first = node.weft.pid("proxy")
    node.weft.kill("proxy")
    eventually(lambda: node.weft.pid("proxy") != first, what="a new proxy")
    node.weft.wait_ready(["web"])
    assert requests(node, reporter="source") >= before
    load(shop.web, shop.stock.ip, 8080, "-e", "-c", 2, "-n", 100)
    counted(node, before, 100, reporter="source")


def test_health_endpoints(shop):
    """/healthz and /readyz answer; other paths do not pretend."""
    weft = shop.nodes[0].weft
    assert weft.http("/healthz")[0] == 200 and weft.http("/readyz")[0] == 200
    assert weft.http("/nothing")[0] == 404


def test_status_agrees(shop):
    """Processes, pods, services, endpoints, faults; and the three processes run the same generation."""
    status = eventually(lambda: (s := shop.nodes[0].weft.status()) and s["isReady"] and s["generations"]["agree"] and s, within=5, what="the three agree")
    assert {p["name"] for p in status["pods"] if p["state"] == "enrolled"} == {"web", "cart"}
    assert {p["name"]: p["pid"] for p in status["processes"]} == {part: shop.nodes[0].weft.pid(part) for part in ("node", "agent", "proxy")}
    services = {s["name"]: s for s in status["services"]}
    assert {"cart", "stock", "both", "pods"} <= set(services)
    assert status["configuration"]["faults"] == [] and status["notReady"] == []
    generations = status["generations"]
    assert generations["published"] == generations["accepted"] == generations["applied"] > 0
    text = shop.nodes[0].weft.status_text()
    for word in ("web", "cart", "stock", "enrolled", "proxy", shop.nodes[0].name):
        assert word in text, word


def test_what_was_decided_and_why_is_visible(shop):
    """Protocols by declaration and by first bytes: in the metric, in the status, in the log."""
    node, port = shop.nodes[0], next(PORTS)
    with Plain(shop.stock, echo, port), Plain(shop.stock, echo) as other:
        shop.service("said-http", [shop.stock], [{"name": "http", "port": 80, "targetPort": 8080}])
        shop.service("said-tcp", [shop.stock], [{"name": "tcp-x", "port": 80, "targetPort": other.port}])
        shop.service("said-nothing", [shop.stock], [{"name": "x", "port": 80, "targetPort": port}, {"name": "y", "port": 81, "targetPort": 8080}])
        shop.apply()
        eventually(lambda: any(s["name"] == "said-nothing" for s in node.weft.status()["services"]) and node.weft.status()["generations"]["agree"], within=10)
        for _ in range(2):
            assert load(shop.web, shop.address("said-http"), 80, "-c", 1, "-n", 1)["ok"] == load(shop.web, shop.address("said-nothing"), 81, "-c", 1, "-n", 1)["ok"] == 1
            assert shop.web.run("h2load", "-n", 1, "-c", 1, f"http://{shop.address('said-nothing')}:81/s/1").stdout.count("1 succeeded") == 1
            for name, said in (("said-tcp", b"GET / HTTP/1.1\r\nHost: is no request here\r\n\r\n"), ("said-nothing", b"\0binary"), ("said-nothing", HELLO)):
                with shop.web.connect(shop.address(name), 80) as near:
                    near.sendall(said)
                    assert exactly(near, len(said)) == said
    decided = lambda: {(f["destination_service_name"], f["port"], f["protocol"], f["reason"]) for f, v in node.weft.metrics().all("weft_protocol_decisions_total") if v >= 2}  # noqa: E731
    wanted = {("said-tcp", "80", "tcp", "declared"), ("said-nothing", "80", "tcp", "first-bytes"), ("said-nothing", "80", "tls", "first-bytes"),
              ("said-nothing", "81", "http/1.1", "first-bytes"), ("said-nothing", "81", "http/2", "first-bytes")}
    eventually(lambda: wanted <= decided(), within=5, what=f"decisions {wanted}")
    assert any(name == "said-http" and protocol == "http/1.1" for name, _, protocol, _ in decided())
    told = {(p["service"], p["port"], p["spoken"], p["reason"]) for p in node.weft.status()["protocols"]}
    assert ("said-tcp", 80, "tcp", "declared") in told and ("said-nothing", 80, "tls", "first-bytes") in told, told
    eventually(lambda: "protocol=tls" in node.weft.log_path.read_text() and "service=shop/said-nothing" in node.weft.log_path.read_text(), within=5, what="a line in the log")


@pytest.mark.parametrize("arguments, code", [(["status", "--admin", "/nonexistent/admin.sock"], 1), (["frobnicate"], 64)])
def test_the_command_line_says_what_is_wrong(arguments, code):
    """A sentence and an exit code, no trace."""
    from mesh.machine import weft
    done = subprocess.run([str(weft()), *arguments], capture_output=True, text=True, timeout=20)
    assert done.returncode == code and done.stderr.strip() and "Fatal error" not in done.stderr
