"""What a service's policy does for its callers, on the wire: retries within a budget, breakers, limits, faults, a fallback.

Each test is the incident that it prevents. What a Kubernetes object says becomes this policy in the journeys.
"""

import socket
import threading
import time

import pytest

from host import LOOPBACK, Proxy, free_port
from http1 import Backend, Client, ok
from http2 import Backend2, Client2, ok2
from mesh import eventually


def proxied(*backends, **options):
    """A proxy in front of servers on ports that they were given."""
    return Proxy([backend.port for backend in backends], **options)


def client(proxy):
    """A connection of the calling pod."""
    return Client(LOOPBACK, *proxy.address)


def many(count, work):
    """`count` threads that run `work(number)`; what each returned."""
    results, threads = [None] * count, []
    for number in range(count):
        def run(number=number):
            results[number] = work(number)
        threads.append(threading.Thread(target=run))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def failing(status="503 Service Unavailable"):
    """An answer that is an error."""
    return ok(b"no", status=status)


class TestRetries:
    def test_one_sick_replica_of_two_is_not_the_users_problem(self):
        with Backend(LOOPBACK, free_port(), lambda asked: failing()) as sick, Backend(LOOPBACK, free_port()) as well:
            with proxied(sick, well, policy=["retry=1:0:503", "budget=100:1000"]) as proxy, client(proxy) as user:
                assert [user.get().status for _ in range(40)] == [200] * 40
                retries = proxy.metrics().sum("weft_retries_total", reason="status")
        assert retries == len(sick.requests) > 0

    def test_what_is_not_listed_passes_as_it_is(self):
        with Backend(LOOPBACK, free_port(), lambda asked: failing("500 Oops")) as sick:
            with proxied(sick, policy=["retry=3:0:503"]) as proxy, client(proxy) as user:
                assert user.get().status == 500
        assert len(sick.requests) == 1

    def test_a_server_that_always_fails_is_asked_so_often_and_no_more(self):
        with Backend(LOOPBACK, free_port(), lambda asked: failing()) as sick:
            with proxied(sick, policy=["retry=2:0:503", "budget=100:1000"]) as proxy, client(proxy) as user:
                assert user.get().status == 503
        assert len(sick.requests) == 3

    def test_an_order_is_sent_again_with_its_body(self):
        turns = iter([failing(), ok(b"ordered")])
        with Backend(LOOPBACK, free_port(), lambda asked: next(turns)) as shop:
            with proxied(shop, policy=["retry=1:0:503", "budget=100:1000"]) as proxy, client(proxy) as user:
                body = bytes(range(256)) * 8
                user.send(f"PUT /order HTTP/1.1\r\nHost: shop\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                assert user.reply().body == b"ordered"
        assert [asked.body for asked in shop.requests] == [body, body] and not shop.violations

    def test_a_body_too_large_to_keep_is_sent_once(self):
        with Backend(LOOPBACK, free_port(), lambda asked: failing()) as shop:
            with proxied(shop, policy=["retry=1:0:503", "budget=100:1000"]) as proxy, client(proxy) as user:
                body = b"x" * 200_000
                user.send(f"PUT /order HTTP/1.1\r\nHost: shop\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                assert user.reply().status == 503
                assert proxy.metrics().value("weft_retries_refused_total", reason="request_size") == 1
        assert len(shop.requests) == 1

    def test_a_server_that_drops_the_connection_is_asked_again_for_a_get_and_not_for_a_post(self):
        turns = iter([None, ok(b"got"), None])
        with Backend(LOOPBACK, free_port(), lambda asked: next(turns)) as shop:
            with proxied(shop, policy=["retry=1:0:503", "budget=100:1000"]) as proxy:
                with client(proxy) as user:
                    assert user.get().body == b"got"
                with client(proxy) as user:
                    user.send("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nhi")
                    assert user.reply().status == 502
        assert [asked.method for asked in shop.requests] == ["GET", "GET", "POST"]

    def test_a_call_that_ends_unavailable_is_made_again(self):
        turns = iter(["14", "0"])

        def answer(wire, stream):
            ok2(wire, stream, b"", ("grpc-status", next(turns)), ("content-type", "application/grpc"))
        with Backend2(LOOPBACK, free_port(), answer) as server:
            with proxied(server, protocol="grpc", policy=["retry=1:0:14", "budget=100:1000"]) as proxy:
                with Client2(LOOPBACK, *proxy.address) as user:
                    reply = user.get("/shop.Cart/Get", ("content-type", "application/grpc"), ("te", "trailers"), method="POST")
                assert dict(reply.fields)["grpc-status"] == "0"
                assert proxy.metrics().value("weft_retries_total", reason="status") == 1

    def test_the_pause_grows_and_two_who_failed_together_do_not_come_together(self):
        asked_at = []

        def answer(asked):
            asked_at.append(time.monotonic())
            return failing()
        with Backend(LOOPBACK, free_port(), answer) as sick:
            with proxied(sick, policy=["retry=2:50:503", "budget=100:1000"]) as proxy, client(proxy) as user:
                assert user.get().status == 503
        first, second = asked_at[1] - asked_at[0], asked_at[2] - asked_at[1]
        assert 0.05 <= first < 0.2 and 0.1 <= second < 0.35

    @pytest.mark.parametrize("workers", [1, 2])
    def test_the_budget_holds_whatever_the_callers_do(self, workers):
        """Fifty callers, everything fails, three attempts allowed to each: a fifth of those in flight may be tried again, and ten a second."""
        def answer(asked):
            time.sleep(0.02)
            return failing()
        with Backend(LOOPBACK, free_port(), answer) as sick:
            with proxied(sick, policy=["retry=3:0:503", "budget=20:10"], workers=workers) as proxy:
                begun = time.monotonic()

                def caller(_):
                    with client(proxy) as user:
                        return sum(user.get().status == 503 for _ in range(40))
                sent = sum(many(50, caller))
                seconds = time.monotonic() - begun
                metrics = proxy.metrics()
        retries = metrics.sum("weft_retries_total", reason="status")
        assert sent == 2_000 and len(sick.requests) == sent + retries
        assert retries <= 0.26 * sent + 10 * (seconds + 1), f"{retries} retries of {sent} in {seconds:.1f} s"
        assert metrics.value("weft_retries_refused_total", reason="budget") > 0


def half_open(port):
    """A connection that the server may never take."""
    made = socket.socket()
    made.setblocking(False)
    made.connect_ex(("127.0.0.1", port))
    return made


class TestBreakers:
    @pytest.mark.parametrize("workers", [1, 2, 8])
    def test_a_slow_service_does_not_take_its_callers_down_with_it(self, workers):
        """Ten may be under way; a hundred come at once. Exactly ten reach the server, the others hear so at once."""
        gate, inside, most = threading.Event(), [0], [0]
        lock = threading.Lock()

        def answer(asked):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            gate.wait(20)
            with lock:
                inside[0] -= 1
            return ok()
        with Backend(LOOPBACK, free_port(), answer) as slow:
            with proxied(slow, policy=["requests=10"], workers=workers) as proxy:
                replies = []

                def caller(_):
                    with client(proxy) as user:
                        replies.append(user.get())
                        return replies[-1]
                crowd = threading.Thread(target=many, args=(100, caller))
                crowd.start()
                eventually(lambda: len(replies) == 90 and inside[0] == 10, within=10, what="ninety refusals and ten inside")
                gate.set()
                crowd.join()
                assert sorted(reply.status for reply in replies) == [200] * 10 + [503] * 90 and most[0] == 10
                assert {reply["x-weft-reason"] for reply in replies if reply.status == 503} == {"circuit-open"}
                metrics = proxy.metrics()
                assert metrics.value("weft_circuit_open_total", limit="requests") == 90
                assert metrics.value("istio_requests_total", response_flags="UO", response_code="503") == 90
                with client(proxy) as user:
                    assert user.get().status == 200

    def test_those_who_wait_for_a_connection_are_not_more_than_the_policy_says(self):
        """The server takes no connection: what waits for one is bounded."""
        listener = LOOPBACK.listen(free_port(), backlog=0)
        port = listener.getsockname()[1]
        fillers = [half_open(port) for _ in range(4)]
        try:
            with Proxy([port], policy=["pending=5"], limits={"connectMilliseconds": 1500}) as proxy:
                def caller(_):
                    with client(proxy) as user:
                        return user.get()
                replies = many(20, caller)
                refused = [reply for reply in replies if reply["x-weft-reason"] == "overflow-pending"]
                assert len(refused) == 15 and all(reply.status == 503 for reply in refused)
        finally:
            for filler in fillers:
                filler.close()
            listener.close()

    def test_no_more_connections_are_opened_than_the_policy_says(self):
        """Thirty callers share three connections: nobody is refused, each waits for its turn."""
        def answer(asked):
            time.sleep(0.01)
            return ok()
        with Backend(LOOPBACK, free_port(), answer) as server:
            with proxied(server, policy=["connections=3"]) as proxy:
                def caller(_):
                    with client(proxy) as user:
                        return [user.get().status for _ in range(5)]
                assert many(30, caller) == [[200] * 5] * 30
            assert server.connections == 3


class TestLimits:
    @pytest.mark.parametrize("workers", [1, 2, 8])
    def test_a_client_in_a_loop_gets_what_it_may_have(self, workers):
        """200 a second and 50 at once: over four seconds 850 pass, within one percent, however many workers count."""
        with Backend(LOOPBACK, free_port()) as server:
            with proxied(server, policy=["rate=200:1000:50"], workers=workers) as proxy:
                passed, begun = [], time.monotonic()
                until = begun + 4

                def caller(_):
                    count = 0
                    with client(proxy) as user:
                        while time.monotonic() < until:
                            reply = user.get()
                            if reply.status == 200:
                                count += 1
                                passed.append(time.monotonic())
                            else:
                                assert reply.status == 429 and reply["retry-after"] == "1" and reply["x-weft-reason"] == "rate-limited"
                                time.sleep(0.002)
                    return count
                count = sum(many(16, caller))
                expected = 50 + 200 * (max(passed) - min(passed))
                assert abs(count - expected) <= 0.01 * expected, f"{count} of {expected:.0f}"
                assert proxy.metrics().value("weft_rate_limited_total") > 0

    def test_one_noisy_user_does_not_use_up_the_others_share(self):
        with Backend(LOOPBACK, free_port()) as server:
            with proxied(server, policy=["user-rate=10:60000:10"]) as proxy, client(proxy) as user:
                noisy = [user.get("/", "X-User: noisy").status for _ in range(30)]
                assert noisy == [200] * 10 + [429] * 20
                assert [user.get("/", f"X-User: quiet{number}").status for number in range(50)] == [200] * 50

    def test_made_up_users_share_what_is_left(self):
        """A hundred thousand values of the header, each used once, must not make room for more than they are allowed, nor cost memory."""
        with Backend(LOOPBACK, free_port()) as server:
            with proxied(server, policy=["user-rate=1:60000:1"]) as proxy, client(proxy) as user:
                before = proxy.resident()
                for number in range(300):
                    user.send("".join(f"GET / HTTP/1.1\r\nHost: a\r\nX-User: {number}-{place}\r\n\r\n" for place in range(32)))
                    for _ in range(32):
                        assert user.reply().status in (200, 429)
                assert proxy.resident() - before < 4 << 20


class TestFaults:
    def test_a_rehearsed_outage_hits_who_was_chosen_and_as_many_as_was_said(self):
        with Backend(LOOPBACK, free_port()) as server:
            with proxied(server, policy=["abort=418:300000"]) as proxy, client(proxy) as user:
                assert [user.get().status for _ in range(50)] == [200] * 50
                broken = [user.get("/", "X-Break: yes").status for _ in range(2_000)]
                # 600 expected; five standard deviations are 102.
                assert 498 <= broken.count(418) <= 702 and set(broken) == {200, 418}
                assert proxy.metrics().value("weft_faults_injected_total", kind="abort") == broken.count(418)

    def test_a_delay_delays_and_loses_nothing(self):
        with Backend(LOOPBACK, free_port()) as server:
            with proxied(server, policy=["delay=80:1000000"]) as proxy, client(proxy) as user:
                begun = time.monotonic()
                user.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")
                user.send("lo")
                assert user.reply().status == 200
                assert 0.08 <= time.monotonic() - begun < 0.5
        assert server.requests[0].body == b"hello"


class TestFallback:
    @pytest.mark.parametrize("protocol", ["http", "http2"])
    def test_with_nothing_left_the_page_says_later_instead_of_an_error(self, protocol):
        """The server is gone: what the policy says is the answer, with its type, whole, on a connection that goes on."""
        with Proxy([free_port()], protocol=protocol, policy=["fallback=200"]) as proxy, client(proxy) as user:
            for _ in range(3):
                reply = user.get()
                assert (reply.status, reply.body, reply["content-type"], reply["x-weft-reason"]) == (200, b"later", "text/plain", "fallback")
            assert proxy.metrics().value("weft_fallbacks_total", kind="reply") == 3

    def test_an_error_of_the_application_is_its_own_word(self):
        with Backend(LOOPBACK, free_port(), lambda asked: failing()) as sick:
            with proxied(sick, policy=["fallback=200"]) as proxy, client(proxy) as user:
                assert (user.get().status, user.get().body) == (503, b"no")


class TestDeadlines:
    def test_what_is_left_is_told_and_kept(self):
        def answer(asked):
            time.sleep(1 if asked.target == "/slow" else 0)
            return ok()
        with Backend(LOOPBACK, free_port(), answer) as server, proxied(server) as proxy, client(proxy) as user:
            assert user.get("/", "X-Request-Timeout: 1m30s").status == 200
            assert 89_000 < int(server.last()["x-request-timeout"].removesuffix("ms")) <= 90_000
            for strange in ("soon", "-1s", "1", "9999999999h", ""):
                assert user.get("/", f"X-Request-Timeout: {strange}").status == 200
            reply = user.get("/slow", "X-Request-Timeout: 100ms")
            assert (reply.status, reply["x-weft-reason"]) == (504, "deadline-exceeded")

    def test_a_call_hears_what_is_left(self):
        heard = []

        def answer(wire, stream):
            heard.append(dict(stream.fields)["grpc-timeout"])
            ok2(wire, stream, b"", ("grpc-status", "0"), ("content-type", "application/grpc"))
        with Backend2(LOOPBACK, free_port(), answer) as server, proxied(server, protocol="grpc") as proxy, Client2(LOOPBACK, *proxy.address) as user:
            user.get("/a.B/C", ("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "5S"), method="POST")
        assert heard[0].endswith("m") and 4_000 < int(heard[0][:-1]) <= 5_000
