"""Archive: where sinks bring finished files; the object store has them at once, or gets them from a spool on disk."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from gateway.hub.errors import NoSuchObject, OutputTrouble, StoreAway
from gateway.hub.events import Event, Events, EventType
from gateway.hub.ports import ObjectStore
from gateway.lib.aio import Tasks
from gateway.lib.backoff import Backoff
from gateway.lib.metrics import ARCHIVE_BYTES, ARCHIVE_DROPPED, ARCHIVE_FILES, Sample
from gateway.settings.models import Recording
from gateway.sinks.inheritance import Inheritance, own_folder
from gateway.sinks.spool import Spool, Waiting
from gateway.sinks.threads import Threads

log = structlog.get_logger(__name__)

_UNFINISHED: Final = ".unfinished"
_ABANDONED: Final = 3600.0  # seconds after which a scratch file that nobody writes is an earlier process's
_AT_ONCE: Final = 4  # channels whose files are sent at the same time; within one the order stands
_MOST_NAMES: Final = 100
_SCAN_SECONDS: Final = 5.0  # until a spool that could not be read is tried again


class Archive:
    """Keeps finished files. `run` is owned by the app and lives as long as anything is kept.

    media: the folder of a local object store; a finished file is renamed into it, and is there when `keep` returns.
    None: the store is remote; files wait in `spool` (at most settings.spool_bytes, then the oldest are dropped,
    counted in `dropped`) and are sent in the background, in the order of each channel, for as long as it takes: over
    outages, and over restarts of the gateway.
    """

    def __init__(
        self,
        objects: ObjectStore,
        settings: Recording,
        events: Events,
        *,
        media: Path | None,
        spool: Path,
        process: str = "",
    ) -> None:
        """process: as of Inheritance."""
        self._objects = objects
        self._keep_free = settings.keep_free
        self.retention_days = settings.retention_days  # of channels that do not say so themselves; 0: for ever
        self._events = events
        self._folder = spool if media is None else media
        self._spool = Spool(own_folder(spool, process), settings.spool_bytes) if media is None else None
        self._inheritance = Inheritance(spool, process)
        self._queues: dict[str, deque[str]] = {}  # by channel: keys in the order in which they came
        self._tasks: Tasks | None = None
        self._disk = Threads(1, "spool")  # what touches the spool, one at a time
        self.threads = Threads(4, "recording")  # for sinks: what writes unfinished files
        self._claiming = asyncio.Lock()
        self._claimed: set[str] = set()  # keys that are being put in place
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._idle = asyncio.Event()
        self._idle.set()
        self._scanned = asyncio.Event()
        self._away = False

    # ---- for sinks ----

    def scratch(self, kind: str) -> Path:
        """A folder for unfinished files of one kind (of a sink: "video", "image"), made where it is missing.

        On the file system of the place where finished files go, and hidden from everybody who lists or plays. Raises
        OutputTrouble.
        """
        folder = self._folder / _UNFINISHED / kind
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputTrouble(f"{folder} cannot be made: {error.strerror}") from None
        return folder

    def check_room(self) -> None:
        """Raises OutputTrouble where less than `recording.keep_free` bytes (of a small disk: a twentieth) are left, or
        the folder is gone. Blocks."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            disk = shutil.disk_usage(self._folder)
        except OSError as error:
            raise OutputTrouble(f"{self._folder} cannot be written: {error.strerror}") from None
        keep = min(self._keep_free, disk.total // 20)
        if disk.free < keep:
            raise OutputTrouble(
                f"no space left on {self._folder}: {disk.free / 1e6:.1f} MB free, {keep / 1e6:.1f} MB are kept free "
                "(recording.keep_free)"
            )

    async def keep(self, key: str, file: Path, *, replace: bool = False, ready: Mapping[str, Any] | None = None) -> str:
        """Makes the finished `file` the object `key`; the key it got: where another file has it already (and not
        `replace`), a number is put behind the name. The file is gone afterwards, on a failure still there.

        ready: the data of a `recording.ready` event, sent when the object store has the file; "key" is added, and
        "bytes" where it is missing.
        Raises OutputTrouble where it cannot be kept now (no space, the folder is gone).
        """
        try:
            if self._spool is None:
                return await self._place(key, file, replace, ready)
            spool, note = self._spool, None if ready is None else json.dumps(dict(ready))
            async with asyncio.timeout(_SCAN_SECONDS):
                await self._scanned.wait()
            await self._disk.run(lambda: spool.add(key, file, time.time(), note))
        except StoreAway as error:
            raise OutputTrouble(str(error)) from None
        except TimeoutError:
            raise OutputTrouble(f"{key} cannot be kept: the spool {self._folder} cannot be read") from None
        except OSError as error:
            raise OutputTrouble(f"{key} cannot be kept: {error.strerror or error}") from None
        self._enqueue(key)
        return key

    async def flush(self) -> None:
        """Until the store has everything that waits; who calls bounds it. What is left goes on at the next start."""
        await self._idle.wait()

    # ---- for the app ----

    @property
    def waiting(self) -> tuple[int, int]:
        """Files and bytes that a remote store has not taken yet."""
        return (0, 0) if self._spool is None else (len(self._spool), self._spool.bytes)

    @property
    def dropped(self) -> int:
        """Files lost because the spool was full."""
        return 0 if self._spool is None else self._spool.dropped

    def samples(self) -> Iterator[Sample]:
        """A source of metrics."""
        files, waiting = self.waiting
        yield Sample(ARCHIVE_FILES, files)
        yield Sample(ARCHIVE_BYTES, waiting)
        yield Sample(ARCHIVE_DROPPED, self.dropped)

    async def run(self) -> None:
        """Sends what waits, an earlier process's files first; clears abandoned scratch files. Ends by cancelling."""
        await asyncio.to_thread(self._sweep)
        spool = self._spool
        if spool is None:
            self._scanned.set()
            await asyncio.get_running_loop().create_future()
            return
        try:
            async with Tasks("archive", _crashed) as tasks:
                self._tasks = tasks
                found = await self._scan(spool)
                if found:
                    log.info("files wait for the object store", files=len(found), bytes=spool.bytes)
                for entry in found:
                    self._enqueue(entry.key)
                self._scanned.set()
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    self._tasks = None
        finally:
            self._inheritance.close()

    async def _scan(self, spool: Spool) -> list[Waiting]:
        """What earlier processes left, as soon as the disk can be read."""

        def inherited() -> list[Waiting]:
            self._inheritance.open()
            self._inheritance.take_over()
            return spool.scan()

        while True:
            try:
                return await self._disk.run(inherited)
            except OSError as error:
                log.warning("the spool cannot be read", folder=str(self._folder), reason=error.strerror)
            await asyncio.sleep(_SCAN_SECONDS)

    # ---- sending ----

    def _enqueue(self, key: str) -> None:
        if self._spool is None:
            return
        channel = key.partition("/")[0]
        queue = self._queues.get(channel)
        if queue is None:
            queue = self._queues[channel] = deque()
            self._idle.clear()
            if self._tasks is not None:
                self._tasks.start(self._send_all(channel, queue, self._spool), channel)
        queue.append(key)

    async def _send_all(self, channel: str, queue: deque[str], spool: Spool) -> None:
        """Sends what a channel has, in order, until nothing is left."""
        backoff = Backoff(1.0, 30.0)
        while queue:
            key = queue.popleft()
            async with self._slots:
                done = await self._send(key, spool)
            if done:
                backoff.reset()
            else:
                queue.appendleft(key)
                await asyncio.sleep(backoff.next())
        del self._queues[channel]
        if not self._queues:
            self._idle.set()

    async def _send(self, key: str, spool: Spool) -> bool:
        """False: to be tried again. What fails for a reason of our own is left in the spool for the next start."""
        size = 0
        try:
            file = await self._disk.run(lambda: spool.take(key))
            if file is None:
                return True  # dropped, or a newer one of this key has gone already
            try:
                size = await self.threads.run(lambda: file.stat().st_size)
                await self._objects.put(key, file)
            except BaseException:
                await self._disk.run(lambda: spool.give_back(key))
                raise
            note = await self._disk.run(lambda: spool.sent(key))
        except (StoreAway, OSError) as error:
            if not self._away:
                self._away = True
                files, waiting = self.waiting
                log.warning("recordings wait on disk", reason=str(error), object=key, files=files, bytes=waiting)
            return False
        except Exception as error:
            log.error("a recording could not be sent", object=key, exc_info=error)
            return True
        if self._away:
            self._away = False
            log.info("the object store takes recordings again", files=len(spool))
        if note is not None:
            self._emit(key, size, json.loads(note))
        return True

    # ---- details ----

    async def _place(self, key: str, file: Path, replace: bool, ready: Mapping[str, Any] | None) -> str:
        """Into the local store."""
        size = await self.threads.run(lambda: file.stat().st_size)
        if not replace:
            async with self._claiming:
                key = await self._free_key(key)
                self._claimed.add(key)
        try:
            await self._objects.put(key, file)
        finally:
            self._claimed.discard(key)
        if ready is not None:
            self._emit(key, size, ready)
        return key

    async def _free_key(self, key: str) -> str:
        """`key`, or with the first number behind it that no object has."""
        stem, dot, suffix = key.rpartition(".")
        for n in range(1, _MOST_NAMES):
            candidate = key if n == 1 else f"{stem}-{n}{dot}{suffix}"
            if candidate in self._claimed:
                continue
            try:
                await self._objects.head(candidate)
            except NoSuchObject:
                return candidate
        raise OutputTrouble(f"{key} and {_MOST_NAMES} numbers behind it are taken")

    def _emit(self, key: str, size: int, ready: Mapping[str, Any]) -> None:
        data = {"bytes": size, **ready, "key": key}
        self._events.emit(Event(EventType.RECORDING_READY, time.time(), key.partition("/")[0], data))

    def _sweep(self) -> None:
        """Removes scratch files that an earlier process left, but for what recovery makes recordings of."""
        now = time.time()
        for kind in _subfolders(self._folder / _UNFINISHED):
            for file in kind.rglob("*"):
                if kind.name in RECOVERED and not file.relative_to(kind).parts[0].startswith("."):
                    continue
                try:
                    if file.is_file() and now - file.stat().st_mtime > _ABANDONED:
                        file.unlink()
                except OSError as error:
                    log.warning("an abandoned file stays", file=str(file), reason=error.strerror)


RECOVERED: Final = frozenset({"video", "ondemand"})  # kinds of scratch files that are worth something


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [p for p in folder.iterdir() if p.is_dir()]
    except OSError:
        return []


def _crashed(name: str, error: BaseException) -> None:
    log.error("sending recordings failed", task=name, exc_info=error)
