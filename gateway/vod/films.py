"""Films: the records of videos on demand, from the upload to the deletion of their files."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog

from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks, kept
from gateway.ports.errors import FilmInUse, InvalidField, NoSuchFilm, StoreUnavailable, UnreadableRow
from gateway.ports.films import Film, FilmCaptions, FilmState, FilmStore, merged_captions
from gateway.ports.job_queue import JobQueue
from gateway.ports.jobs import VOD, StoredJob
from gateway.ports.vod_names import VodNames, names_in, names_of
from gateway.vod.bin import FILM, Bin, BinEntry
from gateway.vod.film_files import find_files, list_files, title_of
from gateway.vod.sources import VodSource, VodSources, is_upload
from gateway.vod.store_wait import wait_for_store

log = structlog.get_logger(__name__)

_ATTEMPTS: Final = 20  # to change a film, because others may change it at the same time
_ABANDONED_UPLOAD: Final = 2 * 86_400.0  # seconds after which the record of an upload that never came is deleted
_ROUND_SECONDS: Final = 6 * 3600.0  # between two rounds over unfinished films
_RETRY_SECONDS: Final = 60.0
_SUBMIT_SECONDS: Final = 1.0  # from the record of a film to its job, at most
_DELETION_SECONDS: Final = 3.0  # that a request waits for a deletion; it continues in the background


class Films:
    """The films of a gateway. Nodes share them through the store. Every method may raise StoreUnavailable.

    store: has the records. sources: has the store of the files. queue: of their jobs. bin: for deleted films.
    Start `run` as a task. It continues deletions and uploads that a stopped process began.
    """

    def __init__(self, store: FilmStore, sources: VodSources, queue: JobQueue, bin: Bin) -> None:
        self.store = store
        self.sources = sources
        self.bin = bin
        self._objects = sources.objects
        self._queue = queue
        self._tasks = Tasks("films")
        self._closed = False
        self._deletions: dict[str, asyncio.Task[Any]] = {}

    # ---- from the upload to the finished film ----

    async def expect_upload(self, key: str, title: str, description: str) -> None:
        """Stores the record of a film. Lists show the film when its job begins. key: of the upload."""
        film = Film(names_of(key).prefix, title, time.time(), description, FilmState.UPLOADING, key)
        await self.store.add(film)

    async def submit_stored(self, source: VodSource) -> StoredJob:
        """Submits the job of a stored source, and returns it. Raises FilmInUse, InvalidField if there is no source.

        The job's id depends on key, size and time of the object. So a repeated call creates no second job, but an
        object that was written again does.
        """
        found = await self.sources.check(source)
        fingerprint = hashlib.sha256(f"{source.text}\n{found.size}\n{found.modified}".encode()).hexdigest()[:16]
        uploading = False
        with suppress(NoSuchFilm):
            film = await self.store.get(source.names.prefix)
            _refuse_deleted(film)
            uploading = film.state is FilmState.UPLOADING
        id = f"{int(found.modified * 1000)}-{fingerprint}"
        job, is_new = await self._queue.submit(VOD, source.text, id=id)
        if is_new or uploading:  # a process may have ended between the two steps
            await self.begin(source.names, source.text)
        return job

    async def begin(self, names: VodNames, source: str, title: str = "", description: str = "") -> None:
        """Records that a job makes this film. A film that can be played stays playable.

        title, description: "": unchanged, or made from the source. Raises FilmInUse while the film is being deleted.
        """
        given = {name: text for name, text in (("title", title), ("description", description)) if text}

        def begun(film: Film) -> Film:
            _refuse_deleted(film)
            if film.state is FilmState.READY:
                return film.to(source=source, **given) if given or film.source != source else film
            # Lists show the time of an uploaded film's job, not the time of its upload URL.
            created = time.time() if film.state is FilmState.UPLOADING else film.created
            return film.to(state=FilmState.PROCESSING, source=source, error="", created=created, **given)

        first = Film(names.prefix, title or title_of(source), time.time(), description, source=source)
        await self._store(first, begun)

    async def mark_ready(self, names: VodNames, source: str, made: dict[str, Any]) -> None:
        """Records that a film can be played. made: its `files`, `duration`, `size`, and `captions` of the video.

        Uploaded captions stay. Waits for an unavailable store.
        """
        first = Film(names.prefix, title_of(source), time.time(), source=source, state=FilmState.READY, **made)

        def ready(film: Film) -> Film:
            captions = merged_captions(first.captions, [each for each in film.captions if each.uploaded])
            return film.to(state=FilmState.READY, source=source, error="", **made | {"captions": captions})

        await wait_for_store(lambda: self._store(first, ready), film=first.key)

    async def fail(self, names: VodNames, error: str) -> None:
        """Records that the job of a film failed. A film from an earlier job is not changed."""
        for _ in range(_ATTEMPTS):
            film = await self._get_processing(names.prefix)
            if film is None or await self.store.change(film.to(state=FilmState.ERROR, error=error[:500])):
                return

    async def cancel(self, names: VodNames) -> None:
        """Removes a film whose job was canceled. A film from an earlier job is not changed."""
        film = await self._get_processing(names.prefix)
        if film is not None:
            await self.store.delete(film)

    async def edit(self, key: str, changes: dict[str, str]) -> Film:
        """Changes title or description. Raises NoSuchFilm."""
        return await self._change(key, lambda film: film.to(**changes))

    async def change_captions(
        self, key: str, change: Callable[[tuple[FilmCaptions, ...]], tuple[FilmCaptions, ...]]
    ) -> Film:
        """Records other captions. Raises NoSuchFilm."""
        return await self._change(key, lambda film: film.to(captions=change(film.captions)))

    async def get_uploaded_languages(self, key: str) -> set[str]:
        """Returns the languages of uploaded captions; none for an unknown film."""
        try:
            return {each.language for each in (await self.store.get(key)).captions if each.uploaded}
        except NoSuchFilm:
            return set()

    async def _change(self, key: str, change: Callable[[Film], Film]) -> Film:
        for _ in range(_ATTEMPTS):
            changed = change(await self.get_visible(key))
            if await self.store.change(changed):
                return changed
        raise FilmInUse(f"film {key} changes all the time")

    async def get_visible(self, key: str) -> Film:
        """Returns a film that appears in lists. Raises NoSuchFilm."""
        film = await self.store.get(key)
        if film.state in (FilmState.UPLOADING, FilmState.DELETING):
            raise NoSuchFilm(key)
        return film

    # ---- deletion ----

    async def delete(self, key: str) -> bool:
        """Removes a film from all lists at once, then deletes its files. Returns whether all files are deleted already.

        A row that cannot be read is made again from the files. Raises NoSuchFilm, FilmInUse while a job makes it.
        """
        for _ in range(_ATTEMPTS):
            try:
                film = await self.get_visible(key)
            except UnreadableRow:
                made = await find_files(self._objects, names_in(key)) or {}
                film = Film(key, title_of(key), time.time(), **made)
                await self.store.discard(key)
                await self.store.add(film)
            if key in await self._in_progress():
                raise FilmInUse(f"a job makes film {key}: cancel it first")
            deleting = film.to(state=FilmState.DELETING)
            if await self.store.change(deleting):
                log.info("film deleted", film=key)
                return await self._delete_files(deleting)
        raise FilmInUse(f"film {key} changes all the time")

    async def _delete_files(self, film: Film) -> bool:
        running = self._deletions.get(film.key)
        if running is None:
            if self._closed:
                return False  # this process ends; the next one continues
            running = self._deletions[film.key] = self._tasks.start(self._delete(film), film.key)
            running.add_done_callback(lambda _: self._deletions.pop(film.key, None))
        done, _ = await asyncio.wait((running,), timeout=_DELETION_SECONDS)
        return bool(done) and not running.cancelled() and running.exception() is None

    async def _delete(self, film: Film) -> None:
        """Moves the files into the bin, then deletes the record. Leaves other files of the folder.

        Repeats it until the store answers. The file of an upload is deleted with the entry of the bin, because it was
        stored only for this film. Other sources stay.
        """
        backoff = Backoff(1, _RETRY_SECONDS)
        while True:
            try:
                names = names_in(film.key)
                # The playlists are the first, so that no player begins.
                first = [names.master, names.playlist]
                files = first + [file for file in await list_files(self._objects, names) if file not in first]
                upload = self._upload_of(film)
                entry = BinEntry(
                    FILM, film.key, self.bin.clock(), film=film.as_item(), with_it=(upload,) if upload else ()
                )
                await self.bin.put(entry, [names.key(file) for file in files])
                await self.store.delete(film)
                return
            except StoreUnavailable as error:
                log.info("the store is unavailable, a deletion waits for it", film=film.key, reason=str(error))
                await asyncio.sleep(backoff.next())

    async def restore(self, entry: BinEntry) -> None:
        """Undoes a deletion. Raises FilmInUse if there is a film with its key, or if its files still move."""
        film = Film.of_item(entry.film)
        try:
            await self.store.get(film.key)
        except NoSuchFilm:
            film = film.to(state=FilmState.READY if film.files else FilmState.ERROR)
            await self.bin.restore(entry, lambda: self.store.add(film))
        else:
            raise FilmInUse(f"there is a film {film.key}: delete it first")

    def _upload_of(self, film: Film) -> str:
        """Returns the key of the upload that was stored only for this film; "" if its source is another one.

        Jobs by the queue of a bucket have the source `s3://<bucket>/<key>`.
        """
        source = self.sources.find(film.source)
        if source is None:
            return ""
        own = source.store is self._objects and is_upload(source.key) and source.names.prefix == film.key
        return source.key if own else ""

    async def _in_progress(self) -> set[str]:
        """Returns the keys of the films that unfinished jobs make."""
        sources = [self.sources.find(job.source) for job in await self._queue.store.unfinished() if job.kind == VOD]
        return {source.names.prefix for source in sources if source is not None}

    # ---- background ----

    async def run(self) -> None:
        """Finishes what a stopped process began. Runs until cancelled."""
        try:
            await kept(self._check_regularly, "films")
        finally:
            self._closed = True
            await self._tasks.close()

    async def _check_regularly(self) -> None:
        while True:
            try:
                await self._round()
                pause = _ROUND_SECONDS
            except StoreUnavailable as error:
                log.info("films cannot be checked now", reason=str(error))
                pause = _RETRY_SECONDS
            await asyncio.sleep(pause)

    async def _round(self) -> None:
        """Finishes deletions, uploads and jobs of stopped processes, and removes the records of abandoned uploads."""
        for film in await self.store.in_state(FilmState.DELETING):
            await self._delete_files(film)
        for film in await self.store.in_state(FilmState.UPLOADING):
            if not await self._submit_upload(film) and film.created < time.time() - _ABANDONED_UPLOAD:
                await self.store.delete(film)
        processing = await self.store.in_state(FilmState.PROCESSING)
        if not processing:
            return
        await asyncio.sleep(_SUBMIT_SECONDS)  # the job of a film that another process submits now is stored after it
        in_progress = await self._in_progress()
        for film in processing:
            if film.key in in_progress:
                continue
            current = await self._get_processing(film.key)
            if current is not None and current.version == film.version:  # its process ended between two writes
                await self._complete(current)

    async def _submit_upload(self, film: Film) -> bool:
        """Submits the job of an upload, unless it is not stored or in a bucket, whose queue reports it."""
        source = self.sources.find(film.source)
        if source is None or self.sources.bucket:
            return False
        try:
            await self.submit_stored(source)
        except InvalidField:
            return False
        return True

    async def _complete(self, film: Film) -> None:
        """Stores the final state of a film whose job has ended: READY if its files exist, else ERROR."""
        made = await find_files(self._objects, names_in(film.key))
        end = film.to(state=FilmState.READY, **made) if made else film.to(state=FilmState.ERROR, error="the job ended")
        await self.store.change(end)

    # ---- changes ----

    async def _store(self, first: Film, change: Callable[[Film], Film]) -> None:
        """Adds `first`, or changes the stored film."""
        for _ in range(_ATTEMPTS):
            if await self.store.add(first):
                return
            try:
                film = await self.store.get(first.key)
            except NoSuchFilm:
                continue  # deleted between the two calls
            changed = change(film)
            if changed is film or await self.store.change(changed):
                return
        raise FilmInUse(f"film {first.key} changes all the time")

    async def _get_processing(self, key: str) -> Film | None:
        """Returns the film if it waits for its job, else None."""
        try:
            film = await self.store.get(key)
        except NoSuchFilm:
            return None
        return film if film.state is FilmState.PROCESSING else None


async def forget_film(store: FilmStore, key: str) -> None:
    """Removes the record of a film whose files are deleted with their channel. Raises StoreUnavailable."""
    try:
        await store.delete(await store.get(key))
    except NoSuchFilm:
        return


def _refuse_deleted(film: Film) -> None:
    if film.state is FilmState.DELETING:
        raise FilmInUse(f"film {film.key} is being deleted: try again later")
