"""Converts unfinished recordings to MP4 files and stores them, also after a crash of the gateway."""

import asyncio
import fcntl
import glob
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import structlog

from gateway.formats.mp4.chapters import Chapter
from gateway.formats.mp4.finish import finish
from gateway.lib.backoff import Backoff
from gateway.lib.numbers import read_integer
from gateway.lib.tasks import Tasks
from gateway.media.errors import InvalidData
from gateway.outputs.recording.break_chapters import PROGRAM
from gateway.outputs.recording.on_demand_session import (
    parse_recording_name,
    recording_name,
    recover_session,
    session_folders,
)
from gateway.outputs.storage.archive import Archive
from gateway.outputs.storage.disk_threads import DiskThreads
from gateway.outputs.storage.locked_file import disk_errors, release, take_abandoned
from gateway.ports import media_keys
from gateway.ports.errors import OutputError

log = structlog.get_logger(__name__)

SCRATCH_FOLDER: Final = "video"
_UNFINISHED, _DONE, _TEMPORARY = ".fmp4", ".done.mp4", ".making"
_MAX_MS: Final = 10**15  # of a movie
_MAX_CONCURRENT: Final = 2


class Mp4Finalizer:
    """Finishes recordings. The app starts `run`; `flush` waits for pending recordings.

    A recording is finished in its scratch folder.
    The MP4 is written next to the fragments under a temporary name, synced, and renamed to `….done.mp4`.
    From then on only that file is used; the archive stores it.
    If the disk is full, finishing is tried again, with a warning.
    A recording without a complete fragment is removed.
    The chapters of a recording are in memory only: after a crash, the MP4 has none.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._threads = DiskThreads(_MAX_CONCURRENT, "finish")
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._tasks: Tasks | None = None
        self._channel_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # one recording at a time
        self._waiting: list[Path] = []  # recordings from before `run`
        self._busy: set[Path] = set()
        self._chapters: dict[Path, tuple[Chapter, ...]] = {}
        self._recheck: set[Path] = set()  # to check again, because the first check may be outdated
        self._claim_lock = threading.Lock()
        self._last_numbers: dict[tuple[str, str], int] = {}  # the last number by kind and channel
        self._idle = asyncio.Event()
        self._idle.set()

    def new_path(self, channel: str, start_ms: int) -> Path:
        """Returns the path for a new recording of a channel. Raises OutputError. Blocks."""
        folder = self._archive.scratch(SCRATCH_FOLDER)
        return folder / (recording_name(channel, self.claim(SCRATCH_FOLDER, channel, start_ms)) + _UNFINISHED)

    def claim(self, kind: str, channel: str, number: int) -> int:
        """Returns `number`, or a larger one, so that this kind of recording of the channel never has a number twice.

        An output that restarts after an error gets the last key frame again, so two recordings could have its time.
        """
        with self._claim_lock:
            number = max(number, self._last_numbers.get((kind, channel), 0) + 1)
            self._last_numbers[kind, channel] = number
            return number

    def finish(self, path: Path, chapters: tuple[Chapter, ...] = ()) -> None:
        """Finishes a recording that has been closed. chapters: of its stream."""
        if chapters:
            self._chapters[path] = chapters
        if path in self._busy:
            # Recovery found the file while it was written, and may have checked it already.
            self._recheck.add(path)
            return
        self._busy.add(path)
        self._idle.clear()
        if self._tasks is None:
            self._waiting.append(path)
        else:
            self._tasks.start(self._finish(path), path.name)

    def unfinished(self, channel: str) -> list[tuple[int, Path]]:
        """Returns the starts (ms) and files of a channel's MP4 recordings that are not stored yet. Blocks.

        Growing ones are in fragments. The others are complete (`….done.mp4`). Raises OutputError.
        """
        folder = self._archive.scratch(SCRATCH_FOLDER)
        found: list[tuple[int, Path]] = []
        with disk_errors(folder):
            for name in sorted(os.listdir(folder)):
                parsed = parse_recording_name(_recording_of(name))
                if parsed is not None and parsed[0] == channel:
                    found.append((parsed[1], folder / name))
        return found

    async def flush(self) -> None:
        """Waits until all recordings are stored; the caller sets a time limit. The next start recovers the others."""
        await self._idle.wait()

    async def run(self) -> None:
        """Recovers the recordings of earlier processes, then finishes new ones. Runs until cancelled."""
        async with Tasks("finalizer") as tasks:
            self._tasks = tasks
            try:
                waiting, self._waiting = self._waiting, []
                for path in waiting:
                    tasks.start(self._finish(path), path.name)
                await self._recover()
                await asyncio.get_running_loop().create_future()
            finally:
                self._tasks = None

    # ---- details ----

    async def _recover(self) -> None:
        try:
            folder = self._archive.scratch(SCRATCH_FOLDER)
            names = await self._threads.run(lambda: sorted(os.listdir(folder)))
        except (OutputError, OSError) as error:
            log.warning("recordings cannot be recovered", reason=str(error))
            return
        for name in names:
            path = folder / (_recording_of(name) + _UNFINISHED)
            if parse_unfinished(path.name) is not None and path not in self._busy:
                self.finish(path)
        try:
            folders = await self._threads.run(lambda: session_folders(self._archive))
        except OutputError as error:
            log.warning("on-demand recordings cannot be recovered", reason=str(error))
            return
        for session in folders:
            self.finish(session)

    async def _finish(self, path: Path) -> None:
        backoff = Backoff(2.0, 60.0)
        channel = path.name.rpartition("~")[0]
        channel_lock = self._channel_locks.setdefault(channel, asyncio.Lock())
        try:
            while True:
                try:
                    async with channel_lock, self._slots:
                        self._recheck.discard(path)
                        await self._finish_once(path)
                        if path not in self._recheck or not await self._threads.run(path.exists):
                            return
                except OutputError as error:
                    log.warning("a recording cannot be finished now", file=path.name, reason=str(error))
                    await asyncio.sleep(backoff.next())
        finally:
            self._busy.discard(path)
            self._chapters.pop(path, None)
            self._recheck.discard(path)
            if not self._busy:
                self._idle.set()

    async def _finish_once(self, path: Path) -> None:
        parsed = parse_unfinished(path.name)
        if parsed is None:
            await recover_session(path, self._archive)
            return
        channel, start_ms = parsed
        chapters = self._chapters.get(path, ())
        movie = await self._threads.run(lambda: _find_or_make(path, start_ms, chapters), _release)
        if movie is None:
            return
        try:
            ready = {"kind": "video", "start": start_ms / 1000, "seconds": movie.seconds}
            key = await self._archive.keep(media_keys.video_key(channel, start_ms), movie.path, ready=ready)
        finally:
            os.close(movie.lock)
        log.info("recording finished", stream=channel, object=key, seconds=movie.seconds)


@dataclass(frozen=True, slots=True)
class _Movie:
    """A finished MP4 that must be stored. lock: an open descriptor that locks it for other processes."""

    path: Path
    seconds: float
    lock: int


def _release(movie: _Movie | None) -> None:
    release(None if movie is None else movie.lock)


def parse_unfinished(name: str) -> tuple[str, int] | None:
    """Returns the channel and the start (ms) in the name `<channel>~<start ms>.fmp4`; None for any other name."""
    return parse_recording_name(name.removesuffix(_UNFINISHED)) if name.endswith(_UNFINISHED) else None


def _recording_of(name: str) -> str:
    """Returns the name of the recording that a file in fragments or a finished file belongs to."""
    return name.removesuffix(_DONE).rpartition("~")[0] if name.endswith(_DONE) else name.removesuffix(_UNFINISHED)


def _find_or_make(path: Path, start_ms: int, chapters: tuple[Chapter, ...]) -> _Movie | None:
    """Returns the MP4 that an earlier attempt made, or makes it; None if another process has the recording."""
    stem = path.name.removesuffix(_UNFINISHED)
    for done in path.parent.glob(f"{glob.escape(stem)}~*{_DONE}"):
        ms = read_integer(done.name.removesuffix(_DONE).rpartition("~")[2], _MAX_MS)
        if ms is not None:
            lock = take_abandoned(done)
            if lock is None:
                return None
            with disk_errors(path.parent):
                path.unlink(missing_ok=True)
            return _Movie(done, ms / 1000, lock)
    return _make(path, start_ms, chapters)


def _make(path: Path, start_ms: int, chapters: tuple[Chapter, ...]) -> _Movie | None:
    descriptor = take_abandoned(path)
    if descriptor is None:
        return None  # another process writes it, finishes it, or has finished it
    with disk_errors(path.parent), os.fdopen(descriptor, "rb") as source:
        temporary = path.with_name(path.name.removesuffix(_UNFINISHED) + _TEMPORARY)
        try:
            with temporary.open("wb") as target:
                fcntl.flock(target, fcntl.LOCK_EX)  # never waits: no other process opens this file
                try:
                    result = finish(source, target, created=start_ms / 1000, chapters=chapters, before=PROGRAM)
                except InvalidData as error:
                    log.warning("a recording could not be saved", file=path.name, reason=str(error),
                                bytes=os.fstat(descriptor).st_size)  # fmt: skip
                    path.unlink(missing_ok=True)
                    return None
                target.flush()
                os.fsync(target.fileno())
                lock = os.dup(target.fileno())  # the lock stays when the file is renamed
            if result.torn:
                log.info("the incomplete end of a recording was left out", file=path.name, kept=result.whole)
            seconds = round(result.seconds, 3)
            done = path.with_name(f"{path.name.removesuffix(_UNFINISHED)}~{round(seconds * 1000)}{_DONE}")
            try:
                os.replace(temporary, done)
                path.unlink(missing_ok=True)
            except BaseException:
                os.close(lock)
                raise
            return _Movie(done, seconds, lock)
        finally:
            temporary.unlink(missing_ok=True)
