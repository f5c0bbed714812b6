"""Posters: the latest snapshot that is stored of a channel, for pages that wait for its stream."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.hub.errors import StoreAway
from gateway.hub.ports import Object, ObjectStore
from gateway.lib.aio import Tasks
from gateway.sinks import naming

_DAYS: Final = 14  # an older picture says little about what is to come, and each day costs a listing
_KEPT: Final = 4096  # channels whose poster is remembered
_FRESH: Final = 300.0  # seconds for which it is; also after the last one was deleted
_PATIENCE: Final = 2.0  # seconds that a status waits for a store; the next status may know


class Posters:
    """Finds each channel's poster: at most one search a channel at once, and one in five minutes.

    tasks: what owns the searches. They go on when who asked has gone: on a slow store the next one finds the answer.
    """

    def __init__(self, objects: ObjectStore, tasks: Tasks, clock: Callable[[], float] = time.time) -> None:
        self._objects = objects
        self._tasks = tasks
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, str | None]] = OrderedDict()
        self._searches: dict[str, asyncio.Event] = {}

    async def latest(self, channel: str) -> str | None:
        """The key of the latest stored snapshot of the last two weeks; None where none is known."""
        now = self._clock()
        known = self._known.get(channel)
        if known is None or now - known[0] >= _FRESH:
            done = self._searches.get(channel)
            if done is None:
                done = self._searches[channel] = asyncio.Event()
                self._tasks.start(self._search(channel, now, done), "poster")
            try:
                async with asyncio.timeout(_PATIENCE):
                    await done.wait()
            except TimeoutError:
                pass  # what was known before is shown meanwhile
            known = self._known.get(channel)
        return known[1] if known is not None else None

    def forget(self, channel: str) -> None:
        """It is live: there will be newer ones."""
        self._known.pop(channel, None)

    async def _search(self, channel: str, now: float, done: asyncio.Event) -> None:
        try:
            found = await self._find(channel, datetime.fromtimestamp(now, UTC))
        except StoreAway:
            return  # asked again with the next status
        else:
            self._known[channel] = (now, found)
            self._known.move_to_end(channel)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        finally:
            del self._searches[channel]
            done.set()

    async def _find(self, channel: str, today: datetime) -> str | None:
        """By days, then by hours: a listing of a whole channel may be of millions."""
        for back in range(_DAYS):
            day = (today - timedelta(days=back)).replace(hour=23, minute=0, second=0)
            folder = naming.image_key(channel, day).rpartition("/")[0] + "/"
            if not await _any(self._objects, folder):
                continue
            for hour in range(23, -1, -1):
                # Names are `capture-YYYY-MM-DD_HH-MM-SS.jpg`: they sort as their times do.
                prefix = naming.image_key(channel, day.replace(hour=hour)).rsplit("-", 2)[0] + "-"
                keys = [found.key async for found in self._objects.list(prefix)]
                if keys:
                    return max(keys)
        return None


async def _any(objects: ObjectStore, prefix: str) -> bool:
    """Whether there is anything below; a store that lists by pages reads one."""
    listing = objects.list(prefix)
    try:
        async for found in listing:
            return isinstance(found, Object)
        return False
    finally:
        if isinstance(listing, AsyncGenerator):
            await listing.aclose()
