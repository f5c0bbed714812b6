"""Gives each process a spool of its own; a process that starts takes over the files of dead processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from gateway.outputs.storage.spool import MOVED, files, move

log = structlog.get_logger(__name__)

PROCESSES: Final = "processes"
_LOCK: Final = "lock"


def own_folder(base: Path, process: str) -> Path:
    """Returns the folder of a process's spool.

    process: its name, different for each start, if several processes share `base`; "" if it is the only one.
    """
    return base / PROCESSES / process if process else base


class SpoolRecovery:
    """Locks the spool in `own_folder(base, process)` between `open` and `close`, so that others take nothing from it.

    All methods block and must run in a thread; they raise OSError.
    """

    def __init__(self, base: Path, process: str) -> None:
        self._base = base
        self._own = own_folder(base, process)
        self._lock = -1

    def open(self) -> None:
        """Locks the spool. May be called more than once."""
        if self._lock >= 0:
            return
        self._own.mkdir(parents=True, exist_ok=True)
        lock = _locked(self._own)
        if lock is None:
            log.error("another process uses this spool: files may be lost", folder=str(self._own))
        else:
            self._lock = lock

    def close(self) -> None:
        """Unlocks the spool and leaves the rest to the next process.

        If there are several processes, an empty spool folder is removed.
        """
        if self._lock >= 0:
            (self._own / _LOCK).unlink(missing_ok=True)
            if self._own != self._base and not any(files(self._own / place) for place in MOVED):
                shutil.rmtree(self._own, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def take_over(self) -> int:
        """Moves the files of dead processes into this spool, before it is read. Returns the number of files."""
        moved = 0
        for folder in self._others():
            lock = _locked(folder)
            if lock is None:
                continue  # its process is alive
            try:
                for place, target in MOVED.items():
                    for key, file in files(folder / place):
                        waiting = self._own / target / key
                        if waiting.exists() and waiting.stat().st_mtime >= file.stat().st_mtime:
                            file.unlink()  # a newer file of that name waits here
                            continue
                        move(file, waiting)
                        moved += place != "notes"
                (folder / _LOCK).unlink(missing_ok=True)
                if folder != self._base:
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
        return moved

    def _others(self) -> Iterator[Path]:
        processes = self._base / PROCESSES
        with contextlib.suppress(FileNotFoundError):
            yield from (path for path in sorted(processes.iterdir()) if path.is_dir() and path != self._own)
        if self._own != self._base:
            yield self._base


def _locked(folder: Path) -> int | None:
    """Returns a descriptor that locks a spool; None if another process has it, or it is gone."""
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
        os.close(lock)  # its owner has removed it since it was opened here: try again
