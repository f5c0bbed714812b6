"""WebSocket for viewers: handshake, frames, and violations of the protocol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http import websocket
from gateway.http.websocket import ClientFrames, Control, WebSocketError
from gateway.live.sink import EndReason
from gateway.playback.framing import CHUNKED, MESSAGES, RAW
from tests.support.feeding import feed_all_ways
from tests.support.http import request

MASK = b"\x11\x22\x33\x44"


def client_frame(opcode: int, payload: bytes = b"", *, final: bool = True, mask: bytes = MASK) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes([128 | size])
    else:
        length = b"\xfe" + size.to_bytes(2, "big") if size < 65_536 else b"\xff" + size.to_bytes(8, "big")
    return bytes([opcode | 128 * final]) + length + mask + websocket.unmask(payload, mask)


def received(data: bytes) -> list[Control]:
    return feed_all_ways(lambda: ClientFrames().receive, data)


def test_the_accept_key_equals_the_example_of_the_specification():
    asked = request(sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==")
    assert websocket.accept_key(asked) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3


@pytest.mark.parametrize("key", ["", "short", "dGhlIHNhbXBsZSBub25jZQ", "ü", "dGhlIHNhbXBsZSBub25jZTE="])
def test_an_invalid_key_is_refused(key):
    with pytest.raises(WebSocketError):
        websocket.accept_key(request(sec_websocket_key=key))


def test_an_upgrade_needs_both_headers():
    assert websocket.wants_upgrade(request(upgrade="h2c, WebSocket", connection="keep-alive, Upgrade"))
    assert not websocket.wants_upgrade(request(upgrade="websocket", connection="close"))
    assert not websocket.wants_upgrade(request(upgrade="h2c", connection="Upgrade"))
    assert not websocket.wants_upgrade(request())


def test_control_frames_are_returned_and_data_is_dropped():
    data = client_frame(9, b"ping") + client_frame(1, b"hello" * 100) + client_frame(2, b"x" * 60_000)
    data += (
        client_frame(2, b"a", final=False) + client_frame(10) + client_frame(0, b"b") + client_frame(8, b"\x03\xe8ok")
    )
    assert received(data) == [Control(9, b"ping"), Control(10, b""), Control(8, b"\x03\xe8ok")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (client_frame(9)[:1] + b"\x00", 1002),  # no mask
        (b"\xc2\x80" + MASK, 1002),  # a reserved bit
        (client_frame(3), 1002),
        (client_frame(11), 1002),
        (client_frame(9, b"x", final=False), 1002),
        (b"\x89\xfe\x00\x7e" + MASK, 1002),  # a ping of 126 bytes
        (client_frame(8, b"\x03"), 1002),
        *[(client_frame(8, code.to_bytes(2, "big")), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)],
        (client_frame(8, b"\x03\xe8\xce\xba\xed\xa0\x80"), 1007),
        (client_frame(1, b"\xce\xba\xed\xa0\x80edited"), 1007),
        (client_frame(1, b"\xce", final=False) + client_frame(0, b"A"), 1007),
        (client_frame(1, b"\xce", final=False) + client_frame(9) + client_frame(0, b""), 1007),
        (client_frame(0, b"x"), 1002),
        (client_frame(2, b"x", final=False) + client_frame(2, b"y"), 1002),
        (client_frame(2, b"x" * 65_537), 1009),
        (b"\x82\xff" + b"\xff" * 8 + MASK, 1009),
    ],
)
def test_invalid_frames_raise_an_error_with_a_close_code(data, code):
    for size in (1, 3, len(data)):
        frames = ClientFrames()
        with pytest.raises(WebSocketError) as error:
            for at in range(0, len(data), size):
                frames.receive(data[at : at + size])
        assert error.value.code == code


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1014, 3000, 4999])
def test_valid_close_codes_are_returned(code):
    payload = code.to_bytes(2, "big") + "Grüße".encode()
    assert received(client_frame(8, payload)) == [Control(8, payload)]


def test_text_may_be_split_within_a_character():
    text = "κόσμε".encode()
    frames = client_frame(1, text[:3], final=False) + client_frame(9) + client_frame(0, text[3:5], final=False)
    assert received(frames + client_frame(0, text[5:]) + client_frame(2, b"\xff")) == [Control(9, b"")]


@given(
    st.lists(st.tuples(st.sampled_from([2, 9, 10]), st.binary(max_size=125)), max_size=6),
    st.binary(min_size=4, max_size=4),
)
def test_frames_are_read_from_pieces_of_any_size(frames, mask):
    data = b"".join(client_frame(opcode, payload, mask=mask) for opcode, payload in frames)
    assert received(data) == [Control(o, p) for o, p in frames if o in (9, 10)]


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, b"\x82\x00"), (125, b"\x82\x7d"), (126, b"\x82\x7e\x00\x7e"), (65_535, b"\x82\x7e\xff\xff"),
     (65_536, b"\x82\x7f" + (65_536).to_bytes(8, "big"))],
)  # fmt: skip
def test_server_frames_are_unfragmented_and_unmasked(size, head):
    assert websocket.frame(websocket.BINARY, b"x" * size) == head + b"x" * size


def test_a_close_frame_fits_into_a_control_frame():
    frame = websocket.close_frame(1000, "é" * 200)
    assert frame[1] <= 125
    frame[4:].decode()


def test_each_framing_wraps_data_and_ends_the_body():
    assert CHUNKED.wrap(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert CHUNKED.wrap(b"") == b""  # an empty chunk would end the body
    assert CHUNKED.last(EndReason.PUBLISHER_GONE) == b"0\r\n\r\n"
    assert (RAW.wrap(b"x"), RAW.last(EndReason.PUBLISHER_GONE)) == (b"x", b"")
    assert MESSAGES.last(EndReason.PUBLISHER_GONE)[2:4] == (1000).to_bytes(2, "big")
    assert MESSAGES.last(EndReason.SHUTDOWN)[2:4] == (1001).to_bytes(2, "big")
