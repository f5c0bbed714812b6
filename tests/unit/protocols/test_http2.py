"""HTTP/2 without I/O: frames whole, byte by byte and with trailing data; headers beside those of the library hpack."""

import math
import time
from contextlib import suppress

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.request import HeadParser, RequestError
from gateway.protocols.http2 import heads
from gateway.protocols.http2.connection import (
    MAX_STREAMS,
    ControlFrame,
    Data,
    GoAway,
    Http2Error,
    Http2Protocol,
    RequestHead,
    Reset,
    SettingsChanged,
    WindowOpened,
)
from gateway.protocols.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    MAX_PAYLOAD,
    MAX_WINDOW,
    PADDED,
    PREFACE,
    PRIORITY_FLAG,
    WINDOW,
    Code,
    FrameKind,
    frame,
)
from gateway.protocols.http2.header_decoder import HeaderDecoder, HeadersError
from gateway.protocols.http2.heads import MalformedRequest, encoded_head, request_head

GET = b"\x82\x87\x84\x41\x01a"  # :method GET, :scheme https, :path /, :authority a
FIELDS = ((b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"a"))
START = PREFACE + frame(FrameKind.SETTINGS, 0, 0)
WHOLE = END_HEADERS | END_STREAM
BOUND = (1).to_bytes(4, "big")


def headers(stream, flags=WHOLE, block=GET):
    return frame(FrameKind.HEADERS, flags, stream, block)


def read(data, protocol=None, *, start=True):
    """The events of some bytes, without that of the first settings."""
    protocol = protocol or Http2Protocol()
    protocol.receive(START + data if start else data)
    events = list(protocol.events())
    return protocol, events[1:] if start else events


def sent(protocol):
    """The frames that are ready: kind, flags, stream and payload."""
    data, found = b"".join(protocol.output), []
    protocol.output.clear()
    while data:
        end = 9 + int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:end]))
        data = data[end:]
    return found


CONVERSATION = (
    START
    + headers(1)
    + headers(3, END_HEADERS)
    + frame(FrameKind.DATA, PADDED, 3, b"\x02abc\0\0")
    + frame(FrameKind.DATA, END_STREAM, 3, b"def")
    + frame(FrameKind.HEADERS, END_STREAM | PRIORITY_FLAG, 5, b"\0\0\0\1\x10" + GET[:2])
    + frame(FrameKind.CONTINUATION, END_HEADERS, 5, GET[2:])
    + frame(FrameKind.WINDOW_UPDATE, 0, 1, BOUND)
    + frame(FrameKind.WINDOW_UPDATE, 0, 0, BOUND)
    + frame(FrameKind.PING, 0, 0, b"12345678")
    + frame(0x42, 0, 7, b"unknown")
    + frame(FrameKind.RST_STREAM, 0, 1, b"\0\0\0\x08")
    + frame(FrameKind.GOAWAY, 0, 0, bytes(8))
)
EVENTS = [
    SettingsChanged(),
    RequestHead(1, FIELDS, True),
    RequestHead(3, FIELDS, False),
    Data(3, b"abc", 6, False),
    Data(3, b"def", 3, True),
    RequestHead(5, FIELDS, True),
    WindowOpened(1),
    WindowOpened(0),
    ControlFrame(),
    ControlFrame(),
    Reset(1),
    GoAway(),
]


@pytest.mark.parametrize("step", [1, 7, len(CONVERSATION) + 9])
def test_a_conversation_gives_the_same_events_in_any_pieces_and_with_trailing_data(step):
    protocol, events = Http2Protocol(), []
    data = CONVERSATION + frame(FrameKind.DATA, 0, 3, b"x" * 50)[:40]
    for at in range(0, len(data), step):
        protocol.receive(data[at : at + step])
        events += protocol.events()
    assert events == EVENTS
    kinds = [(kind, flags) for kind, flags, _, _ in sent(protocol)]
    assert kinds == [(FrameKind.SETTINGS, 0), (FrameKind.SETTINGS, ACK), (FrameKind.PING, ACK)]


CONNECTION_ERRORS = {
    "another preface": (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Code.PROTOCOL_ERROR),
    "no settings first": (PREFACE + frame(FrameKind.PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
    "a large frame": (START + (MAX_PAYLOAD + 1).to_bytes(3, "big") + bytes(6), Code.FRAME_SIZE_ERROR),
    "headers of stream 0": (START + headers(0), Code.PROTOCOL_ERROR),
    "headers of a server's stream": (START + headers(2), Code.PROTOCOL_ERROR),
    "an older stream": (START + headers(5) + headers(3), Code.PROTOCOL_ERROR),
    "a malformed block": (START + headers(1, block=b"\x80"), Code.COMPRESSION_ERROR),
    "a block with too many fields": (START + headers(1, block=b"\x84" * 2000), Code.ENHANCE_YOUR_CALM),
    "too much padding": (START + headers(1, WHOLE | PADDED, b"\x09" + GET), Code.PROTOCOL_ERROR),
    "no padding": (START + headers(1, WHOLE | PADDED, b""), Code.PROTOCOL_ERROR),
    "half a priority": (START + headers(1, WHOLE | PRIORITY_FLAG, b"\0"), Code.FRAME_SIZE_ERROR),
    "a stream that depends on itself": (
        START + headers(1, WHOLE | PRIORITY_FLAG, b"\0\0\0\1\x10" + GET),
        Code.PROTOCOL_ERROR,
    ),
    "another frame in the headers": (
        START + headers(1, 0) + frame(FrameKind.PING, 0, 0, bytes(8)),
        Code.PROTOCOL_ERROR,
    ),
    "headers of two streams": (START + headers(1, 0) + frame(FrameKind.CONTINUATION, 4, 3), Code.PROTOCOL_ERROR),
    "headers that go on for ever": (
        START + headers(1, 0) + frame(FrameKind.CONTINUATION, 0, 1, bytes(MAX_PAYLOAD)) * 3,
        Code.ENHANCE_YOUR_CALM,
    ),
    "empty headers that go on": (START + headers(1, 0) + frame(FrameKind.CONTINUATION, 0, 1), Code.ENHANCE_YOUR_CALM),
    "a continuation of nothing": (START + frame(FrameKind.CONTINUATION, 4, 1, GET), Code.PROTOCOL_ERROR),
    "a promise": (START + frame(FrameKind.PUSH_PROMISE, 4, 1, bytes(4) + GET), Code.PROTOCOL_ERROR),
    "data of stream 0": (START + frame(FrameKind.DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
    "data of an idle stream": (START + frame(FrameKind.DATA, 0, 1, b"x"), Code.PROTOCOL_ERROR),
    "data beyond the window": (
        START + headers(1, 4) + frame(FrameKind.DATA, 0, 1, bytes(MAX_PAYLOAD)) * 4,
        Code.FLOW_CONTROL_ERROR,
    ),
    "a reset of stream 0": (START + frame(FrameKind.RST_STREAM, 0, 0, bytes(4)), Code.PROTOCOL_ERROR),
    "a reset of an idle stream": (START + frame(FrameKind.RST_STREAM, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "a short reset": (START + headers(1) + frame(FrameKind.RST_STREAM, 0, 1, bytes(3)), Code.FRAME_SIZE_ERROR),
    "settings of a stream": (START + frame(FrameKind.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    "half a setting": (START + frame(FrameKind.SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
    "an acknowledgement with settings": (START + frame(FrameKind.SETTINGS, ACK, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
    "half a push": (START + frame(FrameKind.SETTINGS, 0, 0, b"\0\2\0\0\0\2"), Code.PROTOCOL_ERROR),
    "small frames": (START + frame(FrameKind.SETTINGS, 0, 0, b"\0\5\0\0\0\1"), Code.PROTOCOL_ERROR),
    "a huge window": (START + frame(FrameKind.SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"), Code.FLOW_CONTROL_ERROR),
    "a huge window of a stream by settings": (
        START
        + headers(1)
        + frame(FrameKind.WINDOW_UPDATE, 0, 1, (MAX_WINDOW - WINDOW).to_bytes(4, "big"))
        + frame(FrameKind.SETTINGS, 0, 0, b"\0\4\0\1\0\0"),
        Code.FLOW_CONTROL_ERROR,
    ),
    "a ping of a stream": (START + frame(FrameKind.PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "a short ping": (START + frame(FrameKind.PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "a goaway of a stream": (START + frame(FrameKind.GOAWAY, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "a short goaway": (START + frame(FrameKind.GOAWAY, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "a short window": (START + frame(FrameKind.WINDOW_UPDATE, 0, 0, bytes(3)), Code.FRAME_SIZE_ERROR),
    "a window of an idle stream": (START + frame(FrameKind.WINDOW_UPDATE, 0, 1, BOUND), Code.PROTOCOL_ERROR),
    "a window that does not open": (START + frame(FrameKind.WINDOW_UPDATE, 0, 0, bytes(4)), Code.PROTOCOL_ERROR),
    "a window that is too large": (
        START + frame(FrameKind.WINDOW_UPDATE, 0, 0, MAX_WINDOW.to_bytes(4, "big")),
        Code.FLOW_CONTROL_ERROR,
    ),
    "a priority of stream 0": (START + frame(FrameKind.PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
def test_an_error_of_the_connection_has_its_code(name):
    data, code = CONNECTION_ERRORS[name]
    with pytest.raises(Http2Error) as raised:
        read(data, start=False)
    assert raised.value.code == code


LENGTH = GET + b"\x0f\x0d\x013"  # content-length: 3
STREAM_ERRORS = {
    "a body above its length": (headers(1, 4, LENGTH) + frame(FrameKind.DATA, 0, 1, b"abcd"), Code.PROTOCOL_ERROR),
    "a body below its length": (headers(1, 4, LENGTH) + frame(FrameKind.DATA, 1, 1, b"ab"), Code.PROTOCOL_ERROR),
    "a length without a body": (headers(1, WHOLE, LENGTH), Code.PROTOCOL_ERROR),
    "trailers without an end": (headers(1, 4) + headers(1, 4, b""), Code.PROTOCOL_ERROR),
    "a path in trailers": (headers(1, 4) + headers(1, WHOLE, b"\x84"), Code.PROTOCOL_ERROR),
    "trailers behind the end": (headers(1) + headers(1, WHOLE, b""), Code.STREAM_CLOSED),
    "data behind the end": (headers(1) + frame(FrameKind.DATA, 0, 1, b"x"), Code.STREAM_CLOSED),
    "a window that does not open": (headers(1) + frame(FrameKind.WINDOW_UPDATE, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "a window that is too large": (
        headers(1) + frame(FrameKind.WINDOW_UPDATE, 0, 1, MAX_WINDOW.to_bytes(4, "big")),
        Code.FLOW_CONTROL_ERROR,
    ),
    "a short priority": (headers(1) + frame(FrameKind.PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
    "a priority below itself": (headers(1) + frame(FrameKind.PRIORITY, 0, 1, b"\0\0\0\1\0"), Code.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", STREAM_ERRORS)
def test_an_error_of_a_stream_ends_only_this_stream(name):
    data, code = STREAM_ERRORS[name]
    protocol, events = read(data)
    assert events[-1] == Reset(1)
    assert (FrameKind.RST_STREAM, 0, 1, code.to_bytes(4, "big")) in sent(protocol)
    assert read(frame(FrameKind.WINDOW_UPDATE, 0, 1, BOUND), protocol, start=False)[1] == []  # it is closed
    assert read(headers(3), protocol, start=False)[1] == [RequestHead(3, FIELDS, True)]


def test_frames_behind_our_reset_mean_nothing_but_their_lengths_count():
    protocol, _ = read(headers(1, 4, LENGTH))
    protocol.reset(1, Code.NO_ERROR)
    late = frame(FrameKind.DATA, 0, 1, b"ab") + frame(FrameKind.WINDOW_UPDATE, 0, 1, BOUND) + headers(1, WHOLE, b"")
    assert read(late, protocol, start=False)[1] == []
    with pytest.raises(Http2Error):
        read(frame(FrameKind.DATA, 0, 1, b"cd"), protocol, start=False)


DEAR_FRAMES = {
    "windows of all streams in each of 2,730 settings": frame(FrameKind.SETTINGS, 0, 0, b"\0\4\0\1\0\0" * 2730),
    "a table that changes its size 16,000 times": headers(301, block=b"\x20" * 16_000),
    "priorities": frame(FrameKind.PRIORITY, 0, 1, bytes(5)) * 1000,
    "windows": frame(FrameKind.WINDOW_UPDATE, 0, 1, BOUND) * 1000,
    "headers in pieces of one byte": headers(301, 0, b"") + frame(FrameKind.CONTINUATION, 0, 301, b"\x82") * 900,
}


@pytest.mark.parametrize("name", DEAR_FRAMES)
def test_no_frames_of_16_kb_cost_more_than_requests_of_this_size(name):
    """So the slices in which connections are served stay short."""

    def cost(data, times=3):
        best = math.inf
        for _ in range(times):
            protocol, _ = read(b"".join(headers(1 + 2 * n) for n in range(MAX_STREAMS)))
            protocol.receive(data)
            began = time.process_time()
            with suppress(Http2Error):
                for _ in protocol.events():
                    pass
            best = min(best, time.process_time() - began)
        return best

    requests = b"".join(headers(301 + 2 * n) for n in range(1000))
    assert cost(DEAR_FRAMES[name]) < cost(requests)


def test_streams_above_the_limit_are_refused():
    protocol, events = read(b"".join(headers(1 + 2 * n) for n in range(MAX_STREAMS + 1)))
    assert events == [*(RequestHead(1 + 2 * n, FIELDS, True) for n in range(MAX_STREAMS)), ControlFrame()]
    assert sent(protocol)[-1] == (FrameKind.RST_STREAM, 0, 2 * MAX_STREAMS + 1, Code.REFUSED_STREAM.to_bytes(4, "big"))


def test_windows_bound_the_sent_data_and_may_become_negative():
    protocol, _ = read(headers(1) + headers(3))
    assert protocol.window(1) == WINDOW
    protocol.send_headers(1, b"\x88", ended=False)
    protocol.send_data(1, [memoryview(bytes(16_000))], 16_000, ended=False)
    assert (protocol.window(1), protocol.window(3)) == (WINDOW - 16_000, WINDOW - 16_000)
    read(frame(FrameKind.SETTINGS, 0, 0, b"\0\4\0\0\0\x0a"), protocol, start=False)
    assert (protocol.window(1), protocol.window(3)) == (10 - 16_000, 10)
    read(frame(FrameKind.WINDOW_UPDATE, 0, 1, (16_000).to_bytes(4, "big")), protocol, start=False)
    assert protocol.window(1) == 10


def test_the_end_of_both_sides_ends_a_stream():
    protocol, _ = read(headers(1))
    sent(protocol)
    protocol.send_headers(1, b"\x88", ended=False)
    protocol.send_data(1, [memoryview(b"ab"), memoryview(b"c")], 3, ended=True)
    assert sent(protocol) == [(FrameKind.HEADERS, END_HEADERS, 1, b"\x88"), (FrameKind.DATA, END_STREAM, 1, b"abc")]
    assert read(frame(FrameKind.WINDOW_UPDATE, 0, 1, BOUND), protocol, start=False)[1] == []  # it is closed


def test_an_answer_before_the_end_of_the_body_tells_the_client_to_stop():
    protocol, _ = read(headers(1, 4))
    sent(protocol)
    protocol.send_headers(1, b"\x88", ended=True)
    assert [kind for kind, *_ in sent(protocol)] == [FrameKind.HEADERS, FrameKind.RST_STREAM]


def test_a_large_head_has_continuations():
    protocol, _ = read(headers(1))
    sent(protocol)
    protocol.send_headers(1, bytes(2 * MAX_PAYLOAD + 1), ended=True)
    frames = sent(protocol)
    assert [(kind, flags, len(payload)) for kind, flags, _, payload in frames] == [
        (FrameKind.HEADERS, END_STREAM, MAX_PAYLOAD),
        (FrameKind.CONTINUATION, 0, MAX_PAYLOAD),
        (FrameKind.CONTINUATION, END_HEADERS, 1),
    ]


def test_acknowledged_bytes_open_both_windows_again():
    protocol, _ = read(headers(1, 4))
    sent(protocol)
    for _ in range(50):
        data = frame(FrameKind.DATA, 0, 1, bytes(10_000))
        assert read(data, protocol, start=False)[1] == [Data(1, bytes(10_000), 10_000, False)]
        protocol.acknowledge(1, 10_000)
    updates = sent(protocol)
    assert {stream for _, _, stream, _ in updates} == {0, 1}
    assert sum(int.from_bytes(payload, "big") for _, _, stream, payload in updates if stream) > 430_000


def test_another_window_of_the_owner_stands_in_the_first_frames():
    frames = sent(Http2Protocol(100_000))
    assert b"\0\4" + (100_000).to_bytes(4, "big") in frames[0][3]
    assert frames[1] == (FrameKind.WINDOW_UPDATE, 0, 0, (100_000 - WINDOW).to_bytes(4, "big"))


# ---- headers ----

names = st.binary(min_size=1, max_size=20)
values = st.binary(max_size=60)
lists = st.lists(st.tuples(names, values), max_size=12)


@given(
    st.lists(lists, max_size=4),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=2),
)
def test_blocks_decode_as_in_the_library(blocks, huffman, changes):
    encoder, theirs, ours = Encoder(), Decoder(max_header_list_size=1000), HeaderDecoder(1000)
    for fields in blocks:
        block = bytearray(encoder.encode(fields, huffman=huffman))
        for at, value in changes:
            if at < len(block):
                block[at] = value
        try:
            expected = tuple((bytes(n), bytes(v)) for n, v in theirs.decode(bytes(block), raw=True))
        except HPACKError:
            with pytest.raises(HeadersError):
                ours.decode(bytes(block))
            return
        assert ours.decode(bytes(block)) == expected


@given(st.binary(max_size=200))
def test_any_block_decodes_or_is_an_error(block):
    with suppress(HeadersError):
        HeaderDecoder(1000).decode(block)


def test_the_table_forgets_the_oldest_fields_and_its_size_can_change():
    encoder, decoder = Encoder(), HeaderDecoder(100_000)
    for n in range(300):
        fields = ((b"name", b"value %d" % n), (b"other", b"x" * 100))
        assert decoder.decode(encoder.encode(fields)) == fields
    for size in (0, 100, 4096):
        encoder.header_table_size = size
        assert decoder.decode(encoder.encode([(b"a", b"b")])) == ((b"a", b"b"),)


MALFORMED_BLOCKS = {
    "index 0": b"\x80",
    "an index beyond the table": b"\xbe",
    "a size of the table behind a field": b"\x82\x20",
    "a size above the limit": b"\x3f\xe2\x1f",
    "an integer without an end": b"\xff\x80\x80\x80\x80\x80\x80\x80\x01",
    "a text that ends too early": b"\x00\x05ab",
    "a code with long padding": b"\x00\x82\xff\xff\x00",
}


@pytest.mark.parametrize("name", MALFORMED_BLOCKS)
def test_a_malformed_block_is_an_error(name):
    with pytest.raises(HeadersError):
        HeaderDecoder(1000).decode(MALFORMED_BLOCKS[name])


def test_an_encoded_head_has_the_headers_of_the_answer():
    head = (
        b"HTTP/1.1 206 Partial Content\r\nServer: Millrace\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
        b"Cache-Control:  no-store \r\nX-Long: " + b"y" * 300
    )
    assert Decoder().decode(encoded_head(head)) == [
        (":status", "206"),
        ("server", "Millrace"),
        ("cache-control", "no-store"),
        ("x-long", "y" * 300),
    ]


texts = st.text(st.characters(max_codepoint=255), max_size=12).map(lambda text: text.encode("latin-1"))
regular = st.lists(st.tuples(st.sampled_from([b"a", b"host", b"cookie", b"te", b"range", b"A", b"b:c"]) | texts, texts))


@given(texts | st.just(b"GET"), texts | st.just(b"/a"), regular, st.booleans())
def test_a_head_is_one_request_with_the_same_fields_or_malformed(method, path, more, has_body):
    fields = ((b":method", method), (b":scheme", b"https"), (b":path", path), (b":authority", b"a"), *more)
    try:
        head, chunked = request_head(fields, has_body)
    except MalformedRequest:
        return
    assert head.count(b"\r\n\r\n") == 1
    assert head.endswith(b"\r\n\r\n")
    assert chunked is (has_body and not any(name == b"content-length" for name, _ in more))
    try:
        request = HeadParser(8192).parse(head)
    except RequestError:
        return
    assert request.method.encode() == method
    assert request.http11 is chunked
    expected = {name.decode() for name, _ in more} - {"te", "expect"} | {"host"}
    assert set(request.headers) - {"connection", "transfer-encoding"} == expected - {"connection", "transfer-encoding"}


def test_only_heads_of_usual_size_are_remembered():
    """A stranger cannot fill the memory with heads of 32 kB."""
    before = heads._request_head_remembered.cache_info().currsize
    request_head((*FIELDS, (b"cookie", b"x" * 3000)), False)
    assert heads._request_head_remembered.cache_info().currsize == before
    assert request_head((*FIELDS, (b"a", b"only here")), False) is request_head((*FIELDS, (b"a", b"only here")), False)
