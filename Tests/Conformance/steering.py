"""A proxy with routes before servers that remember, asked by either HTTP and answered by either."""

from contextlib import ExitStack

from host import LOOPBACK, Proxy, free_port
from http1 import Backend, Client, ok
from http2 import Backend2, Client2, ok2
from mesh import eventually

# Client and server, each by the version of HTTP it speaks.
CROSSINGS = [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")]


class Asked:
    """One request as a server got it, whichever way it spoke."""

    def __init__(self, method, target, host, message):
        self.method, self.target, self.host, self.message = method, target, host, message

    def __getitem__(self, name):
        return self.message[name]

    def all(self, name):
        """Every value of a field."""
        return self.message.all(name)

    @property
    def body(self):
        """Its content."""
        return self.message.body


class Server:
    """A named server; its name is in `x-server`, `fields` (pairs) besides, and a function of its own may say something else."""

    def __init__(self, name, spoken, fields=(), status=200, body=b"ok", wait=None):
        self.name, self.spoken, self.fields, self.status, self.body, self.wait = name, spoken, list(fields), status, body, wait
        self.port = free_port()
        self.server = Backend2(LOOPBACK, self.port, self._answer2) if spoken == "2" else Backend(LOOPBACK, self.port, self._answer)

    def _said(self):
        if self.wait is not None:
            self.wait()
        return [("x-server", self.name), *self.fields]

    def _answer(self, _):
        return ok(self.body, *(f"{name}: {value}" for name, value in self._said()), status=f"{self.status} Said")

    def _answer2(self, wire, stream):
        ok2(wire, stream, self.body, *self._said(), status=str(self.status))

    @property
    def requests(self):
        """What it was asked, without what taught the proxy its protocol."""
        if self.spoken == "2":
            found = [Asked(s[":method"], s[":path"], s[":authority"], s) for s in list(self.server.requests)]
        else:
            found = [Asked(r.method, r.target, r["host"], r) for r in list(self.server.requests)]
        return [asked for asked in found if asked.target != "/warm-up"]

    def last(self):
        """The newest request."""
        return eventually(lambda: self.requests and self.requests[-1], within=5, what=f"a request at {self.name}")

    def service(self, port=80):
        """As the routes' file has it."""
        return {"name": self.name, "port": port, "spoken": "http2" if self.spoken == "2" else "http", "endpoints": [f"127.0.0.1:{self.port}"]}

    def close(self):
        """Stops it."""
        self.server.close()


class Answer:
    """What a client was told."""

    def __init__(self, status, message):
        self.status, self.message = status, message

    def __getitem__(self, name):
        return self.message[name]

    def all(self, name):
        """Every value of a field."""
        return self.message.all(name)

    @property
    def body(self):
        """Its content."""
        return self.message.body

    @property
    def server(self):
        """Who has answered."""
        return self["x-server"]


class Scene:
    """A proxy whose one service has `matches` and `rules`, with named servers as backends `NAME:80`."""

    def __init__(self, crossing, rules, matches=None, servers=("v1",), limits=None, **options):
        self.client_speaks, self.server_speaks = crossing
        self.stack = ExitStack()
        try:
            self.servers = {}
            for server in servers:
                if isinstance(server, str):
                    server = Server(server, self.server_speaks, **options)
                self.servers[server.name] = server
                self.stack.callback(server.close)
            first = next(iter(self.servers.values()))
            self.proxy = self.stack.enter_context(
                Proxy([first.port], "http2" if self.server_speaks == "2" else "http", limits=limits, routes=self.routes(rules, matches)))
            self.client = None
            if crossing == ("2", "1"):
                self._teach(rules, matches)
        except BaseException:
            self.stack.close()
            raise

    def routes(self, rules, matches=None, **table):
        """The routes' file."""
        matches = [{"rule": number} for number in range(len(rules))] if matches is None else matches
        return {
            "services": [server.service() for server in self.servers.values()],
            "routes": [{"service": "service-1", "port": "{port}", "matches": matches, "rules": rules, **table}]}

    def _teach(self, rules, matches):
        """The proxy learns which servers speak HTTP/1.1 before anything is looked at."""
        plain = [server for server in self.servers.values() if server.spoken == "1"]
        self.proxy.publish(self.routes(
            [{"backends": [{"service": f"{server.name}:80"}]} for server in plain],
            [{"headers": [["x-warm", f"exact:{server.name}"]], "rule": number} for number, server in enumerate(plain)]))
        for server in plain:
            assert self.ask("/warm-up", ("x-warm", server.name)).status == server.status
            server.server.violations.clear()
        self.proxy.publish(self.routes(rules, matches))

    def ask(self, target="/", *fields, method="GET", host="shop.test", body=None):
        """A request on the one connection and its reply. Fields are pairs."""
        if self.client_speaks == "2":
            if self.client is None or self.client.closed:
                self.client = self.stack.enter_context(Client2(LOOPBACK, *self.proxy.address))
            reply = self.client.get(target, *fields, method=method, authority=host, content=body)
            assert reply.reset is None, reply.reset
            return Answer(reply.status, reply)
        if self.client is None:
            self.client = self.stack.enter_context(Client(LOOPBACK, *self.proxy.address))
        length = [("content-length", str(len(body)))] if body is not None else []
        head = "".join(f"{name}: {value}\r\n" for name, value in [*fields, *length])
        self.client.send(f"{method} {target} HTTP/1.1\r\nhost: {host}\r\n{head}\r\n".encode() + (body or b""))
        try:
            reply = self.client.reply(method)
        except ConnectionError:
            self.client = None
            raise
        if reply["connection"] == "close":
            self.client = None
        return Answer(reply.status, reply)

    def counted(self, name, **labels):
        """A counter of the proxy."""
        return self.proxy.metrics().sum(name, **labels) or 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()


def to(*names, **rule):
    """A rule that forwards to these, by equal weights."""
    return {"backends": [{"service": f"{name}:80"} for name in names], **rule}
