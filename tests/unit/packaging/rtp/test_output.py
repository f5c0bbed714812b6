"""RtpOutput and SoundFeed: which viewers are counted, reports, and sound that is late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.packaging.feed import FeedCounts
from gateway.packaging.rtp.clock import AUDIO_SSRC, VIDEO_SSRC
from gateway.packaging.rtp.output import KIND, RtpOutput
from gateway.packaging.rtp.sound_feed import SoundFeed
from gateway.packaging.rtp.viewer import PayloadTypes
from gateway.protocols.rtp import rtcp
from tests.support import builders
from tests.support.builders import VIDEO
from tests.support.rtp_viewers import Watcher, coded
from tests.support.time_outs import at_most

OPUS = MediaTrack(Kind.AUDIO, Codec.OPUS, 48_000, b"")


def opus(at_ms: int, size: int = 40) -> AccessUnit:
    return AccessUnit(OPUS, at_ms * 48, 0, True, 1.7e9, b"\xfc" + at_ms.to_bytes(4, "big").rjust(size, b"o"))


class Sound:
    """A source of sound that records its feed."""

    def __init__(self) -> None:
        self.feed: SoundFeed | None = None

    def attach(self, feed: SoundFeed) -> Callable[[], None]:
        self.feed = feed

        def detach() -> None:
            self.feed = None

        return detach


def live() -> tuple[StreamPublisher, RtpOutput, Sound, FeedCounts]:
    publisher = builders.publish(builders.hub(linger=0.0))
    publisher.set_tracks(VIDEO, None, {})
    sound, counts = Sound(), FeedCounts()
    return publisher, RtpOutput(publisher.stream, sound.attach, counts), sound, counts


async def test_viewers_are_counted_and_get_reports_of_both_tracks() -> None:
    publisher, output, sound, counts = live()
    publisher.stream.push(coded(0, True))
    one, other = Watcher(), Watcher(PayloadTypes(audio=111))
    output.join(one.viewer, output.feed_for(publisher.stream))
    output.join(other.viewer, None)
    assert publisher.stream.viewers[KIND] == 2 and sound.feed is not None
    reported = [[item.ssrc for item in rtcp.parse(w.sender.rtcp[0]) if isinstance(item, rtcp.SenderReport)]
                for w in (one, other)]  # fmt: skip
    assert reported == [[VIDEO_SSRC, AUDIO_SSRC], [AUDIO_SSRC]]
    assert counts.sent[KIND] > 0
    assert publisher.stream.tally.sent == counts.sent[KIND]
    for watcher in (one, other):
        output.leave(watcher.viewer)
        output.leave(watcher.viewer)
    assert publisher.stream.viewers[KIND] == 0 and sound.feed is None


async def test_each_viewer_gets_a_report_every_second() -> None:
    _, output, _, _ = live()
    watchers = [Watcher() for _ in range(25)]
    for watcher in watchers:
        output.join(watcher.viewer, None)
    for _ in range(10):
        assert output._timer is not None
        output._timer.cancel()
        output._next_turn()
    assert {len(watcher.sender.rtcp) for watcher in watchers} <= {2, 3}
    for watcher in watchers:
        output.leave(watcher.viewer)
    assert output._timer is not None
    output._timer.cancel()
    output._next_turn()
    assert output._timer is None, "without viewers there is no timer"


async def test_the_end_of_the_stream_ends_every_viewer_once() -> None:
    publisher, output, _, _ = live()
    watchers = [Watcher(), Watcher(PayloadTypes(audio=111))]
    output.join(watchers[0].viewer, output.feed_for(publisher.stream))
    output.join(watchers[1].viewer, None)
    running = asyncio.ensure_future(output.run(publisher.stream))
    await asyncio.sleep(0)
    publisher.close()
    async with asyncio.timeout(at_most(5)):
        await running
    assert all(watcher.ends for watcher in watchers)
    assert set(watchers[0].ends) == {EndReason.PUBLISHER_GONE}


async def test_sound_has_the_same_numbers_for_all_and_a_marker_after_gaps() -> None:
    publisher, output, sound, _ = live()
    for n in range(26):
        publisher.push(coded(n * 40, n == 0, 100), n * 0.04)
    one, other = Watcher(PayloadTypes(audio=111)), Watcher(PayloadTypes(audio=9))
    output.join(one.viewer, None)
    output.join(other.viewer, None)
    feed = sound.feed
    assert feed is not None
    times = (900, 920, 2000)
    for at in times:
        feed.on_unit(opus(at))
    assert [packet[12:] for packet in one.sender.raw(AUDIO_SSRC)] == [opus(at).payload for at in times]
    assert [packet[1] >> 7 for packet in one.sender.raw(AUDIO_SSRC)] == [1, 0, 1]
    assert [packet[2:] for packet in one.sender.raw(AUDIO_SSRC)] == [p[2:] for p in other.sender.raw(AUDIO_SSRC)]
    numbers = one.sender.numbers(AUDIO_SSRC)
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    feed.on_unit(coded(1000))  # only sound is sent
    assert len(one.sender.runs) == 3
    for watcher in (one, other):
        output.leave(watcher.viewer)
