"""An unfinished file on disk. Its writer locks it, so that recovery does not treat it as abandoned."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gateway.ports.errors import OutputError

_SYNC_SECONDS: Final = 5.0  # seconds of media that a power failure may lose, besides the disk's own cache


class LockedFile:
    """Appends to a new file. All methods block and must run in a thread; calls never overlap.

    Appended data survives the end of this process, because the kernel has it.
    It survives a power failure after it is synced, within _SYNC_SECONDS. Raises OutputError if writing fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        # The file is locked before it gets its final name, so recovery never finds it unlocked.
        hidden = path.with_name(f".{path.name}")
        with disk_errors(path.parent):
            self._descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rename(hidden, path)
            except BaseException:
                os.close(self._descriptor)
                raise
        self._synced = time.monotonic()

    def append(self, pieces: Iterable[bytes]) -> None:
        data = b"".join(pieces)
        with disk_errors(self.path.parent):
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            self.size += len(data)
            if not os.fstat(self._descriptor).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "the folder was removed")
            now = time.monotonic()
            if now - self._synced > _SYNC_SECONDS:
                self._synced = now
                os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Releases the lock. May be called more than once."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def release(lock: int | None) -> None:
    """Closes a descriptor of `take_abandoned`, where its caller was cancelled meanwhile."""
    if lock is not None:
        os.close(lock)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Converts OSError to OutputError, with a text for operators."""
    try:
        yield
    except OSError as error:
        reason = "no space left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))
        raise OutputError(f"{folder} cannot be written: {reason}") from None


def take_abandoned(path: Path) -> int | None:
    """Locks a file without a writer, and returns its descriptor; None if it is locked or does not exist."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None
