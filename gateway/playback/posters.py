"""Finds the latest stored snapshot of a channel, for pages that wait for its stream."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.lib.tasks import Tasks
from gateway.ports import media_keys
from gateway.ports.errors import StoreUnavailable
from gateway.ports.stores import Object, ObjectStore

_DAYS: Final = 14  # an older picture is of little use, and each day costs a listing
_MAX_CHANNELS: Final = 4096  # channels whose poster is remembered
_FRESH: Final = 300.0  # seconds for which it is remembered, also after the last snapshot was deleted
_TIMEOUT: Final = 2.0  # seconds that a status waits for a store; the next status may have the result


class Posters:
    """Finds each channel's poster, with at most one search per channel at once and one in five minutes.

    tasks: owns the searches. They continue after their request has gone, so that a slow store helps the next request.
    """

    def __init__(self, objects: ObjectStore, tasks: Tasks, clock: Callable[[], float] = time.time) -> None:
        self._objects = objects
        self._tasks = tasks
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, str | None]] = OrderedDict()
        self._searches: dict[str, asyncio.Event] = {}

    async def latest(self, channel: str) -> str | None:
        """Returns the key of the latest stored snapshot of the last two weeks; None if none is known."""
        now = self._clock()
        known = self._known.get(channel)
        if known is None or now - known[0] >= _FRESH:
            done = self._searches.get(channel)
            if done is None:
                done = self._searches[channel] = asyncio.Event()
                self._tasks.start(self._search(channel, now, done), "poster")
            try:
                async with asyncio.timeout(_TIMEOUT):
                    await done.wait()
            except TimeoutError:
                pass  # the earlier result is used meanwhile
            known = self._known.get(channel)
        return known[1] if known is not None else None

    def forget(self, channel: str) -> None:
        """Forgets the poster of a channel that is live, because newer snapshots will follow."""
        self._known.pop(channel, None)

    async def _search(self, channel: str, now: float, done: asyncio.Event) -> None:
        try:
            found = await self._find(channel, datetime.fromtimestamp(now, UTC))
        except StoreUnavailable:
            return  # searched again at the next status
        else:
            self._known[channel] = (now, found)
            self._known.move_to_end(channel)
            if len(self._known) > _MAX_CHANNELS:
                self._known.popitem(last=False)
        finally:
            del self._searches[channel]
            done.set()

    async def _find(self, channel: str, today: datetime) -> str | None:
        """Searches by days, then by hours, because a whole channel may have millions of snapshots."""
        for back in range(_DAYS):
            day = (today - timedelta(days=back)).replace(hour=23, minute=0, second=0)
            folder = media_keys.image_key(channel, day).rpartition("/")[0] + "/"
            if not await _any(self._objects, folder):
                continue
            for hour in range(23, -1, -1):
                # Names are `capture-YYYY-MM-DD_HH-MM-SS.jpg`: they sort as their times do.
                prefix = media_keys.image_key(channel, day.replace(hour=hour)).rsplit("-", 2)[0] + "-"
                keys = [found.key async for found in self._objects.list(prefix)]
                if keys:
                    return max(keys)
        return None


async def _any(objects: ObjectStore, prefix: str) -> bool:
    """Whether any object has this prefix; a store that lists by pages reads one page."""
    listing = objects.list(prefix)
    try:
        async for found in listing:
            return isinstance(found, Object)
        return False
    finally:
        if isinstance(listing, AsyncGenerator):
            await listing.aclose()
