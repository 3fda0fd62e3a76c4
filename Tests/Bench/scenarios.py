"""The scenarios, one function each: one call is one round over all proxies."""

import json
import os
import re
import subprocess
import threading
import time

import machine
import proxies

IDLE_CONNECTIONS = 10_000
MEGABYTE = 1 << 20
UPLOAD = 102_400
#: A reply that does not end within a measurement, for bulk.
ENDLESS = 1 << 40
#: Who takes part where; `direct` is the client on the backend itself.
HTTP1 = ("direct", "floor", "weft", "nginx", "haproxy", "envoy")
HTTP2 = ("direct", "floor", "weft", "nghttpx", "haproxy", "envoy")
TCP = ("direct", "floor", "weft", "nginx", "haproxy", "haproxy_1mb", "envoy")


class Instance:
    """One freshly started proxy, with its own cgroup and core. `direct` is the backend itself."""

    _port = 5000

    def __init__(self, name, role, backend):
        Instance._port = 5000 if Instance._port > 11000 else Instance._port + 10
        self.name, self.port = name, Instance._port
        self.group = machine.cgroup(f"{name}-{self.port}")
        self.process = None
        if proxies.PROXIES[name] is None:
            self.port = backend.port
            return
        directory = machine.scratch(f"{name}-{self.port}")
        command = proxies.PROXIES[name](proxies.Here(role, self.port, self.port + 1, backend.port, directory))
        log = directory / "out.log"
        with open(log, "wb") as out:
            self.process = machine.spawn(command, machine.PROXY_CORE, self.group, stdout=out, stderr=out, cwd=directory)
        try:
            machine.wait_port(self.port, [self.process])
        except RuntimeError as error:
            self.close()
            raise RuntimeError(f"{name}: {error}\n{log.read_text(errors='replace')[-1500:]}") from None
        time.sleep(0.15)  # worker processes settle; nothing waits for this

    def close(self):
        """Ends every process of the group."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(timeout=1.5)
            except subprocess.TimeoutExpired:
                pass
            machine.end(self.group)
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Backend:
    """A C server on the load core: HTTP/1.1, or HTTP/2 with replies of one size."""

    def __init__(self, role="http1", reply=100):
        self.port = 4001 if role == "http2" else 4000
        self.group = machine.cgroup(f"backend-{self.port}")
        command = [machine.TOOLS / "h2back", self.port, reply] if role == "http2" else [machine.TOOLS / "backend", self.port]
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

    def record(self, scenario, variant, proxy, values):
        """One line of results.json."""
        values = {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}
        self.records.append({"scenario": scenario, "variant": variant, "proxy": proxy, "round": self.round, **values})
        shown = ("rps", "us_req", "p50", "p99", "s50", "mean", "gb_cpu_s", "kb_conn", "errors", "core_load_busy", "core_proxy_busy", "foreign", "error")
        print(f"  {scenario:4}{variant:10} {proxy:11} " + " ".join(f"{k}={values[k]:.6g}" if isinstance(values.get(k), (int, float)) else f"{k}={values[k]}" for k in shown if values.get(k) not in (None, "")), flush=True)

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
        result["errors"] = sum(result[key] for key in ("non200", "err_inflight", "err_connect"))
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
                    with Instance(name, role, backend) as instance:
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


def s3(run):
    """HTTP/2, 8 connections of 32 streams, shaped like gRPC: 100 B up, 100 B and trailers down. What an exchange costs."""
    call = ("-c", 8, "-m", 32, "-d", machine.content("call", 100), "-H", "content-type: application/grpc", "-H", "te: trailers")

    def body(instance, backend):
        run.h2load(instance, *call, seconds=0.7)
        result = run.again_when_disturbed(lambda: run.measure(instance, backend, lambda: run.h2load(instance, *call, seconds=run.seconds)))
        run.record("s3", "", instance.name, result | machine.memory(instance.group))
    run.each("s3", "", body, (*HTTP2, "nginx", "envoy_mesh"), "http2")


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
    """10,000 idle connections: what one costs in memory; and what the proxy weighs before them."""
    def body(instance, backend):
        run.lg(instance, "-c", 64, "-d", 0.7, "-p", "/s/100")
        time.sleep(0.3)
        before = machine.memory(instance.group)
        command = [machine.TOOLS / "lg", "-t", f"127.0.0.1:{instance.port}", "-i", "-c", IDLE_CONNECTIONS, "-k", 32, "-p", "/s/100"]
        holder = machine.spawn(command, machine.LOAD_CORE, run.client, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        guard = threading.Timer(60, holder.kill)
        guard.start()
        try:
            opened = json.loads(holder.stdout.readline())
            holder.stdout.readline()
            time.sleep(0.7)
            after = machine.memory(instance.group)
            out, _ = holder.communicate("q", timeout=10)
        finally:
            guard.cancel()
            if holder.poll() is None:
                holder.kill()
                holder.communicate()
        alive = int(out.split()[1]) if out.startswith("ALIVE") else -1
        run.record("s6", "plain", instance.name, {
            "conns": IDLE_CONNECTIONS, "ok": opened["ok"], "alive": alive, "rss0_kb": before["pss_kb"], "rss1_kb": after["pss_kb"], "weft_proxy_kb": before["weft_proxy_kb"],
            "kb_conn": (after["pss_kb"] - before["pss_kb"]) / IDLE_CONNECTIONS, "open_secs": opened["secs"],
            "errors": opened["err_connect"] + opened["err_inflight"] + opened["non200"]})
    run.each("s6", "plain", body, (*HTTP1[1:], "envoy_mesh"))


def s7(run):
    """Latency that one hop adds: one connection back to back, 500 requests a second in open loop, and one gRPC call after the other."""
    def body(instance, backend):
        run.lg(instance, "-c", 10, "-d", 0.4)
        run.record("s7", "open500", instance.name, run.calm(lambda: run.measure(instance, backend, lambda: run.lg(instance, "-c", 10, "-r", 500, "-d", run.seconds))))
        run.record("s7", "pingpong", instance.name, run.calm(lambda: run.measure(instance, backend, lambda: run.lg(instance, "-c", 1, "-d", run.seconds * 0.6))))
    run.each("s7", "open500", body, HTTP1)

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


SCENARIOS = {"s1": s1, "s3": s3, "s5": s5, "s6": s6, "s7": s7, "s9": s9}
