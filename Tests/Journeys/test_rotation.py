"""Certificates that come from `weft controller` and go again: joining, rotating, doing without it for a while."""

import base64
import json
import shutil

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from http1 import Client
from mesh import Metrics, eventually
from mesh.authority import identity, key_pem, new_key
from mesh.controller import Controller
from mesh.machine import run, weft
from mesh.weft import WeftNode
from shop import Load

#: Half of it passes between two certificates of a workload.
LIFETIME = ["--certificate-lifetime", "10", "--root-overlap", "5"]


def answered(shop):
    """A request from node 1 to node 2."""
    with Client(shop.web, shop.stock.ip, 8080) as client:
        return client.get("/s/10").status == 200


def refusals(controller, reason):
    """weft_ca_refusals_total."""
    return Metrics(controller.http("/metrics")[1]).sum("weft_ca_refusals_total", reason=reason)


def roots(controller):
    """Roots by the phase of their rotation."""
    return {labels["phase"]: int(value) for labels, value in Metrics(controller.http("/metrics")[1]).all("weft_ca_roots")}


def issued(controller, name):
    """Serial numbers of an identity's certificates so far, from the audit log."""
    lines = [json.loads(line) for line in controller.audit()]
    return [line["serial"] for line in lines if line.get("identity") == name and line.get("serial")]


def under_rotation(shop, seconds):
    """Load with new and with kept connections while every certificate is replaced again and again, and the root once."""
    controller = shop.controller
    options = [str(option) for option in ("-r", 200, "-d", seconds)]
    before = len(issued(controller, identity("shop", "stock")))
    with Load(shop.web, shop.stock.ip, 8080, "-c", 8, *options) as kept, Load(shop.till, shop.cart.ip, 8080, "-x", "-c", 8, *options) as fresh:
        eventually(lambda: len(issued(controller, identity("shop", "stock"))) > before, within=15, what="a first rotation")
        controller.rotate_root()
        reports = kept.report(timeout=seconds + 60), fresh.report(timeout=seconds + 60)
    for report in reports:
        assert report["n"] > 150 * seconds
        assert report["ok"] == report["n"], f"a request failed: {report}"
        assert not any(report[kind] for kind in ("non200", "err_connect", "err_inflight")), report
    return len(issued(controller, identity("shop", "stock"))) - before


@pytest.mark.exclusive
def test_rotation_under_load(fresh):
    """A new certificate every five seconds and a new root, and no request fails."""
    shop = fresh(controller=LIFETIME)
    eventually(lambda: answered(shop))
    limits = open(f"/proc/{shop.controller.process.pid}/limits").read()
    assert next(line for line in limits.splitlines() if line.startswith("Max core file size")).split()[4:6] == ["0", "0"], "the authority's keys go into no core file"
    first = shop.controller.http("/metrics")
    assert first[0] == 200 and roots(shop.controller)["active"] == 1
    assert under_rotation(shop, 25) >= 3
    # The old one stays trusted while anything that it signed is alive, which a node's own certificate is for a day.
    eventually(lambda: roots(shop.controller) == {"announced": 0, "active": 1, "retiring": 1}, within=20, every=0.2, what="the new root signs")
    assert answered(shop)


@pytest.mark.soak
def test_rotation_under_load_for_a_minute(fresh):
    """The same for 60 seconds."""
    shop = fresh(controller=LIFETIME)
    eventually(lambda: answered(shop))
    assert under_rotation(shop, 60) >= 10


def test_without_the_controller(fresh):
    """Gone, it is missed by nobody who has a certificate; a new pod's state says what it waits for; back, it serves without a restart."""
    shop = fresh(controller=[])
    eventually(lambda: answered(shop))
    shop.controller.stop()
    for _ in range(5):
        assert answered(shop)
    shop.nodes[0].pod("late")
    shop.apply()
    name = identity("shop", "late")

    def told():
        found = [entry for entry in shop.nodes[0].weft.status()["identities"]["workloads"] if entry["identity"] == name]
        return found and found[0]["state"] == "pending" and found[0]["reason"]
    eventually(told, within=15, what="the state of the pod that has no certificate yet")
    with Client(shop.late, shop.stock.ip, 8080) as client:
        reply = client.get("/s/10")
        assert reply.status == 503 and reply["x-weft-reason"]
    shop.controller.start()

    def served():
        with Client(shop.late, shop.stock.ip, 8080) as client:
            return client.get("/s/10").status == 200
    eventually(served, within=45, every=0.2, what="the late pod has its certificate")


def test_a_stolen_token(fresh):
    """Used twice: the second use is refused, counted and written down; so is a token that is another node's."""
    shop = fresh(start=False)
    shop.apply()
    shop.controller = Controller(shop.nodes[0]).start()
    token = shop.controller.token(shop.nodes[0])
    shop.nodes[0].weft = WeftNode(shop.nodes[0], extra=["--controller", shop.controller.url, "--join-token-file", str(token)])
    shop.nodes[0].weft.start()
    shop.nodes[0].weft.wait_ready(["web", "cart"])
    shop.nodes[1].weft = WeftNode(shop.nodes[1], extra=["--controller", shop.controller.url, "--join-token-file", str(token)])
    shop.nodes[1].weft.start()
    refused = ("token_used", "token_of_other_node")
    eventually(lambda: sum(refusals(shop.controller, reason) for reason in refused) >= 1, within=15, what="the second use is refused")
    assert any(reason in line for line in shop.controller.audit() for reason in refused)
    assert not [entry for entry in shop.nodes[1].weft.status()["identities"]["workloads"] if entry["state"] == "active"]


def test_a_restored_authority_is_the_same(fresh):
    """The backup as the documentation has it, put back into an empty place: the same roots, and nobody notices."""
    shop = fresh(controller=[])
    eventually(lambda: answered(shop))
    data, copy = shop.controller.data, shop.directory / "ca.tar.gz"
    before = {path.name: path.read_bytes() for path in (data / "ca" / "roots").iterdir()}
    run("flock", data / "ca" / "lock", "tar", "-C", data, "-czf", copy, "ca")
    shop.controller.stop()
    shutil.rmtree(data / "ca")
    run("tar", "-C", data, "-xzf", copy)
    shop.controller.start()
    assert {path.name: path.read_bytes() for path in (data / "ca" / "roots").iterdir()} == before
    shop.nodes[0].pod("late")
    shop.apply()

    def served():
        with Client(shop.late, shop.stock.ip, 8080) as client:
            return client.get("/s/10").status == 200
    eventually(served, within=30, every=0.2, what="a new pod has a certificate that the others believe")


def test_a_revoked_node(fresh):
    """What it had asks for nothing more; what its pods have ends with the policy that the command prints."""
    shop = fresh(controller=[])
    eventually(lambda: answered(shop))

    def asks():
        with Client(shop.till, shop.cart.ip, 8080) as client:
            reply = client.get("/s/10")
            return reply.status, reply["x-weft-reason"]
    assert asks()[0] == 200
    node = shop.nodes[1]
    policy = yaml.safe_load(run(weft(), "controller", "revoke-node", node.name, "--data", shop.controller.data))
    assert len(policy["spec"]["revoked"]["serials"]) >= 2
    shop.namespace("weft-system")
    shop.extra["revoked.yaml"] = [policy]
    shop.apply()
    eventually(lambda: asks() == (403, "access-denied"), within=5, what="its pods' certificates count no more")
    assert any('"event":"node_revoked"' in line for line in shop.controller.audit())

    def standing(pod):
        found = [entry for entry in node.weft.status()["identities"]["workloads"] if entry["identity"] == identity("shop", pod.name)]
        return found and (found[0]["state"] == "active" or "node_revoked" in found[0]["reason"]) and found[0]["state"]
    # The controller notices within a second: a pod that is quicker than that still gets its certificate.
    for number in range(20):
        late = node.pod(f"late{number}")
        shop.apply()
        if eventually(lambda: standing(late), within=15, what="an answer to the new pod's request") != "active":
            break
    assert standing(late) != "active" and refusals(shop.controller, "node_revoked") >= 1


def test_an_identity_of_another_node(fresh):
    """A node that is taken over can ask for its own pods' identities, and for nothing else: whatever it asks for, by whatever name."""
    shop = fresh(controller=[])
    eventually(lambda: answered(shop))
    controller = shop.controller
    # A node of the tester's own making, with a key of its own.
    thief = new_key()
    text = run(weft(), "controller", "token", "--node", shop.nodes[0].name, "--data", controller.data).strip()
    _, number, secret, *_ = text.split(".")
    work = shop.directory / "thief"
    work.mkdir()
    (work / "key.pem").write_bytes(key_pem(thief))

    def request(*names):
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in names]), critical=True)
        return base64.b64encode(builder.sign(thief, hashes.SHA256()).public_bytes(serialization.Encoding.DER)).decode()

    def post(path, body, *options):
        done = shop.nodes[0].run("curl", "-sSk", *options, "-w", "\n%{http_code}", "-d", json.dumps(body), f"{controller.url}{path}")
        answer, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(answer)
    node = f"spiffe://cluster.local/node/{shop.nodes[0].name}"
    status, joined = post("/v1/join", {"node": shop.nodes[0].name, "id": number, "secret": secret, "request": request(node)})
    assert status == 200, joined
    (work / "chain.pem").write_text(joined["issued"]["chain"])
    credentials = ["--cert", str(work / "chain.pem"), "--key", str(work / "key.pem")]

    def ask(name, *names):
        return post("/v1/certificates", {"identity": name, "request": request(*(names or (name,)))}, *credentials)
    assert ask(identity("shop", "web"))[0] == 200, "its own pod's"
    for name, names, reason in [
        (identity("shop", "stock"), (), "not_entitled"), (identity("shop", "nobody"), (), "not_entitled"), (identity("other", "web"), (), "not_entitled"),
        (identity("shop", "web", "elsewhere.test"), (), "wrong_trust_domain"), (f"spiffe://cluster.local/node/{shop.nodes[1].name}", (), "other_identity"),
        (identity("shop", "web"), (identity("shop", "stock"),), "other_identity"), (identity("shop", "web"), (identity("shop", "web"), identity("shop", "stock")), None),
    ]:
        status, said = ask(name, *names)
        assert status in (400, 403) and (reason is None or said["reason"] == reason), (name, status, said)
        assert said["message"]
    assert post("/v1/certificates", {"identity": identity("shop", "web"), "request": request(identity("shop", "web"))})[0] in (401, 403), "without a certificate"
    assert refusals(controller, "not_entitled") >= 3
