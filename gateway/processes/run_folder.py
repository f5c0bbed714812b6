"""The run folder: contains the master's lock and the Unix sockets of its workers."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.cluster.worker_slot import SOCKET
from gateway.ports.errors import StoreUnusable

_LOCK: Final = "lock"
_MAX_PATH_BYTES: Final = 103  # bytes of a Unix socket's path: with the final NUL 104 on BSD, 108 on Linux
_LONGEST_NAME: Final = f"01234567.999-99999{SOCKET}"


@contextlib.contextmanager
def run_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty folder for the workers' sockets, which only this user can access.

    It is `folder`, which is created if missing. If its path is too long for a socket's address, it is a folder in the
    system's temporary folder. Raises StoreUnusable if another master uses `folder`, or if it cannot be used.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(f"{folder} cannot be used: {error.strerror}") from None
    temporary: Path | None = None
    try:
        _hold(lock, folder)
        sockets = folder.absolute()
        if len(os.fsencode(sockets / _LONGEST_NAME)) > _MAX_PATH_BYTES:
            sockets = temporary = Path(tempfile.mkdtemp(prefix="millrace-"))
        clear(folder)
        yield sockets
        clear(sockets)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def clear(folder: Path) -> None:
    """Removes the files of ended workers."""
    for path in folder.iterdir():
        if path.name != _LOCK:
            with contextlib.suppress(OSError):
                path.unlink()


def _hold(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        who = os.read(lock, 20).decode("ascii", "replace").strip()
        raise StoreUnusable(f"process {who or 'unknown'} runs on this data folder already ({folder})") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
