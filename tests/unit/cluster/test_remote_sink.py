"""The frames for another node: a slow link loses whole groups of pictures, and a link that stands still ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from gateway.cluster.streams.remote_sink import STALL_SECONDS, RemoteSink
from gateway.lib.metrics import Metrics
from gateway.media.track import Tracks
from gateway.protocols import nodes
from tests.support.builders import VIDEO, picture

PICTURES = 25  # in a second
SIZE = 40_000  # bytes of a picture, for 8 Mbit/s


class Link:
    """A transport that sends what the test says."""

    def __init__(self) -> None:
        self.unsent = self.most = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.unsent += len(data)

    def writelines(self, parts: Sequence[bytes]) -> None:
        self.unsent += sum(map(len, parts))
        self.most = max(self.most, self.unsent)

    def send(self, size: int) -> None:
        self.unsent = max(0, self.unsent - size)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def watched(link: Link, rate: int, seconds: int, size: int = SIZE) -> tuple[int, float]:
    """Sends a stream over a link of `rate` bytes a second. Returns its seconds until the abort, and the drops.

    size: bytes of a picture.
    """
    dropped = Metrics("0").dropped
    sink = RemoteSink(cast(Any, link), dropped)
    sink.begin()
    sink.on_tracks(Tracks(VIDEO, None))
    sink.end_replay()
    second = 0
    while second < seconds and not link.aborted:
        for number in range(PICTURES):
            sink.on_unit(picture(second * 1000 + number * 40, key=not number, size=size))
            link.send(rate // PICTURES)
        second += 1
        if not second % nodes.PING_SECONDS:
            sink.stop()
            sink._tick()
    sink.stop()
    return second, sum(dropped.values.values())


async def test_a_link_that_is_too_slow_loses_pictures_and_goes_on() -> None:
    link = Link()
    seconds, dropped = watched(link, 625_000, 60)
    assert (link.aborted, seconds) == (False, 60)
    assert dropped > 0


async def test_a_link_that_sends_nothing_ends_in_time_although_its_backlog_grows() -> None:
    link = Link()
    seconds, _ = watched(link, 0, 60)
    assert link.aborted
    assert STALL_SECONDS <= seconds <= STALL_SECONDS + nodes.PING_SECONDS


async def test_a_link_that_is_too_slow_for_a_small_stream_is_at_most_ten_seconds_behind() -> None:
    link = Link()
    size = 2_500  # 500 kbit/s, on a link of 300: its backlog in bytes would be minutes
    _, dropped = watched(link, 37_500, 300, size)
    assert dropped > 0
    assert 9 < link.most / (PICTURES * size) < 12


async def test_a_link_that_stood_still_for_some_seconds_loses_nothing() -> None:
    link, dropped = Link(), Metrics("0").dropped
    sink = RemoteSink(cast(Any, link), dropped)
    sink.begin()
    sink.on_tracks(Tracks(VIDEO, None))
    sink.end_replay()
    for second in range(60):
        for number in range(PICTURES):
            sink.on_unit(picture(second * 1000 + number * 40, key=not number))
            link.send(0 if second % 20 < nodes.SILENT_SECONDS else 1_000)
    sink.stop()
    assert sum(dropped.values.values()) == 0


async def test_a_jump_of_the_times_between_two_publishers_drops_nothing() -> None:
    link, dropped = Link(), Metrics("0").dropped
    sink = RemoteSink(cast(Any, link), dropped)
    sink.begin()
    sink.end_replay()
    for epoch in range(3):
        sink.on_tracks(Tracks(VIDEO, None, epoch))
        for number in range(PICTURES):
            sink.on_unit(picture(epoch * 3_600_000 + number * 40, key=not number))
    sink.stop()
    assert sum(dropped.values.values()) == 0
