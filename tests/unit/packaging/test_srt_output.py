"""The transport stream of SRT players, as a feed writes it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.formats.script_data import PRIVATE_DATA
from gateway.formats.ts.data_units import DataUnit
from gateway.formats.ts.program_reader import ProgramReader, ProgramTracks, ProgramUnit
from gateway.formats.ts.program_tables import StreamEntry, StreamUse
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.timed_data import AdCue, CaptionText, CueType, Metadata, PrivateData, Script
from gateway.media.track import Codec, Kind, MediaTrack, TimedData, Tracks
from gateway.packaging.feed import Feed, FeedCounts
from gateway.packaging.flv_output import FlvRendering
from gateway.packaging.rtmp_output import RtmpRendering
from gateway.packaging.ts.continuous import TsRendering, can_carry
from gateway.packaging.viewer import Viewer
from gateway.playback.framing import SRT
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, picture, sound
from tests.support.packets import assert_counters, packets
from tests.support.splices import cue, pts_of, time_signal


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


def _playing(tracks: tuple[MediaTrack, MediaTrack] = (VIDEO, AUDIO)) -> tuple[Stream, Feed]:
    stream = builders.stream()
    stream.set_tracks(*tracks, {}, True)
    return stream, Feed(stream, TsRendering(), 0.05, 30.0, FeedCounts())


def _join(feed: Feed) -> tuple[Wire, Viewer]:
    wire = Wire()
    viewer = Viewer(wire, SRT, 100_000, "127.0.0.1", lambda reason: None)
    feed.join(viewer)
    return wire, viewer


def _units(wire: Wire) -> list[tuple[Kind, Codec, bool]]:
    reader = ProgramReader()
    events = reader.receive(wire.written) + reader.finish()
    units = [event.unit for event in events if isinstance(event, ProgramUnit)]
    return [(unit.track.kind, unit.track.codec, unit.key) for unit in units]


def _push(stream: Stream, track: MediaTrack = VIDEO, at: int = 0) -> None:
    """Pushes a key frame of one NAL unit, another picture, and a sound."""
    for dts, kind in ((at, b"\x65"), (at + 33, b"\x41")):
        unit = picture(dts, kind == b"\x65", track=track)
        unit.payload = (61).to_bytes(4, "big") + kind + b"\xab" * 60
        stream.push(unit)
    stream.push(sound(at + 40))


async def test_the_first_player_gets_the_key_frame_that_came_before_it() -> None:
    stream, feed = _playing()
    _push(stream)

    wire, _ = _join(feed)

    assert [unit for unit in _units(wire) if unit[0] is Kind.VIDEO] == [
        (Kind.VIDEO, Codec.H264, True),
        (Kind.VIDEO, Codec.H264, False),
    ]


@pytest.mark.parametrize("units", [1, 40])
async def test_the_first_tables_of_a_player_continue_with_the_next_ones(units: int) -> None:
    stream, feed = _playing()
    _join(feed)
    for n in range(units):
        _push(stream, at=2_000 * n)
        stream.push(sound(2_000 * n + 500))
        stream.push(sound(2_000 * n + 1_000))

    wire, _ = _join(feed)
    _push(stream, at=100_000)
    feed.flush()

    found = packets(wire.written)
    assert_counters([packet for packet in found if packet.pid in (0, 0x1000)])
    assert [packet.pid for packet in found[:2]] == [0, 0x1000]
    feed.close(EndReason.OUTPUT_OFF)


async def test_a_player_after_a_change_without_players_gets_the_new_tracks() -> None:
    stream, feed = _playing()
    _push(stream)
    _, first = _join(feed)
    feed.leave(first)
    stream.set_tracks(VIDEO, MediaTrack(Kind.AUDIO, Codec.MP3, 1000, b""), {}, False)
    _push(stream)

    wire, _ = _join(feed)

    tables = wire.written[188:376]
    assert bytes((0x03, 0xE1, 0x01)) in tables, "the table of the program announces MP3"
    feed.close(EndReason.OUTPUT_OFF)


@pytest.mark.parametrize(("codec", "expected"), [(Codec.H264, True), (Codec.H265, True), (Codec.AV1, False)])
def test_only_some_pictures_can_be_carried(codec: Codec, expected: bool) -> None:
    assert can_carry(Tracks(MediaTrack(Kind.VIDEO, codec, 1000, b""), AUDIO, 1)) is expected


def test_without_pictures_the_sound_decides() -> None:
    opus = MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, b"")

    assert can_carry(Tracks(None, AUDIO, 1))
    assert not can_carry(Tracks(None, opus, 1))
    assert can_carry(Tracks(VIDEO, opus, 1))


# ---- cues, metadata and private data ----


def _timed_events() -> list[TimedData]:
    klv = PrivateData(0x1F1, 0x06, b"\x05\x04KLVA", 60, b"\x06\x0e\x2b\x34klv")
    other = PrivateData(0x1F2, 0x06, b"\x0d\x01\x02", None, b"?" * 300)
    return [
        TimedData(50, Metadata("hello")),
        cue(CueType.OUT, 2000, dts=50, data=time_signal(5)),
        TimedData(60, klv),
        TimedData(60, other),
        TimedData(60, CaptionText("x", 60)),
        TimedData(70, Metadata("again")),
    ]


def _program(data: bytes) -> tuple[list[StreamEntry], list[DataUnit]]:
    reader = ProgramReader()
    events = reader.receive(data) + reader.finish()
    programs = [event for event in events if isinstance(event, ProgramTracks)]
    return list(programs[-1].streams), [event for event in events if isinstance(event, DataUnit)]


async def test_players_get_cues_metadata_and_private_data_on_their_own_pids() -> None:
    stream, feed = _playing()
    first, _ = _join(feed)
    _push(stream)
    for timed in _timed_events():
        stream.push_timed(timed)
    feed.flush()
    wire, _ = _join(feed)  # its first tables have all streams

    streams, units = _program(wire.written)
    assert [(s.pid, s.stream_type, s.use) for s in streams[2:]] == [
        (0x102, 0x15, StreamUse.PRIVATE), (0x103, 0x86, StreamUse.SCTE35),
        (0x110, 0x06, StreamUse.KLV), (0x111, 0x06, StreamUse.PRIVATE),
    ]  # fmt: skip
    by_pid = {pid: [unit for unit in units if unit.pid == pid] for pid in (0x102, 0x103, 0x110, 0x111)}
    assert [unit.pts for unit in by_pid[0x102]] == [50 * 90 + 9000, 70 * 90 + 9000]
    assert pts_of(by_pid[0x103][0].payload) == 2000 * 90 + 9000
    assert [(u.pts, u.payload) for u in by_pid[0x110]] == [(60 * 90 + 9000, b"\x06\x0e\x2b\x34klv")]
    assert [(u.pts, u.payload) for u in by_pid[0x111]] == [(None, b"?" * 300)]
    for each in (first, wire):
        assert_counters([p for p in packets(each.written) if p.pid not in (0, 0x1000)])


async def test_data_of_a_transport_stream_keeps_its_times_to_the_tick() -> None:
    stream, feed = _playing()
    _join(feed)
    _push(stream)
    klva = PrivateData(0x1F1, 0x06, b"\x05\x04KLVA", 4513, b"\x06\x0e\x2b\x34klv")
    for value in (Metadata("x"), AdCue(CueType.OUT, "1", 180_007, None, time_signal(5)), klva):
        stream.push_timed(TimedData(4511, value, 90_000))
    feed.flush()
    wire, _ = _join(feed)
    (metadata, section, klv) = _program(wire.written)[1]
    assert (metadata.pts, pts_of(section.payload), klv.pts) == (4511 + 9000, 180_007 + 9000, 4513 + 9000)


async def test_a_later_player_and_new_tracks_have_the_tables_with_data() -> None:
    stream, feed = _playing()
    _join(feed)
    _push(stream)
    for timed in _timed_events():
        stream.push_timed(timed)
    feed.flush()
    late, _ = _join(feed)
    assert {entry.pid for entry in _program(late.written)[0]} >= {0x102, 0x103, 0x110, 0x111}

    stream.set_tracks(replace(VIDEO, config=VIDEO.config + b""), replace(AUDIO, config=b"\x11\x90"), {}, False)
    _push(stream)
    feed.flush()
    assert {entry.pid for entry in _program(late.written)[0]} >= {0x102, 0x103, 0x110, 0x111}
    versions = [p.payload[6] >> 1 & 31 for p in packets(late.written) if p.pid == 0x1000]
    assert versions == [4, 0, 1, 2, 3, 4, *[4] * (len(versions) - 6)] and len(versions) > 6


def test_the_first_player_gets_tables_with_the_data_that_came_before_it() -> None:
    stream, _ = _playing()
    for timed in (*_timed_events(), *(TimedData(n, Metadata("x")) for n in range(99))):
        stream.push_timed(timed)
    stream.push_timed(TimedData(0, Script("onDamaged", b"\x02")))
    for n in range(20):
        stream.push_timed(TimedData(0, Script(f"onName{n}", b"")))
    rendering = TsRendering(stream.latest_timed.values)
    tables = rendering.render_head(Tracks(VIDEO, AUDIO), 0)
    assert {entry.pid for entry in _program(tables * 2 + b"\x47\x1f\xff\x10" + b"\0" * 184)[0]} == {
        0x100, 0x101, 0x102, 0x103, 0x110,
    }  # fmt: skip
    assert len(stream.latest_timed) == 16


def test_damaged_and_endless_private_data_has_no_pid() -> None:
    rendering = TsRendering()
    rendering.render_head(Tracks(VIDEO, AUDIO), 0)
    assert rendering.render_timed(TimedData(0, Script(PRIVATE_DATA, b"\x02"))) == b""
    assert rendering.render_timed(TimedData(0, PrivateData(1, 6, b"x" * 17, 0, b""))) == b""
    assert rendering.render_timed(TimedData(0, PrivateData(1, 6, b"", 0, b"x" * 0x10000))) == b""
    made = [rendering.render_timed(TimedData(0, PrivateData(n, 6, b"x" * 16, 0, b"x"))) for n in range(9)]
    assert [bool(data) for data in made] == [True] * 4 + [False] * 5
    for timed in _timed_events():
        rendering.render_timed(timed)
    tables = rendering.render_head(Tracks(VIDEO, AUDIO), 0)
    assert len(tables) == 2 * 188 and len(_program(tables + tables + b"\x47\x1f\xff\x10" + b"\0" * 184)[0]) == 8


def test_nothing_is_written_without_tracks() -> None:
    assert TsRendering().render_timed(TimedData(0, Metadata("x"))) == b""


@pytest.mark.parametrize("rendering", [FlvRendering(), RtmpRendering()], ids=["flv", "rtmp"])
def test_flv_and_rtmp_leave_private_data_out(rendering: FlvRendering | RtmpRendering) -> None:
    assert rendering.render_timed(TimedData(0, PrivateData(1, 6, b"", 0, b"x"))) == b""
    assert rendering.render_timed(TimedData(0, Metadata("x")))
