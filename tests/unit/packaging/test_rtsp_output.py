"""The packets of RTSP players, as a feed writes them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.packaging.feed import Feed, FeedCounts
from gateway.packaging.rtsp_output import Channels, RtspOutput
from gateway.packaging.viewer import Viewer
from gateway.playback.framing import RTSP
from gateway.protocols.rtp.packets import RtpPacket, parse_packet
from gateway.protocols.rtp.rtcp import SenderReport, parse
from gateway.protocols.rtsp.messages import split_interleaved
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, sound
from tests.support.builders import picture as damaged

BOTH: Channels = (0, 2)


def picture(dts: int, key: bool = False, cts: int = 0, track: MediaTrack = VIDEO) -> AccessUnit:
    """A picture of one NAL unit."""
    unit = bytes((0x65 if key else 0x41,)) + b"v" * 20
    return AccessUnit(track, dts, cts, key, 1.7e9, len(unit).to_bytes(4, "big") + unit)


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def packets(self, channel: int) -> list[bytes]:
        found = [packet for data in self.written for packet in split_interleaved(data)]
        return [packet.payload for packet in found if packet.channel == channel]

    def media(self, channel: int) -> list[RtpPacket]:
        parsed = [parse_packet(packet) for packet in self.packets(channel)]
        return [packet for packet in parsed if packet is not None]


class Lab:
    """A stream with its output `rtsp`. ended: the reasons for which players were ended."""

    def __init__(self, video: MediaTrack | None = VIDEO, audio: MediaTrack | None = AUDIO) -> None:
        self.stream: Stream = builders.stream()
        self.stream.set_tracks(video, audio, {}, True)
        self.output = RtspOutput(self.stream, lambda rendering: Feed(self.stream, rendering, 0.0, 30.0, FeedCounts()))
        self.ended: list[EndReason] = []

    def push(self, *units: AccessUnit) -> None:
        for unit in units:
            self.stream.received.add(unit, 1.0 + unit.dts / 1000)
            self.stream.push(unit)

    def join(self, channels: Channels = BOTH) -> tuple[Wire, Feed]:
        wire = Wire()
        feed = self.output.feed(self.output.describe(), channels)
        feed.join(Viewer(wire, RTSP, 100_000, "127.0.0.1", self.ended.append))
        return wire, feed


async def test_reports_of_both_tracks_come_first_and_have_one_wall_clock() -> None:
    lab = Lab()
    lab.push(picture(0, key=True), sound(10))
    wire, feed = lab.join()
    feed.flush()
    reports = [parse(wire.packets(channel)[0])[0] for channel in (1, 3)]
    assert all(isinstance(report, SenderReport) for report in reports)
    video, audio = reports
    assert isinstance(video, SenderReport) and isinstance(audio, SenderReport)
    assert video.ntp == audio.ntp and video.ssrc != audio.ssrc
    shown = wire.media(0)[0].timestamp - video.timestamp
    heard = wire.media(2)[0].timestamp - audio.timestamp
    assert (shown & 0xFFFFFFFF) == 0
    assert (heard & 0xFFFFFFFF) == 10 * 44_100 // 1000


async def test_players_share_numbers_also_if_they_join_later() -> None:
    lab = Lab()
    lab.push(picture(0, key=True), picture(40), sound(50))
    first, feed = lab.join()
    lab.push(picture(80))
    feed.flush()
    second, _ = lab.join()
    lab.push(picture(120), sound(130))
    feed.flush()
    for channel in (0, 2):
        numbers = [packet.sequence for packet in first.media(channel)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert [packet.sequence for packet in second.media(channel)] == numbers
    assert [packet.payload for packet in second.media(0)] == [packet.payload for packet in first.media(0)]


async def test_a_damaged_picture_is_left_out() -> None:
    lab = Lab()
    lab.push(picture(0, key=True), damaged(40), picture(80))
    wire, feed = lab.join()
    feed.flush()
    first, second = (packet.timestamp for packet in wire.media(0)[-2:])
    assert second - first == 80 * VIDEO_CLOCK // 1000


async def test_a_player_gets_only_the_tracks_and_the_channels_that_it_asked_for() -> None:
    lab = Lab()
    lab.push(picture(0, key=True), sound(10))
    wire, feed = lab.join((-1, 6))
    feed.flush()
    assert wire.media(6) and wire.packets(7)
    assert not any(wire.packets(channel) for channel in (0, 1, 2, 3))


async def test_times_are_those_of_presentation_and_sound_counts_samples() -> None:
    lab = Lab()
    lab.push(picture(0, key=True, cts=80), picture(40, cts=0))
    lab.push(*(sound(at) for at in (0, 23, 46, 70)))
    wire, feed = lab.join()
    feed.flush()
    shown = [packet.timestamp for packet in wire.media(0)]
    assert (shown[-1] - shown[0]) % (1 << 32) == (40 - 80) * VIDEO_CLOCK // 1000 % (1 << 32)
    heard = [packet.timestamp for packet in wire.media(2)]
    assert {(b - a) % (1 << 32) for a, b in pairwise(heard)} == {1024}


async def test_reports_are_repeated_and_follow_the_stream() -> None:
    lab = Lab(audio=None)
    lab.push(picture(0, key=True))
    wire, feed = lab.join((0, -1))
    lab.push(*(picture(at, key=at % 1000 == 0) for at in range(40, 12_000, 40)))
    feed.flush()
    reports = [parse(packet)[0] for packet in wire.packets(1)]
    times = list(dict.fromkeys((r.ntp / (1 << 32), r.timestamp) for r in reports if isinstance(r, SenderReport)))[1:]
    assert len(times) >= 2
    for (wall, stamp), (later, next_stamp) in pairwise(times):
        passed = ((next_stamp - stamp) & 0xFFFFFFFF) / VIDEO_CLOCK
        assert later - wall == pytest.approx(passed, abs=0.002)


async def test_another_size_of_the_pictures_goes_on_and_another_codec_ends_the_players() -> None:
    lab = Lab()
    lab.push(picture(0, key=True))
    wire, feed = lab.join()
    other = replace(VIDEO, config=VIDEO.config[:5] + VIDEO.config[5:])
    lab.stream.set_tracks(other, AUDIO, {}, False)
    lab.push(picture(40, key=True, track=other))
    feed.flush()
    await asyncio.sleep(0)
    assert not lab.ended and len(wire.media(0)) >= 2
    vp8 = MediaTrack(Kind.VIDEO, Codec.VP8, 1000, b"")
    lab.stream.set_tracks(vp8, AUDIO, {}, False)
    await asyncio.sleep(0)
    assert lab.ended == [EndReason.OUTPUT_OFF]


async def test_sound_that_begins_later_ends_the_players_of_a_description_without_it() -> None:
    lab = Lab(audio=None)
    lab.push(picture(0, key=True))
    lab.join((0, -1))
    before = lab.output.describe()
    lab.stream.set_tracks(VIDEO, AUDIO, {}, False)
    await asyncio.sleep(0)
    assert lab.ended == [EndReason.OUTPUT_OFF]
    assert lab.output.describe().version == before.version + 1


async def test_the_packets_of_a_batch_are_split_once_for_players_over_udp() -> None:
    lab = Lab()
    lab.push(picture(0, key=True), sound(10))
    wire, feed = lab.join()
    feed.flush()
    batch = wire.written[-1]
    found = lab.output.packets(batch)
    assert lab.output.packets(batch) is found
    assert found[0] == wire.packets(0) and found[2] == wire.packets(2)
