"""Finds the latest stored snapshot of a channel, for pages that wait for its stream."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

from gateway.channels.channel import Channel
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.tasks import Tasks
from gateway.ports import media_keys
from gateway.ports.errors import StoreUnavailable
from gateway.ports.stores import ObjectStore

_DAYS: Final = 14  # an older picture is of little use, and each day costs a listing
_MAX_CHANNELS: Final = 4096  # channels whose poster is cached
_CACHE_SECONDS: Final = 300.0  # for which a poster is cached, even if the snapshot is deleted meanwhile
_TIMEOUT: Final = 2.0  # seconds that a status waits for a store; the next status may contain the result


class Posters:
    """Finds each channel's poster. Searches once in five minutes for each channel, and never twice at once.

    tasks: owns the searches. They continue after the end of their request, so that the next request has the result
    even if the store is slow.
    """

    def __init__(self, objects: ObjectStore, tasks: Tasks, clock: Callable[[], float] = time.time) -> None:
        self._objects = objects
        self._tasks = tasks
        self._clock = clock
        self._cache: BoundedDict[str, tuple[float, str | None]] = BoundedDict(_MAX_CHANNELS)
        self._searches: dict[str, asyncio.Task[None]] = {}

    async def latest(self, channel: str) -> str | None:
        """Returns the key of the latest stored snapshot of the last two weeks; None if none is known."""
        now = self._clock()
        cached = self._cache.get(channel)
        if cached is None or now - cached[0] >= _CACHE_SECONDS:
            search = self._searches.get(channel)
            if search is None:
                search = self._searches[channel] = self._tasks.start(self._search(channel, now), "poster")
            await asyncio.wait((search,), timeout=_TIMEOUT)  # if it takes longer, the earlier result is used
            cached = self._cache.get(channel)
        return cached[1] if cached is not None else None

    async def path(self, channel: Channel) -> str | None:
        """Returns the poster, else the latest stored snapshot, as a path below the channel's address; None: neither."""
        key = channel.poster or await self.latest(channel.id)
        return "vod/" + quote(key.removeprefix(f"{channel.id}/")) if key is not None else None

    def forget(self, channel: str) -> None:
        """Forgets the poster of a channel that is live, because newer snapshots will follow."""
        self._cache.pop(channel, None)

    async def _search(self, channel: str, now: float) -> None:
        try:
            self._cache[channel] = (now, await self._find(channel, datetime.fromtimestamp(now, UTC)))
        except StoreUnavailable:
            return  # the next status starts a new search
        finally:
            del self._searches[channel]

    async def _find(self, channel: str, today: datetime) -> str | None:
        """Searches by days, then by hours, because a whole channel may have millions of snapshots."""
        for back in range(_DAYS):
            day = (today - timedelta(days=back)).replace(hour=23, minute=0, second=0)
            folder = media_keys.image_key(channel, day).rpartition("/")[0] + "/"
            if not await _any(self._objects, folder):
                continue
            for hour in range(23, -1, -1):
                # Names are `capture-YYYY-MM-DD_HH-MM-SS.jpg`: the order of the names is the order of the times.
                prefix = media_keys.image_key(channel, day.replace(hour=hour)).rsplit("-", 2)[0] + "-"
                keys = [found.key async for found in self._objects.list(prefix)]
                if keys:
                    return max(keys)
        return None


async def _any(objects: ObjectStore, prefix: str) -> bool:
    """Whether any object has this prefix. A store that lists by pages reads only one page."""
    listing = objects.list(prefix)
    try:
        return await anext(listing, None) is not None
    finally:
        if isinstance(listing, AsyncGenerator):
            await listing.aclose()
