"""Finds the films of older versions, which had no records: in the history of jobs and in the object store."""

import re
from pathlib import PurePosixPath
from typing import Any, Final

import structlog

from gateway.ports.bin_keys import in_bin
from gateway.ports.errors import NoSuchFilm, NoSuchObject
from gateway.ports.films import IMPORTED, MAX_TITLE, Film, FilmState, FilmStore
from gateway.ports.jobs import VOD, JobState
from gateway.ports.stores import JobStore, ObjectStore
from gateway.ports.vod_names import VodNames, names_in, vod_names_of

log = structlog.get_logger(__name__)

_PAGE: Final = 500  # jobs read at a time
_MAX_PLAYLIST: Final = 4 << 20  # bytes; the length of a film with a larger playlist stays unknown
_EXTINF: Final = re.compile(rb"^#EXTINF:([0-9]{1,6}(?:\.[0-9]{1,9})?)", re.MULTILINE)


class FilmImport:
    """Adds the missing records. It lists all objects only once: afterwards the store has a mark."""

    def __init__(self, store: FilmStore, objects: ObjectStore, jobs: JobStore) -> None:
        self._store = store
        self._objects = objects
        self._jobs = jobs

    async def run(self) -> None:
        """Imports all films, unless that was done before. Raises StoreUnavailable; then it can run again."""
        if await self._store.marked(IMPORTED):
            return
        found = await self._from_jobs() + await self._from_objects()
        await self._store.mark(IMPORTED)
        if found:
            log.info("films imported", films=found)

    async def complete(self, film: Film) -> None:
        """Stores the final state of a film whose job has ended: READY if its files exist, else ERROR."""
        names = vod_names_of(film.files.get("hls", "")) or names_in(film.key)
        made = await find_files(self._objects, names)
        end = film.to(state=FilmState.READY, **made) if made else film.to(state=FilmState.ERROR, error="the job ended")
        await self._store.change(end)

    async def _from_jobs(self) -> int:
        found, before = 0, ""
        while jobs := await self._jobs.newest(_PAGE, before):
            before = jobs[-1].id
            for job in jobs:
                names = vod_names_of(job.outputs.get("hls", ""))
                if job.kind == VOD and job.state is JobState.COMPLETE and names is not None:
                    found += await self._add(names, job.source, job.created)
        return found

    async def _from_objects(self) -> int:
        found = 0
        async for item in self._objects.list(""):
            names = vod_names_of(item.key)
            if names is not None and not in_bin(item.key):
                found += await self._add(names, "", item.modified)
        return found

    async def _add(self, names: VodNames, source: str, created: float) -> bool:
        try:
            await self._store.get(names.prefix)
            return False
        except NoSuchFilm:
            made = await find_files(self._objects, names)
        if made is None:
            return False  # its files were deleted
        title = title_of(source or names.prefix)
        return await self._store.add(Film(names.prefix, title, created, source=source, state=FilmState.READY, **made))


async def list_files(objects: ObjectStore, names: VodNames) -> dict[str, int]:
    """Returns the sizes of a film's files in the object store, by name. Omits other files of its folder."""
    return {
        file: item.size
        async for item in objects.list(f"{names.prefix}/")
        if names.has(file := item.key.removeprefix(f"{names.prefix}/"))
    }


async def find_files(objects: ObjectStore, names: VodNames) -> dict[str, Any] | None:
    """Returns `files`, `size` and `duration` of a film in the object store; None if it has no playlist.

    Raises StoreUnavailable.
    """
    sizes = await list_files(objects, names)
    if names.master not in sizes:
        return None
    named = {"hls": names.master, "poster": names.poster, "thumbnail": names.thumbnail, "preview": names.preview}
    return {
        "files": {name: names.key(file) for name, file in named.items() if file in sizes},
        "size": sum(sizes.values()),
        "duration": await _duration(objects, names, sizes.get(names.playlist, _MAX_PLAYLIST)),
    }


async def _duration(objects: ObjectStore, names: VodNames, size: int) -> float:
    """Returns the seconds of a film by its playlist; 0 if they are unknown."""
    if size >= _MAX_PLAYLIST:
        return 0.0
    try:
        playlist = b"".join([piece async for piece in objects.read(names.key(names.playlist))])
    except NoSuchObject:
        return 0.0
    return round(sum(float(seconds) for seconds in _EXTINF.findall(playlist)), 3)


def title_of(source: str) -> str:
    """Returns the title of a film without one: the name of the source file, without its suffix."""
    path = PurePosixPath(source)
    name = path.stem if path.suffix else path.name
    return "".join(c for c in name if c.isprintable())[:MAX_TITLE] or "video"
