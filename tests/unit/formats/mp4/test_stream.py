"""Growing fragmented MP4: recordings of Chromium, forms that ffmpeg writes, and invalid data."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.mp4.box import box, full_box
from gateway.formats.mp4.entries import MAX_TRACKS
from gateway.formats.mp4.fragment import Mp4Sample, fragment
from gateway.formats.mp4.init import FTYP, TrackInit, movie_init
from gateway.formats.mp4.stream import FragmentReader
from gateway.formats.recording import Event, Packet, RecordingOpened
from gateway.media import aac, opus
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support.builders import AUDIO, VIDEO
from tests.support.feeding import feed_all_ways
from tests.support.recorded import OPUS, capture, described, pieces, read

SOUND = MediaTrack(Kind.AUDIO, Codec.OPUS, 48_000, OPUS)
MOVIE = movie_init([TrackInit(VIDEO, 1, 90_000), TrackInit(AUDIO, 2, 44_100)])


def pictures(count: int = 3, *, cts: int = 0) -> list[Mp4Sample]:
    return [Mp4Sample(3000, cts, n == 0, b"picture%d" % n) for n in range(count)]


def sounds(count: int = 3) -> list[Mp4Sample]:
    return [Mp4Sample(1024, 0, True, b"sound%d" % n) for n in range(count)]


def events(data: bytes) -> list[Event]:
    return FragmentReader().receive(data)


def opened(data: bytes) -> RecordingOpened:
    event = events(data)[0]
    assert isinstance(event, RecordingOpened)
    return event


def packets(data: bytes) -> list[Packet]:
    return [e for e in events(data) if isinstance(e, Packet)]


def with_edits(movie: bytes, *edits: tuple[int, int], wide: bool = False) -> bytes:
    """Adds an edit list to the first trak. edits: (duration in the movie's ticks, media time) of each."""
    form = ">QqHH" if wide else ">IiHH"
    body = b"".join(struct.pack(form, duration, time, 1, 0) for duration, time in edits)
    edts = box(b"edts", full_box(b"elst", int(wide), 0, len(edits).to_bytes(4, "big"), body))
    at = movie.index(b"mdia") - 4
    grown = bytearray(movie[:at] + edts + movie[at:])
    for kind in (b"moov", b"trak"):
        start = grown.index(kind) - 4
        size = int.from_bytes(grown[start : start + 4], "big") + len(edts)
        grown[start : start + 4] = size.to_bytes(4, "big")
    return bytes(grown)


# ---- what browsers send ----


@pytest.mark.parametrize("name", ["h264.mp4", "turn-avc3.mp4"])
def test_a_recording_is_read_equally_in_pieces_of_any_size(name: str) -> None:
    found = feed_all_ways(lambda: FragmentReader().receive, capture(name))
    assert sum(isinstance(e, Packet) for e in found) > 50


@pytest.mark.parametrize(("name", "coding"), [("h264.mp4", Codec.H264), ("av1.mp4", Codec.AV1)])
def test_all_tracks_and_samples_of_chromium_recordings_are_read(name: str, coding: Codec) -> None:
    found, samples = read(capture(name))
    assert found.video is not None
    assert found.audio is not None
    assert (found.video.coding, found.audio.coding, found.audio.timescale) == (coding, Codec.OPUS, 48_000)
    assert opus.parse_head(found.audio.config).pre_skip == 0
    shown = [p for p in samples if p.track is found.video]
    assert 57 <= len(shown) <= 61
    assert sum(p.key for p in shown) == 3
    assert 48 <= len(samples) - len(shown) <= 52


def test_samples_of_both_tracks_are_in_order_of_time() -> None:
    _, samples = read(capture("h264.mp4"))
    times = [p.time / p.track.timescale for p in samples]
    assert times == sorted(times)
    assert {p.track.kind for p in samples[:4]} == {Kind.VIDEO, Kind.AUDIO}


# ---- forms ----


def test_samples_keep_their_times_and_composition_offsets() -> None:
    made = [Mp4Sample(3000, 6000, True, b"I"), Mp4Sample(3000, 12_000, False, b"P"), Mp4Sample(3000, 0, False, b"B")]
    found = packets(MOVIE + fragment(1, 1, 9000, made))
    assert [(p.time, p.cts, p.key, p.payload) for p in found] == [
        (9000, 6000, True, b"I"),
        (12_000, 12_000, False, b"P"),
        (15_000, 0, False, b"B"),
    ]


def test_negative_offsets_shift_decode_times_but_not_presentation_times() -> None:
    made = [Mp4Sample(3000, 0, True, b"I"), Mp4Sample(3000, 6000, False, b"P"), Mp4Sample(3000, -3000, False, b"B")]
    data = MOVIE + fragment(1, 1, 9000, made) + fragment(2, 1, 18_000, made[:2]) + fragment(3, 2, 0, sounds(1))
    found = [p for p in packets(data) if p.track.kind is Kind.VIDEO]
    assert [p.time for p in found] == [6000, 9000, 12_000, 15_000, 18_000]
    assert [p.time + p.cts for p in found] == [9000, 18_000, 12_000, 18_000, 27_000]


def test_samples_of_a_fragment_are_given_when_its_last_byte_arrives() -> None:
    reader = FragmentReader()
    data = MOVIE + fragment(1, 1, 0, pictures(), styp=True)
    assert [type(e) for e in reader.receive(data[:-1])] == [RecordingOpened]
    assert len(reader.receive(data[-1:])) == 3


def test_absolute_data_offsets_are_supported() -> None:
    # ffmpeg without default_base_moof: base_data_offset, absolute.
    first, second = fragment(1, 1, 0, pictures()), fragment(2, 1, 9000, pictures())

    def absolute(piece: bytes, position: int) -> bytes:
        moof = int.from_bytes(piece[:4], "big")
        at = piece.index(b"tfhd") - 4
        size, flags = int.from_bytes(piece[at : at + 4], "big"), int.from_bytes(piece[at + 9 : at + 12], "big")
        flags = (flags | 1) & ~0x020000
        tfhd = (size + 8).to_bytes(4, "big") + b"tfhd\0" + flags.to_bytes(3, "big") + piece[at + 12 : at + 16]
        tfhd += position.to_bytes(8, "big") + piece[at + 16 : at + size]
        grown = bytearray(piece[:at] + tfhd + piece[at + size :])
        grown[0:4] = (moof + 8).to_bytes(4, "big")
        traf = grown.index(b"traf") - 4
        grown[traf : traf + 4] = (int.from_bytes(grown[traf : traf + 4], "big") + 8).to_bytes(4, "big")
        trun = grown.index(b"trun") - 4
        offset = int.from_bytes(grown[trun + 16 : trun + 20], "big") + 8
        grown[trun + 16 : trun + 20] = offset.to_bytes(4, "big")
        return bytes(grown)

    start = len(MOVIE)
    moved = absolute(first, start)
    data = MOVIE + moved + absolute(second, start + len(moved))
    assert [described(e) for e in feed_all_ways(lambda: FragmentReader().receive, data)] == [
        described(e) for e in events(MOVIE + first + second)
    ]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("edits", "moved"),
    [([(0, 6000)], -6000), ([(500, -1), (0, 0)], 500), ([(90, -1), (0, 3000)], 90 - 3000), ([(90, -1)], 90)],
)
def test_edit_lists_shift_the_times_of_a_track(edits: list[tuple[int, int]], moved: int, wide: bool) -> None:
    # The movie's ticks are the first track's: 90 kHz.
    found = packets(with_edits(MOVIE, *edits, wide=wide) + fragment(1, 1, 0, pictures()) + fragment(2, 2, 0, sounds()))
    assert [p.time for p in found if p.track.kind is Kind.VIDEO] == [moved, moved + 3000, moved + 6000]
    assert [p.time for p in found if p.track.kind is Kind.AUDIO] == [0, 1024, 2048]


def test_unneeded_boxes_are_skipped_at_any_place() -> None:
    free, index = box(b"free", bytes(300)), box(b"sidx", bytes(40))
    long = (1).to_bytes(4, "big") + b"uuid" + (40).to_bytes(8, "big") + bytes(24)
    piece = fragment(1, 1, 0, pictures())
    data = FTYP + free + MOVIE[len(FTYP) :] + index + long + piece + free + box(b"mdat", b"stray") + piece
    assert len(packets(data)) == 6
    feed_all_ways(lambda: FragmentReader().receive, data)


def test_a_second_recording_in_one_push_is_opened() -> None:
    other = movie_init([TrackInit(SOUND, 7, 48_000)])
    found = events(MOVIE + fragment(1, 1, 0, pictures(1)) + other + fragment(1, 7, 960, sounds(1)))
    assert [type(e) for e in found] == [RecordingOpened, Packet, RecordingOpened, Packet]
    assert isinstance(found[2], RecordingOpened)
    assert found[2].video is None


def test_empty_samples_and_additional_tracks_are_ignored() -> None:
    movie = movie_init([TrackInit(VIDEO, 1, 90_000), TrackInit(VIDEO, 3, 90_000)])
    data = movie + fragment(1, 1, 0, [Mp4Sample(3000, 0, True, b""), Mp4Sample(3000, 0, False, b"b")])
    assert [(p.time, p.payload) for p in packets(data + fragment(2, 3, 0, pictures()))] == [(3000, b"b")]


def test_aac_and_mp3_in_mp4a_entries_are_distinguished() -> None:
    assert opened(MOVIE).audio == replace_lane(AUDIO.config, Codec.AAC, 44_100)
    aac.parse_asc(AUDIO.config)
    mp3 = MOVIE.replace(b"\x40\x15\0\0\0", b"\x6b\x15\0\0\0")
    assert mp3 != MOVIE
    assert opened(mp3).audio == replace_lane(b"", Codec.MP3, 44_100)


def replace_lane(config: bytes, coding: Codec, timescale: int) -> object:
    lane = opened(MOVIE).audio
    assert lane is not None
    return replace(lane, config=config, coding=coding, timescale=timescale)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((b"avc1", b"encv"), "video: encv"),
        ((b"avcC", b"junk"), "video: avcC of 0 bytes"),
        ((b"mp4a", b"enca"), "audio: enca"),
        ((b"esds", b"junk"), "audio: MP4: no descriptor 3"),
        ((b"\x40\x15\0\0\0", b"\xa9\x15\0\0\0"), "audio: mp4a.A9"),
        ((b"stsd", b"junk"), "no mdia/minf/stbl/stsd"),
    ],
)
def test_an_unusable_track_is_left_out_with_a_reason(change: tuple[bytes, bytes], says: str) -> None:
    assert change[0] in MOVIE
    found = opened(MOVIE.replace(change[0], change[1], 1))
    assert any(says in line for line in found.left_out), found.left_out
    assert (found.video is None) or (found.audio is None)


# ---- what nobody should send ----


def _moof() -> bytes:
    piece = fragment(1, 1, 0, pictures())
    return piece[: int.from_bytes(piece[:4], "big")]


def _without_mvex() -> bytes:
    return MOVIE.replace(b"mvex", b"free")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (_without_mvex(), "not fragmented"),
        (FTYP + box(b"mdat", b"film"), "before its header"),
        (FTYP + fragment(1, 1, 0, pictures()), "before the header"),
        (FTYP + (0).to_bytes(4, "big") + b"free", "0 bytes"),
        (FTYP + (7).to_bytes(4, "big") + b"free", "7 bytes"),
        (FTYP + (1 << 31).to_bytes(4, "big") + b"free", "bytes"),
        (FTYP + (1 << 21).to_bytes(4, "big") + b"moov", "bytes"),
        (MOVIE + (1 << 23).to_bytes(4, "big") + b"moof", "bytes"),
        (MOVIE + _moof() + (1 << 30).to_bytes(4, "big") + b"mdat", "box b'mdat' of"),
        (MOVIE + fragment(1, 1, (1 << 64) - 5, pictures()), "a sample of"),
        (FTYP + box(b"moov"), "not fragmented"),
        (FTYP + box(b"moov", box(b"mvex")), "no mvhd"),
        (MOVIE + box(b"moof", box(b"traf")) + box(b"mdat"), "tfhd"),
    ],
)
def test_invalid_or_oversized_data_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InvalidData, match=says):
        events(data)


def test_too_many_tracks_are_refused() -> None:
    many = movie_init([TrackInit(AUDIO, n + 1, 44_100) for n in range(MAX_TRACKS + 1)])
    with pytest.raises(InvalidData, match=f"{MAX_TRACKS + 1} tracks"):
        events(many)


def test_a_long_run_of_empty_samples_is_refused() -> None:
    trun = full_box(b"trun", 0, 0, (60_000).to_bytes(4, "big"))
    tfhd = full_box(b"tfhd", 0, 0x020010, (1).to_bytes(4, "big"), bytes(4))
    moof = box(b"moof", full_box(b"mfhd", 0, 0, bytes(4)), box(b"traf", tfhd, trun))
    with pytest.raises(InvalidData, match="60000 samples"):
        events(MOVIE + moof + box(b"mdat"))


def test_overlapping_samples_are_refused() -> None:
    trun = full_box(b"trun", 0, 0x201, (1).to_bytes(4, "big"), (8).to_bytes(4, "big"), (150).to_bytes(4, "big"))
    tfhd = full_box(b"tfhd", 0, 0x020000, (1).to_bytes(4, "big"))
    moof = box(b"moof", box(b"traf", tfhd, *[trun] * 20))
    with pytest.raises(InvalidData, match="150 bytes"):
        events(MOVIE + moof + box(b"mdat", bytes(200)))


def test_a_large_declared_size_allocates_no_memory() -> None:
    reader = FragmentReader()
    reader.receive(MOVIE + fragment(1, 1, 0, pictures()))
    assert reader._buffer == b""
    reader.receive((16_000_000).to_bytes(4, "big") + b"free" + bytes(1000))
    assert reader._buffer == b""


@given(st.binary(max_size=200))
def test_any_bytes_after_a_valid_header_are_read_or_refused(data: bytes) -> None:
    reader = FragmentReader()
    reader.receive(MOVIE + fragment(1, 1, 0, pictures()))
    try:
        for piece in pieces(data, 3):
            reader.receive(piece)
    except InvalidData:
        return
    assert len(reader._buffer) <= len(data)
