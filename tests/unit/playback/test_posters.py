"""Posters: the latest snapshot of a channel, found without listing all of them, and not on every request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.adapters.local.objects import LocalObjects
from gateway.lib.tasks import Tasks
from gateway.playback.posters import Posters, stored_snapshots
from gateway.ports import media_keys
from gateway.ports.errors import StoreUnavailable
from gateway.ports.stores import Object
from tests.support.clock import Clock

NOW = datetime(2026, 3, 1, 0, 30, 5, tzinfo=UTC)


class Listed:
    """An object store of names alone, which counts its listings."""

    def __init__(self, *keys: str) -> None:
        self.keys = set(keys)
        self.listings: list[str] = []
        self.away = False
        self.gate: asyncio.Event | None = None

    async def list(self, prefix: str) -> AsyncIterator[Object]:
        self.listings.append(prefix)
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise StoreUnavailable("the bucket does not answer")
        for key in sorted(self.keys):
            if key.startswith(prefix):
                yield Object(key, 1, 0.0)


def snapshot(back: timedelta, channel: str = "c1") -> str:
    return media_keys.image_key(channel, NOW - back)


def posters(objects: Listed | LocalObjects, tasks: Tasks, clock: Clock | None = None) -> Posters:
    find = stored_snapshots(objects)  # type: ignore[arg-type]  # of a store, only what lists
    return Posters(find, tasks, clock or Clock(NOW.timestamp()))


async def test_the_latest_of_several_days_and_hours_is_found() -> None:
    latest = snapshot(timedelta(hours=3))
    older = [snapshot(timedelta(hours=h)) for h in (4, 30, 300)]
    objects = Listed(latest, *older, snapshot(timedelta(minutes=1), "another"))
    async with Tasks("test") as tasks:
        assert await posters(objects, tasks).latest("c1") == latest
    assert len(objects.listings) < 40


async def test_snapshots_older_than_two_weeks_are_not_searched() -> None:
    objects = Listed(snapshot(timedelta(days=20)))
    async with Tasks("test") as tasks:
        assert await posters(objects, tasks).latest("c1") is None
    assert len(objects.listings) == 14


async def test_viewers_share_a_search_and_its_result() -> None:
    objects, clock = Listed(snapshot(timedelta(hours=1))), Clock(NOW.timestamp())
    async with Tasks("test") as tasks:
        found = posters(objects, tasks, clock)
        first = await asyncio.gather(*(found.latest("c1") for _ in range(50)))
        assert set(first) == objects.keys
        listed = len(objects.listings)
        await found.latest("c1")
        assert len(objects.listings) == listed
        newer = snapshot(timedelta(minutes=1))
        objects.keys.add(newer)
        clock.now += 301
        assert await found.latest("c1") == newer


async def test_the_poster_is_searched_again_after_the_stream_went_live() -> None:
    objects = Listed(snapshot(timedelta(hours=1)))
    async with Tasks("test") as tasks:
        found = posters(objects, tasks)
        await found.latest("c1")
        newer = snapshot(timedelta(minutes=1))
        objects.keys.add(newer)
        found.forget("c1")
        assert await found.latest("c1") == newer


async def test_an_unavailable_store_gives_no_poster_and_is_asked_again() -> None:
    objects = Listed(snapshot(timedelta(hours=1)))
    objects.away = True
    async with Tasks("test") as tasks:
        found = posters(objects, tasks)
        assert await found.latest("c1") is None
        objects.away = False
        assert await found.latest("c1") == snapshot(timedelta(hours=1))


async def test_a_viewer_that_leaves_does_not_end_the_search_of_others() -> None:
    objects = Listed(snapshot(timedelta(hours=1)))
    objects.gate = asyncio.Event()
    async with Tasks("test") as tasks:
        found = posters(objects, tasks)
        leaver, stayer = (asyncio.ensure_future(found.latest("c1")) for _ in range(2))
        await asyncio.sleep(0)
        leaver.cancel()
        objects.gate.set()
        assert await stayer == snapshot(timedelta(hours=1))


async def test_snapshots_on_disk_are_found(tmp_path: Path) -> None:
    latest = snapshot(timedelta(hours=26))
    for key in (latest, snapshot(timedelta(hours=27))):
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(b"x")
    async with Tasks("test") as tasks:
        assert await posters(LocalObjects(tmp_path), tasks).latest("c1") == latest
