"""Which connections are carried, which are not, and what both ends are told about each other."""

import json
import socket
import subprocess

import pytest

from mesh import eventually
from mesh.machine import TOOLS, run
from shop import Load, counted, load, plain, requests, serve, way

MPTCP = 262


def addresses(pod):
    """A pod's address in all three shapes a program may use."""
    return {"v4": pod.ip, "v6": pod.ip6, "mapped": f"::ffff:{pod.ip}"}


@pytest.mark.parametrize("server", ["cart", "stock"], ids=["same-node", "other-node"])
@pytest.mark.parametrize("shape", ["v4", "v6", "mapped"])
def test_outbound_is_carried_and_nobody_notices(shop, server, shape):
    """The client sees whom it asked for, the server sees the calling pod, and the proxy has carried it."""
    pod, asked = shop.pods[server], addresses(shop.pods[server])[shape]
    kind, told = way(shop.web, pod, asked, 9000)
    assert kind == "meshed"
    assert told["asked"] == (plain(asked), 9000), "getpeername at the client"
    assert told["peer"] == (shop.web.ip6 if shape == "v6" else shop.web.ip), "getpeername at the server"
    assert told["server"] == plain(asked), "getsockname at the server"


@pytest.mark.parametrize("family", [4, 6])
def test_a_service_address_is_carried(shop, family):
    """Cluster IPs exist nowhere but in the proxy's table."""
    before = requests(shop.nodes[0], reporter="source", destination_service_name="stock", response_code=200)
    report = load(shop.web, shop.address("stock", family), 80, "-c", 4, "-n", 100)
    assert (report["non200"], report["err_connect"], report["err_inflight"]) == (0, 0, 0)
    counted(shop.nodes[0], before, 100, reporter="source", destination_service_name="stock", response_code=200)


@pytest.mark.parametrize("shape", ["v4", "v6"])
@pytest.mark.parametrize("server", ["cart", "stock"])
def test_inbound_from_outside_the_mesh_is_carried(shop, server, shape):
    """A pod without Weft calls a pod with it: the app still sees the caller, and the inbound side counts."""
    pod = shop.pods[server]
    kind, told = way(shop.stranger, pod, addresses(pod)[shape], 9001)
    assert kind == "meshed"
    assert told["peer"] == plain(addresses(shop.stranger)[shape])
    labels = {"reporter": "destination", "destination_workload": server, "source_workload": "stranger"}
    before = requests(pod.node, **labels)
    assert load(shop.stranger, addresses(pod)[shape], 8080, "-c", 2, "-n", 20)["ok"] >= 20
    counted(pod.node, before, 20, **labels)


def test_both_sides_count_a_request_between_nodes(shop):
    """One request from node 1 to node 2: one more at each reporter, with the other side's name on it."""
    labels = {"source_workload": "web", "destination_workload": "stock", "response_code": 200}
    before = [requests(shop.nodes[0], reporter="source", **labels), requests(shop.nodes[1], reporter="destination", **labels)]
    load(shop.web, shop.stock.ip, 8080, "-c", 1, "-n", 10)
    counted(shop.nodes[0], before[0], 10, reporter="source", **labels)
    counted(shop.nodes[1], before[1], 10, reporter="destination", **labels)


def test_loopback_and_own_address_stay_inside(shop):
    """A pod that talks to itself is nobody's business."""
    for own in ("127.0.0.1", "::1", shop.cart.ip, shop.cart.ip6):
        assert way(shop.cart, shop.cart, own, 9002)[0] == "direct", own


def test_exclusions_by_port_and_prefix(fresh):
    """What the pod's annotations exclude goes straight through, both ways; everything else is still carried."""
    shop = fresh(annotations={
        "web": {"weft.mesh/exclude-outbound-ports": "5432,6379", "weft.mesh/exclude-outbound-cidrs": "10.77.1.13/32,fd77:1::d/128"},
        "stock": {"weft.mesh/exclude-inbound-ports": "9100"},
    })
    assert (shop.stranger.ip, shop.stranger.ip6) == ("10.77.1.13", "fd77:1::d"), "the prefixes above name the stranger"
    for address in (shop.stranger.ip, shop.stranger.ip6, f"::ffff:{shop.stranger.ip}"):
        assert way(shop.web, shop.stranger, address, 9000)[0] == "direct", address
    for address in (shop.stock.ip, shop.stock.ip6):
        assert way(shop.till, shop.stock, address, 9000)[0] == "meshed"
        assert way(shop.web, shop.stock, address, 9000)[0] == "meshed"
    outsider = shop.nodes[1].pod("outsider", meshed=False)
    for address in (outsider.ip, outsider.ip6):
        assert [way(shop.web, outsider, address, port)[0] for port in (5432, 6379, 9000)] == ["direct", "direct", "meshed"], address
    before = requests(shop.nodes[1], reporter="destination", destination_workload="stock")
    serve(shop.stock, 9100)
    load(shop.stranger, shop.stock.ip, 9100, "-c", 1, "-n", 5)
    load(shop.stranger, shop.stock.ip, 8080, "-c", 1, "-n", 5)
    counted(shop.nodes[1], before, 5, reporter="destination", destination_workload="stock")
    assert requests(shop.nodes[1], reporter="destination", destination_workload="stock") - before == 5, "9100 was not carried"
    # An annotation that changes takes effect for new connections.
    shop.web.annotations["weft.mesh/exclude-outbound-cidrs"] = ""
    shop.apply()
    eventually(lambda: way(shop.web, shop.stranger, shop.stranger.ip, 9000)[0] == "meshed", what="the stranger is reached through the mesh again")


def test_enrol_and_unenrol_under_load(fresh):
    """Turning the mesh off and on for a pod fails nothing: connections stay as they are, new ones follow the switch."""
    shop = fresh()
    with Load(shop.web, shop.cart.ip, 8080, "-c", 4, "-d", 6, "-r", 400) as kept, Load(shop.web, shop.stock.ip, 8080, "-x", "-c", 4, "-d", 6, "-r", 200) as renewed:
        for _ in range(3):
            shop.web.meshed = False
            shop.apply()
            eventually(lambda: way(shop.web, shop.stranger, shop.stranger.ip, 9003)[0] == "direct", within=5, what="web leaves")
            shop.web.meshed = True
            shop.apply()
            eventually(lambda: way(shop.web, shop.stranger, shop.stranger.ip, 9003)[0] == "meshed", within=5, what="web comes back")
        reports = kept.report(), renewed.report()
    for report in reports:
        assert (report["err_connect"], report["err_inflight"], report["non200"]) == (0, 0, 0), report


def test_connections_older_than_enrolment_go_on_and_are_shown(fresh):
    """A pod with open connections joins: they continue as they were, and `weft status` says how many there are."""
    shop = fresh(start=False)
    shop.web.meshed = False
    shop.start(enrolled=["cart", "stock", "till"])
    with shop.stranger.listen(9004) as listener:
        old = [shop.web.connect(shop.stranger.ip, 9004) for _ in range(3)]
        ends = [listener.accept()[0] for _ in old]
        shop.web.meshed = None
        shop.apply()
        shop.ready()
        entry = eventually(lambda: next((p for p in shop.nodes[0].weft.status()["pods"] if p["name"] == "web" and p["olderConnections"]), None), within=5)
        assert entry["olderConnections"] == 3
        for near, far in zip(old, ends):
            near.sendall(b"still here")
            assert far.recv(64) == b"still here"
            near.close()
            far.close()
    assert way(shop.web, shop.stranger, shop.stranger.ip, 9005)[0] == "meshed"


def test_pods_come_and_go(fresh):
    """A new pod is enrolled while traffic runs; a deleted one takes its namespace with it: Weft keeps nothing of it open."""
    shop = fresh()
    late = shop.nodes[0].pod("late")
    serve(late)
    shop.apply()
    shop.nodes[0].weft.wait_ready(["late", "web"])
    assert way(late, shop.stock, shop.stock.ip, 9006)[0] == "meshed"
    assert load(shop.web, late.ip, 8080, "-c", 4, "-n", 50)["ok"] >= 50
    del shop.nodes[0].pods["late"]
    shop.apply()
    late.remove()
    eventually(lambda: "late" not in {p["name"] for p in shop.nodes[0].weft.status()["pods"]}, what="late is forgotten")
    links = ["ip", "-n", shop.nodes[0].netns, "-br", "link", "show"]
    eventually(lambda: "p-late" not in run(*links), within=15, what="the deleted pod's namespace ends (its veth goes with it)")


def test_original_destination_is_right_in_100000_connections(shop):
    """Every fifth client writes and closes at once. Each connection names the destination it meant; the server compares."""
    server = shop.stock.start(TOOLS / "destinations", "serve", 20000, 50, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "SERVING\n"
    asked = shop.web.run(TOOLS / "destinations", "ask", 100_000, 48, 5, 0, 20000, 50, shop.stock.ip, shop.stock.ip6, f"::ffff:{shop.stock.ip}", timeout=170)
    report = json.loads(asked.stdout)
    assert (report["wrong"], report["refused"], report["lost"]) == (0, 0, 0), report | {"stderr": asked.stderr}
    assert (report["right"], report["closed_at_once"]) == (80_000, 20_000), report | {"stderr": asked.stderr}

    def arrived():
        server.stdin.write("how many\n")
        server.stdin.flush()
        totals = json.loads(server.stdout.readline())
        return totals if totals["right"] == 100_000 or totals["wrong"] else None
    totals = eventually(arrived, within=10, every=0.2, what="all 100,000 lines arrive")
    assert totals["wrong"] == 0


def test_3000_connections_through_1000_ports(fresh):
    """A pod whose port range is 1,000 wide holds 3,000 connections to distinct destinations, as it could without Weft."""
    shop = fresh()
    shop.web.sysctl(net__ipv4__ip_local_port_range="20000 20999")
    server = shop.stock.start(TOOLS / "destinations", "serve", 30000, 1500, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "SERVING\n"
    client = shop.web.start(TOOLS / "destinations", "ask", 3000, 64, 0, 1, 30000, 1500, shop.stock.ip, shop.stock.ip6, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    report = json.loads(client.stdout.readline())
    assert (report["held"], report["wrong"], report["refused"], report["lost"]) == (3000, 0, 0, 0), report
    client.stdin.close()


def marks(pod):
    """Firewall marks that this pod's rules speak of: what a curious pod would try."""
    listed = "".join(run("ip", "-n", pod.netns, family, "rule", "show") for family in ("-4", "-6"))
    return {int(word.split("/")[0], 0) for line in listed.splitlines() if "fwmark" in line for word in [line.split("fwmark ")[1].split()[0]]}


def test_a_pod_with_net_raw_and_our_mark_cannot_escape(shop):
    """CAP_NET_RAW is a pod's by default, and it may set marks: it is carried all the same."""
    found = marks(shop.web)
    assert found, "the pod has Weft's rule"
    for mark in found | {0x77656674}:
        with shop.stranger.listen(9007) as listener:
            listener.settimeout(10)
            escaped = shop.web.socket(socket.AF_INET)
            escaped.settimeout(10)
            escaped.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            escaped.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
            escaped.connect((shop.stranger.ip, 9007))
            escaped.sendall(b"hello\n")
            _, peer = listener.accept()
            assert (plain(peer[0]), peer[1]) != escaped.getsockname(), f"mark {mark:#x} escaped"
            escaped.close()


def test_a_marked_pod_is_still_judged_by_its_neighbour(shop):
    """Nor does the mark carry it past the inbound side of another pod."""
    before = requests(shop.nodes[0], reporter="destination", destination_workload="cart")
    marked = shop.stranger.socket(socket.AF_INET)
    marked.settimeout(10)
    marked.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, max(marks(shop.cart)))
    marked.connect((shop.cart.ip, 8080))
    marked.sendall(b"GET /s/10 HTTP/1.1\r\nHost: cart\r\n\r\n")
    assert b"200 OK" in marked.recv(4096)
    counted(shop.nodes[0], before, 1, reporter="destination", destination_workload="cart")
    marked.close()


@pytest.mark.parametrize("shape", ["v4", "v6"])
def test_mptcp_is_captured_or_refused(shop, shape):
    """A multipath socket must not slip past the hooks."""
    family = socket.AF_INET6 if shape == "v6" else socket.AF_INET
    try:
        made = shop.web.socket(family, socket.SOCK_STREAM, MPTCP)
    except OSError as error:
        assert error.errno in (92, 93), error  # this kernel has no MPTCP: then there is nothing to miss
        return
    with shop.stranger.listen(9008) as listener, made:
        listener.settimeout(3)
        made.settimeout(10)
        try:
            made.connect((addresses(shop.stranger)[shape], 9008))
        except ConnectionRefusedError:
            return
        made.sendall(b"hello\n")
        _, peer = listener.accept()
        assert peer[1] != made.getsockname()[1] or plain(peer[0]) != plain(made.getsockname()[0]), "missed"


def test_a_program_may_bind_before_it_connects(shop):
    """Bound to the pod's address or to a port of its choice, a client is carried all the same."""
    for source in (shop.web.ip, "0.0.0.0"):
        with shop.stranger.listen(9009) as listener, shop.web.socket(socket.AF_INET) as made:
            listener.settimeout(10)
            made.settimeout(10)
            made.bind((source, 0))
            made.connect((shop.stranger.ip, 9009))
            made.sendall(b"hello\n")
            far, peer = listener.accept()
            assert plain(peer[0]) == shop.web.ip and far.recv(16) == b"hello\n"
            far.close()


@pytest.mark.parametrize("family", [4, 6])
def test_a_program_may_tie_its_socket_to_an_interface(shop, family):
    """`curl --interface eth0`: the proxy is on lo, and is reached all the same. A program without CAP_NET_RAW cannot be untied: it passes, counted."""
    address = shop.both[0] if family == 4 else f"[{shop.both[1]}]"
    assert shop.web.curl(f"http://{address}/s/10", "--interface", "eth0", "-o", "/dev/null", "-w", "%{http_code}", timeout=5) == "200"
    def passed():
        return shop.nodes[0].weft.metrics().sum("weft_capture_verdicts_total", verdict="passed_no_listener")
    before = passed()
    direct = shop.cart.ip if family == 4 else f"[{shop.cart.ip6}]"
    done = shop.web.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "curl", "-sS", "--max-time", "5", "--interface", "eth0",
                        "-o", "/dev/null", "-w", "%{http_code}", f"http://{direct}:8080/s/10")
    assert done.stdout == "200"
    eventually(lambda: passed() == before + 1, what="the verdict is counted")


def test_a_dead_destination_is_refused_not_swallowed(shop):
    """Nobody listens there: the client is told, soon."""
    made = shop.web.socket(socket.AF_INET)
    made.settimeout(10)
    try:
        made.connect((shop.stock.ip, 9))
        made.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = made.recv(4096)
        assert answer == b"" or b" 503 " in answer.split(b"\r\n")[0], answer
    except ConnectionError:
        pass
    made.close()


def test_server_first_protocols_do_not_stall(shop):
    """A server that greets first (SMTP, MySQL) is heard although the client says nothing."""
    with shop.stock.listen(9010) as listener:
        listener.settimeout(10)
        with shop.web.connect(shop.stock.ip, 9010, timeout=5) as near:
            far, _ = listener.accept()
            far.sendall(b"220 hello\r\n")
            assert near.recv(64) == b"220 hello\r\n"
            near.sendall(b"QUIT\r\n")
            assert far.recv(64) == b"QUIT\r\n"
            far.close()


def test_a_client_that_says_nothing_and_half_closes_is_answered(shop):
    """`nc -N host 13 </dev/null`: the client ends its side at once and reads what the server has to say."""
    with shop.cart.listen(9011) as listener:
        listener.settimeout(10)
        for address in (shop.cart.ip, shop.cart.ip6):
            with shop.web.connect(address, 9011, timeout=5) as near:
                near.shutdown(socket.SHUT_WR)
                far, _ = listener.accept()
                with far:
                    far.settimeout(5)
                    assert far.recv(64) == b""
                    far.sendall(b"noon\r\n")
                assert near.recv(64) == b"noon\r\n"
                assert near.recv(64) == b""


@pytest.mark.parametrize("line", [b"GET key\r\n", b"HEAD 17\r\n", b"*1\r\n$4\r\nPING\r\n"])
def test_commands_that_only_begin_like_http_reach_their_server(shop, line):
    """Redis and NNTP know commands called GET and HEAD; on a port nobody declared they are theirs."""
    with shop.stock.listen(9012) as listener:
        listener.settimeout(10)
        with shop.web.connect(shop.stock.ip, 9012, timeout=5) as near:
            near.sendall(line)
            far, _ = listener.accept()
            with far:
                far.settimeout(5)
                assert far.recv(64) == line
                far.sendall(b"+OK\r\n")
                assert near.recv(64) == b"+OK\r\n"
