"""Packagers package at once only while a request waits, and otherwise a batch at a time."""

import asyncio

import pytest

from gateway.live.sink import EndReason
from gateway.live.stream_captions import StreamCaptions
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Tracks
from gateway.packaging.packager import Packager
from gateway.packaging.segment_window import LazyBytes
from gateway.ports.errors import OutputUnsupported
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, picture


class Noting(Packager):
    def __init__(self) -> None:
        super().__init__("c1", "noting", StreamCaptions(tuple))
        self.taken: list[object] = []

    def take_tracks(self, tracks: Tracks) -> None:
        self.taken.append(tracks.epoch)

    def take(self, unit: AccessUnit) -> None:
        if unit.dts == 666:
            raise InvalidData("no such thing")
        self.taken.append(unit.dts)
        self.changed.open()

    def finish(self) -> None:
        self.taken.append("finished")

    def release(self) -> None:
        self.taken.append("released")


async def test_units_wait_for_a_request_and_keep_their_order():
    packager, stream = Noting(), builders.stream()
    task = asyncio.ensure_future(packager.run(stream))
    await asyncio.sleep(0)
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    for dts in (0, 33, 66):
        stream.push(picture(dts, dts == 0))
    assert packager.taken == [0]
    packager.catch_up()
    assert packager.taken == [0, 0, 33, 66]
    stream.push(picture(99))
    stream.set_tracks(VIDEO, AUDIO, {}, False)
    stream.end(EndReason.KICKED)
    await task
    assert packager.taken == [0, 0, 33, 66, 99, 1, "finished", "released"]


async def test_a_full_batch_is_packaged_without_a_request():
    packager, stream = Noting(), builders.stream()
    stream.attach(packager)
    stream.set_tracks(VIDEO, None, {}, True)
    for n in range(40):
        stream.push(picture(n * 33, n == 0))
    assert len(packager.taken) == 1 + 32


async def test_each_unit_is_packaged_at_once_while_a_request_waits():
    packager, stream = Noting(), builders.stream()
    stream.attach(packager)
    stream.set_tracks(VIDEO, None, {}, True)
    waiting = asyncio.ensure_future(packager.changed.until(lambda: 33 in packager.taken, 5))
    await asyncio.sleep(0)
    stream.push(picture(0, True))
    assert packager.taken[-1] == 0
    stream.push(picture(33))
    assert await waiting
    stream.push(picture(66))
    assert packager.taken[-1] == 33


async def test_units_may_be_delayed_if_no_request_has_waited_for_a_while():
    packager, stream = Noting(), builders.stream()
    packager.begin(stream)
    stream.set_tracks(VIDEO, None, {}, True)
    times = iter(range(0, 100_000, 33))

    def push(count: int) -> None:
        for _ in range(count):
            stream.push(picture(next(times), True))

    push(1)
    assert not stream.is_awaited, "nobody has ever waited"
    waiting = asyncio.ensure_future(packager.changed.until(lambda: False, 5))
    await asyncio.sleep(0)
    push(1)
    assert stream.is_awaited, "a unit comes, and somebody waits"
    waiting.cancel()
    await asyncio.sleep(0)
    push(16 * 32 - 1)
    assert stream.is_awaited, "blocking requests have pauses between them"
    viewer = builders.Recorder()
    push(1)
    assert not stream.is_awaited
    stream.attach(viewer)
    assert stream.is_awaited
    stream.detach(viewer)
    assert not stream.is_awaited
    stream.original.attach(viewer)
    assert stream.is_awaited


async def test_an_error_during_a_request_ends_the_packager_and_not_the_request():
    packager, stream = Noting(), builders.stream()
    task = asyncio.ensure_future(packager.run(stream))
    await asyncio.sleep(0)
    stream.set_tracks(VIDEO, None, {}, True)
    stream.push(picture(666, True))
    packager.catch_up()
    stream.push(picture(700))
    assert packager.refused == "no such thing"
    with pytest.raises(OutputUnsupported):
        await task


def test_bytes_are_made_once_and_only_when_asked_for():
    made: list[int] = []

    def make() -> bytes:
        made.append(1)
        return b"abc"

    rendered = LazyBytes(make, 3)
    assert made == []
    assert rendered() == rendered() == b"abc"
    assert made == [1]
    rendered.replace_source(lambda: b"from elsewhere")
    assert rendered() == b"from elsewhere"
