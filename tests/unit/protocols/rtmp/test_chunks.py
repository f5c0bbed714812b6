"""The chunk layer: every header form, every cut, and every bound."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError
from gateway.protocols.rtmp.chunk_reader import ChunkReader
from gateway.protocols.rtmp.chunk_writer import ChunkWriter, shared_message
from gateway.protocols.rtmp.message import Message
from tests.support.examples import examples
from tests.support.feeding import feed_all_ways


def fresh() -> Any:
    return ChunkReader().receive


def head(fmt: int, csid: int, *fields: bytes) -> bytes:
    if csid < 64:
        basic = bytes((fmt << 6 | csid,))
    elif csid < 320:
        basic = bytes((fmt << 6, csid - 64))
    else:
        basic = bytes((fmt << 6 | 1, (csid - 64) % 256, (csid - 64) // 256))
    return basic + b"".join(fields)


def full(csid: int, time: int, length: int, kind: int = 9, stream: int = 1, extended: int | None = None) -> bytes:
    tail = b"" if extended is None else struct.pack(">I", extended)
    return head(
        0, csid, time.to_bytes(3, "big"), length.to_bytes(3, "big"), bytes((kind,)), struct.pack("<I", stream), tail
    )


def same_stream(csid: int, delta: int, length: int, kind: int = 9) -> bytes:
    return head(1, csid, delta.to_bytes(3, "big"), length.to_bytes(3, "big"), bytes((kind,)))


def chunk_size(size: int) -> bytes:
    return full(2, 0, 4, 1, 0) + struct.pack(">I", size)


def test_one_message_in_one_chunk() -> None:
    assert feed_all_ways(fresh, full(6, 1000, 3) + b"abc") == [Message(9, 1000, 1, b"abc")]


@pytest.mark.parametrize("csid", [2, 63, 64, 65, 319, 320, 321, 576, 65599])
def test_chunk_stream_ids_of_one_two_and_three_bytes(csid: int) -> None:
    body = bytes(range(200))
    data = full(csid, 0, 200) + body[:128] + head(3, csid) + body[128:]
    assert feed_all_ways(fresh, data) == [Message(9, 0, 1, body)]


def test_two_and_three_byte_forms_of_one_id_are_the_same_stream() -> None:
    data = full(100, 5, 1) + b"a" + bytes((0xC1, 36, 0)) + b"b"
    assert feed_all_ways(fresh, data) == [Message(9, 5, 1, b"a"), Message(9, 10, 1, b"b")]


def test_deltas_add_up() -> None:
    data = (
        full(4, 100, 1) + b"a" + same_stream(4, 20, 2, 8) + b"bb" + head(2, 4, b"\0\0\x1e") + b"cc" + head(3, 4) + b"dd"
    )
    assert feed_all_ways(fresh, data) == [
        Message(9, 100, 1, b"a"),
        Message(8, 120, 1, b"bb"),
        Message(8, 150, 1, b"cc"),
        Message(8, 180, 1, b"dd"),
    ]


def test_fmt_3_after_fmt_0_adds_its_timestamp() -> None:
    assert [
        m.timestamp for m in feed_all_ways(fresh, full(4, 7, 1) + b"a" + head(3, 4) + b"b" + head(3, 4) + b"c")
    ] == [
        7,
        14,
        21,
    ]


def test_chunks_of_two_streams_interleave() -> None:
    video, audio = bytes(range(250)) * 2, b"\xaf" * 130
    data = b"".join(
        (
            full(6, 10, 500),
            video[:128],
            full(4, 11, 130, 8),
            audio[:128],
            head(3, 6),
            video[128:256],
            head(3, 4),
            audio[128:],
            head(3, 6),
            video[256:384],
            head(3, 6),
            video[384:],
        )
    )
    assert feed_all_ways(fresh, data) == [Message(8, 11, 1, audio), Message(9, 10, 1, video)]


def test_a_message_between_the_chunks_of_another_after_a_run_of_unbroken_ones() -> None:
    body = bytes(i % 251 for i in range(128 * 6))
    pieces = [body[i : i + 128] for i in range(0, len(body), 128)]
    data = full(6, 0, len(body)) + head(3, 6).join(pieces[:4]) + full(4, 0, 1, 8) + b"a" + head(3, 6)
    data += head(3, 6).join(pieces[4:])
    assert feed_all_ways(fresh, data) == [Message(8, 0, 1, b"a"), Message(9, 0, 1, body)]


@pytest.mark.parametrize("size", [1, 2, 100, 128, 129, 4096, 65536])
@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 256, 257, 5000])
def test_chunk_sizes_and_lengths(size: int, length: int) -> None:
    body = bytes(i % 253 for i in range(length))
    writer = ChunkWriter()
    writer.chunk_size = size
    data = (
        chunk_size(size)
        + writer.write(6, 9, 40, 1, body)
        + writer.write(6, 9, 80, 1, body)
        + writer.write(6, 9, 120, 1, body)
    )
    assert feed_all_ways(fresh, data) == [Message(9, time, 1, body) for time in (40, 80, 120)]


def test_chunk_size_may_change_between_the_chunks_of_a_message() -> None:
    body = bytes(range(200)) * 2
    data = full(6, 0, 400) + body[:128] + chunk_size(300) + head(3, 6) + body[128:]
    assert feed_all_ways(fresh, data) == [Message(9, 0, 1, body)]


def test_chunk_size_ignores_its_first_bit() -> None:
    reader = ChunkReader()
    reader.receive(full(2, 0, 4, 1, 0) + b"\x80\0\x10\0")
    assert reader.chunk_size == 4096


def test_abort_drops_the_unfinished_message_and_keeps_the_header() -> None:
    data = (
        full(6, 10, 200) + b"x" * 128 + full(2, 0, 4, 2, 0) + b"\0\0\0\x06" + head(1, 6, b"\0\0\x05\0\0\x01\x09") + b"y"
    )
    assert feed_all_ways(fresh, data) == [Message(9, 15, 1, b"y")]
    reader = ChunkReader()
    reader.receive(data)
    assert reader.pending == 0


def test_abort_of_an_unknown_stream_does_nothing() -> None:
    assert feed_all_ways(fresh, full(2, 0, 4, 2, 0) + b"\0\0\0\x09" + full(6, 0, 1) + b"x") == [Message(9, 0, 1, b"x")]


def test_extended_timestamps_repeated_in_each_chunk() -> None:
    body = bytes(range(200))
    extended = struct.pack(">I", 0x01000000)
    data = full(6, 0xFFFFFF, 200, extended=0x01000000) + body[:128] + head(3, 6, extended) + body[128:]
    data += same_stream(6, 40, 1) + b"z"
    assert feed_all_ways(fresh, data) == [Message(9, 0x01000000, 1, body), Message(9, 0x01000028, 1, b"z")]


def test_extended_timestamps_that_the_sender_does_not_repeat() -> None:
    body = bytes(range(200))
    data = (
        full(6, 0xFFFFFF, 200, extended=0x01000000) + body[:128] + head(3, 6) + body[128:] + same_stream(6, 1, 1) + b"z"
    )
    assert feed_all_ways(fresh, data) == [Message(9, 0x01000000, 1, body), Message(9, 0x01000001, 1, b"z")]


def test_an_unrepeated_extended_timestamp_does_not_wait_for_four_bytes() -> None:
    data = full(6, 0xFFFFFF, 130, extended=0x01000000) + b"a" * 128 + head(3, 6) + b"bb"
    assert feed_all_ways(fresh, data) == [Message(9, 0x01000000, 1, b"a" * 128 + b"bb")]


def test_extended_delta() -> None:
    delta = struct.pack(">I", 0x02000000)
    data = full(6, 5, 1) + b"a" + head(1, 6, b"\xff\xff\xff", b"\0\0\x01", b"\x09", delta) + b"b"
    data += head(3, 6, delta) + b"c"
    assert [m.timestamp for m in feed_all_ways(fresh, data)] == [5, 0x02000005, 0x04000005]


def test_exactly_the_escape_value_is_extended() -> None:
    assert feed_all_ways(fresh, full(6, 0xFFFFFF, 1, extended=0xFFFFFF) + b"a") == [Message(9, 0xFFFFFF, 1, b"a")]


def test_timestamps_wrap() -> None:
    data = full(6, 0xFFFFFF, 1, extended=0xFFFFFFF0) + b"a" + same_stream(6, 0x20, 1) + b"b"
    assert [m.timestamp for m in feed_all_ways(fresh, data)] == [0xFFFFFFF0, 0x10]


@pytest.mark.parametrize("back", [same_stream(6, 0xFFFFD0, 1), same_stream(6, 0xFFFFFF, 1) + b"\xff\xff\xff\xd0"])
def test_a_step_back_may_be_a_delta(back: bytes) -> None:
    """Of 24 bits (VideoCore), or of 32 (librtmp, meetings of Tencent with one chunk stream for sound and pictures)."""
    data = full(6, 1000, 1) + b"a" + back + b"b" + same_stream(6, 80, 1) + b"c"
    assert [m.timestamp for m in feed_all_ways(fresh, data)] == [1000, 952, 1032]


def test_empty_messages_come_out() -> None:
    assert feed_all_ways(fresh, full(4, 0, 0, 8) + full(6, 1, 1) + b"v") == [
        Message(8, 0, 1, b""),
        Message(9, 1, 1, b"v"),
    ]


def test_fmt_1_may_open_a_chunk_stream() -> None:
    assert feed_all_ways(fresh, same_stream(2, 3, 6, 4) + bytes(6)) == [Message(4, 3, 0, bytes(6))]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (head(3, 6), "begins with fmt 3"),
        (head(2, 6), "begins with fmt 2"),
        (full(6, 0, (8 << 20) + 1), "message of"),
        (full(2, 0, 4, 1, 0) + b"\x80\0\0\0", "chunk size 0"),
        (full(2, 0, 2, 1, 0) + b"\0\0", "Set Chunk Size of 2"),
        (full(2, 0, 3, 2, 0) + b"\0\0\0", "Abort of 3"),
        (full(6, 0, 200) + bytes(128) + full(6, 0, 200), "unfinished"),
        (full(6, 0, 200) + bytes(128) + same_stream(6, 0, 200), "unfinished"),
        (b"".join(full(csid, 0, 0) for csid in range(2, 67)), "chunk streams"),
    ],
)
def test_chunks_that_break_the_format_or_a_limit_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        ChunkReader().receive(data)


def test_unfinished_messages_are_bounded_together() -> None:
    reader = ChunkReader(max_pending=1000)
    with pytest.raises(RemoteProtocolError, match="unfinished messages"):
        for csid in range(3, 20):
            reader.receive(full(csid, 0, 5000) + bytes(128))


def test_a_declared_length_takes_no_memory() -> None:
    reader = ChunkReader()
    reader.receive(full(6, 0, 8 << 20))
    assert reader.pending == 0


def test_a_message_in_many_tiny_parts_is_joined() -> None:
    reader = ChunkReader()
    body = bytes(i % 256 for i in range(70_000))
    reader.receive(chunk_size(65536 * 2) + full(6, 0, len(body)))
    messages = [m for i in range(len(body)) for m in reader.receive(body[i : i + 1])]
    assert messages == [Message(9, 0, 1, body)]
    assert reader.pending == 0


# Writer


def test_writer_shortens_headers() -> None:
    writer = ChunkWriter()
    sizes = [
        len(writer.write(4, 8, time, 1, body)) - len(body)
        for time, body in ((100, b"aa"), (120, b"bb"), (140, b"cc"), (161, b"cc"), (182, b"ddd"), (100, b"ddd"))
    ]
    assert sizes == [12, 4, 1, 4, 8, 12]


@pytest.mark.parametrize("gap", [0xFEFFFF, 0xFF0000, 0xFFFFFE])
def test_a_gap_of_hours_is_no_step_back(gap: int) -> None:
    writer = ChunkWriter()
    data = b"".join(writer.write(4, 8, time, 1, b"a") for time in (5, 5 + gap, 6 + gap))
    assert [m.timestamp for m in feed_all_ways(fresh, data)] == [5, 5 + gap, 6 + gap]


def test_writer_uses_a_full_header_for_another_message_stream() -> None:
    writer = ChunkWriter()
    writer.write(3, 20, 0, 0, b"a")
    assert writer.write(3, 20, 0, 1, b"a")[0] >> 6 == 0


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([3, 4, 6, 63]),
            st.sampled_from([8, 9, 18, 20]),
            st.integers(0, 0xFFFFFFFF) | st.integers(0, 2000),
            st.sampled_from([0, 1]),
            st.binary(max_size=400),
        ),
        max_size=12,
    ),
    st.sampled_from([1, 16, 128, 4096]),
)
def test_written_messages_are_read_back(messages: list[tuple[int, int, int, int, bytes]], size: int) -> None:
    writer = ChunkWriter()
    data = writer.write(2, 1, 0, 0, struct.pack(">I", size))
    writer.chunk_size = size
    data += b"".join(writer.write(*m) for m in messages)
    assert feed_all_ways(fresh, data) == [Message(kind, time, stream, body) for _, kind, time, stream, body in messages]


@settings(max_examples=examples(60, 200))
@given(st.data())
def test_chunk_sizes_may_change_anywhere(data: Any) -> None:
    """The chunks of two messages are interleaved, and the chunk size changes between any two chunks."""
    size, stream, wanted = 128, b"", []
    for number in range(data.draw(st.integers(1, 6))):
        bodies = {csid: bytes((number,)) * data.draw(st.integers(1, 400)) for csid in (8, 9)}
        left = dict(bodies)
        for kind in bodies:
            stream += full(kind, number, len(bodies[kind]), kind)
            part, left[kind] = left[kind][:size], left[kind][size:]
            stream += part
            if not left[kind]:
                wanted.append(Message(kind, number, 1, bodies[kind]))
        while open_ := [kind for kind in left if left[kind]]:
            if data.draw(st.booleans()):
                told = data.draw(st.integers(1, 127) | st.integers(128, 5000))
                control = struct.pack(">I", told)
                stream += full(2, 0, 4, 1, 0) + control[:size]
                stream += b"".join(head(3, 2) + control[at : at + size] for at in range(size, 4, size))
                size = told
            kind = data.draw(st.sampled_from(open_))
            part, left[kind] = left[kind][:size], left[kind][size:]
            stream += head(3, kind) + part
            if not left[kind]:
                wanted.append(Message(kind, number, 1, bodies[kind]))
    assert feed_all_ways(fresh, stream) == wanted


@pytest.mark.parametrize("sizes", [(1, 2, 3, 4), (3, 127, 1, 65536), (64, 32, 100), (2,)])
def test_small_chunk_sizes_that_change_between_messages(sizes: tuple[int, ...]) -> None:
    writer, data, wanted = ChunkWriter(), b"", []
    for number in range(12):
        told = sizes[number % len(sizes)]
        data += writer.write(2, 1, 0, 0, struct.pack(">I", told))
        writer.chunk_size = told
        wanted.append(Message(9, number * 40, 1, bytes((number,)) * 300))
        data += writer.write(6, 9, number * 40, 1, wanted[-1].payload)
    assert feed_all_ways(fresh, data) == wanted


@given(st.integers(0, 0xFFFFFFFF), st.binary(max_size=700), st.sampled_from([128, 300, 65536]))
def test_shared_messages_can_be_joined_at_any_point(time: int, body: bytes, size: int) -> None:
    shared = shared_message(6, 9, time, body, size)
    data = chunk_size(size) + shared + full(3, 0, 1, 20, 0) + b"c" + shared + shared
    media = Message(9, time, 1, body)
    assert feed_all_ways(fresh, data) == [media, Message(20, 0, 0, b"c"), media, media]


def test_writer_refuses_values_that_do_not_fit_a_header() -> None:
    for csid, body in ((1, b""), (64, b""), (6, bytes(1 << 24))):
        with pytest.raises(LocalProtocolError):
            shared_message(csid, 9, 0, body)


@given(st.binary(max_size=600), st.integers(1, 64))
def test_arbitrary_bytes_are_read_or_refused(data: bytes, size: int) -> None:
    reader = ChunkReader(max_pending=4096, max_message=2048)
    try:
        for i in range(0, len(data), size):
            reader.receive(data[i : i + size])
            assert reader.pending <= 4096
    except RemoteProtocolError:
        pass


@settings(max_examples=50)
@given(st.data())
def test_broken_streams_give_the_same_result_for_any_cuts(data: Any) -> None:
    writer = ChunkWriter()
    stream = bytearray(b"".join(writer.write(c, 9, t * 40, 1, bytes(t * 97)) for t in range(6) for c in (4, 6)))
    for _ in range(data.draw(st.integers(0, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))

    def read(step: int) -> tuple[list[Message], bool]:
        reader, out = ChunkReader(), []
        try:
            for i in range(0, len(stream), step):
                out += reader.receive(bytes(stream[i : i + step]))
        except RemoteProtocolError:
            return [], True
        return out, False

    assert read(len(stream)) == read(1) == read(13)
