"""HTTP/1.1 in the raw, for both ends: a client that says exactly what a test wants said, and a strict backend that
records what it was told. Written against RFC 9112 independently of the product."""

import re
import socket
import threading

from mesh import eventually

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"^(" + _TOKEN + rb") ([!-~]+) HTTP/(1\.[01])$")
_FIELD = re.compile(rb"^(" + _TOKEN + rb"):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*$")


class Violation(Exception):
    """A message that a strict reader refuses."""


class Wire:
    """A buffered socket."""

    def __init__(self, connection):
        self.socket, self.buffer = connection, b""

    def fill(self):
        """One more read; False at the end."""
        data = self.socket.recv(1 << 16)
        self.buffer += data
        return bool(data)

    def until(self, mark, limit=1 << 20):
        """Bytes up to and including `mark`; None at a clean end."""
        while mark not in self.buffer:
            if len(self.buffer) > limit:
                raise Violation("head too large")
            if not self.fill():
                if self.buffer:
                    raise Violation(f"ended inside a message: {self.buffer[:120]!r}")
                return None
        found, _, self.buffer = self.buffer.partition(mark)
        return found + mark

    def exactly(self, count):
        """`count` bytes."""
        while len(self.buffer) < count:
            if not self.fill():
                raise Violation(f"ended {count - len(self.buffer)} bytes early")
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken


def _fields(lines):
    fields = []
    for line in lines:
        match = _FIELD.match(line)
        if match is None:
            raise Violation(f"field line {line!r}")
        fields.append((match[1].decode().lower(), match[2].decode("latin-1")))
    return fields


def _chunked(wire):
    body, pieces = b"", []
    while True:
        line = wire.until(b"\r\n")
        if line is None or not re.fullmatch(rb"[0-9a-fA-F]{1,15}(;[^\r\n]*)?\r\n", line):
            raise Violation(f"chunk size line {line!r}")
        size = int(line.split(b";")[0].strip(), 16)
        if size == 0:
            break
        pieces.append(size)
        body += wire.exactly(size)
        if wire.exactly(2) != b"\r\n":
            raise Violation("chunk without CRLF")
    trailers = []
    while (line := wire.until(b"\r\n")) != b"\r\n":
        if line is None:
            raise Violation("ended inside the trailers")
        trailers.append(line[:-2])
    return body, _fields(trailers)


class Message:
    """Fields, body and trailers of a request or a reply."""

    def __init__(self, fields, body=b"", trailers=()):
        self.fields, self.body, self.trailers = fields, body, list(trailers)

    def all(self, name):
        """Every value of a field."""
        return [value for found, value in self.fields if found == name]

    def __getitem__(self, name):
        values = self.all(name)
        return values[0] if values else None


class Request(Message):
    """What a backend was asked."""

    method = target = version = peer = None

    @classmethod
    def read(cls, wire, whole=True):
        """The next request; None at a clean end. Refuses everything that two readers could understand differently."""
        head = wire.until(b"\r\n\r\n")
        if head is None:
            return None
        if b"\n" in head.replace(b"\r\n", b"") or b"\r" in head.replace(b"\r\n", b"") or b"\0" in head:
            raise Violation(f"stray control characters in {head!r}")
        lines = head[:-4].split(b"\r\n")
        match = _REQUEST_LINE.match(lines[0])
        if match is None:
            raise Violation(f"request line {lines[0]!r}")
        request = cls(_fields(lines[1:]))
        request.method, request.target, request.version = (part.decode() for part in match.groups())
        lengths, codings = request.all("content-length"), request.all("transfer-encoding")
        if len(request.all("host")) != 1 and request.version == "1.1":
            raise Violation(f"{len(request.all('host'))} Host fields")
        if len(lengths) + len(codings) > 1:
            raise Violation(f"framing said more than once: {lengths} {codings}")
        if lengths and not lengths[0].isdigit() or codings and codings[0].lower() != "chunked":
            raise Violation(f"framing {lengths} {codings}")
        request.length = int(lengths[0]) if lengths else 0
        request.chunked = bool(codings)
        if whole:
            request.take_body(wire)
        return request

    def take_body(self, wire):
        """Reads the body as framed."""
        if self.chunked:
            self.body, self.trailers = _chunked(wire)
        else:
            self.body = wire.exactly(self.length)


class Reply(Message):
    """What a client was answered."""

    status = version = reason = None

    @classmethod
    def read(cls, wire, method="GET", interim=False):
        """The next final reply (or, with `interim`, a 1xx one)."""
        while True:
            head = wire.until(b"\r\n\r\n")
            if head is None:
                raise ConnectionError("closed without a reply")
            lines = head[:-4].split(b"\r\n")
            match = re.match(rb"^HTTP/(1\.[01]) (\d{3})(?: (.*))?$", lines[0])
            if match is None:
                raise Violation(f"status line {lines[0]!r}")
            reply = cls(_fields(lines[1:]))
            reply.version, reply.status, reply.reason = match[1].decode(), int(match[2]), (match[3] or b"").decode()
            if reply.status >= 200 or interim:
                break
        if method == "HEAD" or reply.status in (204, 304) or reply.status < 200:
            return reply
        if reply["transfer-encoding"]:
            reply.body, reply.trailers = _chunked(wire)
        elif reply["content-length"] is not None:
            reply.body = wire.exactly(int(reply["content-length"]))
        else:
            while wire.fill():
                pass
            reply.body, wire.buffer = wire.buffer, b""
        return reply


class Client:
    """One connection of a pod."""

    def __init__(self, pod, address, port, timeout=10.0):
        self.socket = pod.connect(address, port, timeout)
        self.wire = Wire(self.socket)

    def send(self, text):
        """Raw bytes; `\\n` stays what it is."""
        self.socket.sendall(text if isinstance(text, bytes) else text.encode("latin-1"))
        return self

    def get(self, target="/", *fields, host="shop.test", method="GET"):
        """A plain request and its reply."""
        head = "".join(f"{field}\r\n" for field in fields)
        self.send(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{head}\r\n")
        return self.reply(method)

    def reply(self, method="GET", interim=False):
        """The next reply."""
        return Reply.read(self.wire, method, interim)

    def ended(self, within=5.0):
        """True when the other side closes (or resets) without another byte."""
        self.socket.settimeout(within)
        try:
            return not self.wire.buffer and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        """Closes it."""
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def ok(body=b"ok", *fields, status="200 OK"):
    """A reply with Content-Length."""
    head = "".join(f"{field}\r\n" for field in fields)
    return f"HTTP/1.1 {status}\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Backend:
    """A strict server in a pod. `answer(request)` returns bytes, an iterable of bytes, or None to close;
    `conversation(socket)` replaces the whole connection handling. What arrived is in `requests` and `violations`."""

    def __init__(self, pod, port, answer=None, conversation=None, address="::"):
        self.pod, self.port = pod, port
        self.answer = answer or (lambda request: ok())
        self.conversation = conversation
        self.requests, self.violations, self.peers, self.ends = [], [], [], []
        self.connections = 0
        self._open = set()
        self._closing = False
        self._listener = pod.listen(port, address)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.peers.append(peer[0].removeprefix("::ffff:"))
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            connection.settimeout(60)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.conversation is not None:
                self.conversation(connection)
                return
            wire = Wire(connection)
            while (request := Request.read(wire)) is not None:
                self.requests.append(request)
                said = self.answer(request)
                if said is None:
                    return
                for piece in [said] if isinstance(said, bytes) else said:
                    connection.sendall(piece)
        except Violation as violation:
            if not self._closing:
                self.violations.append(str(violation))
        except OSError as error:
            self.ends.append(repr(error))
        finally:
            self.ends.append("closed")
            connection.close()
            self._open.discard(connection)

    def last(self):
        """The newest request."""
        return eventually(lambda: self.requests and self.requests[-1], within=5, what="a request at the backend")

    def close(self):
        """Stops listening and drops every connection."""
        self._closing = True
        for connection in [self._listener, *self._open]:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
