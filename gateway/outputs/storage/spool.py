"""Finished files that wait on disk for a remote store, and the recovery of the files of dead processes."""

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from gateway.channels.names import is_object_key
from gateway.lib.disk import sync_folder

log = structlog.get_logger(__name__)

_QUEUE: Final = "queue"
_SENDING: Final = "sending"
_NOTES: Final = "notes"
_NEW_NOTE: Final = ".note"  # the note that is being written; calls never overlap, so one name is enough
_PROCESSES: Final = "processes"
_LOCK: Final = "lock"
_LOCK_SECONDS: Final = 2.0  # for which `open` waits: other processes lock each spool while they look for dead ones
# The target of each folder's files when another process recovers a spool. Notes move first, before their files.
_TARGETS: Final = {_NOTES: _NOTES, _SENDING: _QUEUE, _QUEUE: _QUEUE}


@dataclass(slots=True)
class SpooledFile:
    """A waiting file. size: bytes. since: its arrival time, seconds since 1970."""

    key: str
    size: int
    since: float


class Spool:
    """Files in `<folder>/queue/<key>`, so that an operator can see them; at most `max_bytes` bytes.

    When the spool is full, the oldest files are removed and counted in `dropped`.
    A file that is being sent is in `sending/`, where no new file replaces it.
    `notes/<key>.json` contains the event to emit when the file is stored.
    All methods block and must run in a thread; calls never overlap.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._waiting: dict[str, SpooledFile] = {}  # oldest first
        self._sending: dict[str, SpooledFile] = {}
        self.bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sending)

    def scan(self) -> list[SpooledFile]:
        """Returns an earlier process's files, oldest first. Files that it was sending wait again. Raises OSError."""
        _move_all(self._folder / _SENDING, self._folder / _QUEUE)
        found = []
        for key, file in _files(self._folder / _QUEUE):
            if not is_object_key(key):
                log.warning("a file in the spool has an invalid name", file=str(file))
                continue
            status = file.stat()
            found.append(SpooledFile(key, status.st_size, status.st_mtime))
        found.sort(key=lambda file: file.since)
        self._waiting = {file.key: file for file in found}
        self._sending = {}
        self.bytes = sum(file.size for file in found)
        return found

    def add(self, key: str, file: Path, now: float, note: str | None) -> SpooledFile:
        """Moves a finished file into the queue, and replaces a waiting file with this key. Raises OSError."""
        with file.open("rb") as source:
            os.fsync(source.fileno())
            size = os.fstat(source.fileno()).st_size
        os.utime(file, (now, now))
        if note is not None:
            new, note_file = self._folder / _NEW_NOTE, self._path(_NOTES, key + ".json")
            new.parent.mkdir(parents=True, exist_ok=True)
            with new.open("w", encoding="utf-8") as opened:
                opened.write(note)
                opened.flush()
                os.fsync(opened.fileno())
            _move(new, note_file)
            sync_folder(note_file.parent)
        target = self._path(_QUEUE, key)
        _move(file, target)
        sync_folder(target.parent)
        earlier = self._waiting.pop(key, None)
        if earlier is not None:
            self.bytes -= earlier.size
        entry = self._waiting[key] = SpooledFile(key, size, now)
        self.bytes += size
        self._make_room(entry)
        return entry

    def open(self, key: str) -> BinaryIO | None:
        """Opens a waiting file; None if it does not exist. Unlike other calls, it may overlap them."""
        for kind in (_QUEUE, _SENDING, _QUEUE):  # a file moves between the two folders
            with contextlib.suppress(FileNotFoundError):
                return self._path(kind, key).open("rb")
        return None

    def keys(self, prefix: str) -> list[str]:
        """Returns the keys of the waiting files that begin with `prefix`. Does not block."""
        return [key for key in (*self._sending, *self._waiting) if key.startswith(prefix)]

    def take(self, key: str) -> Path | None:
        """Returns the file of `key` and marks it as being sent; None if it was removed."""
        entry = self._waiting.get(key)
        if entry is None:
            return None
        target = self._path(_SENDING, key)
        try:
            _move(self._path(_QUEUE, key), target)
        except FileNotFoundError:
            log.warning("a file that waited for the object store does not exist any more", object=key)
            self.bytes -= self._waiting.pop(key).size
            return None
        self._sending[key] = entry  # after the move: `keys` and `len` may be called meanwhile
        del self._waiting[key]
        return target

    def confirm_sent(self, key: str) -> str | None:
        """Removes a file that was sent, and returns its note; None if a newer file with its key waits, which has it."""
        entry = self._sending.pop(key)
        self.bytes -= entry.size
        self._remove(_SENDING, key)
        if key in self._waiting:
            return None
        note = self._path(_NOTES, key + ".json")
        text: str | None = None
        with contextlib.suppress(FileNotFoundError):
            text = note.read_text(encoding="utf-8", errors="replace")  # the disk may have lost a part of it
        self._remove(_NOTES, key + ".json")
        return text

    def give_back(self, key: str) -> None:
        """Moves a file that was not sent back into the queue, unless a newer file with its key waits."""
        entry = self._sending[key]
        if key in self._waiting or not self._path(_SENDING, key).exists():
            del self._sending[key]
            self.bytes -= entry.size
            self._remove(_SENDING, key)
            return
        _move(self._path(_SENDING, key), self._path(_QUEUE, key))
        self._waiting = {key: entry, **self._waiting}
        del self._sending[key]

    def discard(self, keys: Iterable[str]) -> tuple[list[str], list[str]]:
        """Removes waiting files. Returns the keys that are not here, and those that are being sent. Raises OSError."""
        others: list[str] = []
        sending: list[str] = []
        for key in keys:
            if key in self._sending:
                sending.append(key)
            elif key in self._waiting:
                self._drop(key)
            else:
                others.append(key)
        return others, sending

    def _make_room(self, newest: SpooledFile) -> None:
        lost = 0
        while self.bytes > self._max_bytes and self._waiting:
            oldest = next(iter(self._waiting.values()))
            self._drop(oldest.key)
            lost += 1
            if oldest is newest:
                break
        if lost:
            self.dropped += lost
            log.warning("the spool is full: the oldest files were dropped", files=lost, total=self.dropped)

    def _drop(self, key: str) -> None:
        """Removes a waiting file and its note."""
        self.bytes -= self._waiting.pop(key).size
        self._remove(_QUEUE, key)
        self._remove(_NOTES, key + ".json")

    def _path(self, kind: str, key: str) -> Path:
        return self._folder / kind / key

    def _remove(self, kind: str, key: str) -> None:
        """Deletes a file, and the folders that become empty."""
        path = self._path(kind, key)
        path.unlink(missing_ok=True)
        _prune(path.parent, self._folder / kind)


def _prune(folder: Path, root: Path) -> None:
    """Removes `folder` and its parents below `root`, if they are empty."""
    while folder != root and folder.is_relative_to(root):
        try:
            folder.rmdir()
        except OSError:  # not empty, or removed already
            if folder.exists():
                return
        folder = folder.parent


def _files(root: Path) -> list[tuple[str, Path]]:
    """Returns every regular file below `root`, with its key."""
    if not root.is_dir():
        return []
    return [
        (path.relative_to(root).as_posix(), path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    ]


def _move_all(source: Path, target: Path) -> None:
    """Moves the files of a folder, unless a newer file with their key is in `target`."""
    for key, file in _files(source):
        waiting = target / key
        if waiting.exists() and waiting.stat().st_mtime >= file.stat().st_mtime:
            file.unlink()
        else:
            _move(file, waiting)


def _move(file: Path, target: Path) -> None:
    """Renames a file, replacing `target`, and creates missing folders. Raises OSError."""
    for _ in range(3):  # `_prune` may remove the empty folder before the rename
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(file, target)
            return
        except FileNotFoundError:
            if not file.exists():
                raise
    os.replace(file, target)


def process_folder(base: Path, process: str) -> Path:
    """Returns the folder of a process's spool.

    process: a name that differs for each start, if several processes share `base`; "" if there is only one process.
    """
    return base / _PROCESSES / process if process else base


class SpoolRecovery:
    """Locks the spool of a process between `open` and `close`, and recovers the spools of dead processes.

    All methods block and must run in a thread; they raise OSError.
    """

    def __init__(self, base: Path, process: str) -> None:
        self._base = base
        self._folder = process_folder(base, process)
        self._lock = -1

    def open(self) -> None:
        """Locks the spool; another process may just be looking into it. May be called more than once."""
        if self._lock >= 0:
            return
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = _lock_spool(self._folder)
            if lock is not None:
                self._lock = lock
                return
            if time.monotonic() > until:
                log.error("another process uses this spool: files may be lost", folder=str(self._folder))
                return
            time.sleep(0.01)

    def close(self) -> None:
        """Unlocks the spool, so that the next process can recover its files.

        If there are several processes, an empty spool folder is removed.
        """
        if self._lock >= 0:
            if self._folder != self._base and not any(_files(self._folder / subfolder) for subfolder in _TARGETS):
                _remove_spool(self._folder)
            else:
                (self._folder / _LOCK).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def take_over(self) -> None:
        """Moves the files of dead processes into this spool, before it is read."""
        for folder in self._others():
            lock = _lock_spool(folder)
            if lock is None:
                continue  # its process is alive
            try:
                for subfolder, target in _TARGETS.items():
                    _move_all(folder / subfolder, self._folder / target)
                if folder != self._base:
                    _remove_spool(folder)
                else:
                    (folder / _LOCK).unlink(missing_ok=True)
            finally:
                os.close(lock)

    def _others(self) -> Iterator[Path]:
        processes = self._base / _PROCESSES
        with contextlib.suppress(FileNotFoundError):
            yield from (path for path in sorted(processes.iterdir()) if path.is_dir() and path != self._folder)
        if self._folder != self._base:
            yield self._base


def _remove_spool(folder: Path) -> None:
    """Removes the folder of an empty spool that is locked here. Its process may start now, and make the folder anew."""
    removed = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    os.replace(folder, removed)
    for subfolder in _TARGETS:  # before the lock: without it, another process may look into the folder
        shutil.rmtree(removed / subfolder, ignore_errors=True)
    shutil.rmtree(removed, ignore_errors=True)


def _lock_spool(folder: Path) -> int | None:
    """Returns a descriptor that locks a spool; None if another process has locked it or it does not exist."""
    while True:
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:
                return lock
        except BlockingIOError:
            os.close(lock)
            return None
        os.close(lock)  # its owner removed it after it was opened here: try again
