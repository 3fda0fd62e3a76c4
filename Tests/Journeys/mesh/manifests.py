"""Kubernetes objects as the API server would hand them out, and the directory that stands for it."""

import os
from pathlib import Path

import yaml


def namespace(name, meshed=True, failure=None, mtls=None):
    """A Namespace; `failure` is open or closed, `mtls` permissive or strict."""
    annotations = {f"weft.mesh/{key}": value for key, value in (("failure", failure), ("mtls", mtls)) if value}
    return {
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"weft.mesh/mode": "enabled" if meshed else "disabled"}, "annotations": annotations},
    }


def cluster_addresses(number):
    """The v4 and v6 cluster IP of the service with this number."""
    return f"10.96.0.{number}", f"fd96::{number:x}"


def service(name, namespace, number, pods, ports, headless=False, spec=None):
    """A Service and its EndpointSlices (one per family). `ports` are dicts: name, port, targetPort, appProtocol; `spec` has more fields of the Service."""
    v4, v6 = cluster_addresses(number)
    addresses = ["None"] if headless else [v4, v6]
    spec_ports = [_without_none({
        "name": p.get("name"), "port": p["port"], "targetPort": p.get("targetPort", p["port"]), "protocol": "TCP", "appProtocol": p.get("appProtocol"),
    }) for p in ports]
    objects = [{
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": addresses[0], "clusterIPs": addresses, "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
                 "selector": {"app": name}, "ports": spec_ports, **(spec or {})},
    }]
    for family, attribute in (("IPv4", "ip"), ("IPv6", "ip6")):
        objects.append({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-{family.lower()}", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
            "addressType": family,
            "endpoints": [endpoint(pod, getattr(pod, attribute)) for pod in pods],
            "ports": [_without_none({"name": p.get("name", ""), "port": p.get("targetPort", p["port"]), "protocol": "TCP", "appProtocol": p.get("appProtocol")}) for p in ports],
        })
    return objects


def endpoint(pod, address):
    """One endpoint of a slice."""
    return {
        "addresses": [address], "conditions": {"ready": pod.ready and not pod.terminating, "serving": pod.ready, "terminating": pod.terminating}, "nodeName": pod.node.name,
        "zone": f"zone-{pod.node.index}", "targetRef": {"kind": "Pod", "name": pod.name, "namespace": pod.namespace, "uid": f"{pod.mesh.name}-{pod.name}"},
    }


def _without_none(values):
    return {key: value for key, value in values.items() if value is not None}


class Directory:
    """A directory of YAML, replaced file by file with rename, so a reader never sees half an object."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o755)

    def write(self, files):
        """Makes the directory hold exactly `files` (name → list of objects or text)."""
        for name, content in files.items():
            self.put(name, content)
        for stale in self.path.glob("*.yaml"):
            if stale.name not in files:
                stale.unlink()

    def put(self, name, content):
        """Replaces one file, if its content changed."""
        text = content if isinstance(content, str) else yaml.safe_dump_all(content, sort_keys=False, explicit_start=True)
        target = self.path / name
        if target.exists() and target.read_text() == text:
            return
        draft = self.path / f".{name}.draft"
        draft.write_text(text)
        os.chmod(draft, 0o644)
        draft.rename(target)

    def remove(self, name):
        """Deletes one file."""
        (self.path / name).unlink(missing_ok=True)
