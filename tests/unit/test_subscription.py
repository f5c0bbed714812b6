"""Subscriptions: bounded views that drop to a key frame."""

import asyncio

import pytest

from gateway.hub.stream import EndReason
from gateway.hub.subscription import End, Item, Subscription
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, picture, sound


async def drained(subscription: Subscription) -> list[Item]:
    return [item async for item in subscription]


async def test_tracks_come_first_then_units_then_the_end():
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


async def test_a_consumer_who_waits_is_woken():
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


async def test_a_subscription_left_is_given_nothing_more():
    stream = builders.stream()
    stream.set_tracks(VIDEO, None, {}, True)
    async with Subscription(stream) as subscription:
        pass
    stream.push(picture(0, True))
    stream.end(EndReason.KICKED)
    assert len(subscription._items) == 1
