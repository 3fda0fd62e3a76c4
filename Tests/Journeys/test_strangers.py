"""Protocols that Weft does not read: databases with their own clients, TLS of the application. They must not notice anything."""

import itertools
import os
import pwd
import re
import subprocess
import time
from pathlib import Path

import pytest

from mesh import eventually

PORTS = itertools.count(28000)


def tcp(node, name="opened", **labels):
    """istio_tcp_connections_*_total of one node."""
    return node.weft.metrics().sum(f"istio_tcp_connections_{name}_total", **labels)


def as_user(name, *command):
    """A command line that runs as someone else."""
    account = pwd.getpwnam(name)
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--", *map(str, command)]


def home(shop, name, owner):
    """A directory of that user below the world's."""
    place = shop.directory / name
    place.mkdir(mode=0o700)
    account = pwd.getpwnam(owner)
    os.chown(place, account.pw_uid, account.pw_gid)
    return place


@pytest.fixture(scope="module")
def postgres(shop):
    """PostgreSQL in stock, with a table that says where a connection comes from."""
    port, place = next(PORTS), home(shop, "postgres", "postgres")
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    subprocess.run(as_user("postgres", programs / "initdb", "-D", place / "data", "-A", "trust", "--no-sync", "-E", "UTF8"), check=True, capture_output=True, cwd=place)
    with open(place / "data" / "pg_hba.conf", "a") as access:
        access.write("host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n")
    shop.stock.start(*as_user("postgres", programs / "postgres", "-D", place / "data", "-k", place, "-p", port, "-c", "listen_addresses=*", "-c", "fsync=off", "-c", "ssl=off"), cwd=place)
    shop.stock.listens(port)
    return port


@pytest.fixture(scope="module")
def redis(shop):
    """Redis in stock."""
    port, place = next(PORTS), shop.directory / "redis"
    place.mkdir()
    shop.stock.start("redis-server", "--port", port, "--bind", "0.0.0.0", "::", "--protected-mode", "no", "--save", "", "--dir", place)
    shop.stock.listens(port)
    return port


@pytest.fixture(scope="module")
def mariadb(shop):
    """MariaDB in stock: its server speaks first."""
    port, place = next(PORTS), home(shop, "mariadb", "nobody")
    account = ["--no-defaults", "--user=nobody", f"--datadir={place}/data"]
    subprocess.run(["mariadb-install-db", *account, "--skip-test-db", "--auth-root-authentication-method=normal"], check=True, capture_output=True, cwd=place, env={**os.environ, "TMPDIR": str(place)})
    setup = place / "setup.sql"
    setup.write_text("CREATE DATABASE shop;\nCREATE USER shop@'%' IDENTIFIED BY 'secret';\nGRANT ALL ON shop.* TO shop@'%';\n")
    shop.stock.start("mariadbd", *account, f"--socket={place}/socket", f"--port={port}", "--bind-address=*", f"--init-file={setup}", f"--pid-file={place}/pid", f"--tmpdir={place}", "--skip-name-resolve", cwd=place)
    shop.stock.listens(port)
    return port


@pytest.fixture(params=["service", "pod"])
def address(request, shop):
    """Makes the address of a port in stock: by a Service that says nothing about the protocol, or the pod's own."""
    def make(port):
        if request.param == "pod":
            return shop.stock.ip, port
        name = f"data-{port}"
        if ("shop", name) not in shop.services:
            shop.service(name, [shop.stock], [{"name": "data", "port": port}])
            shop.apply()

            def known():
                shop.web.connect(shop.address(name), port, timeout=2).close()
                return any(s["name"] == name for s in shop.nodes[0].weft.status()["services"])
            eventually(known, within=10)
        return shop.address(name), port
    return make


def test_postgresql(shop, postgres, address):
    """psql asks; the database knows the calling pod; a copy of 50,000 rows there and back; a query that is cancelled."""
    host, port = address(postgres)
    before = tcp(shop.nodes[0], reporter="source", destination_workload="stock")

    def psql(*options, **more):
        return shop.web.run("psql", "-h", host, "-p", port, "-U", "postgres", "-qAtX", *options, timeout=60, **more).stdout.strip()
    assert psql("-c", "select 6 * 7, inet_client_addr()") == f"42|{shop.web.ip}"
    table = f"rows_{host.replace('.', '_')}"
    content = "".join(f"{number}\t{'x' * (number % 200)}\n" for number in range(50_000))
    psql("-c", f"create table {table} (number int, content text)")
    psql("-c", f"copy {table} from stdin", input=content)
    assert shop.web.run("psql", "-h", host, "-p", port, "-U", "postgres", "-qAtX", "-c", f"copy (select * from {table} order by number) to stdout", timeout=60).stdout == content
    slow = shop.web.start("psql", "-h", host, "-p", port, "-U", "postgres", "-qAtX", "-c", "select pg_sleep(60)", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: psql("-c", "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'") == "1")
    slow.send_signal(2)  # psql asks for cancellation on a second connection
    _, said = slow.communicate(timeout=10)
    assert "canceling statement due to user request" in said
    eventually(lambda: tcp(shop.nodes[0], reporter="source", destination_workload="stock") - before >= 5, within=5)


def test_redis(shop, redis, address):
    """redis-cli: a command, a pipeline, a subscription that rests, a value of 20 MB."""
    host, port = address(redis)

    def cli(*words, **more):
        return shop.web.run("redis-cli", "-h", host, "-p", port, *words, timeout=60, **more).stdout
    assert cli("PING") == "PONG\n"
    commands = "".join(f"SET {host}:{number} {number}\n" for number in range(2000))
    assert cli(input=commands).count("OK") == 2000
    assert cli("GET", f"{host}:1999").strip() == "1999"
    large = "l" * (20 << 20)
    assert cli("-x", "SET", "large", input=large).strip() == "OK"
    assert cli("GET", "large").strip() == large
    listener = shop.web.start("redis-cli", "-h", host, "-p", port, "SUBSCRIBE", "news", stdout=subprocess.PIPE, text=True)
    eventually(lambda: cli("PUBLISH", "news", "hello").strip() == "1", every=0.1)
    heard = [listener.stdout.readline().strip() for _ in range(6)]
    assert heard[3:] == ["message", "news", "hello"]
    listener.terminate()


def test_mariadb_speaks_first(shop, mariadb, address):
    """Its greeting comes before any byte of the client. The first connection waits at most the deadline of detection, later ones not at
    all; what was decided and why is visible."""
    host, port = address(mariadb)
    argv = ["mariadb", "--no-defaults", "-h", host, "-P", port, "-u", "shop", "-psecret", "--skip-ssl", "-N", "-B", "shop"]
    took = []

    def ask(*options, **more):
        began = time.monotonic()
        done = shop.web.run(*argv, *options, timeout=60, **more).stdout
        took.append(time.monotonic() - began)
        return done
    assert ask("-e", "select 6 * 7, substring_index(user(), '@', -1)").strip() == f"42\t{shop.web.ip}"
    for _ in range(5):
        assert ask("-e", "select 1").strip() == "1"
    assert min(took[1:]) < 0.1, took
    rows = ",".join(f"({number}, repeat('x', {number % 300}))" for number in range(20_000))
    table = "rows_" + host.replace(".", "_")
    ask(input=f"create table {table} (number int, content text); insert into {table} values {rows};")
    assert ask("-e", f"select count(*), sum(length(content)) from {table}").strip() == f"20000\t{sum(n % 300 for n in range(20_000))}"


# --- TLS of the application -----------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def certificates(shop):
    """Two self-made certificates."""
    place = shop.directory / "certificates"
    place.mkdir()
    made = {}
    for name in ("cart", "stock"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}.shop.svc.cluster.local",
                        "-addext", f"subjectAltName=DNS:{name},DNS:{name}.shop.svc.cluster.local", "-keyout", place / f"{name}.key", "-out", place / f"{name}.crt"], check=True, capture_output=True)
        made[name] = fingerprint((place / f"{name}.crt").read_text())
    return place, made


def fingerprint(certificate):
    """SHA-256 of a certificate in PEM."""
    done = subprocess.run(["openssl", "x509", "-noout", "-fingerprint", "-sha256"], input=certificate, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def secured(shop, certificates):
    """openssl s_server in both server pods, echoing lines backwards."""
    place, prints = certificates
    port = next(PORTS)
    for name in prints:
        pod = shop.pods[name]
        pod.start("openssl", "s_server", "-accept", f"*:{port}", "-cert", place / f"{name}.crt", "-key", place / f"{name}.key", "-rev", "-quiet")
        pod.listens(port)
        shop.service(f"tls-{name}", [pod], [{"name": "https", "port": 443, "targetPort": port}])
    shop.apply()
    for name in prints:
        eventually(lambda name=name: s_client(shop, f"{shop.address(f'tls-{name}')}:443"), within=10, every=0.1)
    return port


def s_client(shop, address, *options, say="hello mesh\n"):
    """What openssl s_client saw: the certificate's fingerprint and the rest."""
    # It ends with its input, so that stays open until the answer is there, or no connection was made.
    wait = "i=0; until grep -qE 'hsem olleh|errno=' \"$out\" || [ $i -ge 100 ]; do sleep 0.05; i=$((i+1)); done"
    done = shop.web.run(
        "sh", "-c", f"out=$(mktemp); (printf '%s' '{say}'; {wait}) | openssl s_client -connect {address} \"$@\" >\"$out\" 2>&1; cat \"$out\"; rm \"$out\"",
        "sh", *options, timeout=20, check=False).stdout
    certificate = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", done, re.S)
    assert certificate, done[-600:]
    return fingerprint(certificate[0]), done


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("target", ["cart", "stock", "tls-cart", "tls-stock"])
def test_tls_of_the_application_is_its_own(shop, certificates, secured, target, version):
    """End to end: the certificate is the application's, and its bytes arrive as they were."""
    address = f"{shop.pods[target].ip}:{secured}" if target in shop.pods else f"{shop.address(target)}:443"
    found, said = s_client(shop, address, version, "-servername", "anything.example")
    assert found == certificates[1][target.removeprefix("tls-")]
    assert "hsem olleh" in said and version[1:].replace("tls1_", "TLSv1.") in said


def test_the_name_in_the_client_hello_chooses_the_service(shop, certificates, secured):
    """An address that is nobody's, and a name that is somebody's."""
    for name, wanted in (("tls-cart.shop.svc.cluster.local", "cart"), ("tls-stock.shop", "stock")):
        found, said = s_client(shop, "10.99.99.99:443", "-servername", name)
        assert found == certificates[1][wanted] and "hsem olleh" in said


def test_curl_over_tls_of_the_application(shop, certificates):
    """nginx with TLS and HTTP/2 by ALPN: the mesh carries it unread."""
    place, _ = certificates
    port, work = next(PORTS), shop.directory / "tls-nginx"
    work.mkdir()
    (work / "nginx.conf").write_text(f"""
daemon off; user root; worker_processes 1; pid nginx.pid; error_log error.log; events {{ worker_connections 64; }}
http {{ access_log off; client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;
server {{ listen {port} ssl http2; ssl_certificate {place}/stock.crt; ssl_certificate_key {place}/stock.key; location / {{ return 200 "secret\\n"; }} }} }}""")
    shop.stock.start("nginx", "-p", work, "-e", work / "error.log", "-c", work / "nginx.conf")
    shop.stock.listens(port)
    for version in ("--http1.1", "--http2"):
        said = shop.web.curl(f"https://stock:{port}/", version, "--cacert", str(place / "stock.crt"), "--resolve", f"stock:{port}:{shop.stock.ip}", "-w", "%{http_version}")
        assert said == "secret\n" + ("2" if version == "--http2" else "1.1")


# --- what is not TCP ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_ping(shop, family):
    """ICMP between meshed pods."""
    said = shop.web.run("ping", "-c", 3, "-i", 0.2, "-W", 2, getattr(shop.stock, family)).stdout
    assert "3 packets transmitted, 3 received, 0% packet loss" in said
