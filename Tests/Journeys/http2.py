"""HTTP/2 for both ends, by the h2 library: a client that drives one connection of a pod, and a server that remembers."""

import socket
import threading
import time

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2 import events
from h2.settings import SettingCodes, Settings

from http1 import Message
from mesh import eventually

WINDOW = 1 << 20


class Connection(H2Connection):
    """The library takes GOAWAY for the end of the connection; streams that are open go on (RFC 9113 §6.8)."""

    def _receive_goaway_frame(self, frame):
        ended = events.ConnectionTerminated()
        ended.error_code, ended.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [ended]


class Stream(Message):
    """One request or reply as it comes in. `reset` is the code of RST_STREAM, `interim` the 1xx heads before the reply."""

    def __init__(self, number):
        super().__init__([])
        self.number, self.pieces, self.interim = number, [], []
        self.status = self.reset = None
        self.began = self.ended = False

    @property
    def over(self):
        """Nothing more will come."""
        return self.ended or self.reset is not None

    def take(self, event):
        """One event of this stream."""
        if isinstance(event, (events.RequestReceived, events.ResponseReceived)):
            self.fields, self.began = [(_text(k), _text(v)) for k, v in event.headers], True
            self.status = int(self[":status"] or 0)
        elif isinstance(event, events.InformationalResponseReceived):
            self.interim.append(Message([(_text(k), _text(v)) for k, v in event.headers]))
        elif isinstance(event, events.TrailersReceived):
            self.trailers = [(_text(k), _text(v)) for k, v in event.headers]
        elif isinstance(event, events.DataReceived):
            self.pieces.append(event.data)
        elif isinstance(event, events.StreamEnded):
            self.ended, self.body = True, b"".join(self.pieces)
        elif isinstance(event, events.StreamReset):
            self.reset, self.body = ErrorCodes(event.error_code), b"".join(self.pieces)

    def taken(self):
        """What of the content has come since the last question."""
        content, self.pieces = b"".join(self.pieces), []
        return content


def _text(value):
    return value.decode("latin-1") if isinstance(value, bytes) else value


class Wire2:
    """One HTTP/2 connection, either end. Content is acknowledged as it comes unless its stream is in `unread`."""

    def __init__(self, connection, client, settings=None):
        self.socket = connection
        self.lock = threading.RLock()
        self.h2 = Connection(H2Configuration(client_side=client, header_encoding=None, validate_inbound_headers=True))
        self.h2.local_settings = Settings(client=client, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: WINDOW, SettingCodes.MAX_FRAME_SIZE: 1 << 14, **(settings or {})})
        self.streams, self.unread = {}, set()
        self.goaway = None
        self.pongs = 0
        self.closed = False
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(16 << 20)
        self.flush()

    def flush(self):
        """Sends what the library has queued."""
        data = self.h2.data_to_send()
        if data:
            self.socket.sendall(data)

    def pump(self):
        """One read; the events it brought. None at the end of the connection."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return None
        with self.lock:
            found = self.h2.receive_data(data)
            for event in found:
                self.note(event)
            self.flush()
        return found

    def note(self, event):
        """Bookkeeping of one event."""
        if isinstance(event, events.ConnectionTerminated):
            self.goaway = ErrorCodes(event.error_code)
        self.pongs += isinstance(event, events.PingAckReceived)
        number = getattr(event, "stream_id", 0)
        if not number:
            return
        stream = self.streams.setdefault(number, Stream(number))
        stream.take(event)
        if isinstance(event, events.DataReceived) and event.flow_controlled_length:
            if number in self.unread:
                self.h2.increment_flow_control_window(event.flow_controlled_length)  # the connection's window only
            else:
                self.h2.acknowledge_received_data(event.flow_controlled_length, number)

    def head(self, number, fields, end=False):
        """HEADERS."""
        with self.lock:
            self.h2.send_headers(number, fields, end_stream=end)
            self.flush()

    def send(self, number, content, end=False):
        """Content, as fast as the windows let it go. False when the stream was reset meanwhile."""
        content = memoryview(content)
        while True:
            with self.lock:
                stream = self.streams.get(number)
                if self.closed or stream is not None and stream.reset is not None:
                    return False
                room = min(len(content), self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
                if room or not content:
                    piece, content = content[:room], content[room:]
                    self.h2.send_data(number, bytes(piece), end_stream=end and not content)
                    self.flush()
            if not content:
                return True
            if not room:
                self.breathe()

    def breathe(self):
        """Until something has been read; a server reads elsewhere and only waits."""
        self.pump()

    def trailers(self, number, fields):
        """HEADERS that end the stream."""
        self.head(number, fields, end=True)

    def reset(self, number, code=ErrorCodes.CANCEL):
        """RST_STREAM."""
        with self.lock:
            self.h2.reset_stream(number, code)
            self.flush()

    def ping(self, number):
        """PING."""
        with self.lock:
            self.h2.ping(number.to_bytes(8, "big"))
            self.flush()

    def close(self):
        """Closes the connection without ado."""
        self.closed = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


class Client2(Wire2):
    """A client on one connection of a pod."""

    def __init__(self, pod, address, port, timeout=10.0, settings=None):
        super().__init__(self.dial(pod, address, port, timeout), True, {SettingCodes.ENABLE_PUSH: 0, **(settings or {})})
        self.settled = False

    def dial(self, pod, address, port, timeout):
        """The connection it speaks on."""
        return pod.connect(address, port, timeout)

    def note(self, event):
        super().note(event)
        self.settled = getattr(self, "settled", False) or isinstance(event, events.RemoteSettingsChanged)

    def hear_settings(self):
        """Waits for the server's SETTINGS."""
        while not self.settled:
            assert self.pump() is not None, "closed before SETTINGS"
        return self.h2.remote_settings

    def ask(self, target="/", *fields, method="GET", authority="shop.test", content=None, trailers=(), end=True):
        """One request; returns its stream. Fields are pairs. With `end` false the request stays open."""
        with self.lock:
            number = self.h2.get_next_available_stream_id()
            self.streams[number] = Stream(number)
            pseudo = [(":method", method)] + ([] if method == "CONNECT" and not any(k == ":protocol" for k, _ in fields) else [(":scheme", "http"), (":path", target)]) + [(":authority", authority)]
            fields = pseudo + [f for f in fields if f[0][0] == ":"] + [f for f in fields if f[0][0] != ":"]
            self.head(number, fields, end=end and content is None and not trailers)
        if content is not None:
            self.send(number, content, end=end and not trailers)
        if trailers:
            self.trailers(number, trailers)
        return self.streams[number]

    def until(self, condition, what="condition"):
        """Reads until it holds; the socket's timeout bounds it."""
        while not condition():
            if self.pump() is None:
                assert condition(), f"the connection ended (GOAWAY {self.goaway}) before: {what}"
        return True

    def reply(self, stream):
        """The whole reply."""
        self.until(lambda: stream.over, f"the reply of stream {stream.number}")
        return stream

    def get(self, target="/", *fields, **options):
        """A request and its reply."""
        return self.reply(self.ask(target, *fields, **options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Served(Wire2):
    """One connection at the server."""

    def __init__(self, backend, connection):
        self.backend = backend
        super().__init__(connection, False, backend.settings)

    def breathe(self):
        time.sleep(0.001)


class Backend2:
    """A server with prior knowledge. `answer(wire, stream)` runs in a thread of its own for each request: at once for CONNECT and when
    `early`, else when the request is whole. It answers with `wire.head`, `wire.send`, `wire.trailers`. What came is in `requests`."""

    def __init__(self, pod, port, answer=None, settings=None, early=False):
        self.pod, self.port, self.settings, self.early = pod, port, settings, early
        self.answer = answer or (lambda wire, stream: ok2(wire, stream))
        self.requests, self.wires, self.faults = [], [], []
        self.connections = 0
        self._listener = pod.listen(port)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            wire = Served(self, connection)
            self.wires.append(wire)
            asked = set()
            while (found := wire.pump()) is not None:
                for number in {e.stream_id for e in found if getattr(e, "stream_id", 0)}:
                    stream = wire.streams[number]
                    if stream.began and number not in asked and (stream.ended or self.early or stream[":method"] == "CONNECT"):
                        asked.add(number)
                        self.requests.append(stream)
                        threading.Thread(target=self._answer, args=(wire, stream), daemon=True).start()
        except ProtocolError as error:
            self.faults.append(repr(error))
            connection.close()
        except OSError:
            connection.close()

    def _answer(self, wire, stream):
        try:
            self.answer(wire, stream)
        except (ProtocolError, OSError) as error:
            if stream.reset is None and not wire.closed:
                self.faults.append(repr(error))

    def last(self):
        """The newest request."""
        return eventually(lambda: self.requests and self.requests[-1], within=5, what="a request at the backend")

    def close(self):
        """Stops listening and drops every connection."""
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        for wire in self.wires:
            wire.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def ok2(wire, stream, body=b"ok", *fields, status="200", trailers=()):
    """A reply with content-length."""
    bare = stream[":method"] == "HEAD" or not body
    wire.head(stream.number, [(":status", status), ("content-length", str(len(body))), *fields], end=bare and not trailers)
    if not bare:
        wire.send(stream.number, body, end=not trailers)
    if trailers:
        wire.trailers(stream.number, trailers)
