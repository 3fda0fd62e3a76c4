"""RFC 9113 §6 and §7: each frame type's own rules, flow control, error codes."""

import pytest

from frames import (
    ACK, DATA, ENABLE_PUSH, END_STREAM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE, PADDED, PRIORITY, PROTOCOL_ERROR, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, frame, priority_fields,
    rst_stream, settings, window_update,
)
from suite.test_streams import long_fields

LARGEST_WINDOW = (1 << 31) - 1


def test_6_1_data_on_stream_0(client):
    client.handshake().data(0, b"test", end=True).connection_error(PROTOCOL_ERROR)


def test_6_1_data_on_a_half_closed_stream(client):
    client.handshake()
    client.request(method="POST").data(1, b"test", end=True).stream_error(STREAM_CLOSED)


def test_6_1_data_with_more_padding_than_payload(client):
    client.handshake()
    client.request(1, ("content-length", "4"), method="POST", end=False)
    client.send(frame(DATA, END_STREAM | PADDED, 1, b"\x06Test")).connection_error(PROTOCOL_ERROR)


def test_6_2_priority_before_end_headers(client):
    client.handshake()
    client.request(end=False, whole=False).send(frame(PRIORITY, 0, 1, priority_fields()))
    client.continuation(1, client.block(long_fields(1))).connection_error(PROTOCOL_ERROR)


def test_6_2_another_stream_before_end_headers(client):
    client.handshake()
    client.request(1, end=False, whole=False).request(3)
    client.continuation(1, client.block(long_fields(1))).connection_error(PROTOCOL_ERROR)


def test_6_2_headers_on_stream_0(client):
    client.handshake()
    client.request(0).connection_error(PROTOCOL_ERROR)


def test_6_2_headers_with_more_padding_than_payload(client):
    client.handshake()
    block = client.block(client.fields())
    client.headers(1, block, flags=PADDED, before=bytes([len(block) + 2])).stream_error(PROTOCOL_ERROR)


def test_6_3_priority_on_stream_0(client):
    client.handshake().send(frame(PRIORITY, 0, 0, priority_fields())).connection_error(PROTOCOL_ERROR)


def test_6_3_priority_of_wrong_length(client):
    client.handshake()
    client.request().send(frame(PRIORITY, 0, 1, b"\x80\0\0\x01")).stream_error(FRAME_SIZE_ERROR)


def test_6_4_rst_stream_on_stream_0(client):
    client.handshake().send(rst_stream(0)).connection_error(PROTOCOL_ERROR)


def test_6_4_rst_stream_on_an_idle_stream(client):
    client.handshake().send(rst_stream(1)).connection_error(PROTOCOL_ERROR)


def test_6_4_rst_stream_of_wrong_length(client):
    client.handshake()
    client.request().send(frame(RST_STREAM, 0, 1, bytes(3))).stream_error(FRAME_SIZE_ERROR)


def test_6_5_settings_ack_with_payload(client):
    client.handshake().send(frame(SETTINGS, ACK, 0, b"\0")).connection_error(FRAME_SIZE_ERROR)


def test_6_5_settings_on_a_stream(client):
    client.handshake().send(settings((MAX_CONCURRENT_STREAMS, 100), stream=1)).connection_error(PROTOCOL_ERROR)


def test_6_5_settings_of_wrong_length(client):
    client.handshake().send(frame(SETTINGS, 0, 0, b"\0\3\0")).stream_error(PROTOCOL_ERROR, FRAME_SIZE_ERROR)


@pytest.mark.parametrize("name, value, code", [
    (ENABLE_PUSH, 2, PROTOCOL_ERROR),
    (INITIAL_WINDOW_SIZE, LARGEST_WINDOW + 1, FLOW_CONTROL_ERROR),
    (MAX_FRAME_SIZE, 16383, PROTOCOL_ERROR),
    (MAX_FRAME_SIZE, 1 << 24, PROTOCOL_ERROR),
], ids=["push neither 0 nor 1", "window too large", "frame size too small", "frame size too large"])
def test_6_5_2_setting_out_of_range(client, name, value, code):
    client.handshake().send(settings((name, value))).connection_error(code)


def test_6_5_2_unknown_setting_is_ignored(client):
    client.handshake().send(settings((0xFF, 1))).ping()
    client.acknowledges_ping()


def test_6_5_3_settings_hold_in_their_order(client):
    client.handshake().send(settings((INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)))
    client.acknowledges_settings()
    client.request().expect(DATA, lambda found: len(found.payload) == 1, "DATA of one octet")


def test_6_5_3_settings_are_acknowledged_at_once(client):
    client.handshake().send(settings((ENABLE_PUSH, 0)))
    client.acknowledges_settings()


def test_6_7_ping_is_answered(client):
    client.handshake().ping(b"ping me\0")
    client.acknowledges_ping(b"ping me\0")


def test_6_7_ping_ack_is_not_answered(client):
    client.handshake().ping(b"invalid\0", acknowledges=True).ping(b"ping me\0")
    client.acknowledges_ping(b"ping me\0")


def test_6_7_ping_on_a_stream(client):
    client.handshake().ping(stream=1).connection_error(PROTOCOL_ERROR)


def test_6_7_ping_of_wrong_length(client):
    client.handshake().ping(bytes(6)).connection_error(FRAME_SIZE_ERROR)


def test_6_8_goaway_on_a_stream(client):
    client.handshake().send(frame(GOAWAY, 0, 1, bytes(8))).connection_error(PROTOCOL_ERROR)


def test_6_9_no_increment_on_the_connection(client):
    client.handshake().send(window_update(0, 0)).connection_error(PROTOCOL_ERROR)


def test_6_9_no_increment_on_a_stream(client):
    client.handshake()
    client.request(end=False).send(window_update(1, 0)).stream_error(PROTOCOL_ERROR)


def test_6_9_window_update_of_wrong_length(client):
    client.handshake().send(frame(WINDOW_UPDATE, 0, 0, b"\0\0\1")).connection_error(FRAME_SIZE_ERROR)


def test_6_9_1_a_window_of_one(client):
    client.handshake().send(settings((INITIAL_WINDOW_SIZE, 1)))
    client.acknowledges_settings()
    client.request().expect(DATA, lambda found: len(found.payload) == 1, "DATA of one octet")


def test_6_9_1_the_connections_window_overflows(client):
    client.handshake().send(window_update(0, LARGEST_WINDOW) * 2)
    client.expect(GOAWAY, lambda found: found.code == FLOW_CONTROL_ERROR, "GOAWAY with FLOW_CONTROL_ERROR")


def test_6_9_1_a_streams_window_overflows(client):
    client.handshake()
    client.request(end=False).send(window_update(1, LARGEST_WINDOW) * 2)
    client.expect(RST_STREAM, lambda found: found.stream == 1 and found.code == FLOW_CONTROL_ERROR, "RST_STREAM with FLOW_CONTROL_ERROR")


def test_6_9_2_open_streams_follow_the_initial_window(client):
    client.handshake().send(settings((INITIAL_WINDOW_SIZE, 0)))
    client.acknowledges_settings()
    client.request().send(settings((INITIAL_WINDOW_SIZE, 1)))
    client.expect(DATA, lambda found: len(found.payload) == 1, "DATA of one octet")


def test_6_9_2_a_window_may_be_negative(client):
    client.handshake().send(settings((INITIAL_WINDOW_SIZE, 3)))
    client.acknowledges_settings()
    client.request().expect(DATA)
    client.send(settings((INITIAL_WINDOW_SIZE, 2)))
    client.acknowledges_settings()
    client.send(window_update(1, 2))
    client.expect(DATA, lambda found: len(found.payload) == 1, "DATA of one octet")


def test_6_9_2_an_initial_window_too_large(client):
    client.handshake().send(frame(SETTINGS, 0, 0, b"\0\4\x80\0\0\0")).connection_error(FLOW_CONTROL_ERROR)


def test_6_10_two_continuations(client):
    client.handshake()
    client.request(whole=False).continuation(1, client.block(long_fields(1)), whole=False)
    client.continuation(1, client.block(long_fields(1))).responds()


def test_6_10_continuation_then_data(client):
    client.handshake()
    client.request(method="POST", end=False, whole=False).continuation(1, client.block(long_fields(1)), whole=False)
    client.data(1, b"test", end=True).connection_error(PROTOCOL_ERROR)


def test_6_10_continuation_on_stream_0(client):
    client.handshake()
    client.request(whole=False).continuation(0, client.block(long_fields(1))).connection_error(PROTOCOL_ERROR)


def test_6_10_continuation_after_end_headers(client):
    client.handshake()
    client.request().continuation(1, client.block(long_fields(1))).connection_error(PROTOCOL_ERROR)


def test_6_10_continuation_after_the_last_continuation(client):
    client.handshake()
    client.request(whole=False).continuation(1, client.block(long_fields(1)))
    client.continuation(1, client.block(long_fields(1))).connection_error(PROTOCOL_ERROR)


def test_6_10_continuation_after_data(client):
    client.handshake()
    client.request(method="POST", end=False, whole=False).data(1, b"test", end=True)
    client.continuation(1, client.block(long_fields(1)), whole=False).continuation(0, client.block(long_fields(1))).connection_error(PROTOCOL_ERROR)


def test_7_goaway_with_an_unknown_code(client):
    client.handshake().send(frame(GOAWAY, 0, 0, bytes(4) + b"\0\0\0\xff")).ping(b"ping me\0")
    client.acknowledges_ping_or_ends(b"ping me\0")


def test_7_rst_stream_with_an_unknown_code(client):
    client.handshake()
    client.request(method="POST", end=False).send(rst_stream(1, 0xFF)).ping()
    client.acknowledges_ping()
