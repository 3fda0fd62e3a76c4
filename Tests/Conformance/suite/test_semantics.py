"""RFC 9113 §8 and RFC 7541: malformed requests, push by a client, and everything a decoder must refuse."""

import pytest

from frames import COMPRESSION_ERROR, END_HEADERS, HEADER_TABLE_SIZE, PROTOCOL_ERROR, PUSH_PROMISE, frame, integer


def test_8_1_a_second_block_that_does_not_end_the_stream(client):
    client.handshake()
    client.request(method="POST", end=False).data(1, b"test")
    client.headers(1, client.block([("x-test", "ok")]), end=False).stream_error(PROTOCOL_ERROR)


def test_8_3_pseudo_field_in_trailers(client):
    client.handshake()
    client.request(method="POST", end=False).data(1, b"test")
    client.headers(1, client.block([(":method", "POST")]), end=False).stream_error(PROTOCOL_ERROR)


MALFORMED = {
    "8.2.1 uppercase name": lambda fields: [*fields, ("X-TEST", "ok")],
    "8.3 unknown pseudo field": lambda fields: [*fields, (":test", "ok")],
    "8.3 pseudo field of responses": lambda fields: [*fields, (":status", "200")],
    "8.3 pseudo field after a regular one": lambda fields: [("x-test", "ok"), *fields],
    "8.2.2 connection": lambda fields: [*fields, ("connection", "keep-alive")],
    "8.2.2 te with more than trailers": lambda fields: [*fields, ("trailers", "test"), ("te", "trailers, deflate")],
    "8.3.1 empty path": lambda fields: [*fields[:2], (":path", ""), *fields[3:]],
    "8.3.1 no method": lambda fields: fields[2:],
    "8.3.1 no scheme": lambda fields: [fields[0], *fields[2:]],
    "8.3.1 no path": lambda fields: [*fields[:2], *fields[3:]],
    "8.3.1 two methods": lambda fields: [*fields, fields[0]],
    "8.3.1 two schemes": lambda fields: [*fields, fields[1]],
    "8.3.1 two paths": lambda fields: [*fields, fields[2]],
}


@pytest.mark.parametrize("shape", MALFORMED)
def test_8_malformed_request(client, shape):
    client.handshake()
    client.headers(1, client.block(MALFORMED[shape](client.fields()))).stream_error(PROTOCOL_ERROR)


@pytest.mark.parametrize("pieces", [1, 2])
def test_8_1_1_content_length_that_lies(client, pieces):
    client.handshake()
    client.request(1, ("content-length", "1"), method="POST", end=False)
    for left in reversed(range(pieces)):
        client.data(1, b"test", end=left == 0)
    client.stream_error(PROTOCOL_ERROR)


def test_8_4_push_by_a_client(client):
    client.handshake()
    client.send(frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\3" + client.block(client.fields()))).connection_error(PROTOCOL_ERROR)


NAME = b"\x00\x06x-test"
TEST = b"\x49\x50\x9f"  # "test" in Huffman's code: 01001 00101 01000 01001, and four bits of padding
UNDECODABLE = {
    "2.3.3 index beyond the tables": bytes([0x80 | 70]),
    "2.3.3 name index beyond the tables": integer(70, 6, 0x40) + b"\0",
    "4.2 table size update at the end of a block": b"\x21",
    "5.2 more than 7 bits of padding": NAME + b"\x84" + TEST + b"\xff",
    "5.2 padding of zeros": NAME + b"\x83" + TEST[:2] + b"\x90",
    "5.2 EOS inside a string": NAME + b"\x87\x49\x51\xff\xff\xff\xfa\x7f",
    "6.1 index 0": b"\x80",
}


@pytest.mark.parametrize("shape", UNDECODABLE)
def test_rfc7541_block_that_cannot_be_decoded(client, shape):
    client.handshake()
    client.headers(1, client.block(client.fields()) + UNDECODABLE[shape]).connection_error(COMPRESSION_ERROR)


def test_rfc7541_6_3_table_larger_than_allowed(client):
    client.handshake()
    update = integer(client.settings.get(HEADER_TABLE_SIZE, 4096) + 1, 5, 0x20)
    client.headers(1, update + client.block(client.fields())).connection_error(COMPRESSION_ERROR)
