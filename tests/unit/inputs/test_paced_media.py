"""Media by the clock: no drift, no burst, a bounded queue."""

import asyncio

import pytest

from gateway.inputs.paced_media import LeadLimiter, MediaClock, MediaQueue
from gateway.inputs.splicer import Interleaver
from gateway.media.track import Kind
from gateway.ports.errors import OutputError
from tests.support.builders import picture, sound


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_units_are_due_at_their_distance_from_the_first_one() -> None:
    time = Clock()
    clock = MediaClock(time)
    assert clock.delay(90 * 500) == 0
    assert clock.delay(90 * 540) == pytest.approx(0.04)
    time.now += 0.039
    assert clock.delay(90 * 540) == 0  # a few milliseconds do not count
    time.now += 86_400 * 30
    clock.restart()
    assert clock.delay(90 * 7) == 0
    for n in range(1, 1_000_000, 99_999):  # thirds of a millisecond do not add up
        assert clock.delay(90 * (7 + n)) == pytest.approx(n / 1000, abs=0.006)


def test_late_media_restart_the_clock_without_a_burst() -> None:
    time = Clock()
    clock = MediaClock(time)
    clock.delay(0)
    time.now += 10
    assert clock.delay(90 * 40) == 0
    assert clock.delay(90 * 80) == pytest.approx(0.04)


def test_a_server_may_be_some_seconds_ahead_but_not_faster() -> None:
    time = Clock()
    limiter = LeadLimiter(time)
    assert limiter.delay(0) < 0
    assert limiter.delay(90 * 14_000) < 0  # the pictures since a key frame, at once
    assert limiter.delay(90 * 20_000) == pytest.approx(5)
    time.now += 6
    assert limiter.delay(90 * 20_040) < 0
    for n in range(10_000):  # a live server whose clock is 1 % faster
        time.now += 0.0396
        assert limiter.delay(90 * (20_080 + 40 * n)) <= 0


def test_a_file_is_sent_at_the_speed_of_its_media() -> None:
    time = Clock()
    limiter, began = LeadLimiter(time), time.now
    for dts in range(0, 3_600_000, 40):
        time.now += max(0.0, limiter.delay(90 * dts))
    assert time.now - began == pytest.approx(60 + (3_600 - 15 - 60 * 1.02) / 1.0005, abs=1)


def test_a_short_file_that_is_fetched_again_and_again_is_not_faster_than_its_media() -> None:
    time = Clock()
    limiter, began = LeadLimiter(time), time.now
    for _ in range(10):  # a film of 6 s
        limiter.begin()
        for dts in range(0, 6_001, 40):
            time.now += max(0.0, limiter.delay(90 * dts))
    assert time.now - began == pytest.approx((60 - 15) / 1.02, abs=1)


async def test_a_full_queue_waits_and_the_error_comes_last() -> None:
    queue = MediaQueue()
    for at in range(0, 2_001, 500):
        await asyncio.wait_for(queue.put(picture(90 * at)), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.put(picture(90 * 2_500)), 0.01)
    waiting = asyncio.ensure_future(queue.put(picture(90 * 2_500)))
    await queue.get()
    await waiting
    queue.end(OutputError("broken"))
    assert [(await queue.get()).dts for _ in range(5)] == [90 * ms for ms in (500, 1_000, 1_500, 2_000, 2_500)]  # type: ignore[union-attr]
    with pytest.raises(OutputError):
        await queue.get()


def test_units_wait_for_those_of_the_other_track() -> None:
    merge = Interleaver()
    assert merge.push(picture(0)) == []
    assert [u.dts // 90 for u in merge.push(sound(90 * 10))] == [0]
    assert merge.push(sound(90 * 20)) == []
    assert [u.dts // 90 for u in merge.push(picture(90 * 15))] == [10, 15]
    assert [u.dts // 90 for u in merge.flush()] == [20]


def test_a_track_that_is_far_ahead_stops_waiting() -> None:
    merge = Interleaver()
    given = [u for at in range(0, 10_000, 40) for u in merge.push(picture(90 * at))]
    assert len(given) > 190
    alone = Interleaver()
    alone.kinds = frozenset((Kind.VIDEO,))
    assert len(alone.push(picture(0))) == 1
