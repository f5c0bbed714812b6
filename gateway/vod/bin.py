"""The bin: keeps deleted recordings and films for some hours, so that a deletion can be undone.

A deletion moves its files to keys that nobody serves or lists, and stores one entry that describes them. The entry is
stored before the first file moves, and is removed after the last one. So it is there whenever a process stops.
A deletion of a recording that was interrupted continues in `delete_old`; `Films` continues the deletions of films.
"""

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import structlog

from gateway.channels.names import is_object_key
from gateway.lib.records import read_record
from gateway.ports.bin_keys import ENTRIES, entry_id, entry_key, files_prefix
from gateway.ports.errors import NoSuchObject, ObjectArchived, StoreUnavailable
from gateway.ports.media_keys import MediaKind
from gateway.ports.stores import ObjectStore
from gateway.vod.temporary_file import temporary_file

log = structlog.get_logger(__name__)

FILM: Final = "film"
_ID: Final = re.compile(r"[0-9a-f]{24}", re.ASCII)
_MAX_ENTRY_BYTES: Final = 1 << 20
_PAGE_KEYS: Final = 1_000
_MAX_CONCURRENT: Final = 8


@dataclass(frozen=True, slots=True)
class BinEntry:
    """One deletion that can be undone.

    kind: of the recording (a MediaKind), or FILM. key: of the recording, or the film's folder.
    deleted: seconds since 1970. size: bytes of its files; 0 until all have moved.
    film: the stored record of a film; empty for recordings.
    with_it: keys of other objects, which stay in their place until the bin deletes the entry.
    """

    kind: str
    key: str
    deleted: float
    size: int = 0
    film: Mapping[str, Any] = field(default_factory=dict)
    with_it: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """A hash: the same for a deletion that continues after a restart."""
        version = self.film.get("version", self.deleted)
        return hashlib.sha256(f"{self.key}\0{version}".encode(errors="surrogateescape")).hexdigest()[:24]


class Bin:
    """The deleted files of an object store. Methods raise StoreUnavailable.

    hours: that deleted files can be restored; 0: they are deleted at once. folder: for a file until it is stored.
    files_of: see `RecordingIndex.files_of`. Call `delete_old` regularly.
    """

    def __init__(
        self,
        objects: ObjectStore,
        hours: int,
        folder: Path,
        files_of: Callable[[str, str], Awaitable[Sequence[str]]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._objects = objects
        self.hours = hours
        self._folder = folder
        self._files_of = files_of
        self.clock = clock

    async def put(self, entry: BinEntry, files: Sequence[str]) -> BinEntry | None:
        """Moves files into the bin, in this order. Returns None if they were deleted at once, as archived files are.

        A deletion that a stopped process began continues.
        """
        prefix = files_prefix(entry.id)
        if not self.hours or not all(is_object_key(prefix + file) for file in files):  # a long key has no room for it
            await self.discard(entry, files)
            return None
        try:
            entry = await self.get(entry.id)
        except NoSuchObject:
            await self._store(entry)
        try:
            for file in files:
                with suppress(NoSuchObject):  # another deletion was faster
                    await self._objects.move(file, prefix + file)
        except ObjectArchived as error:
            log.info("a deletion is final", object=entry.key, kind=entry.kind, reason=str(error))
            await self._delete_files(files)
            await self.delete(entry)
            return None
        entry = replace(entry, size=sum([item.size async for item in self._objects.list(prefix)]))
        await self._store(entry)
        return entry

    async def discard(self, entry: BinEntry, files: Sequence[str]) -> None:
        """Deletes a recording or film at once. files: all its files."""
        if entry.kind != MediaKind.ONDEMAND:
            await self._delete_files([*files, *entry.with_it])
            return
        entry = replace(entry, deleted=0.0)  # `delete_old` continues at once if this process stops
        await self._store(entry)
        with suppress(NoSuchObject):  # another deletion was faster
            await self._objects.move(entry.key, files_prefix(entry.id) + entry.key)
        await self.delete(entry)

    async def _delete_files(self, files: Sequence[str]) -> None:
        """Deletes playlists in a call before the media, so that no player begins."""
        by_kind = {is_list: [f for f in files if f.endswith(".m3u8") is is_list] for is_list in (True, False)}
        for group in by_kind.values():
            for first in range(0, len(group), _PAGE_KEYS):
                await self._objects.delete_many(group[first : first + _PAGE_KEYS])

    async def entries(self) -> list[BinEntry]:
        """Returns all deletions that can be undone, the newest first."""
        ids = [entry_id(item.key) async for item in self._objects.list(ENTRIES)]
        slots = asyncio.Semaphore(_MAX_CONCURRENT)

        async def read(id: str) -> BinEntry | None:
            async with slots:
                try:
                    return await self.get(id)
                except NoSuchObject:
                    return None  # restored since, or not ours

        found = await asyncio.gather(*(read(id) for id in ids))
        return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.deleted, reverse=True)

    async def get(self, id: str) -> BinEntry:
        """Raises NoSuchObject."""
        if not _ID.fullmatch(id):
            raise NoSuchObject(id)
        text = b"".join([chunk async for chunk in self._objects.read(entry_key(id), 0, _MAX_ENTRY_BYTES)])
        try:
            return read_record(BinEntry, json.loads(text), defaults=True)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("an entry of the bin is damaged", object=entry_key(id), reason=str(error))
            raise NoSuchObject(id) from None

    async def restore(self, entry: BinEntry, restored: Callable[[], Awaitable[object]] | None = None) -> None:
        """Moves the files of an entry back to their keys, playlists last, and removes the entry.

        restored: called before the entry is removed. If it fails, the entry stays, and `restore` can be repeated.
        """
        prefix = files_prefix(entry.id)
        files = [item.key async for item in self._objects.list(prefix)]
        for file in sorted(files, key=lambda key: key.endswith(".m3u8")):
            await self._objects.move(file, file.removeprefix(prefix))
        if restored is not None:
            await restored()
        await self._objects.delete(entry_key(entry.id))
        log.info("a deletion was undone", object=entry.key, kind=entry.kind)

    async def delete(self, entry: BinEntry) -> None:
        """Deletes the files of an entry for good; the moved ones last, because the others are found by them."""
        await self._delete_files(await self._find_unmoved(entry))
        files = [item.key async for item in self._objects.list(files_prefix(entry.id))]
        await self._delete_files([*files, *entry.with_it])
        await self._objects.delete(entry_key(entry.id))

    async def delete_old(self) -> int:
        """Deletes entries that are older than `hours`, and continues interrupted deletions. Returns their number."""
        oldest, old = self.clock() - self.hours * 3600, 0
        for entry in await self.entries():
            if entry.deleted < oldest:
                await self.delete(entry)
                old += 1
            elif unmoved := await self._find_unmoved(entry):
                await self.put(entry, unmoved)
        if old:
            log.info("old deletions became final", entries=old)
        return old

    async def _find_unmoved(self, entry: BinEntry) -> Sequence[str]:
        """Returns the files that an interrupted deletion of a recording may have left in their places."""
        if entry.size or entry.kind == FILM:
            return ()
        try:
            return (await self._files_of(entry.key, files_prefix(entry.id)))[1:]
        except NoSuchObject:
            return ()  # not even its first file has moved: it is still a recording

    async def _store(self, entry: BinEntry) -> None:
        text = json.dumps(asdict(entry), ensure_ascii=False).encode()

        try:
            async with temporary_file(self._folder, ".json") as file:
                await asyncio.to_thread(file.write_bytes, text)
                await self._objects.put(entry_key(entry.id), file)
        except OSError as error:
            raise StoreUnavailable(f"the bin cannot be written: {error.strerror or error}") from None
