"""Errors that RFC 9113, RFC 7541 and RFC 8441 require and the suite does not try; and what must survive an error."""

import struct
import threading

import pytest

from frames import (
    ACK, COMPRESSION_ERROR, CONTINUATION, DATA, ENABLE_CONNECT_PROTOCOL, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR,
    GOAWAY, HEADER_TABLE_SIZE, HEADERS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, NO_ERROR, PADDED, PING, PREFACE, PRIORITIZED, PRIORITY, PROTOCOL_ERROR, RST_STREAM,
    SETTINGS, SILENCE, WINDOW, WINDOW_UPDATE, frame, integer, literal, priority_fields, rst_stream, settings, window_update,
)
from host import LOOPBACK, Proxy, free_port
from http1 import Backend
from judge import Judge

LARGEST_WINDOW = (1 << 31) - 1

#: What is said after the handshake, and the code of the GOAWAY.
CONNECTION_ERRORS = {
    "4.2 settings beyond the largest size": (settings(*[(0xEE, 0)] * 2731), FRAME_SIZE_ERROR),
    "4.2 ping beyond the largest size": (frame(PING, 0, 0, bytes(16385)), FRAME_SIZE_ERROR),
    "4.2 unknown type beyond the largest size": (frame(0xEE, 0, 0, bytes(16385)), FRAME_SIZE_ERROR),
    "5.1 data on an idle stream of ours": (frame(DATA, 0, 2, b"x"), PROTOCOL_ERROR),
    "5.1 rst_stream on an idle stream of ours": (rst_stream(2), PROTOCOL_ERROR),
    "5.1 window update on an idle stream of ours": (window_update(2, 1), PROTOCOL_ERROR),
    "6.1 data on stream 0, empty": (frame(DATA, 0, 0), PROTOCOL_ERROR),
    "6.2 padded headers without padding length": (frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 1), FRAME_SIZE_ERROR),
    "6.2 headers too short for their priority": (frame(HEADERS, PRIORITIZED | END_HEADERS | END_STREAM, 1, bytes(4)), FRAME_SIZE_ERROR),
    "6.5 settings on a stream, empty": (frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "6.5.2 extended CONNECT neither 0 nor 1": (settings((ENABLE_CONNECT_PROTOCOL, 2)), PROTOCOL_ERROR),
    "6.5.2 second value out of range": (settings((INITIAL_WINDOW_SIZE, 1), (MAX_FRAME_SIZE, 1)), PROTOCOL_ERROR),
    "6.7 ping too long": (frame(PING, 0, 0, bytes(9)), FRAME_SIZE_ERROR),
    "6.7 ping ack on a stream": (frame(PING, ACK, 1, bytes(8)), PROTOCOL_ERROR),
    "6.8 goaway too short": (frame(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "6.9 window update too long": (frame(WINDOW_UPDATE, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    "6.9.1 window of the connection overflows at once": (window_update(0, LARGEST_WINDOW), FLOW_CONTROL_ERROR),
    "6.10 continuation first": (frame(CONTINUATION, END_HEADERS, 1, b"\x82"), PROTOCOL_ERROR),
    "6.10 settings inside a block": (frame(HEADERS, END_STREAM, 1, b"\x82") + settings(), PROTOCOL_ERROR),
    "6.10 window update inside a block": (frame(HEADERS, END_STREAM, 1, b"\x82") + window_update(0, 1), PROTOCOL_ERROR),
    "6.10 continuation of another stream": (frame(HEADERS, END_STREAM, 1, b"\x82") + frame(CONTINUATION, END_HEADERS, 3, b"\x84"), PROTOCOL_ERROR),
}

#: Blocks that no decoder may take: behind a request's fields, or instead of them.
UNDECODABLE = {
    "integer without end": b"\xff" + b"\xff" * 12 + b"\x01",
    "integer cut off": b"\xff\xff",
    "string longer than the block": b"\x00\x03x-a\x7f\xff\x01abc",
    "name cut off": b"\x00\x05x-",
    "index far beyond the tables": integer(100_000, 7, 0x80),
    "table size update between fields": b"\x20",
    "Huffman's code cut off": b"\x00\x03x-a\x82\xff\xc0",
}


@pytest.mark.parametrize("shape", CONNECTION_ERRORS)
def test_connection_error(client, shape):
    said, code = CONNECTION_ERRORS[shape]
    client.handshake().send(said).connection_error(code)


@pytest.mark.parametrize("shape", UNDECODABLE)
def test_a_block_that_cannot_be_decoded(client, shape):
    client.handshake()
    client.headers(1, client.block(client.fields()) + UNDECODABLE[shape]).connection_error(COMPRESSION_ERROR)


def test_3_4_the_preface_is_followed_by_settings(client):
    client.send(PREFACE + frame(PING, 0, 0, bytes(8))).connection_error(PROTOCOL_ERROR)


def test_3_4_settings_ack_is_no_preface(client):
    client.send(PREFACE + settings(flags=ACK)).connection_error(PROTOCOL_ERROR)


@pytest.mark.parametrize("cut", [1, 3, 14, 17, 23])
def test_3_4_the_preface_may_come_in_pieces(client, cut):
    client.send(PREFACE[:cut])
    found = client.wait(0.05)
    assert found == SILENCE or found.kind == SETTINGS, found
    client.send(PREFACE[cut:] + settings())
    client.request().responds()


def test_6_1_padded_data_without_padding_length(client):
    client.handshake()
    client.request(method="POST", end=False).send(frame(DATA, PADDED, 1)).connection_error(FRAME_SIZE_ERROR)


def test_6_3_priority_too_long(client):
    client.handshake()
    client.request().send(frame(PRIORITY, 0, 1, priority_fields() + b"\0")).stream_error(FRAME_SIZE_ERROR)


def test_6_4_rst_stream_too_long(client):
    client.handshake()
    client.request(method="POST", end=False).send(frame(RST_STREAM, 0, 1, bytes(5))).connection_error(FRAME_SIZE_ERROR)


def test_4_2_continuation_beyond_the_largest_size(client):
    client.handshake()
    client.request(whole=False).continuation(1, literal("x-a", "b" * 16400)).connection_error(FRAME_SIZE_ERROR)


@pytest.mark.parametrize("streams", [1, 40], ids=["of one stream", "of the connection"])
def test_6_9_data_beyond_the_window(streams):
    """The server behind reads nothing, so nothing is given back: who sends on all the same is told FLOW_CONTROL_ERROR."""
    release = threading.Event()
    with Backend(LOOPBACK, free_port(), conversation=lambda _: release.wait(20)) as backend, Proxy([backend.port], "http") as proxy, Judge.to(proxy.address) as client:
        client.peer = proxy
        client.handshake()
        for number in range(streams):
            client.request(1 + 2 * number, ("content-length", str(1 << 30)), method="POST", end=False)
        for _ in range(128 // streams):
            client.send(b"".join(frame(DATA, 0, 1 + 2 * number, bytes(16384)) * 32 for number in range(streams)))
        client.stream_error(FLOW_CONTROL_ERROR)
        before = proxy.resident()
        release.set()
        assert before < 128 << 20
        proxy.running()


def test_6_9_2_a_change_of_the_initial_window_that_overflows_a_stream(client):
    client.handshake()
    client.request(method="POST", end=False).send(window_update(1, LARGEST_WINDOW - WINDOW))
    client.send(settings((INITIAL_WINDOW_SIZE, WINDOW + 1))).connection_error(FLOW_CONTROL_ERROR)


def test_6_8_goaway_names_the_last_stream(client):
    client.handshake()
    client.request(1).stream_ends()
    client.request(7).stream_ends()
    client.ping(stream=9)
    found = client.expect(GOAWAY)
    assert struct.unpack_from(">I", found.payload)[0] == 7 and found.code == PROTOCOL_ERROR
    client.ends()


def test_5_4_2_a_stream_error_leaves_the_others_alone(client):
    client.handshake()
    client.request(1, method="POST", end=False)
    client.request(3, ("connection", "close")).stream_error(PROTOCOL_ERROR)
    client.request(5).responds(5)
    client.data(1, b"test", end=True).responds(1)


def test_5_4_2_frames_in_flight_to_a_stream_we_reset_are_ignored(client):
    """The client could not know yet (RFC 9113 §5.1, closed)."""
    client.handshake()
    client.request(1, ("connection", "close"), method="POST", end=False)
    client.data(1, b"in flight").data(1, b"in flight", end=True).send(window_update(1, 10))
    found = client.expect(RST_STREAM)
    assert (found.stream, found.code) == (1, PROTOCOL_ERROR)
    client.request(3).responds(3)


def test_4_3_a_malformed_request_still_moves_the_table(client):
    """Both ends' tables would drift apart otherwise."""
    client.handshake()
    client.headers(1, client.block(client.fields(("x-kept", "kept"))) + literal("UPPER", "case"))
    client.stream_error(PROTOCOL_ERROR)
    client.headers(3, client.block(client.fields(("x-kept", "kept")))).responds(3)


def test_4_3_a_refused_stream_still_moves_the_table(client):
    client.handshake()
    client.request(1, ("connection", "close")).stream_error(PROTOCOL_ERROR)
    client.request(3, ("x-new", "entry")).responds(3)
    client.request(5, ("x-new", "entry")).responds(5)


def test_rfc7541_4_2_a_table_of_size_0_is_obeyed(client):
    """The answer must begin with an update to 0 and refer to nothing."""
    client.handshake()
    client.send(settings((HEADER_TABLE_SIZE, 0)))
    client.acknowledges_settings()
    client.decoder.max_allowed_table_size = 0
    for stream in (1, 3, 5):
        fields = dict(client.decoder.decode(client.request(stream).responds(stream).payload))
        assert fields[":status"] == "200"
        assert client.decoder.header_table_size == 0


def test_rfc7541_4_2_the_table_may_grow_again(client):
    client.handshake()
    client.encoder.header_table_size = 0
    client.request(1, ("x-a", "b")).responds(1)
    client.encoder.header_table_size = 4096
    client.request(3, ("x-a", "b")).responds(3)
    client.request(5, ("x-a", "b")).responds(5)


def test_10_5_1_a_head_beyond_the_limit_is_refused_and_named(client):
    """431, or the stream or connection is refused; never silence. The next request of a new connection is served."""
    client.handshake()
    fields = [literal(f"x-{number}", "v" * 4000) for number in range(40)]
    block = client.block(client.fields()) + b"".join(fields)
    pieces = [block[at:at + 16384] for at in range(0, len(block), 16384)]
    client.headers(1, pieces[0], whole=False)
    for piece in pieces[1:]:
        client.continuation(1, piece, whole=piece is pieces[-1])
    while True:
        found = client.wait()
        assert not isinstance(found, str), found
        if found.kind == HEADERS:
            assert dict(client.decoder.decode(found.payload))[":status"] == "431"
            break
        if found.kind in (RST_STREAM, GOAWAY) and found.code in (ENHANCE_YOUR_CALM, PROTOCOL_ERROR):
            break
        assert found.kind not in (RST_STREAM, GOAWAY), found


def test_6_8_a_clients_goaway_lets_its_streams_end(client):
    client.handshake()
    client.request(1, method="POST", end=False)
    client.send(frame(GOAWAY, 0, 0, bytes(4) + NO_ERROR.to_bytes(4, "big"))).data(1, b"test", end=True)
    client.responds(1)
    client.stream_ends()


def test_8_1_1_no_content_where_none_is_announced(client):
    client.handshake()
    client.request(1, ("content-length", "0"), method="POST").responds(1)


def test_5_1_2_a_stream_that_ended_makes_room(client):
    """More requests than streams are allowed at a time, one after the other, over one connection."""
    client.handshake()
    for number in range(300):
        client.request(1 + 2 * number).stream_ends()


def test_frames_in_single_octets(client):
    """Nothing depends on how TCP cuts."""
    said = PREFACE + settings((INITIAL_WINDOW_SIZE, WINDOW)) + frame(HEADERS, END_HEADERS, 1, client.block(client.fields(method="POST"))) + frame(DATA, END_STREAM, 1, b"test")
    for octet in said:
        client.send(bytes([octet]))
    client.responds()
