"""The timestamps of a viewer's pictures rise over bursts and live pictures, whatever rate and GOP the stream has."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.packaging.rtp.video_feed import VideoFeed
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO
from tests.support.rtp_viewers import Watcher, coded


def sent(watcher: Watcher) -> None:
    """Sends the rest of the burst without its pauses."""
    while watcher.viewer.is_starting:
        watcher.viewer._send_queue()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 120), st.integers(1, 1200), st.integers(0, 1199), st.lists(st.integers(1, 4), max_size=4))
@example(120, 1200, 1199, [1, 1, 1, 1])
@example(120, 1200, 719, [1])
@example(60, 1200, 1199, [2, 1])
def test_timestamps_rise_for_any_requests_of_the_viewer(rate: int, gop: int, join: int, requests: list[int]) -> None:
    async def play() -> None:
        stream = builders.stream()
        stream.set_tracks(VIDEO, AUDIO, {}, True)
        feed, watcher = VideoFeed(stream, lambda size: None), Watcher()
        times, gop_size = itertools.count(), min(gop, 10 * rate)  # longer ones are not cached

        def push(count: int) -> int:
            for number in itertools.islice(times, count):
                stream.push(coded(number * 1000 // rate, number % gop_size == 0, 40))
            return count

        pictures = min(join, gop_size - 1) + 1  # so many are in the GOP
        push(pictures)
        feed.join(watcher.viewer)
        sent(watcher)
        expected = pictures
        for live in requests:  # pictures, and then the GOP again
            expected += push(live)
            watcher.viewer.started = -1e9
            feed.refresh(watcher.viewer)
            sent(watcher)
            expected += len(stream.gop.units())
        expected += push(2)
        sent(watcher)
        stamps = [stamp for stamp, _ in itertools.groupby(packet.timestamp for packet in watcher.sender.packets())]
        assert len(stamps) == expected, "no two pictures have one timestamp"
        steps = [(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(stamps)]
        assert all(0 < step < 1 << 31 for step in steps)
        assert min(steps) >= 1 and watcher.viewer.offset <= 1_200 * len(requests)
        feed.leave(watcher.viewer)
        watcher.viewer.close()

    asyncio.run(play())
