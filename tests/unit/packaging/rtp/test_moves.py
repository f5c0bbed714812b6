"""A viewer moves between the pictures of a stream and of its renditions, at key frames."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit
from gateway.packaging.feed import FeedCounts
from gateway.packaging.rtp.output import RtpOutput
from gateway.packaging.rtp.viewer import PayloadTypes, RtpViewer
from gateway.protocols.rtp import rtcp
from tests.support import builders
from tests.unit.packaging.rtp.test_requests import picture


class Sender:
    """A transport that records the sent packets and reports."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.reports: list[bytes] = []

    def send(self, packets: Sequence[bytes]) -> None:
        self.packets += packets

    def send_rtcp(self, packet: bytes) -> None:
        self.reports.append(packet)

    @property
    def numbers(self) -> list[int]:
        return [int.from_bytes(p[2:4], "big") for p in self.packets]

    @property
    def stamps(self) -> list[int]:
        return [int.from_bytes(p[4:8], "big") for p in self.packets]

    @property
    def sources(self) -> list[int]:
        """The length of the last packet of each picture, which identifies the stream."""
        return [len(p) for p in self.packets if p[1] & 0x80]


class Rig:
    """A stream, a rendition whose pictures come 300 ms later, and a viewer."""

    def __init__(self, counts: FeedCounts) -> None:
        hub = builders.hub()
        self.source, self.small = builders.publish(hub, "c1"), builders.publish(hub, "c2")
        for publisher in (self.source, self.small):
            publisher.set_tracks(builders.VIDEO, None, {})
        self.output = RtpOutput(self.source.stream, lambda feed: lambda: None, counts)
        self.sender = Sender()
        self.ends: list[EndReason] = []
        self.viewer = RtpViewer(self.sender, PayloadTypes(96, 97), self.ends.append)

    def play(self, begin: int, end: int) -> None:
        """Pushes pictures from one time to another: 10 a second, a key frame every second."""
        for ms in range(begin, end, 100):
            self.push(self.source, ms, 300)
            if ms >= 300:
                self.push(self.small, ms - 300, 100)

    @staticmethod
    def push(publisher: StreamPublisher, ms: int, size: int) -> None:
        unit: AccessUnit = picture(ms, key=ms % 1_000 == 0, size=size)
        publisher.push(unit, ms / 1_000)

    def report(self) -> rtcp.SenderReport:
        """The last sender report of the pictures."""
        found = [item for item in rtcp.parse(self.sender.reports[-1]) if isinstance(item, rtcp.SenderReport)]
        return found[0]


@pytest.fixture
async def rig() -> Rig:
    return Rig(FeedCounts())


async def test_moves_happen_at_key_frames_without_a_gap_in_numbers_or_a_step_back_in_time(rig: Rig) -> None:
    rig.play(0, 1_000)
    rig.output.join(rig.viewer, rig.output.feed_for(rig.source.stream))
    rig.viewer.close()  # the burst
    rig.viewer.waiting = False
    rig.play(1_000, 1_500)
    rig.output.move(rig.viewer, rig.small.stream)
    rig.play(1_500, 2_300)
    assert rig.output.video_of(rig.viewer) is rig.output.feed_for(rig.source.stream), "no key frame yet"
    rig.play(2_300, 3_000)
    assert rig.output.video_of(rig.viewer) is rig.output.feed_for(rig.small.stream)
    assert rig.viewer.offset == 300 * 90 + 1, "the rendition began at 2,000, and 2,300 had been shown"
    rig.output.move(rig.viewer, rig.source.stream)
    rig.play(3_000, 4_000)
    assert rig.viewer.offset == 0
    live = rig.sender.packets = rig.sender.packets[-40:]
    assert live
    assert all((a + 1) & 0xFFFF == b for a, b in pairwise(rig.sender.numbers))
    assert all(0 <= (b - a) & 0xFFFFFFFF < 1 << 31 for a, b in pairwise(rig.sender.stamps))
    changes = [n for n, (a, b) in enumerate(pairwise(rig.sender.sources)) if abs(a - b) > 150]
    assert len(changes) == 2, "all pictures since a key frame are of one stream"
    rig.output.leave(rig.viewer)


async def test_lost_packets_are_repeated_after_a_move_and_earlier_ones_are_not(rig: Rig) -> None:
    rig.output.join(rig.viewer, rig.output.feed_for(rig.source.stream))
    rig.play(0, 1_000)
    before = rig.report()
    rig.output.move(rig.viewer, rig.small.stream)
    rig.play(1_000, 2_000)
    feed = rig.output.video_of(rig.viewer)
    assert feed is rig.output.feed_for(rig.small.stream)
    earlier, packet, count = rig.sender.numbers[3], rig.sender.packets[-1], len(rig.sender.packets)
    feed.repeat(rig.viewer, [earlier], 1.0)
    assert len(rig.sender.packets) == count
    feed.repeat(rig.viewer, [int.from_bytes(packet[2:4], "big")], 1.0)
    again = rig.sender.packets[-1]
    assert (again[4:8], again[14:]) == (packet[4:8], packet[12:])
    rig.output._report(rig.viewer)
    assert (rig.report().timestamp - before.timestamp) & 0xFFFFFFFF >= rig.viewer.offset > 0
    rig.output.leave(rig.viewer)


async def test_a_move_ends_with_the_rendition_or_with_another_move(rig: Rig) -> None:
    rig.output.join(rig.viewer, rig.output.feed_for(rig.source.stream))
    rig.play(0, 500)
    rig.output.move(rig.viewer, rig.small.stream)
    rig.output.move(rig.viewer, rig.source.stream)
    rig.play(500, 2_500)
    assert rig.output.video_of(rig.viewer) is rig.output.feed_for(rig.source.stream)
    assert not rig.small.stream.is_awaited
    rig.output.move(rig.viewer, rig.small.stream)
    assert rig.small.stream.is_awaited
    rig.small.stream.end(EndReason.OUTPUT_OFF)
    assert not rig.ends
    rig.push(rig.source, 2_500, 300)
    rig.output.leave(rig.viewer)
    assert not rig.source.stream.is_awaited


async def test_a_viewer_that_leaves_before_its_move_is_forgotten(rig: Rig) -> None:
    rig.output.join(rig.viewer, rig.output.feed_for(rig.source.stream))
    rig.output.move(rig.viewer, rig.small.stream)
    rig.output.leave(rig.viewer)
    assert not rig.small.stream.is_awaited
    count = len(rig.sender.packets)
    rig.play(0, 2_000)
    assert len(rig.sender.packets) == count
