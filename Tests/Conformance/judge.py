"""A client that judges: what must come back after it broke, or kept, a rule of RFC 9113.

Two ways to judge. `exact`: the required frame with the required code must arrive, and the end of a connection must be
a FIN, so that no peer loses the frame that explains it. Otherwise as conformance suites do: after an error the end
of the connection is as good as the code.
"""

from frames import CLOSED, DATA, GOAWAY, HEADERS, NO_ERROR, PING, RST_STREAM, SETTINGS, Connection


class Judge(Connection):
    """The client of every case; `peer` is whom it talks to."""

    def __init__(self, made, peer=None, exact=True, patience=2.0):
        super().__init__(made, patience)
        self.peer, self.exact = peer, exact

    def fields(self, *more, method="GET", path="/"):
        """A plain request's fields."""
        return [(":method", method), (":scheme", "http"), (":path", path), (":authority", self.peer.authority), *more]

    def request(self, stream=1, *more, method="GET", end=True, **options):
        """HEADERS of a plain request."""
        return self.headers(stream, self.block(self.fields(*more, method=method)), end=end, **options)

    def _fail(self, expected, found):
        raise AssertionError(f"expected {expected}; got {found}; all that came: {self.told()}")

    def _error(self, kinds, codes, expected):
        while True:
            found = self.wait()
            if isinstance(found, str):
                if found == CLOSED and not self.exact:
                    return
                self._fail(expected, found)
            if found.kind in kinds and found.code in codes:
                return
            if self.exact and found.kind in (RST_STREAM, GOAWAY) and found.code != NO_ERROR:
                self._fail(expected, found)

    def connection_error(self, *codes):
        """GOAWAY with one of the codes."""
        self._error((GOAWAY,), codes, f"GOAWAY with code {codes}")
        if self.exact:
            self.ends()

    def stream_error(self, *codes):
        """RST_STREAM with one of the codes; making it a connection error is allowed (RFC 9113 §5.4.2)."""
        self._error((RST_STREAM, GOAWAY), codes, f"RST_STREAM or GOAWAY with code {codes}")

    def ends(self):
        """The connection is closed, with a FIN."""
        while not isinstance(found := self.wait(), str):
            pass
        if found != CLOSED:
            self._fail("the end of the connection", found)

    def stream_ends(self):
        """A whole response."""
        while True:
            found = self.wait()
            if isinstance(found, str):
                self._fail("the end of the stream", found)
            if found.kind in (DATA, HEADERS) and found.ends or found.kind == RST_STREAM and found.code == NO_ERROR:
                return

    def expect(self, kind, judged=lambda found: True, expected=None):
        """The next frame of that kind, which must be as wanted."""
        found = self.until(kind)
        if isinstance(found, str) or not judged(found):
            self._fail(expected or f"a frame of type {kind}", found)
        return found

    def responds(self, stream=1):
        """HEADERS on the stream."""
        return self.expect(HEADERS, lambda found: found.stream == stream, f"HEADERS on stream {stream}")

    def acknowledges_settings(self):
        """SETTINGS with ACK."""
        return self.expect(SETTINGS, lambda found: found.acknowledges, "SETTINGS with ACK")

    def acknowledges_ping(self, octets=bytes(8)):
        """PING with ACK and the same payload."""
        return self.expect(PING, lambda found: found.acknowledges and found.payload == octets, f"PING with ACK and {octets!r}")

    def acknowledges_ping_or_ends(self, octets=bytes(8)):
        """The same, or the end of the connection."""
        while True:
            found = self.wait()
            if found == CLOSED:
                return
            if isinstance(found, str):
                self._fail("PING with ACK, or the end of the connection", found)
            if found.kind == PING and found.acknowledges and found.payload == octets:
                return
