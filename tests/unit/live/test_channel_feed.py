"""The stored channels that listeners are told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest

from gateway.channels.channel import Channel
from gateway.channels.stores import StoredChannels
from gateway.lib.tasks import Tasks
from gateway.live.channel_feed import ChannelFeed
from tests.support import builders

Told = Mapping[str, Channel | None]


class Store:
    """Stored channels. Each read puts a future into `reads`, and waits for its rows."""

    def __init__(self) -> None:
        self.reads: asyncio.Queue[asyncio.Future[list[Channel]]] = asyncio.Queue()

    async def list(self) -> list[Channel]:
        rows: asyncio.Future[list[Channel]] = asyncio.get_running_loop().create_future()
        self.reads.put_nowait(rows)
        return await rows


async def test_a_change_during_a_read_is_not_undone_by_its_older_rows() -> None:
    feed, store = ChannelFeed(), Store()
    told: asyncio.Queue[tuple[Told, bool]] = asyncio.Queue()
    feed.listen(lambda channels, is_all: told.put_nowait((channels, is_all)))
    old, new = builders.channel("c1"), builders.channel("c1", title="new")
    gone, other = builders.channel("c2"), builders.channel("c3")
    async with Tasks("test") as tasks:
        before = builders.channel("c3", title="before")
        feed.tell({"c3": before})
        tasks.start(feed.run(cast(StoredChannels, store)))
        rows = await store.reads.get()
        feed.tell({"c1": new})
        feed.tell({"c2": None})
        rows.set_result([old, gone, other])
        assert await told.get() == ({"c3": before}, False)
        assert await told.get() == ({"c1": new}, False)
        assert await told.get() == ({"c2": None}, False)
        assert await told.get() == ({"c1": new, "c2": None, "c3": other}, True)


async def test_a_later_read_tells_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.live.channel_feed.SECONDS", 0.0)
    feed, store = ChannelFeed(), Store()
    told: asyncio.Queue[Told] = asyncio.Queue()
    feed.listen(lambda channels, is_all: told.put_nowait(channels))
    async with Tasks("test") as tasks:
        tasks.start(feed.run(cast(StoredChannels, store)))
        (await store.reads.get()).set_result([])
        assert await told.get() == {}
        rows = await store.reads.get()
        feed.tell({"c1": None})
        assert await told.get() == {"c1": None}
        rows.set_result([])
        assert await told.get() == {"c1": None}
        later = builders.channel("c1")
        (await store.reads.get()).set_result([later])
        assert await told.get() == {"c1": later}
