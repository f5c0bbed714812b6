"""Frames between the gateway and its media workers."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.lib.bounded_json import MAX_NUMBER
from gateway.media.errors import InvalidData
from gateway.media.timed_data import AdCue, CaptionText, CueType, Metadata, PrivateData, Script, TimedValue
from gateway.media.track import AccessUnit, Codec, Kind, MadeSilence, MediaTrack, TimedData, Tracks
from gateway.protocols import wire
from gateway.protocols.wire import Framer, StreamMessage
from tests.support.builders import AUDIO, VIDEO, picture, sound
from tests.support.feeding import feed_all_ways

amf = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_frames_arrive_however_the_bytes_are_cut() -> None:
    frames = [(1, b"tracks"), (2, b""), (255, bytes(300))]
    data = b"".join(wire.frame(kind, body) for kind, body in frames)
    assert feed_all_ways(lambda: Framer().receive, data) == frames


def test_bytes_after_the_last_whole_frame_wait() -> None:
    framer = Framer()
    assert framer.receive(wire.frame(9, b"body") + b"\0\0\0") == [(9, b"body")]
    assert framer.pending == 3


@pytest.mark.parametrize("length", [0, 101, 0xFFFFFFFF])
def test_an_empty_or_too_large_frame_is_refused(length: int) -> None:
    with pytest.raises(InvalidData, match=f"frame of {length} bytes"):
        Framer(100).receive(struct.pack(">IB", length, 1))


@pytest.mark.parametrize(("kind", "size"), [(-1, 0), (256, 0), (1, wire.MAX_FRAME)])
def test_a_frame_that_cannot_be_read_is_not_written(kind: int, size: int) -> None:
    with pytest.raises(ValueError, match="a frame of kind"):
        wire.header(kind, size)


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=50)), max_size=8), st.integers(1, 20))
def test_random_frames_in_random_pieces_are_read_unchanged(frames: list[tuple[int, bytes]], step: int) -> None:
    data = b"".join(wire.frame(kind, body) for kind, body in frames)
    framer = Framer()
    assert [f for at in range(0, len(data), step) for f in framer.receive(data[at : at + step])] == frames
    assert framer.pending == 0


@given(
    st.integers(1 - 2**53, 2**53 - 1), st.integers(-(2**31), 2**31 - 1), st.booleans(),
    st.floats(0, 9e10), st.binary(max_size=30), st.integers(1, 0xFFFF),
)  # fmt: skip
def test_a_unit_is_transferred_unchanged(dts: int, cts: int, key: bool, wall: float, payload: bytes, to: int) -> None:
    unit = AccessUnit(VIDEO, dts, cts, key, wall, payload)
    body = wire.encode_unit(unit, to)
    assert wire.decode_unit(body, Tracks(VIDEO, AUDIO)) == unit
    assert wire.destination(body) == to


def test_a_unit_finds_its_track() -> None:
    tracks = Tracks(VIDEO, AUDIO)
    assert wire.decode_unit(wire.encode_unit(sound(20)), tracks).track is AUDIO
    assert wire.decode_unit(wire.encode_unit(picture(20)), tracks).track is VIDEO


def test_silence_that_the_gateway_made_is_known_as_such_at_another_node() -> None:
    """The health of a forwarded push then tells that its sound pauses, instead of measuring this silence."""
    made = MadeSilence(AUDIO, 20, 0, True, 1.7e9, b"silence")
    assert wire.decode_unit(wire.encode_unit(made), Tracks(VIDEO, AUDIO)) == made


@pytest.mark.parametrize("tracks", [None, Tracks(VIDEO, None)])
def test_a_unit_of_a_track_that_was_not_announced_is_refused(tracks: Tracks | None) -> None:
    with pytest.raises(InvalidData, match="not announced"):
        wire.decode_unit(wire.encode_unit(sound(20)), tracks)


@pytest.mark.parametrize(
    ("dts", "wall"), [(2**53, 0.0), (-(2**63), 0.0), (0, math.nan), (0, math.inf), (0, 1e300), (0, -1e11)]
)
def test_a_unit_at_a_time_that_no_stream_has_is_refused(dts: int, wall: float) -> None:
    with pytest.raises(InvalidData, match="a unit at"):
        wire.decode_unit(wire.encode_unit(AccessUnit(VIDEO, dts, 0, True, wall, b"")), Tracks(VIDEO, None))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("NaN", 0.0),
        ("Infinity", MAX_NUMBER),
        ("-1e999", -MAX_NUMBER),
        ("9" * 5000, MAX_NUMBER),
        ("-7", -7),
        ("1.5", 1.5),
    ],
)
def test_numbers_from_other_processes_are_bounded(text: str, number: float) -> None:
    assert wire.read_json(b'{"a":[' + text.encode() + b"]}") == {"a": [number]}


def test_times_that_do_not_fit_are_not_written() -> None:
    with pytest.raises(ValueError, match="does not fit a frame"):
        wire.encode_unit(AccessUnit(VIDEO, 1 << 70, 0, True, 0.0, b""))
    with pytest.raises(ValueError, match="does not fit a frame"):
        wire.encode_timed(TimedData(1 << 70, Script("onTextData", b"")))


@given(st.dictionaries(st.text(max_size=10), amf, max_size=4), st.integers(0, 2**40))
def test_tracks_are_transferred_with_their_metadata(metadata: dict[str, object], epoch: int) -> None:
    tracks = Tracks(VIDEO, AUDIO, epoch, metadata)  # type: ignore[arg-type]
    assert wire.decode_tracks(wire.encode_tracks(tracks, 7)) == tracks


def test_numbers_in_metadata_stay_floating_point_numbers() -> None:
    said = wire.decode_tracks(struct.pack(">H", 1) + b'{"epoch":0,"metadata":{"a":1,"b":[2],"c":true,"d":NaN}}')
    assert (said.metadata["a"], said.metadata["b"], said.metadata["c"]) == (1.0, [2.0], True)
    assert isinstance(said.metadata["a"], float)
    assert isinstance(said.metadata["d"], float) and math.isnan(said.metadata["d"])


def test_tracks_of_every_codec_are_transferred() -> None:
    for codec in Codec:
        track = MediaTrack(Kind.VIDEO, codec, 90_000, b"\x01")
        assert wire.decode_tracks(wire.encode_tracks(Tracks(track, None))).video == track


@pytest.mark.parametrize(
    "said",
    [
        b"", b"[]", b"{", b"1", b"\xff", b'{"epoch":true,"metadata":{}}', b'{"epoch":1}', b"[" * 100_000,
        b'{"epoch":1,"metadata":{},"video":1}', b'{"epoch":1,"metadata":{},"video":{"codec":"h264"}}',
        b'{"epoch":1,"metadata":{},"video":{"codec":"h264","timescale":0,"config":""}}',
        b'{"epoch":1,"metadata":{},"video":{"codec":"h264","timescale":true,"config":""}}',
        b'{"epoch":1,"metadata":{},"video":{"codec":"h264","timescale":1000,"config":"zz"}}',
        b'{"epoch":1,"metadata":{},"video":{"codec":"mpeg2","timescale":1000,"config":""}}',
        b'{"epoch":1,"metadata":{},"audio":{"codec":"aac","timescale":1000,"config":7}}',
    ],
)  # fmt: skip
def test_invalid_tracks_are_refused(said: bytes) -> None:
    with pytest.raises(InvalidData):
        wire.decode_tracks(b"\0\1" + said)


@given(st.integers(-(2**63), 2**63 - 1), st.text(max_size=50), st.binary(max_size=50))
def test_script_data_is_transferred_unchanged(dts: int, name: str, body: bytes) -> None:
    timed = TimedData(dts, Script(name, body))
    assert wire.decode_timed(wire.encode_timed(timed)) == timed


@pytest.mark.parametrize(
    "value",
    [
        Metadata("x"), AdCue(CueType.IN, "1", -323_999_993, 1.5, b"\xfc"), CaptionText("x", 4501, 9001, "de"),
        PrivateData(256, 6, b"\x05", 5_400_007, b"klv"), Script("onCuePoint", b"\5"),
    ],
)  # fmt: skip
def test_data_of_a_transport_stream_is_transferred_to_the_tick(value: TimedValue) -> None:
    timed = TimedData(7, value, 90_000)
    ((kind, body),) = Framer().receive(wire.timed_frame(timed))
    assert wire.decode_timed(body, kind) == timed
    ((kind, body),) = Framer().receive(wire.timed_frame(in_ms := timed.counted(1000)))
    assert (kind, body, wire.decode_timed(body)) == (StreamMessage.TIMED, wire.encode_timed(in_ms), in_ms)


@pytest.mark.parametrize("body", [b"", b"\0\1", bytes(10) + b"\0\5ab", bytes(10) + b"\0\1\xff"])
def test_script_data_that_are_cut_or_not_text_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidData):
        wire.decode_timed(body)


@pytest.mark.parametrize("body", [b"", b"\0", bytes(22)])
def test_a_unit_that_is_cut_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidData):
        wire.decode_unit(body, Tracks(VIDEO, AUDIO))


def test_an_end_message_has_its_destination() -> None:
    assert wire.destination(wire.encode_end(0x8001)) == 0x8001
    with pytest.raises(InvalidData):
        wire.destination(b"\1")


def test_common_message_kinds_leave_numbers_for_kinds_of_each_worker() -> None:
    assert max(StreamMessage) < 16
