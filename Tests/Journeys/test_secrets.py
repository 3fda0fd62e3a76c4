"""Private keys: in no memory that even root can read, in no core file, in nothing that the mesh says."""

import array
import hashlib
import os
import re
import signal
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from http1 import Client
from mesh import eventually
from mesh.authority import identity

PARTS = ("node", "agent", "proxy")
#: Holds a key as a program does that takes no care, and rests.
CARELESS = """
import sys
from cryptography.hazmat.primitives.serialization import load_pem_private_key
key = load_pem_private_key(sys.stdin.buffer.read(), None)
print("holds", flush=True)
import time
while True: time.sleep(60)
"""


def scalars(pem):
    """The private numbers of a key, each in both byte orders: of EC its scalar; of Ed25519 the seed, and the scalar that RFC 8032, 5.1.5 makes of
    it; of RSA the exponents, the primes and the coefficient."""
    key = serialization.load_pem_private_key(pem, None)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        seed = key.private_bytes_raw()
        wide = bytearray(hashlib.sha512(seed).digest()[:32])
        wide[0] &= 248
        wide[31] = wide[31] & 63 | 64
        found = [seed, bytes(wide)]
    elif isinstance(key, rsa.RSAPrivateKey):
        numbers = key.private_numbers()
        found = [number.to_bytes((number.bit_length() + 7) // 8, "big") for number in (numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)]
    else:
        found = [key.private_numbers().private_value.to_bytes(32, "big")]
    return [each for number in found for each in (number, number[::-1])]


PAGE = os.sysconf("SC_PAGE_SIZE")


def memory(pid):
    """Everything of a process that root can read: runs of pages that hold something."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pages, open(f"/proc/{pid}/mem", "rb", buffering=0) as content:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if not match:
                continue
            start, end = (int(edge, 16) for edge in match.groups())
            for first, count in _present(pages, start // PAGE, end // PAGE):
                try:
                    content.seek(first * PAGE)
                    yield line, content.read(count * PAGE)
                except (OSError, ValueError, OverflowError):  # what the kernel gives to nobody
                    continue


def _present(pages, first, end):
    """Runs of pages that are in memory or in swap (proc(5): bits 63 and 62 of an entry), and regions that have no entries, whole."""
    try:
        pages.seek(first * 8)
        entries = array.array("Q", pages.read((end - first) * 8))
    except (OSError, OverflowError):
        return [(first, end - first)]
    runs, begun = [], None
    for place, entry in enumerate([*entries, 0]):
        if entry >> 62:
            begun = place if begun is None else begun
        elif begun is not None:
            runs.append((first + begun, place - begun))
            begun = None
    return runs


def holds(pid, secrets):
    """Regions of a process in which one of the secrets lies."""
    return [region.split()[-1] for region, content in memory(pid) if any(secret in content for secret in secrets)]


@pytest.fixture(params=["p256", "ed25519", "rsa"])
def keyed(request, fresh):
    """A shop whose callers and called have keys of one kind, in files as others write them."""
    shop = fresh(start=False)
    shop.apply()
    for name in ("web", "stock"):
        shop.identities.put("shop", name, shop.authority.issue(identity("shop", name), key=request.param))
    return shop.start()


def test_no_dump_holds_a_private_key(keyed):
    """The memory of each process, taken as root while the keys are in use; a program that takes no care shows that the search finds them."""
    shop = keyed
    keys = {name: (shop.identities.path / "shop" / name / "tls.key").read_bytes() for name in ("web", "stock")}

    def handshakes(side):
        return sum(node.weft.metrics().sum("weft_tls_handshakes_total", side=side, result="ok") for node in shop.nodes)
    for address in (shop.stock.ip, shop.stock.ip6):
        for _ in range(10):  # handshakes and requests have used them, on both sides
            with Client(shop.web, address, 8080) as client:
                assert client.get("/s/10").status == 200
    assert handshakes("client") >= 2 and handshakes("server") >= 2
    secrets = [part for pem in keys.values() for part in scalars(pem)]
    for node in shop.nodes:
        for part in PARTS:
            assert not holds(node.weft.pid(part), secrets), f"{part} of {node.name}"
    careless = subprocess.Popen([sys.executable, "-c", CARELESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        careless.stdin.write(keys["web"])
        careless.stdin.close()
        assert careless.stdout.readline() == b"holds\n"
        assert holds(careless.pid, scalars(keys["web"])), "the search would find what is there"
    finally:
        careless.kill()
        careless.wait()
        careless.stdout.close()


@pytest.mark.parametrize("part", PARTS)
def test_no_core_file(shop, part):
    """A crash leaves none, and no process of another user may attach."""
    pid = shop.nodes[0].weft.pid(part)
    limit = next(line for line in open(f"/proc/{pid}/limits") if line.startswith("Max core file size"))
    assert limit.split()[4:6] == ["0", "0"]
    assert os.stat(f"/proc/{pid}/environ").st_uid == 0, "not dumpable: its /proc entries are root's"


def test_nothing_says_a_key(shop):
    """Logs, metrics, status: not a line of any key's file."""
    lines = set()
    for path in shop.identities.path.rglob("tls.key"):
        lines |= {line for line in path.read_text().splitlines() if line and not line.startswith("-")}
    assert lines
    for node in shop.nodes:
        said = node.weft.log_path.read_text(errors="replace") + node.weft.metrics().text + node.weft.status_text() + node.weft.status_text("--json")
        assert not [line for line in lines if line in said]
        assert "PRIVATE" not in said


def test_a_new_proxy_has_its_keys(fresh):
    """Killed with the agent stopped, the proxy comes back with every identity, and serves; its memory is as clean."""
    shop = fresh()
    node = shop.nodes[1]

    def served():
        with Client(shop.web, shop.stock.ip, 8080) as client:
            return client.get("/s/10").status == 200
    eventually(served)
    os.kill(node.weft.pid("agent"), signal.SIGSTOP)
    try:
        before = node.weft.pid("proxy")
        node.weft.kill("proxy")
        eventually(lambda: node.weft.pid("proxy") != before and served(), within=15)
        pem = (shop.identities.path / "shop" / "stock" / "tls.key").read_bytes()
        assert not holds(node.weft.pid("proxy"), scalars(pem))
    finally:
        os.kill(node.weft.pid("agent"), signal.SIGCONT)
