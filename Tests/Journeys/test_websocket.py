"""WebSocket, CONNECT and other upgrades through the mesh: over HTTP/1.1, over HTTP/2, and from one to the other."""

import asyncio
import itertools
import os
import threading

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from websockets.asyncio.client import connect as connect_async
from websockets.asyncio.server import serve as serve_async
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.sync.client import connect
from websockets.sync.server import serve
from websockets.uri import parse_uri

from http1 import Backend, Client, Request, Wire, ok
from http2 import Backend2, Client2, ok2
from mesh import eventually

PORTS = itertools.count(30000)


def echo(connection):
    """Says back every message; "bye" makes it close with a reason."""
    for message in connection:
        if message == "bye":
            connection.close(4001, "as you wish")
            return
        connection.send(message)


class WebSockets:
    """The `websockets` library as a server in a pod."""

    def __init__(self, pod, handler=echo, **options):
        self.port, self.talking = next(PORTS), set()

        def talk(connection):
            self.talking.add(connection)
            try:
                handler(connection)
            finally:
                self.talking.discard(connection)
        self.server = serve(talk, sock=pod.listen(self.port), **options)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()


def dial(pod, address, port, path="/", **options):
    """The library as a client of a pod."""
    return connect(f"ws://shop.test:{port}{path}", sock=pod.connect(address, port), proxy=None, **options)


@pytest.fixture(params=["same-node", "other-node"])
def pod(request, shop):
    """Where the server is."""
    return shop.cart if request.param == "same-node" else shop.stock


# --- over HTTP/1.1 --------------------------------------------------------------------------------------------------

def test_messages(shop, pod):
    """Text, binary, large, compressed and in pieces; pings; the server's close code."""
    with WebSockets(pod, subprotocols=["chat"], max_size=None) as server, dial(shop.web, pod.ip, server.port, subprotocols=["chat"], max_size=None) as client:
        assert client.subprotocol == "chat" and client.response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
        for message in ("grüß", b"\0\1\2", os.urandom(5 << 20), "x" * (1 << 20), ""):
            client.send(message)
            assert client.recv(timeout=10) == message
        client.send(["in ", "three ", "pieces"])
        assert client.recv(timeout=10) == "in three pieces"
        assert client.ping().wait(10)
        client.send("bye")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=10)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you wish")


def test_a_server_that_speaks_at_once(shop, pod):
    """Its first message may ride in one segment with the 101."""
    def greet(connection):
        connection.send("welcome")
        echo(connection)
    with WebSockets(pod, greet) as server:
        for _ in range(20):
            with dial(shop.web, pod.ip, server.port) as client:
                assert client.recv(timeout=10) == "welcome"


def test_a_handshake_that_is_refused(shop, pod):
    """The server says 403 instead of 101: an ordinary reply."""
    with WebSockets(pod, process_request=lambda connection, request: connection.respond(403, "no\n")) as server:
        with pytest.raises(InvalidStatus) as refused:
            dial(shop.web, pod.ip, server.port)
        assert refused.value.response.status_code == 403 and refused.value.response.body == b"no\n"


def test_it_is_counted(shop):
    """A request with status 101."""
    labels = {"reporter": "source", "response_code": 101, "destination_workload": "stock"}
    total = lambda: shop.nodes[0].weft.metrics().sum("istio_requests_total", **labels)  # noqa: E731
    before = total()
    with WebSockets(shop.stock) as server, dial(shop.web, shop.stock.ip, server.port) as client:
        client.send("one")
        assert client.recv(timeout=10) == "one"
    eventually(lambda: total() - before == 1, within=5)


def test_idle_websockets_outlive_http_timers(impatient):
    """Quiet for longer than replies, heads and bodies may take."""
    shop = impatient
    with WebSockets(shop.stock) as server, dial(shop.web, shop.stock.ip, server.port, ping_interval=None) as client:
        client.send("one")
        assert client.recv(timeout=10) == "one"
        with pytest.raises(TimeoutError):
            client.recv(timeout=3)
        client.send("two")
        assert client.recv(timeout=10) == "two"


def test_1000_idle_websockets_are_all_alive(shop):
    """A thousand at rest hold next to nothing; then every one of them answers."""
    node = shop.nodes[0]

    def resident():
        for line in open(f"/proc/{node.weft.pid('proxy')}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) << 10

    async def answer(connection):
        async for message in connection:
            await connection.send(message)

    async def scene():
        port = next(PORTS)
        plain = {"ping_interval": None, "compression": None}
        async with serve_async(answer, sock=shop.stock.listen(port, backlog=4096), **plain):
            async def dial(number):
                near = await asyncio.to_thread(shop.web.connect, shop.stock.ip, port)
                near.setblocking(False)
                return await connect_async(f"ws://shop.test:{port}/", sock=near, proxy=None, open_timeout=60, **plain)

            async def exchange(client, message):
                await client.send(message)
                return await asyncio.wait_for(client.recv(), 30) == message
            clients = []
            for start in range(0, 1000, 50):
                clients += await asyncio.gather(*(dial(number) for number in range(start, start + 50)))
            assert all(await asyncio.gather(*(exchange(client, f"first {n}") for n, client in enumerate(clients))))
            pipes = await asyncio.to_thread(lambda: node.weft.metrics().value("weft_pipes_in_use"))
            assert pipes == 0, f"{pipes} pipes are held by connections at rest"
            assert resident() - before < 16 << 20
            good = sum(await asyncio.gather(*(exchange(client, f"again {n}") for n, client in enumerate(clients))))
            await asyncio.gather(*(client.close() for client in clients))
            return good
    before = resident()
    assert asyncio.run(scene()) == 1000


# --- over HTTP/2 (RFC 8441) -----------------------------------------------------------------------------------------

class Socket8441:
    """A WebSocket on a stream of an HTTP/2 connection: the library's protocol, our frames."""

    def __init__(self, wire, stream, protocol):
        self.wire, self.stream, self.protocol = wire, stream, protocol

    def say(self):
        """Sends what the protocol has to send."""
        for data in self.protocol.data_to_send():
            if data:
                self.wire.send(self.stream.number, data)

    def send(self, message):
        """A message."""
        self.protocol.send_text(message.encode()) if isinstance(message, str) else self.protocol.send_binary(message)
        self.say()

    def frames(self):
        """What has come since."""
        with self.wire.lock:
            content = self.stream.taken()
        if content:
            self.protocol.receive_data(content)
            self.say()
        return self.protocol.events_received()


def dial2(wire, path="/", *fields):
    """A WebSocket client on a stream; returns (stream, Socket8441 or None when refused)."""
    stream = wire.ask(path, (":protocol", "websocket"), ("sec-websocket-version", "13"), *fields, method="CONNECT", end=False)
    wire.until(lambda: stream.began or stream.over, "an answer to CONNECT")
    if stream.status != 200:
        return stream, None
    return stream, Socket8441(wire, stream, ClientProtocol(parse_uri("ws://shop.test/"), state=State.OPEN, max_size=None))


def hear(made):
    """The client's next message."""
    pieces = []
    while True:
        frames = made.frames()
        for frame in frames:
            if frame.opcode == Opcode.CLOSE:
                # The end of the stream is the client's FIN (RFC 8441 §5), for which its server waits.
                made.say()
                made.wire.send(made.stream.number, b"", end=True)
                return ("closed", made.protocol.close_rcvd.code, made.protocol.close_rcvd.reason)
            if frame.opcode not in (Opcode.PING, Opcode.PONG):
                pieces.append(frame.data)
                if frame.fin:
                    return b"".join(bytes(p) for p in pieces)
        if not frames:
            made.wire.until(lambda: made.stream.pieces or made.stream.over, "a frame")
            assert made.stream.pieces, "the stream ended without a close frame"


def websockets_over_http2(pod, allowed=True):
    """A server of HTTP/2 that takes extended CONNECT and speaks WebSocket on the stream."""
    def answer(wire, stream):
        if stream[":protocol"] != "websocket":
            return ok2(wire, stream)
        if stream[":path"] == "/refused":
            return ok2(wire, stream, b"no", status="403")
        wire.head(stream.number, [(":status", "200")] + ([("sec-websocket-protocol", "chat")] if stream["sec-websocket-protocol"] else []))
        made = Socket8441(wire, stream, ServerProtocol(state=State.OPEN, max_size=None))
        while not stream.over and not wire.closed:
            for frame in made.frames():
                if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                    if bytes(frame.data) == b"bye":
                        made.protocol.send_close(4001, "as you wish")
                        made.say()
                        wire.send(stream.number, b"", end=True)
                        return None
                    made.send(bytes(frame.data).decode() if frame.opcode == Opcode.TEXT else bytes(frame.data))
            threading.Event().wait(0.001)
        return None
    return Backend2(pod, next(PORTS), answer, settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1} if allowed else None)


def test_the_proxy_offers_extended_connect(shop):
    """SETTINGS_ENABLE_CONNECT_PROTOCOL is said to every HTTP/2 client."""
    with Client2(shop.web, shop.stock.ip, 8080) as client:
        assert client.hear_settings().enable_connect_protocol == 1


def test_from_http2_to_http1(shop, pod):
    """The client CONNECTs on a stream; the library's HTTP/1.1 server sees an ordinary upgrade with a key of its own."""
    with WebSockets(pod, subprotocols=["chat"], max_size=None) as server, Client2(shop.web, pod.ip, server.port) as wire:
        wire.hear_settings()
        stream, made = dial2(wire, "/chat", ("sec-websocket-protocol", "chat"), ("origin", "http://shop.test"))
        assert made, (stream.status, stream.fields)
        assert stream["sec-websocket-protocol"] == "chat" and stream["sec-websocket-accept"] is None and stream["upgrade"] is None
        _, other = dial2(wire, "/other", ("sec-websocket-protocol", "chat"))
        for message in ("hello", "x" * 300_000, b"\0\1"):
            for each in (made, other):
                each.send(message)
            for each in (made, other):
                assert hear(each) == (message.encode() if isinstance(message, str) else message)
        made.send("bye")
        assert hear(made) == ("closed", 4001, "as you wish")
        other.send("still here")
        assert hear(other) == b"still here"
        wire.reset(other.stream.number)
        eventually(lambda: not server.talking, within=5, what="the server has seen both ends")


def test_a_refusal_from_http1_to_http2(shop, pod):
    """403 is 403."""
    with WebSockets(pod, process_request=lambda connection, request: connection.respond(403, "no\n")) as server, Client2(shop.web, pod.ip, server.port) as wire:
        wire.hear_settings()
        stream, made = dial2(wire)
        assert made is None and stream.status == 403 and wire.reply(stream).body == b"no\n"


def test_from_http1_to_http2(shop, pod):
    """The library's HTTP/1.1 client; a server declared HTTP/2 that allows extended CONNECT."""
    with websockets_over_http2(pod) as backend:
        name = f"chat-{backend.port}"
        shop.service(name, [pod], [{"name": "http2", "port": 80, "targetPort": backend.port}])
        shop.apply()

        def known():
            with Client(shop.web, shop.address(name), 80) as client:
                return client.get("/").status == 200
        eventually(known, within=10, every=0.1)
        with dial(shop.web, shop.address(name), 80, "/chat", subprotocols=["chat"], compression=None, max_size=None) as client:
            assert client.subprotocol == "chat"
            for message in ("hello", b"\0\1\2", "x" * 300_000):
                client.send(message)
                assert client.recv(timeout=10) == message
            client.send("bye")
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=10)
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you wish")
        request = next(r for r in backend.requests if r[":protocol"])
        assert (request[":method"], request[":path"], request[":protocol"]) == ("CONNECT", "/chat", "websocket")
        assert request["sec-websocket-key"] is None and request["upgrade"] is None and request["connection"] is None
        with pytest.raises(InvalidStatus) as refused:
            dial(shop.web, shop.address(name), 80, "/refused")
        assert refused.value.response.status_code == 403
        assert backend.faults == []


def test_from_http2_to_http2(shop, pod):
    """Extended CONNECT all the way."""
    with websockets_over_http2(pod) as backend, Client2(shop.web, pod.ip, backend.port) as wire:
        wire.hear_settings()
        _, made = dial2(wire, "/chat")
        for message in ("hello", "x" * 300_000):
            made.send(message)
            assert hear(made) == message.encode()
        assert wire.get("/").status == 200, "other streams of the connection are ordinary requests"
        made.send("bye")
        assert hear(made) == ("closed", 4001, "as you wish")
        assert backend.faults == []


def test_a_server_that_dies_under_a_websocket(shop):
    """Over HTTP/2 the client sees its stream end or reset, and its connection goes on."""
    def leave(connection):
        connection.recv()
        connection.socket.close()
    with WebSockets(shop.stock, leave) as server, Client2(shop.web, shop.stock.ip, server.port) as wire:
        wire.hear_settings()
        _, made = dial2(wire)
        made.send("go")
        wire.until(lambda: made.stream.over, "the end of the stream")
        assert made.stream.ended or made.stream.reset in (ErrorCodes.CANCEL, ErrorCodes.CONNECT_ERROR, ErrorCodes.INTERNAL_ERROR)


# --- CONNECT and other upgrades -------------------------------------------------------------------------------------

def tunnel(connection):
    """An HTTP/1.1 server that takes CONNECT and any upgrade, then says everything back in capitals."""
    wire = Wire(connection)
    request = Request.read(wire, whole=False)
    if request.method == "CONNECT":
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    elif request.target == "/refused":
        connection.sendall(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: weird/2\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n")
        return
    elif request.target == "/ignored":
        connection.sendall(ok(b"plain"))
        return
    else:
        assert request["upgrade"] == "weird/1" and "upgrade" in request["connection"].lower()
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: weird/1\r\nConnection: Upgrade\r\n\r\nfirst")
    said = wire.buffer
    while True:
        if said:
            connection.sendall(said.upper())
        said = connection.recv(1 << 16)
        if not said:
            return


def test_connect_over_http1(shop, pod):
    """It is asked of the server, and becomes a tunnel when the server agrees."""
    with Backend(pod, next(PORTS), conversation=tunnel) as backend, Client(shop.web, pod.ip, backend.port) as client:
        client.send("CONNECT somewhere.else:443 HTTP/1.1\r\nHost: somewhere.else:443\r\n\r\n")
        assert client.wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        client.send(b"through the tunnel")
        assert client.wire.exactly(18) == b"THROUGH THE TUNNEL"


def test_connect_over_http2(shop, pod):
    """On one stream; the others go on."""
    with Backend(pod, next(PORTS), conversation=tunnel) as backend, Client2(shop.web, pod.ip, backend.port) as wire:
        stream = wire.ask(method="CONNECT", authority="somewhere.else:443", end=False)
        wire.until(lambda: stream.began or stream.over, "an answer to CONNECT")
        assert stream.status == 200, stream.fields
        wire.send(stream.number, b"through the tunnel")
        wire.until(lambda: sum(map(len, stream.pieces)) >= 18, "the echo")
        assert stream.taken() == b"THROUGH THE TUNNEL"
        wire.send(stream.number, b"", end=True)
        wire.until(lambda: stream.over, "the end of the tunnel")


def test_an_unknown_upgrade(shop, pod):
    """A token nobody has heard of passes; what follows belongs to the two ends."""
    with Backend(pod, next(PORTS), conversation=tunnel) as backend:
        with Client(shop.web, pod.ip, backend.port) as client:
            client.send("GET /up HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: weird/1\r\n\r\n")
            head = client.wire.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101") and b"upgrade: weird/1" in head.lower()
            assert client.wire.exactly(5) == b"first"
            client.send(b"anything")
            assert client.wire.exactly(8) == b"ANYTHING"
        with Client(shop.web, pod.ip, backend.port) as client:
            reply = client.get("/ignored", "Connection: Upgrade", "Upgrade: weird/1")
            assert (reply.status, reply.body) == (200, b"plain")
        with Client(shop.web, pod.ip, backend.port) as client:
            assert client.get("/refused", "Connection: Upgrade", "Upgrade: weird/1").status == 426
