"""Envoy as a foreign HBONE peer: configured as a ztunnel or a waypoint would behave, with certificates of the mesh's authority."""

import itertools
import json
import shutil
import sys
from pathlib import Path

from mesh import eventually
from mesh.authority import identity

PROGRAM = next((found for found in (Path(sys.prefix) / "bin" / "envoy",) if found.exists()), shutil.which("envoy"))
ADMIN = itertools.count(19000)


def address(host, port):
    """A socket address."""
    return {"socket_address": {"address": host, "port_value": port}}


def typed(name, kind, **values):
    """An extension with its configuration."""
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.{kind}", **values}}


def tls(files, roots, expects=None):
    """Both directions' common part: own certificate, roots, ALPN h2, TLS 1.3; `expects` is the identity of the other end."""
    chain, key = files
    validation = {"trusted_ca": {"filename": str(roots)}}
    if expects:
        validation["match_typed_subject_alt_names"] = [{"san_type": "URI", "matcher": {"exact": expects}}]
    return {
        "alpn_protocols": ["h2"], "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}], "validation_context": validation,
    }


def http2_options():
    """A cluster that speaks HTTP/2."""
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {name: {"@type": f"type.googleapis.com/{name}", "explicit_http_config": {"http2_protocol_options": {}}}}


def cluster(name, host, port, **more):
    """A cluster of one endpoint."""
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(host, port)}}]}]}, **more}


class Envoy:
    """Runs in a pod; ends with the world."""

    def __init__(self, pod, authority, name, listeners, clusters):
        self.pod, self.admin = pod, next(ADMIN)
        place = pod.mesh.directory / f"envoy-{name}-{self.admin}"
        place.mkdir()
        config = {"admin": {"address": address("127.0.0.1", self.admin)}, "static_resources": {"listeners": listeners(place), "clusters": clusters(place)}}
        (place / "envoy.json").write_text(json.dumps(config))
        self.process = pod.start(PROGRAM, "-c", place / "envoy.json", "--base-id", self.admin, "--concurrency", 1, "--log-level", "warning")
        pod.listens(self.admin)
        eventually(lambda: pod.curl(f"http://127.0.0.1:{self.admin}/ready").strip() == "LIVE", within=20, every=0.1, what="Envoy is live")

    @staticmethod
    def files(place, pod, authority, name=None):
        """Certificate, key and roots in Envoy's directory; the certificate is the pod's own unless a `name` is given."""
        (place / "roots.pem").write_bytes(authority.bundle)
        return authority.issue(name or identity(pod.namespace, pod.account)).files(place), place / "roots.pem"

    def close(self):
        """Ends it."""
        self.process.terminate()
        self.process.wait(timeout=10)


def tunnel_client(pod, authority, port, target, target_port, expects):
    """Envoy that carries whatever connects to 127.0.0.1:`port` in `pod` through a CONNECT stream to the target's 15008."""
    authority_name = f"[{target}]:{target_port}" if ":" in target else f"{target}:{target_port}"

    def listeners(_):
        return [{"name": "in", "address": address("127.0.0.1", port), "filter_chains": [{"filters": [typed(
            "envoy.filters.network.tcp_proxy", "extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="in", cluster="out",
            tunneling_config={"hostname": authority_name})]}]}]

    def clusters(place):
        files, roots = Envoy.files(place, pod, authority)
        secure = typed("envoy.transport_sockets.tls", "extensions.transport_sockets.tls.v3.UpstreamTlsContext", common_tls_context=tls(files, roots, expects))
        return [cluster("out", target, 15008, transport_socket=secure, typed_extension_protocol_options=http2_options())]
    made = Envoy(pod, authority, "client", listeners, clusters)
    pod.listens(port)
    return made


def tunnel_server(pod, authority, name=None):
    """Envoy on the pod's 15008, both families: CONNECT is ended here, its bytes go where it says. It says it is `name`, or who it is."""
    def listeners(place):
        files, roots = Envoy.files(place, pod, authority, name)
        secure = typed("envoy.transport_sockets.tls", "extensions.transport_sockets.tls.v3.DownstreamTlsContext", require_client_certificate=True, common_tls_context=tls(files, roots))
        manager = typed(
            "envoy.filters.network.http_connection_manager", "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="in", codec_type="HTTP2",
            http2_protocol_options={"allow_connect": True}, upgrade_configs=[{"upgrade_type": "CONNECT"}],
            route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"connect_matcher": {}}, "route": {"cluster": "app", "timeout": "0s", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}]}]},
            http_filters=[typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router")])
        return [{"name": f"in-{number}", "address": address(host, 15008), "filter_chains": [{"transport_socket": secure, "filters": [manager]}]} for number, host in enumerate((pod.ip, pod.ip6))]

    def clusters(_):
        return [{"name": "app", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s", "original_dst_lb_config": {"use_http_header": True, "http_header_name": ":authority"}}]
    made = Envoy(pod, authority, "server", listeners, clusters)
    pod.listens(15008)
    return made
