"""Requests of viewers to a video feed: lost packets again, and a picture to begin with."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.live.received import ReceivedMedia
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit
from gateway.packaging.rtp.clock import VIDEO_RTX_SSRC
from gateway.packaging.rtp.video_feed import MAX_BURST, VideoFeed
from gateway.packaging.rtp.viewer import PayloadTypes, RtpViewer
from tests.support import builders


class Sender:
    """A transport that records the sent packets."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def send(self, packets: Sequence[bytes]) -> None:
        self.packets += packets

    def send_rtcp(self, packet: bytes) -> None:
        raise AssertionError("a feed sends no reports")

    @property
    def numbers(self) -> list[tuple[int, int]]:
        """Payload type and sequence number of each packet."""
        return [(p[1] & 0x7F, int.from_bytes(p[2:4], "big")) for p in self.packets]


def picture(dts: int, key: bool = False, size: int = 10) -> AccessUnit:
    """A picture of one slice."""
    head = b"\x65\x88" if key else b"\x41\x9a"
    body = head + bytes(size)
    return AccessUnit(builders.VIDEO, dts, 0, key, 0.0, len(body).to_bytes(4, "big") + body)


class Rig:
    """A stream whose publisher counts the key frames that it is asked for, and one viewer of it."""

    def __init__(self) -> None:
        self.publisher = builders.publish(builders.hub(gop_bytes=2 * MAX_BURST))
        self.publisher.set_tracks(builders.VIDEO, None, {})
        self.asked = 0
        self.publisher.ask_key_frame = self.ask
        self.feed = VideoFeed(self.stream, lambda size: None)
        self.sender = Sender()
        self.viewer = RtpViewer(self.sender, PayloadTypes(96, 97), lambda reason: None)

    @property
    def stream(self) -> Stream:
        return self.publisher.stream

    def ask(self) -> None:
        self.asked += 1


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_a_packet_that_is_lost_again_is_sent_twice(rig: Rig) -> None:
    rig.publisher.push(picture(0, key=True), 0.0)
    rig.feed.join(rig.viewer)
    rig.publisher.push(picture(33), 0.0)
    number = rig.sender.numbers[-1][1]
    rig.sender.packets.clear()
    rig.feed.repeat(rig.viewer, [number], 1.0)
    assert rig.sender.numbers == [(97, 1)]
    rig.feed.repeat(rig.viewer, [number], 1.1)
    assert rig.sender.numbers == [(97, 1), (97, 2), (97, 3)]
    assert {p[8:12] for p in rig.sender.packets} == {VIDEO_RTX_SSRC.to_bytes(4, "big")}
    assert {p[12:14] for p in rig.sender.packets} == {number.to_bytes(2, "big")}
    rig.feed.leave(rig.viewer)


async def test_the_number_of_remembered_retransmissions_is_bounded(rig: Rig) -> None:
    assert [rig.viewer.count_copies(n) for n in range(65)] == [1] * 65
    assert [rig.viewer.count_copies(n) for n in (64, 1, 0)] == [2, 2, 1]


async def test_a_viewer_that_cannot_begin_asks_the_publisher_for_a_key_frame(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("gateway.packaging.rtp.video_feed.time.monotonic", lambda: now)
    rig.publisher.push(picture(0, key=True, size=MAX_BURST + 1), 0.0)
    rig.feed.join(rig.viewer)
    assert (rig.asked, rig.viewer.waiting, rig.sender.packets) == (1, True, [])
    rig.feed.refresh(rig.viewer)
    assert rig.asked == 1, "once a second"
    now += 1.0
    rig.feed.refresh(rig.viewer)
    assert rig.asked == 2
    rig.publisher.push(picture(33), 0.0)
    assert not rig.sender.packets
    rig.publisher.push(picture(66, key=True), 0.0)
    assert rig.sender.packets and not rig.viewer.waiting
    now += 5.0
    rig.feed.refresh(rig.viewer)
    assert rig.asked == 2, "the viewer gets the pictures since the key frame"
    rig.feed.leave(rig.viewer)


async def test_the_number_of_packets_per_request_is_bounded(rig: Rig) -> None:
    rig.publisher.push(picture(0, key=True), 0.0)
    rig.feed.join(rig.viewer)
    asked = iter(range(2_000))
    rig.feed.repeat(rig.viewer, asked, 1.0)
    assert next(asked) == 256
    rig.feed.leave(rig.viewer)


async def test_repeated_bursts_of_a_long_gop_do_not_exceed_the_streams_bitrate(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("gateway.packaging.rtp.video_feed.time.monotonic", lambda: now)
    monkeypatch.setattr("gateway.packaging.rtp.viewer.time.monotonic", lambda: now)
    monkeypatch.setattr(ReceivedMedia, "bitrate", 800_000)
    counted = 0

    def count(size: int) -> None:
        nonlocal counted
        counted += size

    rig.feed = VideoFeed(rig.stream, count)
    rig.publisher.push(picture(0, key=True), 0.0)
    for n in range(1, 100):  # ten seconds of 100 kB
        rig.publisher.push(picture(100 * n, size=10_000), 0.0)
    rig.feed.join(rig.viewer)
    joined = counted
    assert joined > 900_000
    while rig.viewer.is_starting:
        rig.viewer._send_queue()
    for _ in range(300):
        now += 0.1
        rig.feed.refresh(rig.viewer)
        while rig.viewer.is_starting:
            rig.viewer._send_queue()
    assert joined < counted - joined <= 30 * 100_000
    rig.feed.leave(rig.viewer)


async def test_key_frames_are_not_requested_without_a_publisher_that_supports_it(rig: Rig) -> None:
    rig.publisher.ask_key_frame = None
    rig.stream.request_key_frame(0.0)
    rig.publisher.ask_key_frame = rig.ask
    rig.publisher.close()
    rig.stream.request_key_frame(10.0)
    assert rig.asked == 0


async def test_a_packet_from_before_a_second_burst_is_not_confused_with_another(rig: Rig) -> None:
    rig.publisher.push(picture(0, key=True), 0.0)
    rig.feed.join(rig.viewer)
    for n in range(1, 5):
        rig.publisher.push(picture(33 * n, size=10 + n), 0.0)
    lost = rig.sender.numbers[-1][1]
    rig.viewer.started = -1e9  # long ago
    rig.feed.refresh(rig.viewer)
    rig.publisher.push(picture(200), 0.0)
    burst = len(rig.sender.packets)
    rig.feed.repeat(rig.viewer, [lost], 1.0)
    assert len(rig.sender.packets) == burst, "its number belongs to another packet now"
    rig.feed.repeat(rig.viewer, [rig.sender.numbers[-1][1]], 1.0)
    assert rig.sender.packets[-1][14:] == rig.sender.packets[burst - 1][12:]
    rig.feed.leave(rig.viewer)
