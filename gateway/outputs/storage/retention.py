"""Deletes recordings and pictures that are older than their channel's retention time."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.channels.stores import ChannelStore
from gateway.ports import media_keys
from gateway.ports.errors import GatewayError, NoSuchObject
from gateway.ports.stores import ObjectStore

log = structlog.get_logger(__name__)

_FIRST: Final = 60.0  # seconds after the start
_ROUND_SECONDS: Final = 3 * 3600.0
_DAY: Final = 86_400
_MAX_PLAYLIST_BYTES: Final = 32 << 20
_SEGMENT = re.compile(r"^720p/([0-9]{13})\.ts\s*$", re.MULTILINE | re.ASCII)


@dataclass(slots=True)
class _Found:
    """The keys of a channel's media that retention must consider."""

    old: list[str] = field(default_factory=list)  # files that do not depend on others
    old_playlists: list[str] = field(default_factory=list)
    old_segments: list[str] = field(default_factory=list)
    young_playlists: list[str] = field(default_factory=list)


class Retention:
    """Deletes old media. Owned by the app. It touches only objects with names of the gateway's layout.

    An object's age counts from the later of the time in its name and the time when it was stored.
    An on-demand session is deleted as a whole: its playlist first, then its segments.
    A segment that a younger playlist names is kept.
    Media of a deleted channel are kept as long as the channel's setting says.
    Media of an unknown channel follow the gateway's own setting.
    """

    def __init__(
        self, objects: ObjectStore, channels: ChannelStore, days: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._objects = objects
        self._channels = channels
        self._days = days
        self._clock = clock
        self.deleted = 0

    async def run(self) -> None:
        """Runs `once` every three hours, until cancelled."""
        await asyncio.sleep(_FIRST)
        while True:
            try:
                await self.once()
            except (GatewayError, OSError) as error:
                log.warning("old recordings are not deleted now", reason=str(error))
            await asyncio.sleep(_ROUND_SECONDS)

    async def once(self) -> int:
        """Deletes what is too old now, and returns the number of objects. Raises StoreUnavailable."""
        # Existing channels are read first: a channel that is deleted in between is then in the second list.
        existing = {c.id: c.retention_days for c in await self._channels.list()}
        days = {d.id: d.channel.retention_days for d in await self._channels.list_deleted()} | existing
        kept = {id: self._days if own is None else own for id, own in days.items()}
        if not self._days and not any(kept.values()):
            return 0
        now, deleted = self._clock(), 0
        prefixes = [""] if self._days else [f"{id}/" for id, own in kept.items() if own]
        for prefix in prefixes:
            for channel, found in (await self._find(prefix, kept, now)).items():
                count = 0
                async for key in self._doomed(found):
                    await self._objects.delete(key)
                    count += 1
                if count:
                    log.info("old recordings deleted", stream=channel, files=count)
                deleted += count
        self.deleted += deleted
        return deleted

    async def _find(self, prefix: str, kept: dict[str, int], now: float) -> dict[str, _Found]:
        channels: defaultdict[str, _Found] = defaultdict(_Found)
        async for item in self._objects.list(prefix):
            named = media_keys.parse(item.key)
            if named is None:
                continue
            days = kept.get(named.channel, self._days)
            old = bool(days) and max(named.start, item.modified) < now - days * _DAY
            found = channels[named.channel]
            if named.kind is media_keys.MediaKind.ONDEMAND:
                (found.old_playlists if old else found.young_playlists).append(item.key)
            elif old:
                (found.old_segments if named.kind is media_keys.MediaKind.SEGMENT else found.old).append(item.key)
        return channels

    async def _doomed(self, found: _Found) -> AsyncIterator[str]:
        """Yields the keys to delete, each playlist before its segments."""
        for key in (*found.old, *found.old_playlists):
            yield key
        if found.old_segments:
            named = {n for playlist in found.young_playlists for n in await self._segments(playlist)}
            for key in found.old_segments:
                if key.rpartition("/")[2].removesuffix(".ts") not in named:
                    yield key

    async def _segments(self, playlist: str) -> list[str]:
        """Returns the segment numbers that a playlist names."""
        text = bytearray()
        try:
            async for piece in self._objects.read(playlist, 0, _MAX_PLAYLIST_BYTES):
                text += piece
        except NoSuchObject:
            return []
        return _SEGMENT.findall(text.decode("utf-8", "replace"))
