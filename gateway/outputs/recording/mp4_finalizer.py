"""Makes MP4 files of unfinished recordings, including those that a killed gateway left, and stores them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from gateway.channels.names import is_channel_id
from gateway.formats.mp4.finish import finish
from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks
from gateway.media.errors import InvalidData
from gateway.outputs.recording import session_recovery
from gateway.outputs.storage.archive import Archive
from gateway.outputs.storage.disk_threads import DiskThreads
from gateway.outputs.storage.locked_file import disk_errors, take_abandoned
from gateway.ports import media_keys
from gateway.ports.errors import OutputError

log = structlog.get_logger(__name__)

SCRATCH: Final = "video"
_GROWING, _DONE, _MAKING = ".fmp4", ".done.mp4", ".making"
_MAX_CONCURRENT: Final = 2


@dataclass(frozen=True, slots=True)
class UnfinishedRecording:
    """The name `<channel>~<start ms>.fmp4` of an unfinished recording; it holds all that the final name needs."""

    channel: str
    start_ms: int

    @classmethod
    def of(cls, name: str) -> UnfinishedRecording | None:
        channel, tilde, start = name.removesuffix(_GROWING).rpartition("~")
        if not tilde or not name.endswith(_GROWING) or not start.isdecimal() or not is_channel_id(channel):
            return None
        return cls(channel, int(start)) if len(start) == 13 else None

    @property
    def name(self) -> str:
        return f"{self.channel}~{self.start_ms}{_GROWING}"


class Mp4Finalizer:
    """Finishes recordings. The app owns it: `run` lives as long as recordings are made, `flush` waits for pending ones.

    A recording is finished in its scratch folder.
    The MP4 is written beside the fragments under a hidden name, synced, and renamed to `….done.mp4`.
    From then on only that file counts; it is given to the archive.
    If the disk has no room, finishing is tried again, with a warning.
    A recording without a single whole fragment is removed.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._threads = DiskThreads(_MAX_CONCURRENT, "finish")
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._tasks: Tasks | None = None
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}  # one recording of a channel at a time
        self._waiting: list[Path] = []  # recordings that arrived before `run`
        self._busy: set[Path] = set()
        self._again: set[Path] = set()  # those that were given again, because the first check may be outdated
        self._claiming = threading.Lock()
        self._claimed: dict[tuple[str, str], int] = {}  # two numbers for each channel that was ever recorded
        self._idle = asyncio.Event()
        self._idle.set()
        self.finished = 0
        self.failed = 0

    def new(self, channel: str, start_ms: int) -> Path:
        """Returns the path for a new recording of this channel that begins at `start_ms`.

        Raises OutputError. Blocks.
        """
        folder = self._archive.scratch(SCRATCH)
        return folder / UnfinishedRecording(channel, self.claim(SCRATCH, channel, start_ms)).name

    def claim(self, kind: str, channel: str, number: int) -> int:
        """Returns `number`, or the next one above all numbers that this kind of recording of the channel has had.

        An output that restarts after an error gets the last key frame again: its time must not name two recordings.
        """
        with self._claiming:
            number = max(number, self._claimed.get((kind, channel), 0) + 1)
            self._claimed[kind, channel] = number
            return number

    def finish(self, path: Path) -> None:
        """Takes over a recording that nobody writes any more."""
        if path in self._busy:
            # Recovery found the file while it was still being written, and may have looked at it already.
            self._again.add(path)
            return
        self._busy.add(path)
        self._idle.clear()
        if self._tasks is None:
            self._waiting.append(path)
        else:
            self._tasks.start(self._finish(path), path.name)

    async def flush(self) -> None:
        """Waits until the archive has everything; the caller sets a limit. The rest is recovered at the next start."""
        await self._idle.wait()

    async def run(self) -> None:
        """Recovers what an earlier process left, then finishes new recordings. Runs until cancelled."""
        async with Tasks("finalizer", _crashed) as tasks:
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
            folder = self._archive.scratch(SCRATCH)
            names = await self._threads.run(lambda: sorted(os.listdir(folder)))
        except (OutputError, OSError) as error:
            log.warning("recordings cannot be recovered", reason=str(error))
            return
        for name in names:
            path = folder / name
            if name.endswith(_DONE):
                path = folder / (name.removesuffix(_DONE).rpartition("~")[0] + _GROWING)
            if UnfinishedRecording.of(path.name) is not None and path not in self._busy:
                self.finish(path)
        try:
            folders = await self._threads.run(lambda: session_recovery.sessions(self._archive))
        except OutputError as error:
            log.warning("on-demand recordings cannot be recovered", reason=str(error))
            return
        for session in folders:
            self.finish(session)

    async def _finish(self, path: Path) -> None:
        backoff = Backoff(2.0, 60.0)
        channel = path.name.rpartition("~")[0]
        turn, waiting = self._turns.get(channel) or (asyncio.Lock(), 0)
        self._turns[channel] = turn, waiting + 1
        try:
            while True:
                try:
                    async with turn, self._slots:
                        self._again.discard(path)
                        await self._once(path)
                        left = path in self._again and await self._threads.run(path.exists)
                    if left:
                        continue
                    return
                except OutputError as error:
                    self.failed += 1
                    log.warning("a recording waits to be finished", file=path.name, reason=str(error))
                await asyncio.sleep(backoff.next())
        finally:
            turn, waiting = self._turns.pop(channel)
            if waiting > 1:
                self._turns[channel] = turn, waiting - 1
            self._busy.discard(path)
            self._again.discard(path)
            if not self._busy:
                self._idle.set()

    async def _once(self, path: Path) -> None:
        unfinished = UnfinishedRecording.of(path.name)
        if unfinished is None:
            await session_recovery.recover_session(path, self._archive)
            return
        made = await self._threads.run(lambda: _made(path, unfinished))
        if made is None:
            return
        try:
            key = media_keys.video_key(unfinished.channel, unfinished.start_ms)
            ready = {"kind": "video", "start": unfinished.start_ms / 1000, "seconds": made.seconds}
            key = await self._archive.keep(key, made.path, ready=ready)
        finally:
            os.close(made.lock)
        self.finished += 1
        log.info("recording finished", stream=unfinished.channel, object=key, seconds=made.seconds)


@dataclass(frozen=True, slots=True)
class _Movie:
    """A finished MP4 that is still to be stored. lock: an open descriptor that keeps other processes away."""

    path: Path
    seconds: float
    lock: int


def _made(path: Path, unfinished: UnfinishedRecording) -> _Movie | None:
    """Returns the MP4 that an earlier try made of this recording, or makes it; None if another process has the
    recording.
    """
    stem = path.name.removesuffix(_GROWING)
    for done in path.parent.glob(f"{_escape(stem)}~*{_DONE}"):
        ms = done.name.removesuffix(_DONE).rpartition("~")[2]
        if ms.isdecimal():
            lock = take_abandoned(done)
            if lock is None:
                return None
            with disk_errors(path.parent):
                path.unlink(missing_ok=True)
            return _Movie(done, int(ms) / 1000, lock)
    return _make(path, unfinished)


def _make(path: Path, unfinished: UnfinishedRecording) -> _Movie | None:
    descriptor = take_abandoned(path)
    if descriptor is None:
        return None  # another process on this machine writes it, finishes it, or has finished it
    with disk_errors(path.parent), os.fdopen(descriptor, "rb") as source:
        making = path.with_name(path.name.removesuffix(_GROWING) + _MAKING)
        try:
            with making.open("wb") as target:
                fcntl.flock(target, fcntl.LOCK_EX)  # no other process knows the file yet
                try:
                    result = finish(source, target, created=unfinished.start_ms / 1000)
                except InvalidData as error:
                    log.warning("nothing of a recording could be saved", file=path.name, reason=str(error),
                                bytes=os.fstat(descriptor).st_size)  # fmt: skip
                    path.unlink(missing_ok=True)
                    return None
                target.flush()
                os.fsync(target.fileno())
                lock = os.dup(target.fileno())  # the lock goes with the file to its new name
            if result.torn:
                log.info("the torn end of a recording was left out", file=path.name, kept=result.whole)
            seconds = round(result.seconds, 3)
            done = path.with_name(f"{path.name.removesuffix(_GROWING)}~{round(seconds * 1000)}{_DONE}")
            try:
                os.replace(making, done)
                path.unlink(missing_ok=True)
            except BaseException:
                os.close(lock)
                raise
            return _Movie(done, seconds, lock)
        finally:
            making.unlink(missing_ok=True)


def _escape(stem: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in stem)


def _crashed(name: str, error: BaseException) -> None:
    log.error("a recording could not be finished", task=name, exc_info=error)
