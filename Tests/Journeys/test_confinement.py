"""What each process may do, asked of the live processes. A debugger makes the proxy try what an intruder would try."""

import os
import re
import subprocess

import pytest

from mesh.machine import NODE_CAPABILITIES

EPERM, EACCES = 1, 13
CAPABILITY_BITS = {"bpf": 39, "perfmon": 38, "net_admin": 12, "sys_admin": 21, "sys_ptrace": 19, "setuid": 7, "setgid": 6, "setpcap": 8, "kill": 5, "dac_read_search": 2}


def proc_status(pid):
    """/proc/PID/status as a dictionary."""
    return dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)


def test_the_proxy_has_no_capabilities(shop):
    """No capability in any set, its own user, no_new_privs, a seccomp filter."""
    for node in shop.nodes:
        status = proc_status(node.weft.pid("proxy"))
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[name], 16) == 0, (name, status[name])
        assert status["Uid"].split() == ["15001"] * 4 and status["Gid"].split() == ["15001"] * 4
        assert status["Groups"].split() in ([], ["15001"])
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"


def test_the_agent_has_no_capabilities(shop):
    """It reads files and serves HTTP; for that it needs no privilege."""
    status = proc_status(shop.nodes[0].weft.pid("agent"))
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, (name, status[name])
    assert status["Uid"].split() == ["15020"] * 4 and status["NoNewPrivs"] == "1"


def test_node_has_what_it_needs_and_no_more(shop):
    """At most the set that the design names."""
    status = proc_status(shop.nodes[0].weft.pid("node"))
    allowed = sum(1 << CAPABILITY_BITS[name] for name in NODE_CAPABILITIES)
    assert int(status["CapEff"], 16) & ~allowed == 0
    assert int(status["CapPrm"], 16) & ~allowed == 0


def test_children_hold_no_descriptor_they_should_not(shop):
    """No BPF program, no writable map beyond the heartbeat, no namespace, no manifest in the proxy's hands."""
    pid = shop.nodes[0].weft.pid("proxy")
    listing = subprocess.run(["ls", "-l", f"/proc/{pid}/fd"], capture_output=True, text=True).stdout
    assert "bpf-prog" not in listing and "bpf-link" not in listing
    assert listing.count("bpf-map") <= 1
    assert "net:[" not in listing and ".yaml" not in listing and "/run/netns" not in listing


def forced(pid, calls):
    """Makes a live process do system calls through gdb; returns {name: result}. One attach for all of them."""
    helper = r'''
import gdb
def weft_call(name, arguments):
    # rax, rdi, rsi, rdx, r10, r8, r9: the system call is made by an instruction that is already mapped
    registers = ["rax", "rdi", "rsi", "rdx", "r10", "r8", "r9"]
    values = eval(arguments)
    saved = {r: int(gdb.parse_and_eval("$" + r)) for r in registers + ["rip", "rcx", "r11", "rsp"]}
    code = gdb.selected_inferior().read_memory(saved["rip"] - 2, 2).tobytes()
    assert code == b"\x0f\x05", "the thread is stopped in a system call"
    stack = (saved["rsp"] - 4096) & ~15
    for index, value in enumerate(values):
        if isinstance(value, (bytes, bytearray)):
            place = stack - 256 * (index + 1)
            gdb.selected_inferior().write_memory(place, bytes(value))
            value = place
        gdb.execute("set $%s = %d" % (registers[index], value))
    gdb.execute("set $orig_rax = -1")
    gdb.execute("set $rip = %d" % (saved["rip"] - 2))
    gdb.execute("stepi", to_string=True)
    result = int(gdb.parse_and_eval("(long)$rax"))
    for register, value in saved.items():
        gdb.execute("set $%s = %d" % (register, value))
    print("RESULT", name, result)
'''
    commands = ["gdb", "-p", str(pid), "-batch", "-nx", "-ex", "set auto-load off", "-ex", "set scheduler-locking on", "-ex", f"python exec({helper!r})"]
    for name, arguments in calls.items():
        commands += ["-ex", f"python weft_call({name!r}, {arguments!r})"]
    done = subprocess.run(commands, capture_output=True, text=True, timeout=60)
    results = {name: int(number) for name, number in re.findall(r"RESULT (\S+) (-?\d+)", done.stdout)}
    assert set(results) == set(calls), (done.stdout + done.stderr)[-2000:]
    return results


def test_an_intruder_in_the_proxy_gets_nowhere(shop):
    """bpf(2), setns(2), open of the manifests, execve, ptrace, mount, a raw socket: all refused by the live process itself."""
    manifest = str(shop.published.path / "pods.yaml").encode() + b"\0"
    own = b"/proc/self/ns/net\0"
    results = forced(shop.nodes[0].weft.pid("proxy"), {
        "bpf": "(321, 0, bytes(128), 128)",
        "setns": "(308, 3, 0)",
        "openat": f"(257, -100, {manifest!r}, 0)",
        "open": f"(2, {manifest!r}, 0)",
        "openat_namespace": f"(257, -100, {own!r}, 0)",
        "execve": "(59, b'/bin/sh\\0', 0, 0)",
        "ptrace": "(101, 0, 0, 0, 0)",
        "mount": "(165, b'a\\0', b'/\\0', b'tmpfs\\0', 0, 0)",
        "unshare": "(272, 0x40000000)",
        "socket_raw": "(41, 2, 3, 1)",
        "process_vm_readv": "(310, 1, 0, 0, 0, 0, 0)",
        "io_uring_setup": "(425, 8, bytes(120))",
        "socketpair_netlink": "(53, 16, 3, 0, bytes(8))",
    })
    assert all(result in (-EPERM, -EACCES) for result in results.values()), results
    assert shop.web.curl(f"http://{shop.stock.ip}:8080/s/3") == "xxx", "the proxy lives on"


@pytest.mark.parametrize("part", ["agent", "proxy"])
def test_children_cannot_gain_privilege_by_executing(shop, part):
    """no_new_privs holds for every thread."""
    pid = shop.nodes[0].weft.pid(part)
    tasks = subprocess.run(["sh", "-c", f"cat /proc/{pid}/task/*/status"], capture_output=True, text=True).stdout
    assert set(re.findall(r"NoNewPrivs:\t(\d)", tasks)) == {"1"}
    assert set(re.findall(r"CapEff:\t(\S+)", tasks)) == {"0" * 16}


@pytest.mark.parametrize("part", ["node", "agent", "proxy"])
def test_nobody_looks_into_the_memory_of_a_process_that_holds_keys_or_hands_them_on(shop, part):
    """Not dumpable (its /proc entries belong to root, though it does not), and no core file however it ends."""
    pid = shop.nodes[0].weft.pid(part)
    environ = os.stat(f"/proc/{pid}/environ")
    assert (environ.st_uid, environ.st_gid) == (0, 0)
    assert re.search(r"Max core file size +0 +0 ", open(f"/proc/{pid}/limits").read())
    # Somebody of the same user, without capabilities, is what a break-in elsewhere would be.
    user = {"agent": 15020, "proxy": 15001}.get(part)
    if user:
        # Where it may look, the first page answers with an input/output error.
        seen = subprocess.run(["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--bounding-set=-all", "/bin/cat", f"/proc/{pid}/mem"], capture_output=True, text=True)
        assert "Permission denied" in seen.stderr, seen
