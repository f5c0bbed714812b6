"""Stores finished files: at once in a local object store, or through a spool on disk in a remote one."""

import asyncio
import json
import os
import shutil
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import structlog

from gateway.lib.backoff import Backoff
from gateway.lib.disk import close_file
from gateway.lib.metric_table import ARCHIVE_BYTES, ARCHIVE_DROPPED, ARCHIVE_FILES, MetricSample
from gateway.lib.tasks import Tasks
from gateway.outputs.storage.disk_threads import DiskThreads
from gateway.outputs.storage.spool import Spool, SpooledFile, SpoolRecovery, process_folder
from gateway.ports.errors import NoSuchObject, OutputError, StoreUnavailable
from gateway.ports.events import Event, Events, EventType
from gateway.ports.stores import ObjectStore
from gateway.settings.models import RecordingSettings

log = structlog.get_logger(__name__)

_UNFINISHED: Final = ".unfinished"
_RECOVERED: Final = frozenset({"video", "ondemand"})  # kinds of scratch files that can be recovered
_ABANDONED_SECONDS: Final = 3600.0  # seconds after which an unchanged scratch file counts as abandoned
_MAX_CONCURRENT: Final = 4  # channels whose files are sent in parallel; files of one channel are sent in order
_MAX_NAMES: Final = 100  # names that are tried for one file
_DELETED_IN_ONE_CALL: Final = 500  # objects
_MAX_UNDELETED: Final = 100_000  # keys, about 100 bytes each: two days of segments of 2 s
_SCAN_SECONDS: Final = 5.0  # between two attempts to read the spool


class Archive:
    """Stores finished files. The app starts `run`, which must run while files are stored.

    media: the folder of a local object store. `keep` renames a finished file into it before it returns.
    media=None: the store is remote. Files wait in `spool`, and a task sends them, in order within each channel.
    The task tries until the store has them, also after outages and restarts of the gateway.
    The spool has at most settings.spool_bytes. Above this the oldest files are removed and counted in `dropped`.

    process: see `process_folder`.
    """

    def __init__(
        self,
        objects: ObjectStore,
        settings: RecordingSettings,
        events: Events,
        *,
        media: Path | None,
        spool: Path,
        process: str = "",
    ) -> None:
        self._objects = objects
        self._keep_free = settings.keep_free
        self.retention_days = settings.retention_days  # for channels without their own setting; 0: unlimited
        self._events = events
        self._folder = spool if media is None else media
        self._spool = Spool(process_folder(spool, process), settings.spool_bytes) if media is None else None
        self._recovery = SpoolRecovery(spool, process)
        self._queues: dict[str, deque[str]] = {}  # keys by channel, in order of arrival
        self._tasks: Tasks | None = None
        self._spool_thread = DiskThreads(1, "spool")  # one thread, so that spool calls never overlap
        self.threads = DiskThreads(4, "recording")  # for outputs, which write unfinished files
        self._undeleted: deque[str] = deque(maxlen=_MAX_UNDELETED)  # keys for the next call of `delete`
        self._key_lock = asyncio.Lock()
        self._reserved_keys: set[str] = set()  # keys of files that are being stored
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._idle = asyncio.Event()
        self._idle.set()
        self._scanned = asyncio.Event()  # set when the spool of earlier processes was read
        self._store_unavailable = False

    # ---- for outputs ----

    def scratch(self, kind: str) -> Path:
        """Returns the folder for an output's unfinished files (kind: "video", "image"), and creates it if missing.

        It is on the file system of the finished files, but hidden from listing and playback. Raises OutputError.
        """
        folder = self._folder / _UNFINISHED / kind
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder} cannot be created: {error.strerror}") from None
        return folder

    def check_free_space(self) -> None:
        """Raises OutputError if the folder cannot be created or the disk has too little free space. Blocks.

        The limit is `recording.keep_free` bytes, but at most a twentieth of the disk.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            disk = shutil.disk_usage(self._folder)
        except OSError as error:
            raise OutputError(f"{self._folder} cannot be written: {error.strerror}") from None
        keep = min(self._keep_free, disk.total // 20)
        if disk.free < keep:
            raise OutputError(
                f"no space left on {self._folder}: {disk.free / 1e6:.1f} MB free, {keep / 1e6:.1f} MB are kept free "
                "(recording.keep_free)"
            )

    async def keep(self, key: str, file: Path, *, replace: bool = False, ready: Mapping[str, Any] | None = None) -> str:
        """Stores the finished `file` as the object `key`, and returns its final key.

        In a local store, a number is added to the name if another object has that key and `replace` is False. A remote
        store replaces that object, so callers choose unique keys.
        The file is moved; after a failure it still exists.
        ready: data of a `recording.ready` event, which is sent when the object store has the file.
        "key" is added to it, and "bytes" if missing.
        Raises OutputError if the file cannot be stored now (no space, or the folder does not exist).
        """
        try:
            if self._spool is None:
                return await self._store_locally(key, file, replace, ready)
            spool, note = self._spool, None if ready is None else json.dumps(dict(ready))
            async with asyncio.timeout(_SCAN_SECONDS):
                await self._scanned.wait()
            try:
                await self._spool_thread.run(lambda: spool.add(key, file, time.time(), note))
            except asyncio.CancelledError:
                self._enqueue(key, spool)  # the thread has moved the file, or will
                raise
        except StoreUnavailable as error:
            raise OutputError(str(error)) from None
        except TimeoutError:
            raise OutputError(f"{key} cannot be stored: the spool {self._folder} cannot be read") from None
        except OSError as error:
            raise OutputError(f"{key} cannot be stored: {error.strerror or error}") from None
        self._enqueue(key, spool)
        return key

    async def read(self, key: str, file: Path, start: int, end: int) -> AsyncIterator[bytes]:
        """Yields bytes of an object: from `file` before it is stored, from the spool, or from the store.

        start, end: positions; the end is exclusive. Raises NoSuchObject, StoreUnavailable, OSError.
        """
        opened = await self.threads.run(lambda: _open(file) or self.open_waiting(key), close_file)
        if opened is None:
            async for chunk in self._objects.read(key, start, end):
                yield chunk
            return
        try:
            async for chunk in self.threads.read(opened, start, end):
                yield chunk
        finally:
            opened.close()

    async def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects that no playlist lists any more, and the files among them that wait for a remote store.

        What cannot be deleted now is deleted with a later call. Above _MAX_UNDELETED, the oldest stay until retention.
        """
        spool, stored, sending = self._spool, [*self._undeleted, *keys], list[str]()
        self._undeleted.clear()
        try:
            if spool is not None:
                stored, sending = await self._spool_thread.run(lambda: spool.discard(stored))
            while stored:
                await self._objects.delete_many(stored[:_DELETED_IN_ONE_CALL])
                del stored[:_DELETED_IN_ONE_CALL]
        except (StoreUnavailable, OSError) as error:
            log.warning("old segments could not be deleted", reason=str(error), files=len(stored))
        finally:
            self._undeleted.extend([*stored, *sending])

    def open_waiting(self, key: str) -> BinaryIO | None:
        """Opens a file that waits for a remote store; None if it does not wait, so the store may have it. Blocks."""
        return None if self._spool is None else self._spool.open(key)

    def waiting_keys(self, prefix: str) -> list[str]:
        """Returns the keys of the files that wait for a remote store and begin with `prefix`."""
        return [] if self._spool is None else self._spool.keys(prefix)

    async def flush(self) -> None:
        """Waits until the store has all files; the caller sets a time limit.

        Other files are sent after the next start.
        """
        await self._idle.wait()

    # ---- for the app ----

    @property
    def waiting(self) -> tuple[int, int]:
        """Returns the number and the bytes of files that wait for a remote store."""
        return (0, 0) if self._spool is None else (len(self._spool), self._spool.bytes)

    @property
    def dropped(self) -> int:
        """Returns the number of files that were removed because the spool was full."""
        return 0 if self._spool is None else self._spool.dropped

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metric samples of the archive."""
        files, waiting = self.waiting
        yield MetricSample(ARCHIVE_FILES, files)
        yield MetricSample(ARCHIVE_BYTES, waiting)
        yield MetricSample(ARCHIVE_DROPPED, self.dropped)

    async def run(self) -> None:
        """Removes abandoned scratch files, then sends waiting files, those of earlier processes first.

        Runs until cancelled.
        """
        await asyncio.to_thread(self._remove_abandoned)
        spool = self._spool
        if spool is None:
            await asyncio.get_running_loop().create_future()
            return
        try:
            async with Tasks("archive") as tasks:
                self._tasks = tasks
                recovered = await self._scan(spool)
                if recovered:
                    log.info("files wait for the object store", files=len(recovered), bytes=spool.bytes)
                for entry in recovered:
                    self._enqueue(entry.key, spool)
                self._scanned.set()
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    self._tasks = None
        finally:
            self._recovery.close()

    async def _scan(self, spool: Spool) -> list[SpooledFile]:
        """Returns the files of earlier processes, as soon as the disk can be read."""

        def recover() -> list[SpooledFile]:
            self._recovery.open()
            self._recovery.take_over()
            return spool.scan()

        while True:
            try:
                return await self._spool_thread.run(recover)
            except OSError as error:
                log.warning("the spool cannot be read", folder=str(self._folder), reason=error.strerror)
            await asyncio.sleep(_SCAN_SECONDS)

    # ---- sending ----

    def _enqueue(self, key: str, spool: Spool) -> None:
        channel = key.partition("/")[0]
        queue = self._queues.get(channel)
        if queue is None:
            queue = self._queues[channel] = deque()
            self._idle.clear()
            if self._tasks is not None:
                self._tasks.start(self._send_all(channel, queue, spool), channel)
        queue.append(key)

    async def _send_all(self, channel: str, queue: deque[str], spool: Spool) -> None:
        """Sends a channel's files in order, until its queue is empty."""
        backoff = Backoff(1.0, 30.0)
        while queue:
            key = queue.popleft()
            async with self._slots:
                sent = await self._send(key, spool)
            if sent:
                backoff.reset()
            else:
                queue.appendleft(key)
                await asyncio.sleep(backoff.next())
        del self._queues[channel]
        if not self._queues:
            self._idle.set()

    async def _send(self, key: str, spool: Spool) -> bool:
        """Sends one file. Returns False if it must be tried again.

        After an internal error the file stays in the spool for the next start.
        """
        size = 0
        try:
            file = await self._spool_thread.run(lambda: spool.take(key))
            if file is None:
                return True  # removed, or a newer file with this key was sent already
            try:
                size = await self.threads.run(lambda: file.stat().st_size)
                await self._objects.put(key, file)
            except BaseException:
                await self._spool_thread.run(lambda: spool.give_back(key))
                raise
            note = await self._spool_thread.run(lambda: spool.confirm_sent(key))
        except (StoreUnavailable, OSError) as error:
            if not self._store_unavailable:
                self._store_unavailable = True
                files, waiting = self.waiting
                log.warning("recordings wait on disk", reason=str(error), object=key, files=files, bytes=waiting)
            return False
        except Exception as error:
            log.error("a recording could not be sent", object=key, exc_info=error)
            return True
        if self._store_unavailable:
            self._store_unavailable = False
            log.info("the object store is available again: recordings are sent", files=len(spool))
        if note is not None:
            self._emit(key, size, _note_data(key, note))
        return True

    # ---- details ----

    async def _store_locally(self, key: str, file: Path, replace: bool, ready: Mapping[str, Any] | None) -> str:
        """Stores a file in the local store."""
        size = await self.threads.run(lambda: file.stat().st_size)
        if not replace:
            async with self._key_lock:
                key = await self._free_key(key)
                self._reserved_keys.add(key)
        try:
            await self._objects.put(key, file)
        finally:
            self._reserved_keys.discard(key)
        if ready is not None:
            self._emit(key, size, ready)
        return key

    async def _free_key(self, key: str) -> str:
        """Returns `key`, or `key` with the first free number."""
        stem, dot, suffix = key.rpartition(".")
        for n in range(1, _MAX_NAMES):
            candidate = key if n == 1 else f"{stem}-{n}{dot}{suffix}"
            if candidate in self._reserved_keys:
                continue
            try:
                await self._objects.head(candidate)
            except NoSuchObject:
                return candidate
        raise OutputError(f"{key} and {_MAX_NAMES} numbered names after it are in use")

    def _emit(self, key: str, size: int, ready: Mapping[str, Any]) -> None:
        data = {"bytes": size, **ready, "key": key}
        self._events.emit(Event(EventType.RECORDING_READY, time.time(), key.partition("/")[0], data))

    def _remove_abandoned(self) -> None:
        """Removes old scratch files of earlier processes, except those that can be recovered."""
        root = self._folder / _UNFINISHED
        for file in root.rglob("*"):
            kind, *names = file.relative_to(root).parts
            if names and (kind not in _RECOVERED or names[0].startswith(".")):
                _remove_old(file)
        if self._spool is None:
            # `LocalObjects` copies a file from another disk to such a name beside its final one.
            for folder, _, files in os.walk(self._folder):
                for name in files:
                    if name.startswith(".") and name.endswith(".part"):
                        _remove_old(Path(folder, name))


def _remove_old(file: Path) -> None:
    """Removes a file that no process has written to for a long time."""
    try:
        if file.is_file() and time.time() - file.stat().st_mtime > _ABANDONED_SECONDS:
            file.unlink()
    except OSError as error:
        log.warning("an abandoned file cannot be removed", file=str(file), reason=error.strerror)


def _note_data(key: str, note: str) -> dict[str, Any]:
    """Returns the event data in a note; {} if the note is damaged, for example by a power failure."""
    try:
        data = json.loads(note)
    except ValueError:
        data = None
    if isinstance(data, dict):
        return data
    log.warning("the note of a recording is damaged, so its event has only the key and the size", object=key)
    return {}


def _open(file: Path) -> BinaryIO | None:
    """Opens a file; None if it does not exist (any more)."""
    try:
        return file.open("rb")
    except FileNotFoundError:
        return None
