"""The scenarios, one function each: one call is one round over all proxies."""

import json
import os
import subprocess
import threading
import time

import machine
import proxies

IDLE_CONNECTIONS = 10_000


class Instance:
    """One freshly started proxy, with its own cgroup and core. `direct` is the backend itself."""

    _port = 5000

    def __init__(self, name, backend):
        Instance._port = 5000 if Instance._port > 11000 else Instance._port + 10
        self.name, self.port = name, Instance._port
        self.group = machine.cgroup(f"{name}-{self.port}")
        self.process = None
        if proxies.PROXIES[name] is None:
            self.port = backend.port
            return
        directory = machine.scratch(f"{name}-{self.port}")
        command = proxies.PROXIES[name](proxies.Here(self.port, self.port + 1, backend.port, directory))
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
    """The C server on the load core."""

    def __init__(self, port=4000):
        self.port, self.group = port, machine.cgroup(f"backend-{port}")
        self.process = machine.spawn([machine.TOOLS / "backend", port], machine.LOAD_CORE, self.group)
        machine.wait_port(port, [self.process])

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
        shown = ("rps", "us_req", "p50", "p99", "s50", "gb_cpu_s", "kb_conn", "errors", "core_load_busy", "core_proxy_busy", "foreign", "error")
        print(f"  {scenario:4}{variant:10} {proxy:11} " + " ".join(f"{k}={values[k]:.6g}" if isinstance(values.get(k), (int, float)) else f"{k}={values[k]}" for k in shown if values.get(k) not in (None, "")), flush=True)

    def lg(self, instance, *options, timeout=60):
        """Runs the load generator to its end."""
        command = [machine.TOOLS / "lg", "-t", f"127.0.0.1:{instance.port}", *options]
        process = machine.spawn(command, machine.LOAD_CORE, self.client, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise RuntimeError("the load generator did not end") from None
        if process.returncode:
            raise RuntimeError(f"lg exited with {process.returncode}: {err[-400:]}")
        return json.loads(out.splitlines()[0])

    def measure(self, instance, backend, *options):
        """Charges everything that the proxy's cgroup used while lg ran to the requests of that lg."""
        ticks, began = machine.busy(), time.time()
        used = [machine.cpu(g) for g in (instance.group, backend.group, self.client)]
        own = time.process_time()
        result = self.lg(instance, *options)
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

    def each(self, scenario, body, direct=True):
        """`body(instance, backend)` for every proxy, one after the other; a proxy that fails is a record, not the end."""
        with Backend() as backend:
            for name in self.names:
                if proxies.PROXIES[name] is None and not direct:
                    continue
                try:
                    with Instance(name, backend) as instance:
                        body(instance, backend)
                except (RuntimeError, OSError, ValueError, LookupError) as error:
                    self.record(scenario, "", name, {"error": str(error)[:600]})


def s1(run):
    """HTTP/1.1, 64 keep-alive connections, 1 KB: what a request costs."""
    def body(instance, backend):
        run.lg(instance, "-c", 64, "-d", 0.7)
        result = run.again_when_disturbed(lambda: run.measure(instance, backend, "-c", 64, "-d", run.seconds))
        run.record("s1", "", instance.name, result | machine.memory(instance.group))
    run.each("s1", body)


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
    run.each("s6", body, direct=False)


def s7(run):
    """Latency that one hop adds: one connection back to back, and 500 requests a second in open loop."""
    def body(instance, backend):
        run.lg(instance, "-c", 10, "-d", 0.4)
        run.record("s7", "open500", instance.name, run.calm(lambda: run.measure(instance, backend, "-c", 10, "-r", 500, "-d", run.seconds)))
        run.record("s7", "pingpong", instance.name, run.calm(lambda: run.measure(instance, backend, "-c", 1, "-d", run.seconds * 0.6)))
    run.each("s7", body)


def s9(run):
    """Bodies: 1 MB down, 100 KB up, in GB per CPU second."""
    def body(instance, backend):
        run.lg(instance, "-c", 8, "-d", 0.5, "-p", "/s/1048576")
        run.record("s9", "get1m", instance.name, run.again_when_disturbed(lambda: run.measure(instance, backend, "-c", 8, "-d", run.seconds, "-p", "/s/1048576")))

        def upload():
            result = run.measure(instance, backend, "-c", 8, "-d", run.seconds, "-b", 102400, "-p", "/s/100")
            sent = result["done"] * 102400 / 1e9
            return result | {"gb_s": sent / result["secs"], "gb_cpu_s": sent / result["proxy_cpu"] if result["proxy_cpu"] else None}
        run.lg(instance, "-c", 8, "-d", 0.4, "-b", 102400, "-p", "/s/100")
        run.record("s9", "post100k", instance.name, run.again_when_disturbed(upload))
    run.each("s9", body)


SCENARIOS = {"s1": s1, "s6": s6, "s7": s7, "s9": s9}
