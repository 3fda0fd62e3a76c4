"""The bench's machine: an own network namespace, a core for the proxy and one for the load, CPU time by v2 cgroup."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
OUT = REPOSITORY / ".build" / "bench"
TOOLS = OUT / "bin"
RELEASE = REPOSITORY / ".build" / "release"
PROXY_CORE, LOAD_CORE = 1, 0
#: What weft-proxy-host calls the pod of its listener. On a node, its proxy connects to the node's own pods from their clients' addresses.
POD_ADDRESS = "198.18.0.1"
CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_root = None


def requirements():
    """Says in one line what is missing."""
    if os.geteuid() != 0:
        sys.exit("bench: needs root (network namespace, cgroups, priorities)")
    if (os.cpu_count() or 1) < 2:
        sys.exit("bench: needs two cores, one for the proxy and one for the load")
    for needed in (*(TOOLS / name for name in ("lg", "tlsload", "backend", "floor", "h2back", "unary")), RELEASE / "weft-proxy", RELEASE / "weft-proxy-host"):
        if not needed.exists():
            sys.exit(f"bench: {needed.relative_to(REPOSITORY)} is not built: run `make`")
    for program in ("h2load", "nghttpx", "haproxy", "nginx"):
        if not shutil.which(program):
            sys.exit(f"bench: {program} is not installed: run `make setup-bench`")


def own_namespace():
    """Only loopback, own sysctls; nothing can leave. Starts this program again inside."""
    if os.environ.get("WEFT_BENCH_NAMESPACE") != "1":
        os.environ["WEFT_BENCH_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "-n", sys.executable, str(Path(__file__).with_name("bench.py")), *sys.argv[1:]])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", f"{POD_ADDRESS}/32", "dev", "lo"], check=True)
    for name in ("cubic", "reno"):  # a namespace may take what the machine leaves open to all; BBR paces, which is not what is measured here
        try:
            CONGESTION_CONTROL.write_text(name)
            break
        except OSError:
            pass
    for name, value in {
        "ipv4/ip_local_port_range": "12000 65000", "ipv4/tcp_tw_reuse": "1",
        "core/somaxconn": "4096", "ipv4/tcp_max_syn_backlog": "8192",
    }.items():
        try:
            Path("/proc/sys/net", name).write_text(value)
        except OSError as error:
            print(f"bench: sysctl {name}: {error}")


def first_in_line():
    """Own scheduling weight: kernel autogroups ignore `nice` across process groups started separately."""
    try:
        os.setsid()
    except OSError:
        pass
    try:
        Path("/proc/self/autogroup").write_text("-20")
    except OSError:
        pass
    os.sched_setaffinity(0, {LOAD_CORE})


def cgroup(name):
    """A v2 cgroup of this run."""
    global _root
    if _root is None:
        for line in open("/proc/self/mountinfo"):
            left, right = line.split(" - ", 1)
            if right.split()[0] == "cgroup2":
                _root = Path(left.split()[4]) / f"weft-bench-{os.getpid()}"
        if _root is None:
            sys.exit("bench: no cgroup v2 hierarchy is mounted")
        _root.mkdir(exist_ok=True)
    made = _root / name
    made.mkdir(exist_ok=True)
    return made


def close():
    """Ends what is left in our cgroups and removes them."""
    if _root is None:
        return
    for directory in _root.iterdir():
        if directory.is_dir():
            end(directory)
            directory.rmdir()
    _root.rmdir()


def end(group):
    """Kills every process of one of our cgroups."""
    for _ in range(100):
        members = (group / "cgroup.procs").read_text().split()
        if not members:
            return
        for pid in members:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except OSError:
                pass
        time.sleep(0.02)


def cpu(group):
    """CPU seconds that a cgroup has used, ended processes included."""
    for line in (group / "cpu.stat").read_text().splitlines():
        if line.startswith("usage_usec"):
            return int(line.split()[1]) / 1e6
    raise LookupError("no usage_usec")


def memory(group):
    """PSS of a cgroup's processes in KB, and of `weft-proxy` alone."""
    total, alone = 0, 0
    for pid in (group / "cgroup.procs").read_text().split():
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        kilobytes = next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
        total += kilobytes
        if name == "weft-proxy":
            alone += kilobytes
    return {"pss_kb": total, "weft_proxy_kb": alone}


def spawn(argv, core, group, **options):
    """Starts a program on a core, in a cgroup, with all the descriptors it may have."""
    def prepare():
        (group / "cgroup.procs").write_text("0")
        os.sched_setaffinity(0, {core})
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen([str(a) for a in argv], preexec_fn=prepare, **options)


def wait_port(port, processes, within=30):
    """Until something accepts on 127.0.0.1:port."""
    deadline = time.time() + within
    while time.time() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            pass
        for process in processes:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args[0]} exited with {process.returncode}")
        time.sleep(0.003)
    raise RuntimeError(f"port {port} did not open")


def wait_text(path, text, process, within=30):
    """Until a program has written something to its log."""
    deadline = time.time() + within
    while time.time() < deadline:
        if text in path.read_text(errors="replace"):
            return
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} exited with {process.returncode}")
        time.sleep(0.003)
    raise RuntimeError(f"{process.args[0]} did not say {text!r}")


def busy():
    """Per core: (busy ticks, stolen ticks, nice ticks)."""
    read = {}
    for line in open("/proc/stat"):
        if line.startswith("cpu") and line[3].isdigit():
            name, *rest = line.split()
            ticks = [int(x) for x in rest]
            read[int(name[3:])] = (ticks[0] + ticks[2] + sum(ticks[5:7]), ticks[7], ticks[1])
    return read


def content(name, count):
    """A file of `count` bytes to send."""
    path = OUT / name
    path.write_bytes(b"p" * count)
    return path


def scratch(name):
    """An empty directory for one instance."""
    directory = OUT / "run" / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    return directory
