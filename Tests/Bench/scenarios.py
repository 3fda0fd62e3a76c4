"""The scenarios, one function each: one call is one round over all proxies."""

import json
import os
import re
import ssl
import subprocess
import threading
import time

import door
import machine
import proxies

IDLE_CONNECTIONS = 10_000
OPENING_SECONDS = 120
#: Connections are idle when nothing has happened on them for longer than proxies wait before they give memory back.
REST_SECONDS = 6
MEGABYTE = 1 << 20
UPLOAD = 102_400
#: A reply that does not end within a measurement, for bulk.
ENDLESS = 1 << 40
#: Who takes part where; `direct` is the client on the backend itself.
HTTP1 = ("direct", "floor", "weft", "nginx", "haproxy", "envoy")
HTTP2 = ("direct", "floor", "weft", "nghttpx", "haproxy", "envoy")
TCP = ("direct", "floor", "weft", "nginx", "haproxy", "haproxy_1mb", "envoy")
#: nginx speaks no HTTP/2 to servers.
MESH = ("floor", "weft", "nghttpx", "haproxy", "envoy", "envoy_mesh")
MUTUAL_TLS = ("weft", "nginx", "haproxy", "nghttpx", "envoy", "envoy_mesh")


class Instance:
    """One freshly started proxy, all its hops in one cgroup on one core. `direct` is the backend itself."""

    _port = 5000

    def __init__(self, name, role, backend, identities):
        Instance._port = 5000 if Instance._port > 11000 else Instance._port + 10
        self.name, first = name, Instance._port
        self.group = machine.cgroup(f"{name}-{first}")
        self.processes = []
        self.port = backend.port
        if proxies.PROXIES[name] is None:
            return
        for index, hop in enumerate(proxies.PATHS.get(role, (role,))):
            directory = machine.scratch(f"{name}-{first + index}")
            here = proxies.Here(hop, first + index, first + 5 + index, self.port, backend.port, directory, identities)
            self._start(proxies.PROXIES[name](here), directory, here.listen)
            self.port = here.listen
        #: Where it takes mutual TLS; and the application's port, when it must be told there.
        self.door, self.inner = f"127.0.0.1:{self.port}", None
        if name == "weft":
            self.door, self.inner = f"{proxies.WEFT_POD}:{proxies.WEFT_PORT}", backend.port
        time.sleep(0.15)  # worker processes settle; nothing waits for this

    def _start(self, command, directory, port):
        log = directory / "out.log"
        with open(log, "wb") as out:
            self.processes.append(machine.spawn(command, machine.PROXY_CORE, self.group, stdout=out, stderr=out, cwd=directory))
        try:
            if self.name in proxies.READY:
                machine.wait_text(log, proxies.READY[self.name], self.processes[-1])
            else:
                machine.wait_port(port, self.processes)
        except RuntimeError as error:
            self.close()
            raise RuntimeError(f"{self.name}: {error}\n{log.read_text(errors='replace')[-1500:]}") from None

    def close(self):
        """Ends every process of the group."""
        for process in self.processes:
            process.terminate()
        deadline = time.time() + 1.5
        for process in self.processes:
            try:
                process.wait(timeout=max(0, deadline - time.time()))
            except subprocess.TimeoutExpired:
                pass
        machine.end(self.group)
        for process in self.processes:
            process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Backend:
    """A C server on the load core: HTTP/1.1, or HTTP/2 with replies of one size."""

    def __init__(self, role="http1", reply=100):
        self.port = 4001 if role == "http2" else 4000
        self.group = machine.cgroup(f"backend-{self.port}")
        command = [machine.TOOLS / "h2back", self.port, reply] if role == "http2" else [machine.TOOLS / "backend", self.port, "0.0.0.0"]
        self.process = machine.spawn(command, machine.LOAD_CORE, self.group)
        machine.wait_port(self.port, [self.process])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Run:
    """Collects the records of one invocation."""

    def __init__(self, names, seconds):
        self.names, self.seconds, self.round, self.records = names, seconds, 0, []
        self.client = machine.cgroup("client")
        self.patience = 90.0
        self.identities = proxies.Identities(machine.scratch("identities"))

    def record(self, scenario, variant, proxy, values):
        """One line of results.json."""
        values = {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}
        self.records.append({"scenario": scenario, "variant": variant, "proxy": proxy, "round": self.round, **values})
        shown = ("rps", "us_req", "us_hs", "of_full", "p50", "p99", "s50", "mean", "gb_cpu_s", "kb_conn", "errors", "core_load_busy", "core_proxy_busy", "foreign", "error")
        print(f"  {scenario:4}{variant:16} {proxy:11} " + " ".join(f"{k}={values[k]:.6g}" if isinstance(values.get(k), (int, float)) else f"{k}={values[k]}" for k in shown if values.get(k) not in (None, "")), flush=True)

    def _client(self, *command, timeout=60):
        """Runs a load generator to its end, on the load core."""
        process = machine.spawn(command, machine.LOAD_CORE, self.client, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise RuntimeError(f"{command[0]} did not end") from None
        if process.returncode:
            raise RuntimeError(f"{command[0]} exited with {process.returncode}: {err[-400:]}")
        return out

    def lg(self, instance, *options):
        """HTTP/1.1."""
        return json.loads(self._client(machine.TOOLS / "lg", "-t", f"127.0.0.1:{instance.port}", *options).splitlines()[0])

    def tlsload_command(self, instance, *options):
        """The load generator over mutual TLS, before the instance's door."""
        inner = () if instance.inner is None else ("-2", instance.inner)
        chain, key = self.identities.client
        return [machine.TOOLS / "tlsload", "-t", instance.door, "-C", chain, "-K", key, "-A", self.identities.roots, "-p", "/s/100", *inner, *options]

    def tlsload(self, instance, *options):
        """HTTP over mutual TLS: HTTP/1.1, or HTTP/2 where weft-proxy takes it."""
        result = json.loads(self._client(*self.tlsload_command(instance, *options)).splitlines()[0])
        # Bytes it does not count: they are not what its scenarios are about.
        return result | {"done": result["n"], "bytes": 0, "bytes_end": 0}

    def unary(self, instance, *options):
        """One gRPC-shaped call after the other."""
        return json.loads(self._client(machine.TOOLS / "unary", "-t", f"127.0.0.1:{instance.port}", *options))

    def h2load(self, instance, *options, seconds):
        """HTTP/2, many streams; its windows never fill."""
        return h2load_result(self._client("h2load", *options, "-D", f"{round(seconds * 1000)}ms", f"http://127.0.0.1:{instance.port}/bench.Echo/Call"))

    def measure(self, instance, backend, client):
        """Charges everything that the proxy's cgroup used while `client()` ran to the requests of that client."""
        ticks, began = machine.busy(), time.time()
        used = [machine.cpu(g) for g in (instance.group, backend.group, self.client)]
        own = time.process_time()
        result = client()
        wall = time.time() - began
        proxy, server, client = (machine.cpu(g) - u for g, u in zip((instance.group, backend.group, self.client), used))
        after, hertz = machine.busy(), os.sysconf("SC_CLK_TCK")
        share = {core: (after[core][0] - ticks[core][0]) / hertz for core in ticks}
        result.update(
            wall=wall, proxy_cpu=proxy, backend_cpu=server, client_cpu=client,
            core_load_busy=share[machine.LOAD_CORE] / wall, core_proxy_busy=share[machine.PROXY_CORE] / wall,
            foreign=max(0.0, (sum(share.values()) - proxy - server - client - (time.process_time() - own)) / wall),
            foreign_nice=sum(after[c][2] - ticks[c][2] for c in ticks) / hertz / wall, steal=sum(after[c][1] - ticks[c][1] for c in ticks) / hertz / wall)
        if result["done"]:
            result["us_req"] = proxy / result["done"] * 1e6
        if result["bytes"] and proxy > 0:
            result["gb_cpu_s"] = result["bytes"] / 1e9 / proxy
        result["gb_s"] = result["bytes_end"] / 1e9 / result["secs"]
        result["errors"] = sum(result.get(key, 0) for key in ("non200", "err_inflight", "err_connect", "err_tls"))
        if result["errors"] > result["done"] / 100:
            raise RuntimeError(f"{result['errors']} of {result['done']} requests failed")
        return result

    def again_when_disturbed(self, measurement):
        """A cell that others disturbed (more than 6 % of a core) is measured once more; the record says so."""
        result = measurement()
        if result["foreign"] > 0.06 + 0.06 * (result["core_load_busy"] + result["core_proxy_busy"]) / 2:
            first = result["foreign"]
            result = measurement()
            result["repeated_because_foreign"] = round(first, 3)
        return result

    def calm(self, measurement):
        """Latency at low load is what others disturb most: waits for quiet within a budget, and keeps the calmest of three."""
        best = None
        for _ in range(3):
            self._wait_for_quiet()
            result = measurement()
            disturbed = result["foreign"] + result["foreign_nice"]
            if best is None or disturbed < best[0]:
                best = (disturbed, result)
            if disturbed < 0.15 or self.patience <= 0:
                break
        return best[1]

    def _wait_for_quiet(self):
        while self.patience > 0:
            before, began = machine.busy(), time.time()
            time.sleep(0.3)
            after = machine.busy()
            others = sum(after[c][0] + after[c][2] - before[c][0] - before[c][2] for c in before) / os.sysconf("SC_CLK_TCK") / (time.time() - began)
            if others < 0.15:
                return
            time.sleep(0.5)
            self.patience -= 0.8

    def each(self, scenario, variant, body, among, role="http1", reply=100):
        """`body(instance, backend)` for every proxy that takes part, one after the other; one that fails is a record, not the end."""
        with Backend(role, reply) as backend:
            for name in self.names:
                if name not in among:
                    continue
                try:
                    with Instance(name, role, backend, self.identities) as instance:
                        body(instance, backend)
                except (RuntimeError, OSError, ValueError, LookupError, TypeError) as error:
                    self.record(scenario, variant, name, {"error": str(error)[:600]})


def h2load_result(text):
    """What h2load 1.52 prints, in lg's words. Percentiles it has none."""
    def microseconds(value):
        amount = float(re.match(r"[\d.]+", value)[0])
        return amount * (1 if value.endswith("us") else 1e3 if value.endswith("ms") else 1e6)
    took, unit, rate = re.search(r"finished in ([\d.]+)(ms|s), ([\d.]+) req/s", text).groups()
    done, failed, errored = (int(re.search(rf"(\d+) {word}\b", text)[1]) for word in ("done", "failed", "errored"))
    statuses = [int(n) for n in re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text).groups()]
    bytes_ = int(re.search(r"traffic: \S+ \((\d+)\) total", text)[1])
    _, longest, mean, _ = re.search(r"time for request:\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)", text).groups()
    return {"secs": float(took) / (1000 if unit == "ms" else 1), "done": done, "ok": statuses[0], "rps": float(rate), "bytes": bytes_, "bytes_end": bytes_,
            "non200": sum(statuses[1:]), "err_inflight": failed + errored, "err_connect": 0, "mean": microseconds(mean), "max": microseconds(longest)}


def sent(result):
    """Uploads are counted by what went up."""
    up = result["done"] * UPLOAD / 1e9
    return result | {"gb_s": up / result["secs"], "gb_cpu_s": up / result["proxy_cpu"] if result["proxy_cpu"] else None}


def s1(run):
    """HTTP/1.1, 64 keep-alive connections, 1 KB: what a request costs."""
    def body(instance, backend):
        run.lg(instance, "-c", 64, "-d", 0.7)
        result = run.again_when_disturbed(lambda: run.measure(instance, backend, lambda: run.lg(instance, "-c", 64, "-d", run.seconds)))
        run.record("s1", "", instance.name, result | machine.memory(instance.group))
    run.each("s1", "", body, (*HTTP1, "envoy_mesh"))


def s2(run):
    """Two hops with mutual TLS between them, and the way from pod to pod of one node: 64 keep-alive connections, 1 KB. What a request costs."""
    def measured(variant):
        def body(instance, backend):
            run.lg(instance, "-c", 64, "-d", 0.7)
            result = run.again_when_disturbed(lambda: run.measure(instance, backend, lambda: run.lg(instance, "-c", 64, "-d", run.seconds)))
            run.record("s2", variant, instance.name, result | machine.memory(instance.group))
        return body
    run.each("s2", "mesh_h2", measured("mesh_h2"), MESH, "mesh_h2")
    run.each("s2", "mesh_h1", measured("mesh_h1"), (*MESH, "nginx"), "mesh_h1")
    run.each("s2", "same_node", measured("same_node"), ("floor", "weft"), "same_node")


def s3(run):
    """HTTP/2, 8 connections of 32 streams, shaped like gRPC: 100 B up, 100 B and trailers down. What an exchange costs."""
    call = ("-c", 8, "-m", 32, "-d", machine.content("call", 100), "-H", "content-type: application/grpc", "-H", "te: trailers")

    def body(instance, backend):
        run.h2load(instance, *call, seconds=0.7)
        result = run.again_when_disturbed(lambda: run.measure(instance, backend, lambda: run.h2load(instance, *call, seconds=run.seconds)))
        run.record("s3", "", instance.name, result | machine.memory(instance.group))
    run.each("s3", "", body, (*HTTP2, "nginx", "envoy_mesh"), "http2")


def s4(run):
    """Mutual TLS 1.3 handshakes, full and resumed: what a connection with one request costs more than a request on a connection that stands."""
    def handshakes(instance, backend, standing, *options):
        run.tlsload(instance, "-c", 32, "-d", 0.4, "-x", *options)
        result = run.again_when_disturbed(lambda: run.measure(instance, backend, lambda: run.tlsload(instance, "-c", 32, "-d", run.seconds, "-x", *options)))
        if not result["handshakes"]:
            raise RuntimeError("no handshakes")
        gross = result["proxy_cpu"] / result["handshakes"] * 1e6
        return result | {"us_hs_gross": gross, "us_req": standing, "us_hs": gross - standing, "hs_s": result["handshakes"] / result["secs"]} | machine.memory(instance.group)

    def body(instance, backend):
        run.tlsload(instance, "-c", 32, "-d", 0.4)
        standing = run.measure(instance, backend, lambda: run.tlsload(instance, "-c", 32, "-d", run.seconds * 0.6))["us_req"]
        full = handshakes(instance, backend, standing)
        if full["resumed"]:
            raise RuntimeError(f"{full['resumed']} of {full['handshakes']} handshakes were resumed")
        run.record("s4", "full", instance.name, full)
        if instance.name == "weft":  # the others are measured without tickets
            resumed = handshakes(instance, backend, standing, "-r")
            if resumed["resumed"] < resumed["handshakes"] * 0.9:
                raise RuntimeError(f"only {resumed['resumed']} of {resumed['handshakes']} handshakes were resumed")
            run.record("s4", "resumed", instance.name, resumed | {"of_full": resumed["us_hs"] / full["us_hs"]})
    run.each("s4", "full", body, MUTUAL_TLS, "terminate")


def s5(run):
    """Opaque TCP: bulk over 4 connections in GB per CPU second, and 64 B replies back to back on one."""
    def body(instance, backend):
        def bulk(seconds):
            return run.lg(instance, "-Q", "-c", 4, "-d", seconds, "-p", f"/s/{ENDLESS}")

        def pingpong(seconds):
            return run.lg(instance, "-c", 1, "-d", seconds, "-p", "/s/64")
        bulk(0.4)
        run.record("s5", "bulk", instance.name, run.again_when_disturbed(lambda: run.measure(instance, backend, lambda: bulk(run.seconds))))
        pingpong(0.3)
        run.record("s5", "pingpong", instance.name, run.calm(lambda: run.measure(instance, backend, lambda: pingpong(run.seconds * 0.6))))
    run.each("s5", "bulk", body, TCP, "tcp")


def s6(run):
    """10,000 idle connections, plain and over mutual TLS: what one costs in memory; and what the proxy weighs before them."""
    def held(variant, instance, command):
        time.sleep(0.3)
        before = machine.memory(instance.group)
        holder = machine.spawn([*command, "-i", "-c", IDLE_CONNECTIONS, "-k", 32], machine.LOAD_CORE, run.client,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        guard = threading.Timer(OPENING_SECONDS, holder.kill)
        guard.start()
        try:
            said = []
            while not said or said[-1] != "READY\n":
                said.append(holder.stdout.readline())
                if not said[-1]:
                    raise RuntimeError(f"{IDLE_CONNECTIONS} connections did not open within {OPENING_SECONDS} s")
            time.sleep(REST_SECONDS)
            after = machine.memory(instance.group)
            out, _ = holder.communicate("q\n", timeout=10)
        finally:
            guard.cancel()
            if holder.poll() is None:
                holder.kill()
                holder.communicate()
        lines = "".join(said + [out]).splitlines()
        opened = next(json.loads(line) for line in lines if line.startswith("{"))
        alive = next((int(line.split()[1]) for line in lines if line.startswith("ALIVE")), -1)
        run.record("s6", variant, instance.name, {
            "conns": IDLE_CONNECTIONS, "ok": opened["ok"], "alive": alive, "rss0_kb": before["pss_kb"], "rss1_kb": after["pss_kb"], "weft_proxy_kb": before["weft_proxy_kb"],
            "kb_conn": (after["pss_kb"] - before["pss_kb"]) / IDLE_CONNECTIONS, "open_secs": opened["secs"],
            "errors": opened["err_connect"] + opened.get("err_tls", 0) + opened["err_inflight"] + opened["non200"]})

    def plain(instance, backend):
        run.lg(instance, "-c", 64, "-d", 0.7, "-p", "/s/100")
        held("plain", instance, [machine.TOOLS / "lg", "-t", f"127.0.0.1:{instance.port}", "-p", "/s/100"])
    run.each("s6", "plain", plain, (*HTTP1[1:], "envoy_mesh"))

    def secure(instance, backend):
        run.tlsload(instance, "-c", 64, "-d", 0.7)
        held("mtls", instance, run.tlsload_command(instance))
    run.each("s6", "mtls", secure, MUTUAL_TLS, "terminate")


def s7(run):
    """Latency that one hop, or two with mutual TLS, add: one connection back to back, 500 requests a second in open loop; and one gRPC call after the other."""
    def measured(prefix):
        def body(instance, backend):
            run.lg(instance, "-c", 10, "-d", 0.4)
            run.record("s7", prefix + "open500", instance.name, run.calm(lambda: run.measure(instance, backend, lambda: run.lg(instance, "-c", 10, "-r", 500, "-d", run.seconds))))
            run.record("s7", prefix + "pingpong", instance.name, run.calm(lambda: run.measure(instance, backend, lambda: run.lg(instance, "-c", 1, "-d", run.seconds * 0.6))))
        return body
    run.each("s7", "open500", measured(""), HTTP1)
    run.each("s7", "mesh_h2_open500", measured("mesh_h2_"), MESH, "mesh_h2")

    def unary(instance, backend):
        run.unary(instance, "-d", 0.3)
        run.record("s7", "grpc", instance.name, run.calm(lambda: run.measure(instance, backend, lambda: run.unary(instance, "-d", run.seconds * 0.6))))
    run.each("s7", "grpc", unary, HTTP2, "http2")


def s9(run):
    """Bodies over HTTP/1.1 and HTTP/2, 8 at once: 1 MB down, 100 KB up, in GB per CPU second."""
    def body(instance, backend):
        def download(seconds):
            return run.lg(instance, "-c", 8, "-d", seconds, "-p", f"/s/{MEGABYTE}")

        def upload(seconds):
            return run.lg(instance, "-c", 8, "-d", seconds, "-b", UPLOAD, "-p", "/s/100")
        download(0.5)
        run.record("s9", "get1m", instance.name, run.again_when_disturbed(lambda: run.measure(instance, backend, lambda: download(run.seconds))))
        upload(0.4)
        run.record("s9", "post100k", instance.name, run.again_when_disturbed(lambda: sent(run.measure(instance, backend, lambda: upload(run.seconds)))))
    run.each("s9", "get1m", body, HTTP1)

    def download2(instance, backend):
        def download(seconds):
            return run.h2load(instance, "-c", 8, "-m", 1, seconds=seconds)
        download(0.5)
        run.record("s9", "h2_get1m", instance.name, run.again_when_disturbed(lambda: run.measure(instance, backend, lambda: download(run.seconds))))
    run.each("s9", "h2_get1m", download2, HTTP2, "http2", MEGABYTE)

    def upload2(instance, backend):
        def upload(seconds):
            return run.h2load(instance, "-c", 8, "-m", 1, "-d", machine.content("upload", UPLOAD), seconds=seconds)
        upload(0.4)
        run.record("s9", "h2_post100k", instance.name, run.again_when_disturbed(lambda: sent(run.measure(instance, backend, lambda: upload(run.seconds)))))
    run.each("s9", "h2_post100k", upload2, HTTP2, "http2")


def v1(run):
    """Is mutual TLS enforced? A good certificate gets its reply; none, a stranger's, and TLS 1.2 get none."""
    def body(instance, backend):
        def lets_in(**who):
            return int(door.lets_in(instance.door, instance.inner, run.identities.roots, **who))
        good, stranger = run.identities.client, run.identities.stranger
        seen = {"good": lets_in(certificate=good), "no_certificate": lets_in(), "stranger": lets_in(certificate=stranger),
                "tls12": lets_in(certificate=good, version=ssl.TLSVersion.TLSv1_2)}
        run.record("v1", "", instance.name, seen | {"errors": (1 - seen["good"]) + seen["no_certificate"] + seen["stranger"] + seen["tls12"]})
    run.each("v1", "", body, MUTUAL_TLS, "terminate")


SCENARIOS = {"v1": v1, "s1": s1, "s2": s2, "s3": s3, "s4": s4, "s5": s5, "s6": s6, "s7": s7, "s9": s9}
