"""What every endpoint must accept: each frame type, message shape and HPACK representation once, well-formed."""

import pytest

from frames import (
    CANCEL, DATA, ENABLE_PUSH, END_STREAM, GOAWAY, HEADERS, HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE, NO_ERROR, PADDED, PING, PREFACE, PRIORITIZED, PRIORITY, SETTINGS, WINDOW, frame, integer, literal,
    priority_fields, rst_stream, settings, window_update,
)


def test_3_4_the_first_frame_of_a_server_is_settings(client):
    client.send(PREFACE + settings((INITIAL_WINDOW_SIZE, WINDOW)))
    found = client.wait()
    assert not isinstance(found, str) and found.kind == SETTINGS and not found.acknowledges, found


def test_5_1_idle_takes_priority(client):
    client.handshake().send(frame(PRIORITY, 0, 1, priority_fields())).ping()
    client.acknowledges_ping()


def test_5_1_half_closed_takes_window_update(client):
    client.handshake().send(settings((INITIAL_WINDOW_SIZE, 0)))
    client.request().send(window_update(1, 1))
    client.expect(DATA)


def test_5_1_half_closed_takes_priority(client):
    client.handshake().send(settings((INITIAL_WINDOW_SIZE, 0)))
    client.request().send(frame(PRIORITY, 0, 1, priority_fields())).send(window_update(1, 1))
    client.expect(DATA)


def test_5_1_half_closed_takes_rst_stream(client):
    client.handshake()
    client.request().send(rst_stream(1)).ping()
    client.acknowledges_ping()


def test_5_1_closed_takes_priority(client):
    client.handshake()
    client.request().stream_ends()
    client.send(frame(PRIORITY, 0, 1, priority_fields())).ping()
    client.acknowledges_ping()


def test_6_1_data(client):
    client.handshake()
    client.request(method="POST", end=False).data(1, b"test", end=True).responds()


def test_6_1_data_in_two_frames(client):
    client.handshake()
    client.request(method="POST", end=False).data(1, b"test").data(1, b"test", end=True).responds()


def test_6_1_data_with_padding(client):
    client.handshake()
    client.request(method="POST", end=False).send(frame(DATA, END_STREAM | PADDED, 1, b"\x05test" + bytes(5))).responds()


def test_6_2_headers(client):
    client.handshake()
    client.request().responds()


def test_6_2_headers_with_padding(client):
    client.handshake()
    client.request(flags=PADDED, before=b"\x08", after=bytes(8)).responds()


def test_6_2_headers_with_priority(client):
    client.handshake()
    client.request(flags=PRIORITIZED, before=priority_fields()).responds()


@pytest.mark.parametrize("stream, fields", [
    (1, priority_fields(weight=0)),
    (1, priority_fields(weight=255)),
    (3, priority_fields(on=1, weight=0)),
    (1, priority_fields(weight=0, exclusive=True)),
    (3, priority_fields()),
], ids=["weight 1", "weight 256", "dependency", "exclusive", "idle stream, then a lower one opens"])
def test_6_3_priority(client, stream, fields):
    client.handshake().send(frame(PRIORITY, 0, stream, fields))
    client.request().responds()


def test_6_4_rst_stream(client):
    client.handshake()
    client.request(end=False).send(rst_stream(1, CANCEL)).ping()
    client.acknowledges_ping_or_ends()


def test_6_5_settings(client):
    client.handshake().send(settings(
        (HEADER_TABLE_SIZE, 4096), (ENABLE_PUSH, 1), (MAX_CONCURRENT_STREAMS, 100), (INITIAL_WINDOW_SIZE, 65535),
        (MAX_FRAME_SIZE, 16384), (MAX_HEADER_LIST_SIZE, 100)))
    client.acknowledges_settings()


def test_6_7_ping(client):
    client.handshake().ping(b"ping me\0")
    client.acknowledges_ping(b"ping me\0")


def test_6_8_goaway(client):
    client.handshake().send(frame(GOAWAY, 0, 0, bytes(4) + NO_ERROR.to_bytes(4, "big") + b"good bye")).ping(b"ping me\0")
    client.acknowledges_ping_or_ends(b"ping me\0")


def test_6_9_window_update_of_the_connection(client):
    client.handshake().send(window_update(0, 1)).ping()
    client.expect(PING)


def test_6_9_window_update_of_a_stream(client):
    client.handshake()
    client.request().send(window_update(1, 1)).expect(HEADERS)


@pytest.mark.parametrize("cuts", [(5,), (5, 10)], ids=["one", "two"])
def test_6_10_continuation(client, cuts):
    client.handshake()
    block, edges = client.block(client.fields()), [0, *cuts, None]
    pieces = [block[start:stop] for start, stop in zip(edges, edges[1:])]
    client.headers(1, pieces[0], whole=False)
    for piece in pieces[1:-1]:
        client.continuation(1, piece, whole=False)
    client.continuation(1, pieces[-1]).responds()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_8_1_request(client, method):
    client.handshake()
    client.request(method=method).responds()


def test_8_1_request_with_content(client):
    client.handshake()
    client.request(method="POST", end=False).data(1, b"test", end=True).responds()


def test_8_1_request_with_trailers(client):
    client.handshake()
    client.request(1, ("trailer", "x-test"), method="POST", end=False).data(1, b"test")
    client.headers(1, client.block([("x-test", "ok")])).responds()


INDEXED = bytes([0x80 | 58])  # user-agent, empty
LITERAL = {f"{kind}, {name}{', coded' * coded}": literal(name, "weft/1", first, coded)
           for kind, first in (("indexing", 0x40), ("without indexing", 0x00), ("never indexed", 0x10))
           for name in ("user-agent", "x-test") for coded in (False, True)}


@pytest.mark.parametrize("representation", [INDEXED, *LITERAL.values()], ids=["indexed", *LITERAL])
def test_rfc7541_6_representation(client, representation):
    client.handshake()
    client.headers(1, client.block(client.fields()) + representation).responds()


def test_rfc7541_6_3_table_size_update(client):
    client.handshake()
    client.encoder.header_table_size = 128
    client.request().responds()


def test_rfc7541_4_2_two_table_size_updates(client):
    client.handshake()
    updates = integer(128, 5, 0x20) + integer(4096, 5, 0x20)
    client.headers(1, updates + client.block(client.fields())).responds()
