"""Growing: an unfinished file on disk, locked by whoever writes it, so that no recovery takes it for abandoned."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gateway.hub.errors import OutputTrouble

_SYNC_EVERY: Final = 5.0  # seconds of media that a power cut may cost, besides what the disk itself promises


class Growing:
    """Appends to a new file. Everything here blocks and belongs into a thread; calls never overlap.

    What was appended survives the end of this process at once (the kernel has it), and a power cut after at most
    _SYNC_EVERY seconds, when it was synced to the disk. Raises OutputTrouble where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        # Under its name it is locked from the first moment on: recovery never finds it otherwise.
        hidden = path.with_name(f".{path.name}")
        with trouble(path.parent):
            self._descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rename(hidden, path)
            except BaseException:
                os.close(self._descriptor)
                raise
        self._synced = time.monotonic()

    def append(self, pieces: Iterable[bytes]) -> None:
        data = b"".join(pieces)
        with trouble(self.path.parent):
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            self.size += len(data)
            if not os.fstat(self._descriptor).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "the folder was removed")
            now = time.monotonic()
            if now - self._synced > _SYNC_EVERY:
                self._synced = now
                os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Gives the lock up. More than once is fine."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@contextlib.contextmanager
def trouble(place: Path) -> Iterator[None]:
    """Turns OSError into OutputTrouble, in words for an operator."""
    try:
        yield
    except OSError as error:
        words = "no space left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))
        raise OutputTrouble(f"{place} cannot be written: {words}") from None


def take_abandoned(path: Path) -> int | None:
    """A descriptor that locks a file that nobody writes any more; None where somebody does, or it is gone."""
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
