"""Every proxy of the bench: how it is told to listen on `here.listen` and forward to `here.backend` on loopback.

What it carries is its role: `http1`, `http2` (RFC 9113 without TLS on both sides) or `tcp` (opaque bytes). Of two hops, `originate_h1` and
`originate_h2` forward HTTP/1.1 over mutual TLS 1.3, in HTTP/1.1 or HTTP/2; `terminate` takes that and forwards HTTP/1.1. `same_node` is
HTTP/1.1 from one pod of a node to another.
"""

import json
import shutil
import sys
from pathlib import Path

from machine import RELEASE, REPOSITORY, TOOLS

# The authority of the journeys: the bench shows the same certificates.
sys.path.insert(0, str(REPOSITORY / "Tests" / "Journeys"))
from mesh.authority import Authority, identity  # noqa: E402

#: From the Python environment of `make setup-bench`, or from PATH.
ENVOY = next((str(found) for found in (Path(sys.prefix) / "bin" / "envoy",) if found.exists()), shutil.which("envoy") or "envoy")
#: Debian's dynamic module for opaque TCP.
NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


#: Hops of a path, the last one first: each forwards to the one before it.
PATHS = {"mesh_h1": ("terminate", "originate_h1"), "mesh_h2": ("terminate", "originate_h2")}
#: What a proxy says when it serves, where its listener opens before that.
READY = {"weft": "weft-proxy-host: ready"}
#: The address of weft's pods with a server, and where they take mutual TLS.
WEFT_POD, WEFT_PORT = "127.0.0.2", 15008
#: The name in every server's certificate, beside its identity: what other proxies look for.
SERVER_NAME = "proxy.test"


class Identities:
    """Certificates as a mesh issues them: P-256 leaves of an intermediate. And a stranger's, of another root."""

    def __init__(self, directory):
        authority = Authority("bench")
        self.client_uri, self.server_uri = identity("shop", "front"), identity("shop", "cart")
        self.roots = directory / "roots.pem"
        self.roots.write_bytes(authority.bundle)
        self.server = authority.issue(self.server_uri, dns=[SERVER_NAME]).files(directory, "server")
        self.client = authority.issue(self.client_uri, dns=[SERVER_NAME]).files(directory, "client")
        self.stranger = Authority("stranger").issue(self.client_uri).files(directory, "stranger")


class Here:
    """Role, ports and scratch directory of one hop. `backend` is the next hop, `application` what lies behind the last."""

    def __init__(self, role, listen, admin, backend, application, directory, identities):
        self.role, self.listen, self.admin, self.backend, self.application = role, listen, admin, backend, application
        self.directory, self.identities = directory, identities

    @property
    def takes_tls(self):
        """Whether its clients come over mutual TLS."""
        return self.role == "terminate"

    @property
    def sends_tls(self):
        """Whether it speaks mutual TLS to the next hop."""
        return self.role.startswith("originate")

    @property
    def own(self):
        """The certificate (with its chain) and the key that it shows."""
        return self.identities.server if self.takes_tls else self.identities.client

    def write(self, name, text):
        """A file in the scratch directory."""
        path = self.directory / name
        path.write_text(text)
        return path


def weft(here):
    """The shipped weft-proxy; weft-proxy-host plays `weft node` towards it on one port, without BPF."""
    host = [RELEASE / "weft-proxy-host", "--proxy", RELEASE / "weft-proxy"]
    if here.role in ("http1", "http2", "tcp"):
        declared = {"http1": "http", "http2": "http2", "tcp": "tcp"}[here.role]
        return [*host, "--listen", f"127.0.0.1:{here.listen}", "--upstream", f"127.0.0.1:{here.backend}", "--protocol", declared]
    known = here.identities
    host += ["--roots", known.roots]
    front = ["--as", "shop/front", "--identity", f"{known.client_uri}={known.client[0]},{known.client[1]}",
             "--listen", f"127.0.0.1:{here.listen}", "--upstream", f"{WEFT_POD}:{here.application}"]
    cart = ["--inbound", f"{WEFT_POD}=shop/cart", "--identity", f"{known.server_uri}={known.server[0]},{known.server[1]}"]
    if here.sends_tls:
        return [*host, *front, "--workload", f"{WEFT_POD}=shop/cart"]
    return [*host, *cart] if here.takes_tls else [*host, *front, *cart]


def floor(here):
    """The least a forwarder can do: HTTP/1.1 by Content-Length (of two hops too: no TLS); HTTP/2 as mere bytes, copied; TCP by splice with pipes of 1 MB."""
    return [TOOLS / "floor", {"http2": "copy", "tcp": "splice"}.get(here.role, "http"), here.listen, here.backend]


def _address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _typed(name, kind, **values):
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **values}}


def _envoy_tls(here):
    """TLS 1.3 only, and whoever is at the other end is a workload of the mesh."""
    chain, key = here.own
    side = "DownstreamTlsContext" if here.takes_tls else "UpstreamTlsContext"
    protocols = {"terminate": ["h2", "http/1.1"], "originate_h1": ["http/1.1"], "originate_h2": ["h2"]}[here.role]
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}, "alpn_protocols": protocols,
        "tls_certificates": [{"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}],
        "validation_context": {"trusted_ca": {"filename": str(here.identities.roots)},
                               "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}}]}}
    own = {"require_client_certificate": True, "disable_stateless_session_resumption": True, "disable_stateful_session_resumption": True} if here.takes_tls else {"sni": SERVER_NAME}
    return _typed("envoy.transport_sockets.tls", f"transport_sockets.tls.v3.{side}", common_tls_context=common, **own)


def _envoy(here, mesh):
    """With `mesh`: RBAC, retries, outlier detection and circuit breakers, as Istio configures them."""
    route = {"cluster": "b", "timeout": "60s"}
    cluster = {"name": "b", "type": "STATIC", "connect_timeout": "5s", "lb_policy": "ROUND_ROBIN",
               "load_assignment": {"cluster_name": "b", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(here.backend)}}]}]}}
    if here.role in ("http2", "originate_h2"):
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {options: {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http2_protocol_options": {}}}}
    if here.sends_tls:
        cluster["transport_socket"] = _envoy_tls(here)
    filters = [_typed("envoy.filters.http.router", "filters.http.router.v3.Router")]
    if mesh:
        route["retry_policy"] = {"retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", "num_retries": 2,
                                 "retriable_status_codes": [503], "host_selection_retry_max_attempts": 5}
        cluster["outlier_detection"] = {"consecutive_5xx": 5, "interval": "10s", "base_ejection_time": "30s", "max_ejection_percent": 50}
        cluster["circuit_breakers"] = {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000, "max_retries": 1000, "track_remaining": True}]}
        callers = {"authenticated": {"principal_name": {"prefix": "spiffe://cluster.local/ns/shop/"}}} if here.takes_tls else {"any": True}
        policies = {f"allow-{method}": {"permissions": [{"and_rules": {"rules": [{"header": {"name": ":method", "string_match": {"exact": method}}}, {"url_path": {"path": {"prefix": "/"}}}]}}],
                                        "principals": [callers]} for method in ("PUT", "GET", "POST")}
        filters.insert(0, _typed("envoy.filters.http.rbac", "filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": policies}))
    if here.role == "tcp":
        connection = _typed("envoy.filters.network.tcp_proxy", "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="in", cluster="b")
    else:
        connection = _typed("envoy.filters.network.http_connection_manager", "filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="in", codec_type="AUTO",
                            http_filters=filters, route_config={"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]})
    chain = {"filters": [connection]} | ({"transport_socket": _envoy_tls(here)} if here.takes_tls else {})
    bootstrap = {"node": {"id": "e", "cluster": "e"}, "admin": {"address": _address(here.admin)},
                 "static_resources": {"listeners": [{"name": "in", "address": _address(here.listen), "filter_chains": [chain]}], "clusters": [cluster]}}
    return [ENVOY, "-c", here.write("envoy.json", json.dumps(bootstrap)), "--concurrency", 1, "--disable-hot-restart", "-l", "error", "--log-path", here.directory / "envoy.log"]


def envoy(here):
    """As plain as it gets."""
    return _envoy(here, mesh=False)


def envoy_mesh(here):
    """As meshes run it."""
    return _envoy(here, mesh=True)


def _haproxy(here, tuning="", splicing="splice-auto"):
    bind = server = " proto h2" if here.role == "http2" else ""
    both = here.write("own.pem", "".join(path.read_text() for path in here.own)) if here.takes_tls or here.sends_tls else None
    if here.takes_tls:
        bind = f" ssl crt {both} ca-file {here.identities.roots} verify required alpn h2,http/1.1"
    if here.sends_tls:
        protocol = "h2" if here.role == "originate_h2" else "http/1.1"
        server = f" ssl crt {both} ca-file {here.identities.roots} verify required verifyhost {SERVER_NAME} sni str({SERVER_NAME}) ssl-min-ver TLSv1.3 alpn {protocol}"
    return ["haproxy", "-db", "-f", here.write("haproxy.cfg", f"""global
  nbthread 1
  maxconn 12000
  no strict-limits
  fd-hard-limit 20000
  tune.pool-high-fd-ratio 95
  tune.pool-low-fd-ratio 90
  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
  tune.ssl.cachesize 0
  {tuning}
defaults
  mode {"tcp" if here.role == "tcp" else "http"}
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  {"" if here.role == "tcp" else "http-reuse always"}
  maxconn 12000
  option {splicing}
frontend f
  bind 127.0.0.1:{here.listen}{bind}
  default_backend b
backend b
  server s 127.0.0.1:{here.backend}{server}
""")]


def haproxy(here):
    """Debian's, tuned for many connections."""
    return _haproxy(here)


def haproxy_1mb(here):
    """The same with pipes of 1 MB, and the reply always spliced: its best for bulk."""
    return _haproxy(here, tuning="tune.pipesize 1048576", splicing="splice-response")


def nginx(here):
    """Debian's, with upstream keep-alive; HTTP/2 to a server by grpc_pass, the only way it has; TCP by its stream module."""
    d = here.directory
    listen = f"listen 127.0.0.1:{here.listen}"
    listens, passes = f"{listen};", "proxy_pass http://b;"
    if here.role == "http2":
        listens, passes = f"{listen} http2;", "grpc_pass grpc://b;"
    if here.takes_tls:
        listens = f"""{listen} ssl; ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache off; ssl_certificate {here.own[0]}; ssl_certificate_key {here.own[1]};
  ssl_client_certificate {here.identities.roots}; ssl_verify_client on; ssl_verify_depth 2;"""
    if here.sends_tls:
        passes = f"""proxy_pass https://b; proxy_ssl_protocols TLSv1.3; proxy_ssl_certificate {here.own[0]}; proxy_ssl_certificate_key {here.own[1]};
  proxy_ssl_trusted_certificate {here.identities.roots}; proxy_ssl_verify on; proxy_ssl_verify_depth 2; proxy_ssl_name {SERVER_NAME}; proxy_ssl_server_name on;"""
    serve = f"server {{ {listens} location / {{ {passes} }} }}"
    http = f"""http {{ access_log off; server_tokens off; tcp_nodelay on; keepalive_timeout 300s; keepalive_requests 1000000000;
  http2_max_requests 1000000000; http2_max_concurrent_streams 1024;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; proxy_request_buffering off;
  proxy_max_temp_file_size 0; client_max_body_size 0;
  client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;
  upstream b {{ server 127.0.0.1:{here.backend}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 300s; }}
  {serve} }}"""
    stream = f"stream {{ server {{ {listen}; proxy_pass 127.0.0.1:{here.backend}; proxy_buffer_size 64k; tcp_nodelay on; }} }}"
    return ["nginx", "-e", d / "start.log", "-c", here.write("nginx.conf", f"""{f"load_module {NGINX_STREAM};" if here.role == "tcp" else ""}
daemon off; master_process on; worker_processes 1; pid {d}/pid; error_log {d}/error.log crit;
events {{ worker_connections 20000; }}
{stream if here.role == "tcp" else http}
""")]


def nghttpx(here):
    """nghttp2's own proxy."""
    frontend, backend = ("" if here.takes_tls else ";no-tls"), {"http2": ";;proto=h2", "terminate": ";;"}.get(here.role)
    if here.sends_tls:
        backend = f";;tls;sni={SERVER_NAME};proto={'h2' if here.role == 'originate_h2' else 'http/1.1'}"
    chain, key = here.own
    secure = []
    if here.takes_tls:
        secure = ["--verify-client", f"--verify-client-cacert={here.identities.roots}", "--tls-min-proto-version=TLSv1.3", key, chain]
    if here.sends_tls:
        secure = [f"--client-cert-file={chain}", f"--client-private-key-file={key}", f"--cacert={here.identities.roots}"]
    return ["nghttpx", "--conf=/dev/null", f"--frontend=127.0.0.1,{here.listen}{frontend}", f"--backend=127.0.0.1,{here.backend}{backend}", "--workers=1", "--no-ocsp",
            "--accesslog-file=/dev/null", f"--errorlog-file={here.directory}/nghttpx.log", "--log-level=ERROR", "--rlimit-nofile=20000",
            "--frontend-keep-alive-timeout=300", "--backend-keep-alive-timeout=300", "--frontend-http2-max-concurrent-streams=1024",
            "--backend-http2-max-concurrent-streams=1024", "--no-via", "--no-server-rewrite", f"--pid-file={here.directory}/pid", *secure]


#: `direct` has no proxy at all: client and backend on one core.
PROXIES = {"direct": None, "floor": floor, "weft": weft, "nginx": nginx, "haproxy": haproxy, "haproxy_1mb": haproxy_1mb, "nghttpx": nghttpx,
           "envoy": envoy, "envoy_mesh": envoy_mesh}
