"""The list of public channels: its content, and how rarely it reads the store."""

import asyncio
import json

import pytest

from gateway.lib.clocks import Clocks
from gateway.lib.tasks import Tasks
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.playback.public_channels import (
    LIVE_SECONDS,
    MAX_CHANNELS,
    STORE_SECONDS,
    ChannelList,
    PublicChannels,
    SharedRead,
    live_public_channels,
)
from gateway.ports.errors import StoreUnavailable
from tests.support.builders import channel
from tests.support.http import request
from tests.support.playback import playing


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Store:
    """Counts its reads. away: whether it cannot be read."""

    def __init__(self, *channels) -> None:
        self.channels = list(channels)
        self.reads = 0
        self.away = False

    async def list(self):
        self.reads += 1
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable("away")
        return self.channels


class Live:
    """The live channels, and how often they were asked for."""

    def __init__(self, **viewers: int) -> None:
        self.viewers = viewers
        self.reads = 0

    async def __call__(self):
        self.reads += 1
        return self.viewers


def clocks(clock: Clock) -> Clocks:
    return Clocks(wall=lambda: 1_900_000_000.0, monotonic=clock)


async def test_only_public_channels_that_everyone_may_watch_are_listed():
    store = Store(
        channel("open", isPublic=True, videoname="Open", description="x" * 1000),
        channel("text", isPublic="true"),
        channel("private"),
        channel("signed", isPublic=True, playAuth="sign"),
        channel("broken", isPublic=True, playAuth="sing"),
        channel("silent", isPublic=True, isFlv=False),
        channel("expired", isPublic=True, key="", outdate="2020-01-01"),
        channel("running", isPublic=True, key="", outdate="2020-01-01"),
    )
    async with Tasks("test") as tasks:
        listed = await PublicChannels(store.list, Live(text=3, running=0), "none", tasks).entries()
        assert [entry["id"] for entry in listed] == ["running", "text", "open"]
        assert listed[1] == {"id": "text", "slug": "", "name": "", "description": "", "live": True, "viewers": 3}
        assert (listed[2]["name"], len(listed[2]["description"]), listed[2]["live"]) == ("Open", 300, False)
        assert await PublicChannels(store.list, Live(), "sign", tasks).entries() == []


async def test_the_list_is_bounded_and_keeps_the_live_ones():
    store = Store(*(channel(f"c{n}", isPublic=True, videoname=f"{n:04}") for n in range(MAX_CHANNELS + 50)))
    last = f"c{MAX_CHANNELS + 49}"
    async with Tasks("test") as tasks:
        listed = await PublicChannels(store.list, Live(**{last: 1}), "none", tasks).entries()
    assert len(listed) == MAX_CHANNELS
    assert [entry["id"] for entry in listed[:3]] == [last, "c0", "c1"]


async def test_any_number_of_viewers_reads_the_store_once_in_ten_seconds():
    clock, store, live = Clock(), Store(channel("c1", isPublic=True)), Live()
    async with Tasks("test") as tasks:
        public = PublicChannels(store.list, live, "none", tasks, clocks(clock))
        answers = ChannelList(public.entries, tasks, clocks(clock))
        for _ in range(20):
            await asyncio.gather(*(answers(request("/channels.json")) for _ in range(50)))
            clock.now += 0.5
        assert (store.reads, live.reads) == (1, 4)
        clock.now += STORE_SECONDS
        await answers(request("/channels.json"))
        assert store.reads == 2


async def test_a_reader_that_leaves_does_not_cause_another_read():
    clock, gate = Clock(), asyncio.Event()
    reads = 0

    async def read() -> int:
        nonlocal reads
        reads += 1
        await gate.wait()
        return reads

    async with Tasks("test") as tasks:
        shared = SharedRead(read, 10, tasks, clocks(clock))
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await shared.get()
        gate.set()
        assert await shared.get() == 1


async def test_a_slow_read_is_repeated_later():
    clock = Clock()

    async def read() -> float:
        clock.now += 4  # seconds that the store needs
        return clock.now

    async with Tasks("test") as tasks:
        shared = SharedRead(read, 10, tasks, clocks(clock))
        first = await shared.get()
        clock.now += 79
        assert await shared.get() == first
        clock.now += 2
        assert await shared.get() > first


async def test_a_read_that_failed_slowly_is_tried_again_soon():
    clock, reads = Clock(), 0

    async def read() -> int:
        nonlocal reads
        reads += 1
        if reads == 1:
            clock.now += 6  # the time-out of the store
            raise StoreUnavailable("away")
        return reads

    async with Tasks("test") as tasks:
        shared = SharedRead(read, 10, tasks, clocks(clock))
        with pytest.raises(StoreUnavailable):
            await shared.get()
        clock.now += 9
        assert not shared.due
        clock.now += 1
        assert shared.due
        assert await shared.get() == 2


async def test_the_last_list_stays_while_the_store_is_unavailable():
    clock, store = Clock(), Store(channel("c1", isPublic=True))
    store.away = True
    async with Tasks("test") as tasks:
        public = PublicChannels(store.list, Live(), "none", tasks, clocks(clock))
        answers = ChannelList(public.entries, tasks, clocks(clock))
        away = await answers(request("/channels.json"))
        assert (away.status, "Retry-After" in away.headers) == (503, True)
        store.away = False
        clock.now += STORE_SECONDS
        found = await answers(request("/channels.json"))
        store.away = True
        clock.now += STORE_SECONDS
        assert (await answers(request("/channels.json"))).body == found.body
        assert [entry["id"] for entry in json.loads(found.body)["channels"]] == ["c1"]
        assert found.cache == f"public, max-age={int(LIVE_SECONDS)}"


async def test_live_public_channels_have_the_viewers_of_all_nodes():
    async with playing() as lab:
        stream = lab.live("c1", isPublic=True).stream
        lab.live("c2")
        stream.viewers["flv"] += 2
        remote = RemoteViewerCounts()
        remote.report("c1", "edge", {"hls": 5})
        assert list(live_public_channels(lab.hub, remote)) == [{"id": "c1", "viewers": 7}]
