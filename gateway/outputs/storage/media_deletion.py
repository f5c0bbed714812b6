"""Deletes the stored media of deleted channels, and forgets deleted channels that left no media."""

from __future__ import annotations

import asyncio
import bisect
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Final

import structlog

from gateway.channels.deleted_channel import DeletedChannel
from gateway.channels.stores import ChannelStore
from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchChannel, StoreUnavailable
from gateway.ports.stores import Object, ObjectStore

log = structlog.get_logger(__name__)

_ROUND_SECONDS: Final = 3 * 3600.0  # seconds between two rounds over all deleted channels
_AGAIN: Final = 60.0  # seconds until the next round after a store failed
_REMEMBERED: Final = 7 * 86_400.0  # seconds for which a deleted channel stays known: its last files may arrive late
# Seconds between the passes over one channel: recordings that were in progress are finished after its deletion.
PAUSES: Final = (5.0, 30.0, 300.0, 1800.0)
_MAX_CHANNELS: Final = 1_000  # channels in work; the others wait for the next round
_MAX_CHECKED: Final = 1_000  # channels that one round asks the object store about
_MAX_CONCURRENT: Final = 4
_PAGE: Final = 1_000


class MediaDeletion:
    """Deletes media in the background. The app owns `run`.

    The channel store lists the channels whose media must be deleted, so a restart loses nothing.
    If the object store is unavailable, it is tried until it answers.
    If a new channel has the same id, only media older than the deletion are deleted.
    """

    def __init__(
        self,
        objects: ObjectStore,
        channels: ChannelStore,
        *,
        is_film: Callable[[str], bool],
        shared: bool,
        clock: Callable[[], float] = time.time,
        pauses: tuple[float, ...] = PAUSES,
    ) -> None:
        """is_film(key): whether an object's key is that of a VOD's file.
        shared: every gateway that reads `channels` sees these objects too.
        Only then can this process know that nothing of a channel is left.
        """
        self._objects = objects
        self._channels = channels
        self._is_film = is_film
        self._shared = shared
        self._clock = clock
        self._pauses = pauses
        self._tasks: Tasks | None = None
        self._working: dict[str, asyncio.Event] = {}  # by channel; set after the first pass
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._checked = ""  # the last id that a round asked about

    # ---- for the app ----

    async def run(self) -> None:
        """Works in rounds, until cancelled."""
        async with Tasks("media deletion", _crashed) as tasks:
            self._tasks = tasks
            try:
                while True:
                    pause = _ROUND_SECONDS
                    try:
                        await self.round()
                    except (StoreUnavailable, OSError) as error:
                        pause = _AGAIN
                        log.warning("deleted channels are not looked through now", reason=str(error))
                    await asyncio.sleep(pause)
            finally:
                self._tasks = None

    async def round(self) -> None:
        """Begins the deletions that are due, and forgets channels that left nothing. Raises StoreUnavailable."""
        now, kept = self._clock(), []
        for deleted in await self._channels.list_deleted():
            old = deleted.deleted_at < now - _REMEMBERED
            if not deleted.without_media:
                if old:
                    kept.append(deleted.id)
            elif not old:
                self.begin(deleted)
            elif not await self.once(deleted) and self._shared:
                await self._channels.remove_deleted(deleted.id)
        if self._shared:
            await self._forget_empty(sorted(kept))

    # ---- for the API and the command line ----

    async def check(self) -> None:
        """Raises StoreUnavailable if nothing could be deleted now."""
        await self._objects.check()

    async def any_of(self, id: str, *, films: bool = True) -> bool:
        """Whether any recording of a channel with this id, or any VOD below it, is stored. Raises StoreUnavailable."""
        return await self._holds(id, lambda key: media_keys.parse(key) is not None or (films and self._is_media(key)))

    def begin(self, deleted: DeletedChannel) -> bool:
        """Deletes a channel's media in the background. Returns False if too many wait; a later round then does it."""
        if deleted.id in self._working:
            return True
        if self._tasks is None or len(self._working) >= _MAX_CHANNELS:
            return False
        self._working[deleted.id] = asyncio.Event()
        self._tasks.start(self._work(deleted), deleted.id)
        return True

    async def passed(self, id: str, seconds: float) -> bool:
        """Waits at most `seconds` for the first pass over a channel's media, and returns whether it has ended."""
        done = self._working.get(id)
        if done is None:
            return False
        try:
            async with asyncio.timeout(seconds):
                await done.wait()
        except TimeoutError:
            return False
        return True

    async def once(self, deleted: DeletedChannel) -> int:
        """Deletes the media that a channel has now, and returns the number of objects. Raises StoreUnavailable."""
        until = await self._until(deleted)
        count, page = 0, []
        async for item in self._objects.list(f"{deleted.id}/"):
            if not self._is_media(item.key) or _begun(item) > until:
                continue
            page.append(item.key)
            if len(page) == _PAGE:
                await self._objects.delete_many(page)
                count, page = count + len(page), []
        await self._objects.delete_many(page)
        count += len(page)
        return count

    # ---- details ----

    async def _work(self, deleted: DeletedChannel) -> None:
        try:
            for pause in (*self._pauses, 0.0):
                await self._persist(deleted)
                self._working[deleted.id].set()
                await asyncio.sleep(pause)
        finally:
            del self._working[deleted.id]

    async def _persist(self, deleted: DeletedChannel) -> None:
        """Makes one pass, and repeats it until the stores answer."""
        backoff = Backoff(1.0, 60.0)
        said = False
        while True:
            try:
                async with self._slots:
                    count = await self.once(deleted)
                if count:
                    log.info("media of a deleted channel were deleted", channel=deleted.id, files=count)
                return
            except (StoreUnavailable, OSError) as error:
                if not said:
                    said = True
                    log.warning("media of a deleted channel wait to be deleted", channel=deleted.id, reason=str(error))
            await asyncio.sleep(backoff.next())

    async def _until(self, deleted: DeletedChannel) -> float:
        """Returns the time up to which media belong to the deleted channel, seconds since the epoch."""
        try:
            await self._channels.get(deleted.id)
        except NoSuchChannel:
            with suppress(NoSuchChannel):
                if not (await self._channels.get_deleted(deleted.id)).without_media:
                    return deleted.deleted_at  # it existed again later, and its later media are kept
            return float("inf")
        return deleted.deleted_at

    async def _forget_empty(self, ids: list[str]) -> None:
        """Checks up to 1,000 deleted channels in turn, and forgets those that left nothing."""
        first = bisect.bisect_right(ids, self._checked)
        asked = (ids[first:] + ids[:first])[:_MAX_CHECKED]
        for id in asked:
            self._checked = id
            if not await self._holds(id, bool):
                await self._channels.remove_deleted(id)

    async def _holds(self, id: str, counts: Callable[[str], bool]) -> bool:
        """Whether the folder of a channel has an object whose key counts."""
        listing = self._objects.list(f"{id}/")
        try:
            async for item in listing:
                if counts(item.key):
                    return True
            return False
        finally:
            if isinstance(listing, AsyncGenerator):
                await listing.aclose()

    def _is_media(self, key: str) -> bool:
        # A VOD directly below the id is not the channel's: it was made of an upload with the channel's name.
        return media_keys.parse(key) is not None or (key.count("/") > 1 and self._is_film(key))


def _begun(item: Object) -> float:
    """Returns when a recording began, from its name; for a VOD, when it was stored."""
    named = media_keys.parse(item.key)
    return named.start if named is not None else item.modified


def _crashed(name: str, error: BaseException) -> None:
    log.error("media of a deleted channel could not be deleted", task=name, exc_info=error)
