"""What the journeys need of the machine, and where it keeps its cgroups, BPF file system and namespaces."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
BUILD = REPOSITORY / ".build"
#: The programs under test; WEFT_PROGRAMS names another directory.
RELEASE = Path(os.environ.get("WEFT_PROGRAMS") or BUILD / "release")
TOOLS = BUILD / "bench" / "bin"
NAMESPACES = Path("/run/netns")
BPF_FILE_SYSTEM = Path("/sys/fs/bpf")
#: What `weft node` is allowed to do (DESIGN: three processes, by what each may do), nothing else.
NODE_CAPABILITIES = ("bpf", "perfmon", "net_admin", "sys_admin", "sys_ptrace", "setuid", "setgid", "setpcap", "kill", "dac_read_search")


class Missing(Exception):
    """The machine lacks something; the text says what, and what to do."""


def cgroup2():
    """Mount point of the v2 hierarchy (beside v1 it is /sys/fs/cgroup/unified)."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        if right.split()[0] == "cgroup2":
            return Path(left.split()[4])
    raise Missing("no cgroup v2 hierarchy is mounted: run `mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified`")


def requirements():
    """Raises `Missing` for the first thing this machine lacks."""
    if os.geteuid() != 0:
        raise Missing("not root: BPF, namespaces and cgroups need it; run as root (WEFT_UNPRIVILEGED=1 skips these tests on purpose)")
    release = tuple(int(x) for x in platform.release().split("-")[0].split(".")[:2])
    if release < (6, 1):
        raise Missing(f"kernel {platform.release()} is too old: Weft needs 6.1 or newer (Debian 12's)")
    if not Path("/sys/kernel/btf/vmlinux").exists():
        raise Missing("no /sys/kernel/btf/vmlinux: boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (Debian's are)")
    cgroup2()
    for tool in ("ip", "nsenter", "setpriv", "curl", "nginx"):
        if not shutil.which(tool):
            raise Missing(f"`{tool}` is not installed: run `make setup`")
    for built in (weft(), proxy(), bpf_object(), TOOLS / "lg"):
        if not built.exists():
            raise Missing(f"{built} is not built: run `make`")


def weft():
    """The product's command line program."""
    return RELEASE / "weft"


def proxy():
    """The data plane."""
    return RELEASE / "weft-proxy"


def bpf_object():
    """The linked BPF object."""
    return RELEASE / "capture.bpf.o"


def run(*argv, check=True, **options):
    """Runs a command and returns what it printed; a failure carries its stderr."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, **options)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: exit {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout


def processes_in(cgroup):
    """Process ids in a cgroup (empty when it is gone)."""
    try:
        return [int(x) for x in (Path(cgroup) / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def start_time(pid):
    """Start time in clock ticks: with the pid it names a process for ever."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None
