"""Every proxy of the bench: how it is told to listen on `here.listen` and forward to `here.backend` on loopback.

What it carries is its role: `http1`, `http2` (RFC 9113 without TLS on both sides) or `tcp` (opaque bytes).
"""

import json
import shutil
import sys
from pathlib import Path

from machine import RELEASE, TOOLS

#: From the Python environment of `make setup-bench`, or from PATH.
ENVOY = next((str(found) for found in (Path(sys.prefix) / "bin" / "envoy",) if found.exists()), shutil.which("envoy") or "envoy")
#: Debian's dynamic module for opaque TCP.
NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


class Here:
    """Role, ports and scratch directory of one instance."""

    def __init__(self, role, listen, admin, backend, directory):
        self.role, self.listen, self.admin, self.backend, self.directory = role, listen, admin, backend, directory

    def write(self, name, text):
        """A file in the scratch directory."""
        path = self.directory / name
        path.write_text(text)
        return path


def weft(here):
    """The shipped weft-proxy; weft-proxy-host plays `weft node` towards it on one port, without BPF."""
    declared = {"http1": "http", "http2": "http2", "tcp": "tcp"}[here.role]
    return [RELEASE / "weft-proxy-host", "--listen", f"127.0.0.1:{here.listen}", "--upstream", f"127.0.0.1:{here.backend}",
            "--protocol", declared, "--proxy", RELEASE / "weft-proxy"]


def floor(here):
    """The least a forwarder can do: HTTP/1.1 by Content-Length; HTTP/2 as mere bytes, copied; TCP by splice with pipes of 1 MB."""
    return [TOOLS / "floor", {"http1": "http", "http2": "copy", "tcp": "splice"}[here.role], here.listen, here.backend]


def _address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _typed(name, kind, **values):
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **values}}


def _envoy(here, mesh):
    """With `mesh`: RBAC, retries, outlier detection and circuit breakers, as Istio configures them."""
    route = {"cluster": "b", "timeout": "60s"}
    cluster = {"name": "b", "type": "STATIC", "connect_timeout": "5s", "lb_policy": "ROUND_ROBIN",
               "load_assignment": {"cluster_name": "b", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(here.backend)}}]}]}}
    if here.role == "http2":
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {options: {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http2_protocol_options": {}}}}
    filters = [_typed("envoy.filters.http.router", "filters.http.router.v3.Router")]
    if mesh:
        route["retry_policy"] = {"retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", "num_retries": 2,
                                 "retriable_status_codes": [503], "host_selection_retry_max_attempts": 5}
        cluster["outlier_detection"] = {"consecutive_5xx": 5, "interval": "10s", "base_ejection_time": "30s", "max_ejection_percent": 50}
        cluster["circuit_breakers"] = {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000, "max_retries": 1000, "track_remaining": True}]}
        policies = {f"allow-{method}": {"permissions": [{"and_rules": {"rules": [{"header": {"name": ":method", "string_match": {"exact": method}}}, {"url_path": {"path": {"prefix": "/"}}}]}}],
                                        "principals": [{"any": True}]} for method in ("PUT", "GET", "POST")}
        filters.insert(0, _typed("envoy.filters.http.rbac", "filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": policies}))
    if here.role == "tcp":
        connection = _typed("envoy.filters.network.tcp_proxy", "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="in", cluster="b")
    else:
        connection = _typed("envoy.filters.network.http_connection_manager", "filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="in", codec_type="AUTO",
                            http_filters=filters, route_config={"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]})
    bootstrap = {"node": {"id": "e", "cluster": "e"}, "admin": {"address": _address(here.admin)},
                 "static_resources": {"listeners": [{"name": "in", "address": _address(here.listen), "filter_chains": [{"filters": [connection]}]}], "clusters": [cluster]}}
    return [ENVOY, "-c", here.write("envoy.json", json.dumps(bootstrap)), "--concurrency", 1, "--disable-hot-restart", "-l", "error", "--log-path", here.directory / "envoy.log"]


def envoy(here):
    """As plain as it gets."""
    return _envoy(here, mesh=False)


def envoy_mesh(here):
    """As meshes run it."""
    return _envoy(here, mesh=True)


def _haproxy(here, tuning="", splicing="splice-auto"):
    protocol = " proto h2" if here.role == "http2" else ""
    return ["haproxy", "-db", "-f", here.write("haproxy.cfg", f"""global
  nbthread 1
  maxconn 12000
  no strict-limits
  fd-hard-limit 20000
  tune.pool-high-fd-ratio 95
  tune.pool-low-fd-ratio 90
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
  bind 127.0.0.1:{here.listen}{protocol}
  default_backend b
backend b
  server s 127.0.0.1:{here.backend}{protocol}
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
    serve = f"server {{ {listen}{' http2' if here.role == 'http2' else ''}; location / {{ {'grpc_pass grpc://b' if here.role == 'http2' else 'proxy_pass http://b'}; }} }}"
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
    return ["nghttpx", "--conf=/dev/null", f"--frontend=127.0.0.1,{here.listen};no-tls", f"--backend=127.0.0.1,{here.backend};;proto=h2", "--workers=1", "--no-ocsp",
            "--accesslog-file=/dev/null", f"--errorlog-file={here.directory}/nghttpx.log", "--log-level=ERROR", "--rlimit-nofile=20000",
            "--frontend-keep-alive-timeout=300", "--backend-keep-alive-timeout=300", "--frontend-http2-max-concurrent-streams=1024",
            "--backend-http2-max-concurrent-streams=1024", "--no-via", "--no-server-rewrite", f"--pid-file={here.directory}/pid"]


#: `direct` has no proxy at all: client and backend on one core.
PROXIES = {"direct": None, "floor": floor, "weft": weft, "nginx": nginx, "haproxy": haproxy, "haproxy_1mb": haproxy_1mb, "nghttpx": nghttpx,
           "envoy": envoy, "envoy_mesh": envoy_mesh}
