"""Pictures of segments are made one at a time, and the requests that wait are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.lib.tasks import Tasks
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit
from gateway.playback.segment_pictures import NO_PICTURE, SegmentPictures
from gateway.ports.errors import NoSuchObject
from tests.support.clock import Clock
from tests.support.time_outs import at_most

MOST = 16


async def test_sixteen_pictures_wait_and_the_next_request_gets_503_at_once() -> None:
    goes_on, reads = asyncio.Event(), list[int]()

    async def no_picture(unit: AccessUnit, longest: int) -> bytes:
        raise AssertionError("the segments are empty")

    async with Tasks("test") as tasks:
        pictures = SegmentPictures(no_picture, tasks, longest=320, most=4)

        def segment(number: int) -> AsyncIterator[bytes]:
            async def read() -> AsyncIterator[bytes]:
                reads.append(number)
                await goes_on.wait()
                yield b""

            return read()

        async def ask(number: int) -> int:
            return (await pictures.picture(("a", number), lambda: segment(number))).status

        waiting = [tasks.start(ask(number)) for number in range(MOST)]
        await asyncio.sleep(0)
        async with asyncio.timeout(at_most(5)):
            assert await ask(MOST) == 503
        equal = tasks.start(ask(0))  # it waits for the same picture
        await asyncio.sleep(0)
        goes_on.set()
        assert [await task for task in (*waiting, equal)] == [NO_PICTURE.status] * (MOST + 1)
        assert reads == list(range(MOST))
        assert await ask(MOST) == NO_PICTURE.status


@pytest.mark.parametrize("error", [None, InvalidData("no segment"), NoSuchObject("a/1.ts")])
async def test_a_segment_without_a_picture_is_read_once_in_a_minute(error: Exception | None) -> None:
    clock, reads = Clock(1000.0), list[float]()

    async def no_picture(unit: AccessUnit, longest: int) -> bytes:
        raise AssertionError("the segment is empty")

    async def read() -> AsyncIterator[bytes]:
        reads.append(clock.now)
        if error is not None:
            raise error
        yield b""

    async with Tasks("test") as tasks:
        pictures = SegmentPictures(no_picture, tasks, longest=320, most=4, clock=clock)
        for seconds in (0, 1, 58, 1):
            clock.now += seconds
            assert await pictures.picture(("a", 1), read) is NO_PICTURE
        assert reads == [1000.0, 1060.0]
