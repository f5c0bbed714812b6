"""Deletes the stored media of deleted channels, and then the records of deleted channels without media."""

import asyncio
import bisect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import Final

import structlog

from gateway.channels.deleted_channel import DeletedChannel
from gateway.channels.stores import ChannelStore
from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks
from gateway.lib.waiting import wait_at_most
from gateway.outputs.storage.periodic_deletion import run_periodically
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchChannel, StoreUnavailable
from gateway.ports.stores import Object, ObjectStore
from gateway.ports.vod_names import vod_names_of

log = structlog.get_logger(__name__)

_ROUND_SECONDS: Final = 3 * 3600.0  # between two rounds over all deleted channels
_RETRY_SECONDS: Final = 60.0  # until the next round after a store failed
_RECORD_SECONDS: Final = 7 * 86_400.0  # to keep the record of a deleted channel: its last files may arrive late
# Seconds between the passes over one channel, because running recordings end after its deletion.
PAUSES: Final = (5.0, 30.0, 300.0, 1800.0)
_MAX_CHANNELS: Final = 1_000  # channels in progress; the others wait for the next round
_MAX_CHECKED: Final = 1_000  # channels that one round checks in the object store
_MAX_CONCURRENT: Final = 4
_PAGE_KEYS: Final = 1_000


@dataclass(slots=True, eq=False)
class _Passes:
    """The passes over the media of a deleted channel.

    ended: set after the first pass. replaced: set when the passes begin anew.
    """

    deleted: DeletedChannel
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    replaced: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class MediaDeletion:
    """Deletes media in the background. The app starts `run`.

    The channel store lists the channels whose media must be deleted, so a restart loses nothing.
    If the object store is unavailable, deletion is repeated until it answers.
    If a new channel has the id, only media older than the deletion are deleted.

    is_film(key): whether an object is a file of a VOD.
    shared: whether all gateways with this channel store use this object store too.
    Only then an empty folder means that a channel has no media.
    forget_film: called with the folder of each VOD that is deleted with its channel.
    """

    objects: ObjectStore
    channels: ChannelStore
    _: KW_ONLY
    is_film: Callable[[str], bool]
    shared: bool
    forget_film: Callable[[str], Awaitable[None]] | None = None
    clock: Callable[[], float] = time.time
    _tasks: Tasks | None = field(default=None, init=False)
    _in_progress: dict[str, _Passes] = field(default_factory=dict, init=False)  # by channel
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MAX_CONCURRENT), init=False)
    _checked: str = field(default="", init=False)  # the last id that a round checked

    # ---- for the app ----

    async def run(self) -> None:
        """Runs `run_round` regularly, until cancelled."""
        async with Tasks("media deletion") as tasks:
            self._tasks = tasks
            try:
                failure = "deleted channels cannot be checked now"
                await run_periodically(self.run_round, failure, 0, _ROUND_SECONDS, _RETRY_SECONDS)
            finally:
                self._tasks = None

    async def run_round(self) -> None:
        """Starts due deletions, and removes the records of deleted channels for which no object is stored.

        Raises StoreUnavailable.
        """
        now, kept_media = self.clock(), []
        for deleted in await self.channels.list_deleted():
            old = deleted.deleted_at < now - _RECORD_SECONDS and deleted.restorable is None
            if not deleted.deletes_media:
                if old:
                    kept_media.append(deleted.id)
            elif not old:
                if deleted.id not in self._in_progress:
                    self.begin(deleted)
            elif not await self.delete_once(deleted) and self.shared:
                await self.channels.remove_deleted(deleted.id)
        if self.shared:
            await self._remove_records(sorted(kept_media))

    # ---- for the API and the command line ----

    async def check(self) -> None:
        """Raises StoreUnavailable if media cannot be deleted now."""
        await self.objects.check()

    async def has_media(self, id: str, *, films: bool = True) -> bool:
        """Returns whether a recording of this channel, or a VOD below its id, is stored. Raises StoreUnavailable."""
        return await self._has_object(
            id, lambda key: media_keys.parse(key) is not None or (films and self._is_media(key))
        )

    def begin(self, deleted: DeletedChannel) -> bool:
        """Deletes a channel's media in the background. Returns False if too many wait; a later round deletes them.

        If the passes of an earlier call have begun to wait, they begin anew: media may have been stored since.
        """
        before = self._in_progress.get(deleted.id)
        if before is not None and before.deleted.deleted_at >= deleted.deleted_at and not before.ended.is_set():
            return True
        if self._tasks is None or (before is None and len(self._in_progress) >= _MAX_CHANNELS):
            return False
        if before is not None:
            before.replaced.set()
        passes = self._in_progress[deleted.id] = _Passes(deleted)
        self._tasks.start(self._delete_in_passes(passes), deleted.id)
        return True

    async def wait_for_pass(self, id: str, seconds: float) -> bool:
        """Waits at most `seconds` for the first pass over a channel's media. Returns whether it has ended."""
        passes = self._in_progress.get(id)
        return passes is not None and await wait_at_most(seconds, passes.ended)

    async def delete_once(self, deleted: DeletedChannel) -> int:
        """Deletes the channel's current media and returns the number of objects. Raises StoreUnavailable."""
        latest_start = await self._latest_start(deleted)
        count, page = 0, []
        async for item in self.objects.list(f"{deleted.id}/"):
            if not self._is_media(item.key) or _start_time(item) > latest_start:
                continue
            page.append(item.key)
            if (names := vod_names_of(item.key)) is not None and self.forget_film is not None:
                await self.forget_film(names.prefix)
            if len(page) == _PAGE_KEYS:
                await self.objects.delete_many(page)
                count, page = count + len(page), []
        await self.objects.delete_many(page)
        count += len(page)
        return count

    # ---- details ----

    async def _delete_in_passes(self, passes: _Passes) -> None:
        id = passes.deleted.id
        try:
            for pause in (*PAUSES, 0.0):
                await self._make_pass(passes.deleted)
                passes.ended.set()
                if await wait_at_most(pause, passes.replaced):
                    break
        finally:
            if self._in_progress.get(id) is passes:
                del self._in_progress[id]

    async def _make_pass(self, deleted: DeletedChannel) -> None:
        """Makes one pass; repeats it until the stores answer."""
        backoff = Backoff(1.0, 60.0)
        logged = False
        while True:
            try:
                async with self._slots:
                    count = await self.delete_once(deleted)
                if count:
                    log.info("media of a deleted channel were deleted", channel=deleted.id, files=count)
                return
            except (StoreUnavailable, OSError) as error:
                if not logged:
                    logged = True
                    log.warning("media of a deleted channel wait to be deleted", channel=deleted.id, reason=str(error))
            await asyncio.sleep(backoff.next())

    async def _latest_start(self, deleted: DeletedChannel) -> float:
        """Returns the latest start of media of the deleted channel, seconds since 1970."""
        try:
            await self.channels.get(deleted.id)
        except NoSuchChannel:
            with suppress(NoSuchChannel):
                if not (await self.channels.get_deleted(deleted.id)).deletes_media:
                    # A later channel with this id was deleted too, and its media are kept.
                    return deleted.deleted_at
            return float("inf")
        return deleted.deleted_at

    async def _remove_records(self, ids: list[str]) -> None:
        """Checks up to 1,000 deleted channels in turn, and removes the records of those without media."""
        first = bisect.bisect_right(ids, self._checked)
        checked = (ids[first:] + ids[:first])[:_MAX_CHECKED]
        for id in checked:
            self._checked = id
            if not await self._has_object(id, bool):
                await self.channels.remove_deleted(id)

    async def _has_object(self, id: str, matches: Callable[[str], bool]) -> bool:
        """Returns whether the folder of a channel has an object for which `matches` returns True."""
        listing = self.objects.list(f"{id}/")
        try:
            async for item in listing:
                if matches(item.key):
                    return True
            return False
        finally:
            if isinstance(listing, AsyncGenerator):
                await listing.aclose()

    def _is_media(self, key: str) -> bool:
        if media_keys.parse(key) is not None or media_keys.session_object(key) is not None:  # the record of a session
            return True
        # A VOD directly below the id belongs to an upload with the channel's name, not to the channel.
        return key.count("/") > 1 and self.is_film(key)


def _start_time(item: Object) -> float:
    """Returns the start of a recording from its name, or the storage time of a VOD."""
    parsed = media_keys.parse(item.key)
    return parsed.start if parsed is not None else item.modified
