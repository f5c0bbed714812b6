"""UploadLock: ensures that an upload address is used only once, also with several processes on one folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".used"
_TRIES: Final = 10


class UploadExists(Exception):
    """The object exists already, or another client is sending it. An address is valid for one upload only."""


class UploadLock:
    """A lock on a hidden file beside the upload. `done` keeps the file with a mark in it, `release` deletes it.

    If a process dies, its lock becomes free, so the client may send again. All methods block.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def begin(cls, folder: Path, key: str) -> UploadLock:
        """Takes the lock. Raises UploadExists if the address was used or is in use, OSError."""
        path = folder / f".{key}{_SUFFIX}"
        for _ in range(_TRIES):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_size:
                    raise UploadExists(key)
                if _is_at(path, descriptor):
                    return cls(path, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                raise UploadExists(key) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # another process deleted the file between open and lock
        raise UploadExists(key)

    def done(self) -> None:
        """Marks the address as used."""
        try:
            os.write(self._descriptor, b"used\n")
        finally:
            os.close(self._descriptor)

    def release(self) -> None:
        """Frees the address after a failed upload."""
        try:
            self._path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)


def forget(folder: Path, before: float) -> None:
    """Deletes the marks of addresses that were used before that time (seconds since the epoch). Blocks."""
    for path in folder.glob(f".*{_SUFFIX}"):
        try:
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue  # another process deletes them too


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)
