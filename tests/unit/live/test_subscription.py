"""Subscriptions are bounded queues that drop units up to a key frame."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.live.sink import EndReason
from gateway.live.subscription import End, Item, Subscription
from gateway.media.timed_data import Script
from gateway.media.track import AccessUnit, TimedData, Tracks
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, picture, sound


async def drained(subscription: Subscription) -> list[Item]:
    return [item async for item in subscription]


async def test_a_subscription_gives_tracks_then_units_then_the_end():
    stream = builders.stream()
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    stream.push(picture(0, True))
    async with Subscription(stream) as subscription:
        stream.push(sound(10))
        stream.end(EndReason.KICKED)
        items = await drained(subscription)
    assert isinstance(items[0], Tracks)
    assert [i.dts for i in items if isinstance(i, AccessUnit)] == [0, 10]
    assert items[-1] == End(EndReason.KICKED)


async def test_a_new_unit_wakes_a_waiting_consumer():
    stream = builders.stream()
    stream.set_tracks(VIDEO, None, {}, True)
    async with Subscription(stream) as subscription:
        task = asyncio.ensure_future(drained(subscription))
        await asyncio.sleep(0)
        stream.push(picture(0, True))
        await asyncio.sleep(0)
        stream.end(EndReason.KICKED)
        assert len(await task) == 3


@pytest.mark.parametrize(("bytes_", "seconds"), [(55, 100.0), (10_000, 0.15)])
async def test_a_slow_consumer_loses_whole_gops_up_to_a_key_frame(bytes_: int, seconds: float):
    stream = builders.stream()
    stream.set_tracks(VIDEO, None, {}, True)
    async with Subscription(stream, max_bytes=bytes_, max_seconds=seconds) as subscription:
        for n in range(8):
            stream.push(picture(n * 33, key=n == 0))
        stream.push(picture(264, True))
        stream.push(picture(297))
        stream.end(EndReason.KICKED)
        items = await drained(subscription)
    assert [i.dts for i in items if isinstance(i, AccessUnit)] == [264, 297]
    assert subscription.dropped == 8


async def test_timed_data_without_units_is_bounded():
    stream = builders.stream()
    stream.set_tracks(VIDEO, None, {}, True)
    async with Subscription(stream, max_bytes=10_000) as subscription:
        for _ in range(1_000):
            stream.push_timed(TimedData(0, Script("onCue", b"x" * 100)))
        assert subscription.waiting < 50
        stream.end(EndReason.KICKED)
        items = await drained(subscription)
        assert isinstance(items[-1], End)


async def test_a_closed_subscription_gets_no_more_items():
    stream = builders.stream()
    stream.set_tracks(VIDEO, None, {}, True)
    async with Subscription(stream) as subscription:
        pass
    stream.push(picture(0, True))
    stream.end(EndReason.KICKED)
    assert len(subscription._items) == 1


async def test_a_stalled_consumer_keeps_only_the_last_tracks():
    stream = builders.stream()
    async with Subscription(stream, max_bytes=100) as subscription:
        for number in range(500):
            stream.set_tracks(VIDEO, AUDIO if number % 2 else None, {"n": float(number)}, True)
            stream.push(picture(number * 40, True, size=60))
        assert len(subscription._items) <= 4
        stream.end(EndReason.KICKED)
        items = await drained(subscription)
    told = [i for i in items if isinstance(i, Tracks)]
    assert told[-1].metadata == {"n": 499.0} and items[-1] == End(EndReason.KICKED)


async def test_of_tracks_without_units_only_the_last_are_given():
    stream = builders.stream()
    async with Subscription(stream) as subscription:
        for number in range(500):
            stream.set_tracks(VIDEO, None, {"n": float(number)}, True)
        stream.end(EndReason.KICKED)
        items = await drained(subscription)
    assert [i.metadata for i in items if isinstance(i, Tracks)] == [{"n": 499.0}]


@pytest.mark.parametrize("seconds", [0.5, 3])
@given(st.lists(st.booleans(), max_size=200))
def test_the_queue_never_begins_in_the_middle_of_a_group(seconds: float, keys: list[bool]) -> None:
    async def run() -> None:
        queue = Subscription(builders.stream(), max_seconds=seconds)
        for n, key in enumerate([True, *keys]):
            queue.on_unit(picture(n * 100, key=key))
        queue.on_end(EndReason.KICKED)
        got = (await drained(queue))[:-1]
        assert len(got) + queue.dropped == len(keys) + 1
        for before, after in zip([None, *got], got, strict=False):
            assert isinstance(after, AccessUnit)
            assert after.key or (isinstance(before, AccessUnit) and after.dts - before.dts == 100)

    asyncio.run(run())
