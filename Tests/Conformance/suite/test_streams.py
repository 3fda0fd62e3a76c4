"""RFC 9113 §3 to §5: preface, frame format and size, header blocks, stream states and identifiers, extension."""

import pytest

from frames import (
    COMPRESSION_ERROR, END_HEADERS, END_STREAM, FRAME_SIZE_ERROR, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE, PING, PREFACE, PRIORITIZED, PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM, SETTINGS, STREAM_CLOSED, WINDOW, frame,
    priority_fields, rst_stream, settings, window_update,
)

BLANK = bytes(8)
LONG = "x" * 4000


def long_fields(count):
    """Fields that fill frames."""
    return [(f"x-dummy{number}", LONG) for number in range(count)]


def test_3_4_server_preface(client):
    client.send(PREFACE + settings((INITIAL_WINDOW_SIZE, WINDOW)))
    found = client.wait()
    assert not isinstance(found, str) and found.kind == SETTINGS and not found.acknowledges, found


def test_3_4_what_is_no_preface(client):
    """A GOAWAY may be omitted here (RFC 9113 §3.4), the end may not."""
    client.exact = False
    client.send(b"INVALID CONNECTION PREFACE\r\n\r\n").connection_error(PROTOCOL_ERROR)


def test_4_1_unknown_type_is_ignored(client):
    client.handshake().send(frame(0x16, 0, 0, BLANK)).ping()
    client.acknowledges_ping()


@pytest.mark.parametrize("stream", [0, 1 << 31], ids=["undefined flags", "reserved bit"])
def test_4_1_what_is_undefined_is_ignored(client, stream):
    client.handshake().send(frame(PING, 0x16, stream, BLANK))
    client.expect(PING)


def test_4_2_data_of_the_largest_size(client):
    client.handshake()
    client.request(method="POST", end=False).data(1, b"x" * client.settings.get(MAX_FRAME_SIZE, 16384), end=True).responds()


def test_4_2_data_beyond_the_largest_size(client):
    client.handshake()
    client.request(method="POST", end=False).data(1, b"x" * (client.settings.get(MAX_FRAME_SIZE, 16384) + 1), end=True).stream_error(FRAME_SIZE_ERROR)


def test_4_2_headers_beyond_the_largest_size(client):
    client.handshake()
    fields = client.fields(*long_fields(5))
    client.headers(1, client.encoder.encode(fields, huffman=False)).connection_error(FRAME_SIZE_ERROR)


def test_4_3_broken_block(client):
    client.handshake().headers(1, b"\x40").connection_error(COMPRESSION_ERROR)


def test_4_3_priority_inside_a_block(client):
    client.handshake()
    client.request(end=False, whole=False).send(frame(PRIORITY, 0, 1, priority_fields()))
    client.continuation(1, client.block(long_fields(1))).connection_error(PROTOCOL_ERROR)


def test_4_3_another_streams_headers_inside_a_block(client):
    client.handshake()
    client.request(1, end=False, whole=False).request(3)
    client.continuation(1, client.block(long_fields(1))).connection_error(PROTOCOL_ERROR)


def test_5_1_idle_data(client):
    client.handshake().data(1, b"test", end=True).connection_error(PROTOCOL_ERROR)


def test_5_1_idle_rst_stream(client):
    client.handshake().send(rst_stream(1)).connection_error(PROTOCOL_ERROR)


def test_5_1_idle_window_update(client):
    client.handshake().send(window_update(1, 100)).connection_error(PROTOCOL_ERROR)


def test_5_1_idle_continuation(client):
    client.handshake()
    client.continuation(1, client.block(client.fields())).connection_error(PROTOCOL_ERROR)


def test_5_1_half_closed_data(client):
    client.handshake()
    client.request().data(1, b"test", end=True).stream_error(STREAM_CLOSED)


def test_5_1_half_closed_headers(client):
    client.handshake()
    client.request().request().stream_error(STREAM_CLOSED)


def test_5_1_half_closed_continuation(client):
    client.handshake()
    block = client.block(client.fields())
    client.headers(1, block).continuation(1, block).stream_error(STREAM_CLOSED, PROTOCOL_ERROR)


def test_5_1_reset_then_data(client):
    client.handshake()
    client.request(end=False).send(rst_stream(1)).data(1, b"test", end=True).stream_error(STREAM_CLOSED)


def test_5_1_reset_then_headers(client):
    client.handshake()
    client.request(end=False).send(rst_stream(1)).request().stream_error(STREAM_CLOSED)


def test_5_1_reset_then_continuation(client):
    client.handshake()
    client.request(end=False).send(rst_stream(1))
    client.continuation(1, client.block(long_fields(1))).stream_error(STREAM_CLOSED, PROTOCOL_ERROR)


def test_5_1_closed_data(client):
    client.handshake()
    client.request().stream_ends()
    client.data(1, b"test", end=True).stream_error(STREAM_CLOSED)


def test_5_1_closed_headers(client):
    client.handshake()
    block = client.block(client.fields())
    client.headers(1, block).stream_ends()
    client.headers(1, block).connection_error(STREAM_CLOSED)


def test_5_1_closed_continuation(client):
    client.handshake()
    client.request().stream_ends()
    client.continuation(1, client.block(long_fields(1))).connection_error(STREAM_CLOSED, PROTOCOL_ERROR)


def test_5_1_1_even_identifier(client):
    client.handshake()
    client.request(2).connection_error(PROTOCOL_ERROR)


def test_5_1_1_lower_identifier(client):
    client.handshake()
    client.request(5).request(3).connection_error(PROTOCOL_ERROR)


def test_5_1_2_more_streams_than_allowed(client):
    client.handshake()
    most = client.settings.get(MAX_CONCURRENT_STREAMS)
    assert most is not None, "a server that names no limit cannot be held to it"
    client.send(settings((INITIAL_WINDOW_SIZE, 0)))
    block = client.block(client.fields())
    client.send(b"".join(frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * number, block) for number in range(most + 1)))
    client.stream_error(PROTOCOL_ERROR, REFUSED_STREAM)


def test_rfc7540_5_3_1_headers_that_depend_on_themselves(client):
    client.handshake()
    client.request(flags=PRIORITIZED, before=priority_fields(on=1)).stream_error(PROTOCOL_ERROR)


def test_rfc7540_5_3_1_priority_that_depends_on_itself(client):
    client.handshake().send(frame(PRIORITY, 0, 1, priority_fields(on=1))).stream_error(PROTOCOL_ERROR)


def test_5_4_1_a_connection_error_ends_the_connection(client):
    client.handshake().ping(BLANK, stream=3).ends()


def test_5_4_1_a_connection_error_is_explained(client):
    client.handshake().ping(BLANK, stream=3).expect(GOAWAY)


def test_5_5_unknown_frame(client):
    client.handshake().send(frame(0x16, 0, 0, BLANK)).ping()
    client.acknowledges_ping()


def test_5_5_unknown_frame_inside_a_block(client):
    client.handshake()
    client.request(whole=False).send(frame(0x16, 0, 0, BLANK)).connection_error(PROTOCOL_ERROR)
