"""Finished files that wait on disk until a remote store has taken them, in order of arrival."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from gateway.channels.names import is_object_key
from gateway.lib.disk import sync_folder

log = structlog.get_logger(__name__)

_QUEUE: Final = "queue"
_SENDING: Final = "sending"
_NOTES: Final = "notes"
# Where each folder's files go when another process takes a spool over. Notes move first, so each file has its note.
MOVED: Final = {_NOTES: _NOTES, _SENDING: _QUEUE, _QUEUE: _QUEUE}


@dataclass(slots=True)
class SpooledFile:
    """A file that waits: its key, its size in bytes, and its arrival time (`since`, seconds since the epoch)."""

    key: str
    size: int
    since: float


class Spool:
    """Files under `<folder>/queue/<key>`, so that an operator sees what waits; at most `max_bytes` bytes.

    When the spool is full, the oldest files are removed and counted in `dropped`.
    A file that is being sent lies under `sending/`, where nothing replaces it.
    `notes/<key>.json` holds the event to send when the file has arrived.
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
        """Returns what an earlier process left, oldest first; files that it was sending wait again. Raises OSError."""
        for key, file in files(self._folder / _SENDING):
            target = self._path(_QUEUE, key)
            if target.exists():  # a newer file arrived meanwhile
                file.unlink()
                continue
            move(file, target)
        found = []
        for key, file in files(self._folder / _QUEUE):
            if not is_object_key(key):
                log.warning("a file in the spool has no name that we give", file=str(file))
                continue
            status = file.stat()
            found.append(SpooledFile(key, status.st_size, status.st_mtime))
        found.sort(key=lambda w: w.since)
        self._waiting = {w.key: w for w in found}
        self._sending = {}
        self.bytes = sum(w.size for w in found)
        return found

    def add(self, key: str, file: Path, now: float, note: str | None) -> SpooledFile:
        """Takes over a finished file, and replaces a waiting one with this key. Raises OSError."""
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            size = os.fstat(opened.fileno()).st_size
        os.utime(file, (now, now))
        if note is not None:
            place = self._path(_NOTES, key + ".json")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(note, encoding="utf-8")
        target = self._path(_QUEUE, key)
        move(file, target)
        sync_folder(target.parent)
        earlier = self._waiting.pop(key, None)
        if earlier is not None:
            self.bytes -= earlier.size
        entry = self._waiting[key] = SpooledFile(key, size, now)
        self.bytes += size
        self._make_room(entry)
        return entry

    def take(self, key: str) -> Path | None:
        """Returns the file of `key` and marks it as being sent; None if it was dropped."""
        entry = self._waiting.pop(key, None)
        if entry is None:
            return None
        place = self._path(_SENDING, key)
        try:
            move(self._path(_QUEUE, key), place)
        except FileNotFoundError:
            log.warning("a file that waited for the object store is gone", object=key)
            self.bytes -= entry.size
            return None
        self._sending[key] = entry
        return place

    def sent(self, key: str) -> str | None:
        """Removes a file that the store has taken, and returns its note."""
        entry = self._sending.pop(key)
        self.bytes -= entry.size
        self._remove(_SENDING, key)
        note = self._path(_NOTES, key + ".json")
        text: str | None = None
        with contextlib.suppress(FileNotFoundError):
            text = note.read_text(encoding="utf-8")
        self._remove(_NOTES, key + ".json")
        return text

    def give_back(self, key: str) -> None:
        """Puts a file that the store did not take back into the queue, unless a newer one with its key waits."""
        entry = self._sending.pop(key)
        if key in self._waiting or not self._path(_SENDING, key).exists():
            self.bytes -= entry.size
            self._remove(_SENDING, key)
            return
        move(self._path(_SENDING, key), self._path(_QUEUE, key))
        self._waiting = {key: entry, **self._waiting}

    def _make_room(self, newest: SpooledFile) -> None:
        lost = 0
        while self.bytes > self._max_bytes and self._waiting:
            oldest = next(iter(self._waiting.values()))
            del self._waiting[oldest.key]
            self.bytes -= oldest.size
            self._remove(_QUEUE, oldest.key)
            self._remove(_NOTES, oldest.key + ".json")
            lost += 1
            if oldest is newest:
                break
        if lost:
            self.dropped += lost
            log.warning("the spool is full: the oldest files were dropped", files=lost, total=self.dropped)

    def _path(self, kind: str, key: str) -> Path:
        return self._folder / kind / key

    def _remove(self, kind: str, key: str) -> None:
        """Deletes a file, and the folders that become empty."""
        path = self._path(kind, key)
        path.unlink(missing_ok=True)
        prune(path.parent, self._folder / kind)


def prune(folder: Path, root: Path) -> None:
    """Removes `folder` and the folders above it, up to but not including `root`, as long as they are empty."""
    while folder != root and folder.is_relative_to(root):
        try:
            folder.rmdir()
        except OSError:  # not empty, or gone already
            if folder.exists():
                return
        folder = folder.parent


def files(root: Path) -> list[tuple[str, Path]]:
    """Returns every regular file below `root`, with its key."""
    if not root.is_dir():
        return []
    return [
        (path.relative_to(root).as_posix(), path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    ]


def move(file: Path, target: Path) -> None:
    """Renames a file, replacing `target`; makes missing folders. Raises OSError."""
    for _ in range(3):  # the removal of another file may delete the empty folder before the rename
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(file, target)
            return
        except FileNotFoundError:
            if not file.exists():
                raise
    os.replace(file, target)
