"""The transport stream of SRT players, as a feed writes it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.formats.ts.program_reader import ProgramReader, ProgramUnit
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.packaging.feed import Feed, FeedCounts
from gateway.packaging.ts.continuous import TsRendering, can_carry
from gateway.packaging.viewer import Viewer
from gateway.playback.framing import SRT
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, picture, sound


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


def _push(stream: Stream, track: MediaTrack = VIDEO) -> None:
    """Pushes a key frame of one NAL unit, another picture, and a sound."""
    for dts, kind in ((0, b"\x65"), (33, b"\x41")):
        unit = picture(dts, kind == b"\x65", track=track)
        unit.payload = (61).to_bytes(4, "big") + kind + b"\xab" * 60
        stream.push(unit)
    stream.push(sound(40))


async def test_the_first_player_gets_the_key_frame_that_came_before_it() -> None:
    stream, feed = _playing()
    _push(stream)

    wire, _ = _join(feed)

    assert [unit for unit in _units(wire) if unit[0] is Kind.VIDEO] == [
        (Kind.VIDEO, Codec.H264, True),
        (Kind.VIDEO, Codec.H264, False),
    ]


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
