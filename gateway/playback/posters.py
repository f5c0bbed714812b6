"""Finds the latest stored snapshot of a channel, for pages that wait for its stream."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias
from urllib.parse import quote

from gateway.channels.channel import Channel
from gateway.lib.tasks import Tasks
from gateway.playback.channel_searches import ChannelSearches
from gateway.ports import media_keys
from gateway.ports.stores import ObjectStore

_DAYS: Final = 14  # an older picture is of little use, and each day costs a listing
_CACHE_SECONDS: Final = 300.0  # for which a poster is cached, even if the snapshot is deleted meanwhile


# find(channel, now): returns the key of the latest stored snapshot; None if there is none. now: seconds since 1970.
FindSnapshot: TypeAlias = Callable[[str, float], Awaitable[str | None]]


class Posters:
    """Finds each channel's poster, see `ChannelSearches`. seconds: for which a result is used."""

    def __init__(
        self,
        find: FindSnapshot,
        tasks: Tasks,
        clock: Callable[[], float] = time.time,
        seconds: float = _CACHE_SECONDS,
    ) -> None:
        self._searches = ChannelSearches(find, seconds, tasks, clock)

    async def latest(self, channel: str) -> str | None:
        """Returns the key of the latest stored snapshot of the last two weeks; None if none is known."""
        return await self._searches.latest(channel)

    async def path(self, channel: Channel) -> str | None:
        """Returns the poster, else the latest stored snapshot, as a path below the channel's address; None: neither."""
        key = channel.poster or await self.latest(channel.id)
        return "vod/" + quote(key.removeprefix(f"{channel.id}/")) if key is not None else None

    def forget(self, channel: str) -> None:
        """Forgets the poster of a channel that is live, because newer snapshots will follow."""
        self._searches.forget(channel)


def stored_snapshots(objects: ObjectStore) -> FindSnapshot:
    """Returns the search in a store: by days, then by hours, because a whole channel may have millions of snapshots."""

    async def find(channel: str, now: float) -> str | None:
        today = datetime.fromtimestamp(now, UTC)
        for back in range(_DAYS):
            day = (today - timedelta(days=back)).replace(hour=23, minute=0, second=0)
            folder = media_keys.image_key(channel, day).rpartition("/")[0] + "/"
            if not await _any(objects, folder):
                continue
            for hour in range(23, -1, -1):
                # Names are `capture-YYYY-MM-DD_HH-MM-SS.jpg`: the order of the names is the order of the times.
                prefix = media_keys.image_key(channel, day.replace(hour=hour)).rsplit("-", 2)[0] + "-"
                keys = [found.key async for found in objects.list(prefix)]
                if keys:
                    return max(keys)
        return None

    return find


async def _any(objects: ObjectStore, prefix: str) -> bool:
    """Whether any object has this prefix. A store that lists by pages reads only one page."""
    listing = objects.list(prefix)
    try:
        return await anext(listing, None) is not None
    finally:
        if isinstance(listing, AsyncGenerator):
            await listing.aclose()
