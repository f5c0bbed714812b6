"""Deletes on-demand sessions that were recorded only for rewinding, when viewers can no longer go back to them."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.channels.stores import StoredChannels
from gateway.outputs.recording.on_demand_recording import REWIND_MARGIN
from gateway.outputs.recording.on_demand_session import REWIND_MARK
from gateway.outputs.storage.periodic_deletion import run_periodically
from gateway.outputs.storage.recording_index import captions_of_session, read_start
from gateway.outputs.storage.stored_pieces import StoredPieces
from gateway.ports import media_keys
from gateway.ports.stores import ObjectStore

log = structlog.get_logger(__name__)

_START_DELAY_SECONDS: Final = 90.0
_INTERVAL_SECONDS: Final = 900.0
_HEAD_BYTES: Final = 512  # of a playlist, with its mark
_DELETED_IN_ONE_CALL: Final = 500  # objects that one call deletes
_PAUSE_SECONDS: Final = 1.0  # pause between two such calls
_MAX_KEPT: Final = 100_000  # remembered playlists of sessions that are kept


class RewindDeletion:
    """Deletes whole sessions: the segments, then the playlist. A running session deletes its old segments itself.

    The playlist is the last, because an interrupted deletion finds the segments by it; no viewer goes back to them.
    Only sessions with REWIND_MARK in their playlist are deleted, so sessions that isOnDemand keeps stay. A session is
    old when its last segment is old. Channels that never had the field `rewind` are skipped.
    """

    def __init__(self, objects: ObjectStore, channels: StoredChannels, clock: Callable[[], float] = time.time) -> None:
        self._objects = objects
        self._channels = channels
        self._pieces = StoredPieces(objects)
        self._clock = clock
        self._kept: set[str] = set()  # keys of playlists without the mark

    async def run(self) -> None:
        """Runs `run_once` every 15 minutes, until cancelled."""
        await run_periodically(
            self.run_once, "sessions for rewinding could not be deleted", _START_DELAY_SECONDS, _INTERVAL_SECONDS
        )

    async def run_once(self) -> int:
        """Deletes old sessions and returns the number of objects. Raises StoreUnavailable."""
        deleted = 0
        for channel in await self._channels.list():
            if "rewind" in channel.item and not channel.flag("isOnDemand"):
                count = await self._delete_old(channel)
                if count:
                    log.info("segments for rewinding deleted", stream=channel.id, files=count)
                deleted += count
        return deleted

    async def _delete_old(self, channel: Channel) -> int:
        oldest = self._clock() - channel.rewind_seconds - REWIND_MARGIN
        count = 0
        playlists = [item async for item in self._objects.list(f"{channel.id}/vod-")]
        for item in playlists:
            parsed = media_keys.parse(item.key)
            if parsed is None or parsed.kind is not media_keys.MediaKind.ONDEMAND:
                continue
            # The playlist of a growing session is stored again after each segment.
            if item.modified >= oldest or item.key in self._kept:
                continue
            if REWIND_MARK.encode() not in (await read_start(self._objects, item.key, _HEAD_BYTES) or b""):
                if len(self._kept) < _MAX_KEPT:
                    self._kept.add(item.key)
                continue
            pieces = await self._pieces.session(item.key)
            if pieces and pieces[-1].end >= oldest:
                continue
            keys = [piece.key for piece in pieces]
            captions = await captions_of_session(self._objects, item.key, keys)
            keys += captions
            for first in range(0, len(keys), _DELETED_IN_ONE_CALL):
                await self._objects.delete_many(keys[first : first + _DELETED_IN_ONE_CALL])
                await asyncio.sleep(_PAUSE_SECONDS)
            await self._objects.delete(item.key)
            await self._objects.delete(media_keys.session_record_key(item.key))
            count += 1 + len(keys)
        return count
