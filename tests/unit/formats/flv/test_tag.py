"""FLV byte streams in pieces of any size become tags and events."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats import amf0
from gateway.formats.flv import muxer
from gateway.formats.flv import tag as numbers
from gateway.formats.flv.demuxer import parse_script
from gateway.formats.flv.tag import AUDIO, SCRIPT, VIDEO, AudioPacket, FrameType, ScriptTag, VideoPacket
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Codec, MediaTrack
from tests.support.feeding import feed_all_ways
from tests.support.flv_reader import FlvFileDemuxer, FlvReader, Tag

HEADER = muxer.file_header(True, True)


def receive() -> Any:
    return FlvReader().receive


def test_constants_equal_those_of_the_specifications() -> None:
    """FLV 10.1 E.4.2 and E.4.3, Enhanced RTMP v2. Round-trip tests would not find a wrong constant."""
    assert (AUDIO, VIDEO, SCRIPT) == (8, 9, 18)
    assert (numbers.AVC, numbers.HEVC) == (7, 12)
    assert (numbers.EX_AUDIO, numbers.AAC, numbers.MP3, numbers.MP3_8K) == (9, 10, 2, 14)
    assert [frame.name for frame in FrameType] == ["KEY", "INTER", "DISPOSABLE", "GENERATED_KEY", "COMMAND"]
    assert [frame.value for frame in FrameType] == [1, 2, 3, 4, 5]
    assert {packet.name: packet.value for packet in VideoPacket} == {
        "SEQUENCE_START": 0,
        "CODED_FRAMES": 1,
        "SEQUENCE_END": 2,
        "CODED_FRAMES_X": 3,
        "METADATA": 4,
        "MPEG2TS_SEQUENCE_START": 5,
        "MULTITRACK": 6,
        "MOD_EX": 7,
    }
    assert {packet.name: packet.value for packet in AudioPacket} == {
        "SEQUENCE_START": 0,
        "CODED_FRAMES": 1,
        "SEQUENCE_END": 2,
        "MULTICHANNEL_CONFIG": 4,
        "MULTITRACK": 5,
        "MOD_EX": 7,
    }


def test_tags_are_read_from_pieces_of_any_size() -> None:
    tags = [Tag(SCRIPT, 0, b"s"), Tag(VIDEO, 1, b"v" * 300), Tag(AUDIO, 0xFFFFFFFF, b""), Tag(VIDEO, 0x01020304, b"w")]
    data = HEADER + b"".join(muxer.tag(t.type_id, t.timestamp, t.payload) for t in tags)
    assert feed_all_ways(receive, data) == tags
    assert feed_all_ways(receive, data + b"\x09\0\0\x05") == tags


def test_wrong_previous_tag_sizes_and_unknown_tag_types_are_ignored() -> None:
    odd = muxer.tag(15, 0, b"?" * 40)
    data = HEADER[:9] + b"\xff\xff\xff\xff" + muxer.tag(VIDEO, 0, b"v")[:-4] + b"abcd" + odd + muxer.tag(VIDEO, 1, b"w")
    assert feed_all_ways(receive, data) == [Tag(VIDEO, 0, b"v"), Tag(VIDEO, 1, b"w")]


def test_a_longer_file_header_is_skipped() -> None:
    data = b"FLV\x01\x05\0\0\0\x0b" + b"xx" + bytes(4) + muxer.tag(VIDEO, 0, b"v")
    assert feed_all_ways(receive, data) == [Tag(VIDEO, 0, b"v")]


def test_header_flags_are_read() -> None:
    reader = FlvReader()
    reader.receive(muxer.file_header(True, False))
    assert (reader.has_video, reader.has_audio) == (True, False)


@pytest.mark.parametrize(
    "data",
    [
        b"X",
        b"FLX",
        b"FLV\x01\x05\0\0\0\x08",
        b"FLV\x01\x05\xff\0\0\x08",
        HEADER + b"\x09\xff\xff\xff" + bytes(7),
        HEADER + b"\x29\0\0\x01" + bytes(7),
    ],
)
def test_data_that_is_not_flv_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidData):
        FlvReader().receive(data)


def test_file_demuxer_yields_scripts_tracks_and_frames() -> None:
    avcc = b"\x01\x64\x00\x1f\xff\xe1\x00\x00"
    script = amf0.encode("onMetaData", amf0.EcmaArray(width=2.0))
    data = HEADER + b"".join(
        (
            muxer.tag(SCRIPT, 0, script),
            muxer.tag(VIDEO, 0, b"\x17\0\0\0\0" + avcc),
            muxer.tag(VIDEO, 40, b"\x17\x01\0\0\0nalu"),
            muxer.tag(VIDEO, 80, b"\x17"),
            muxer.tag(AUDIO, 80, b"\xaf\x00\x12\x10"),
        )
    )
    events = feed_all_ways(lambda: FlvFileDemuxer().receive, data)
    assert [type(e) for e in events] == [ScriptTag, MediaTrack, AccessUnit, MediaTrack]
    assert events[0].values == ({"width": 2.0},)
    assert events[2].payload == b"nalu"
    assert events[3].codec is Codec.AAC


def test_broken_bodies_are_counted_and_skipped() -> None:
    demux = FlvFileDemuxer()
    assert demux.receive(HEADER + muxer.tag(VIDEO, 0, b"\x17") + muxer.tag(SCRIPT, 0, b"\xff")) == []
    assert demux.broken == 2


def test_set_data_frame_is_removed_and_its_values_are_kept() -> None:
    rest = b"\x08\0\0\0\x07" + amf0.encode({"a": 1.0})[1:]
    for body in (amf0.encode("onMetaData") + rest, amf0.encode("@setDataFrame", "onMetaData") + rest):
        assert parse_script(7, body) == ScriptTag(7, "onMetaData", ({"a": 1.0},), rest)


@pytest.mark.parametrize("body", [b"", b"\x05", amf0.encode("@setDataFrame"), amf0.encode("@setDataFrame", 1)])
def test_script_data_without_a_name_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidData):
        parse_script(0, body)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    for prefix in (b"", HEADER):
        with contextlib.suppress(InvalidData):
            FlvFileDemuxer().receive(prefix + data)
