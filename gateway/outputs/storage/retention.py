"""Deletes recordings and pictures that are older than their channel's retention time."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.channels.stores import StoredChannels
from gateway.outputs.storage.periodic_deletion import run_periodically
from gateway.outputs.storage.recording_index import playlist_segments
from gateway.ports import media_keys
from gateway.ports.stores import ObjectStore

log = structlog.get_logger(__name__)

_START_DELAY_SECONDS: Final = 60.0
_INTERVAL_SECONDS: Final = 3 * 3600.0
_DAY: Final = 86_400


@dataclass(slots=True)
class _ChannelMedia:
    """The keys of a channel's media that retention checks."""

    old: list[str] = field(default_factory=list)  # files without segments
    old_playlists: list[str] = field(default_factory=list)
    old_segments: list[str] = field(default_factory=list)  # with the captions of segments and sessions
    current_playlists: list[str] = field(default_factory=list)
    records: set[str] = field(default_factory=set)  # of sessions


@dataclass(slots=True, eq=False)
class Retention:
    """Deletes old media. It ignores objects whose keys do not match the gateway's layout.

    The age of an object starts at the time in its name or at its storage time, whichever is later.
    An on-demand session is deleted as a whole: its playlist first, then its segments.
    A segment in a newer playlist is kept. Captions stay with their segment and their session.
    Media of a deleted channel follow the channel's setting.
    Media of an unknown channel follow the gateway's own setting.
    Clips follow `clip_days`, unless it is 0.
    """

    objects: ObjectStore
    channels: StoredChannels
    days: int
    clip_days: int = 0
    clock: Callable[[], float] = time.time

    async def run(self) -> None:
        """Runs `run_once` every three hours, until cancelled."""
        await run_periodically(
            self.run_once, "old recordings could not be deleted", _START_DELAY_SECONDS, _INTERVAL_SECONDS
        )

    async def run_once(self) -> int:
        """Deletes old objects and returns their number. Raises StoreUnavailable."""
        # Existing channels are read first. A channel deleted in the meantime is then in the second list.
        existing = {c.id: c.retention_days for c in await self.channels.list()}
        settings = {d.id: d.channel.retention_days for d in await self.channels.list_deleted()} | existing
        days_by_channel = {id: self.days if days is None else days for id, days in settings.items()}
        checks_all = (
            self.days or self.clip_days
        )  # whether all keys are listed; otherwise only those of channels with `retentionDays`
        if not checks_all and not any(days_by_channel.values()):
            return 0
        now, deleted = self.clock(), 0
        prefixes = [""] if checks_all else [f"{id}/" for id, channel_days in days_by_channel.items() if channel_days]
        for prefix in prefixes:
            for channel, found in (await self._find(prefix, days_by_channel, now)).items():
                count = 0
                async for key in self._keys_to_delete(found):
                    await self.objects.delete(key)
                    count += 1
                if count:
                    log.info("old recordings deleted", stream=channel, files=count)
                deleted += count
        return deleted

    async def _find(self, prefix: str, days_by_channel: dict[str, int], now: float) -> dict[str, _ChannelMedia]:
        channels: defaultdict[str, _ChannelMedia] = defaultdict(_ChannelMedia)
        async for item in self.objects.list(prefix):
            parsed = media_keys.parse(item.key)
            if parsed is None:
                if (session := media_keys.session_object(item.key)) is not None and session[1] == ".json":
                    channels[item.key.partition("/")[0]].records.add(item.key)
                continue
            days = days_by_channel.get(parsed.channel, self.days)
            if parsed.kind is media_keys.MediaKind.CLIP:
                days = self.clip_days or days
            old = bool(days) and max(parsed.start, item.modified) < now - days * _DAY
            found = channels[parsed.channel]
            if parsed.kind is media_keys.MediaKind.ONDEMAND:
                (found.old_playlists if old else found.current_playlists).append(item.key)
            elif old:
                belongs = parsed.kind is media_keys.MediaKind.SEGMENT or media_keys.captioned(item.key) is not None
                (found.old_segments if belongs else found.old).append(item.key)
        return channels

    async def _keys_to_delete(self, found: _ChannelMedia) -> AsyncIterator[str]:
        """Yields the keys to delete, playlists before segments."""
        for key in (*found.old, *found.old_playlists):
            yield key
        for key in map(media_keys.session_record_key, found.old_playlists):
            if key in found.records:
                yield key
        if found.old_segments:
            listed = {
                uri for playlist in found.current_playlists for uri in await playlist_segments(self.objects, playlist)
            }
            listed |= {playlist.partition("/")[2] for playlist in found.current_playlists}
            for key in found.old_segments:
                owner, _ = media_keys.captioned(key) or (key, "")
                if owner.partition("/")[2] not in listed:
                    yield key
