"""Every proxy of the bench: how it is told to listen on `here.listen` and forward HTTP/1.1 to `here.backend` on loopback."""

import json
import shutil
import sys
from pathlib import Path

from machine import RELEASE, TOOLS

#: From the Python environment of `make setup-bench`, or from PATH.
ENVOY = next((str(found) for found in (Path(sys.prefix) / "bin" / "envoy",) if found.exists()), shutil.which("envoy") or "envoy")


class Here:
    """Ports and scratch directory of one instance."""

    def __init__(self, listen, admin, backend, directory):
        self.listen, self.admin, self.backend, self.directory = listen, admin, backend, directory

    def write(self, name, text):
        """A file in the scratch directory."""
        path = self.directory / name
        path.write_text(text)
        return path


def weft(here):
    """The shipped weft-proxy; weft-proxy-host plays `weft node` towards it on one port, without BPF."""
    return [RELEASE / "weft-proxy-host", "--listen", f"127.0.0.1:{here.listen}", "--upstream", f"127.0.0.1:{here.backend}", "--proxy", RELEASE / "weft-proxy"]


def floor(here):
    """The least a forwarder can do: finds the end of the head and Content-Length, pools, copies."""
    return [TOOLS / "floor", "http", here.listen, here.backend]


def _address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _typed(name, kind, **values):
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **values}}


def _envoy(here, mesh):
    """With `mesh`: RBAC, retries, outlier detection and circuit breakers, as Istio configures them."""
    route = {"cluster": "b", "timeout": "60s"}
    cluster = {"name": "b", "type": "STATIC", "connect_timeout": "5s", "lb_policy": "ROUND_ROBIN",
               "load_assignment": {"cluster_name": "b", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(here.backend)}}]}]}}
    filters = [_typed("envoy.filters.http.router", "filters.http.router.v3.Router")]
    if mesh:
        route["retry_policy"] = {"retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", "num_retries": 2,
                                 "retriable_status_codes": [503], "host_selection_retry_max_attempts": 5}
        cluster["outlier_detection"] = {"consecutive_5xx": 5, "interval": "10s", "base_ejection_time": "30s", "max_ejection_percent": 50}
        cluster["circuit_breakers"] = {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000, "max_retries": 1000, "track_remaining": True}]}
        policies = {f"allow-{method}": {"permissions": [{"and_rules": {"rules": [{"header": {"name": ":method", "string_match": {"exact": method}}}, {"url_path": {"path": {"prefix": "/"}}}]}}],
                                        "principals": [{"any": True}]} for method in ("PUT", "GET", "POST")}
        filters.insert(0, _typed("envoy.filters.http.rbac", "filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": policies}))
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


def haproxy(here):
    """Debian's, tuned for many connections."""
    return ["haproxy", "-db", "-f", here.write("haproxy.cfg", f"""global
  nbthread 1
  maxconn 12000
  no strict-limits
  fd-hard-limit 20000
  tune.pool-high-fd-ratio 95
  tune.pool-low-fd-ratio 90
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  http-reuse always
  maxconn 12000
  option splice-auto
frontend f
  bind 127.0.0.1:{here.listen}
  default_backend b
backend b
  server s 127.0.0.1:{here.backend}
""")]


def nginx(here):
    """Debian's, with upstream keep-alive."""
    d = here.directory
    return ["nginx", "-e", d / "start.log", "-c", here.write("nginx.conf", f"""
daemon off; master_process on; worker_processes 1; pid {d}/pid; error_log {d}/error.log crit;
events {{ worker_connections 20000; }}
http {{ access_log off; server_tokens off; tcp_nodelay on; keepalive_timeout 300s; keepalive_requests 1000000000;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; proxy_request_buffering off;
  proxy_max_temp_file_size 0; client_max_body_size 0;
  client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;
  upstream b {{ server 127.0.0.1:{here.backend}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 300s; }}
  server {{ listen 127.0.0.1:{here.listen}; location / {{ proxy_pass http://b; }} }} }}
""")]


#: `direct` has no proxy at all: client and backend on one core.
PROXIES = {"direct": None, "floor": floor, "weft": weft, "nginx": nginx, "haproxy": haproxy, "envoy": envoy, "envoy_mesh": envoy_mesh}
