"""Finds the last recorded session of a channel, which its watch page plays while nobody pushes."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, Final, TypeAlias

from gateway.channels.channel import Channel
from gateway.lib.tasks import Tasks
from gateway.outputs.recording.on_demand_session import REWIND_MARK
from gateway.outputs.storage.recording_index import read_start
from gateway.playback.channel_searches import ChannelSearches
from gateway.ports import media_keys
from gateway.ports.events import Event, EventType
from gateway.ports.stores import ObjectStore
from gateway.vod.session_records import NO_RECORD, read_session

_SECONDS: Final = 10.0  # for which a result is used. Other nodes record sessions too
_PAGE_KEYS: Final = 1_000  # of one listing; a store lists so many in one request
_DIGITS: Final = 13  # of the start in a key
_MAX_TRIED: Final = 20  # of the newest sessions: if all are hidden, or only for rewinding, nothing is replayed
_HEAD_BYTES: Final = 512  # of a playlist, with its mark

# The objects of a session by suffix, each with the time of its storage, seconds since 1970.
_Stored: TypeAlias = dict[str, float]


class Replays:
    """Finds the replay of each channel with isReplay, see `ChannelSearches`. default: of isReplay."""

    def __init__(
        self, objects: ObjectStore, tasks: Tasks, default: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self._objects = objects
        self._default = default
        self._searches = ChannelSearches(self._find, _SECONDS, tasks, clock)

    async def of(self, channel: Channel) -> Mapping[str, Any] | None:
        """Returns the last session as `status.json` has it; None if the channel has none, or does not replay it."""
        return await self._searches.latest(channel.id) if channel.is_replayed(self._default) else None

    async def has_page(self, channel: str, start: int) -> bool:
        """Whether viewers find the session that started then: it is stored, and not hidden. Raises StoreUnavailable.

        start: milliseconds since 1970.
        """
        key = media_keys.playlist_key(channel, start)
        stored = await read_start(self._objects, key, _HEAD_BYTES) is not None
        return stored and not (await read_session(self._objects, key)).hidden

    def forget(self, channel: str) -> None:
        """Lets the next request search again, because the channel is live, or a session of it has changed."""
        self._searches.forget(channel)

    def on_event(self, event: Event) -> None:
        """Lets the next request search again when a session of this node is complete."""
        if event.type is EventType.RECORDING_READY:
            self.forget(event.channel)

    async def _find(self, channel: str, now: float) -> Mapping[str, Any] | None:
        tried = 0
        async for start, stored in self._newest_first(f"{channel}/vod-"):
            if ".m3u8" not in stored:
                continue  # a record whose session was deleted
            key = media_keys.playlist_key(channel, start)
            record = await read_session(self._objects, key) if ".json" in stored else NO_RECORD
            head = None if record.hidden else await read_start(self._objects, key, _HEAD_BYTES)
            if head is not None and REWIND_MARK.encode() not in head:
                return _replay(key, start, record.title, stored)
            tried += 1
            if tried == _MAX_TRIED:
                break
        return None

    async def _newest_first(self, prefix: str, digits: int = 0) -> AsyncIterator[tuple[int, _Stored]]:
        """Yields the starts and the objects of the sessions with this prefix. digits: of the start, in the prefix.

        If there are more than one page, it goes on with each next digit. So few pages are read of many sessions.
        """
        found: dict[int, _Stored] = {}
        listed = 0
        listing = self._objects.list(prefix)
        async for item in listing:
            listed += 1
            if listed > _PAGE_KEYS and digits < _DIGITS:
                break
            if (parsed := media_keys.session_object(item.key)) is not None:
                found.setdefault(parsed[0], {})[parsed[1]] = item.modified
        else:
            for start in sorted(found, reverse=True):
                yield start, found[start]
            return
        if isinstance(listing, AsyncGenerator):
            await listing.aclose()
        for digit in "9876543210":
            async for session in self._newest_first(prefix + digit, digits + 1):
                yield session


def _replay(key: str, start: int, title: str, stored: _Stored) -> Mapping[str, Any]:
    """Returns a session as `status.json` has it. Times: ms since 1970. Addresses: below that of the channel."""
    media = media_keys.multivariant_key(key) if ".master.m3u8" in stored else key
    return {
        "start": start,
        "changed": round(stored[".m3u8"] * 1000),
        "title": title,
        "page": f"vod/{start}/",
        "hls": f"vod/{media.rpartition('/')[2]}",
        "poster": f"vod/{start}/poster.jpg",
    }
