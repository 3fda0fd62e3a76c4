"""A cart: every item added is priced by asking the catalog. It knows nothing of any mesh."""

import http.client
import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Cart(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        catalog = http.client.HTTPConnection("catalog", timeout=5)
        catalog.request("GET", "/item/" + self.path.rsplit("/", 1)[-1])
        price = catalog.getresponse().read()
        catalog.close()
        body = json.dumps({"added": self.path, "price": price.decode().strip(), "for": self.client_address[0]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


Server(("::", 8000), Cart).serve_forever()
