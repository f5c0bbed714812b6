"""Inheritance: each process has a spool of its own, and what a dead one left goes to whoever starts next."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from gateway.sinks.spool import MOVED, files, move

log = structlog.get_logger(__name__)

PROCESSES: Final = "processes"
_LOCK: Final = "lock"


def own_folder(base: Path, process: str) -> Path:
    """Of a process's spool. process: its name where several share the folder `base`, each time another; "": the only
    one."""
    return base / PROCESSES / process if process else base


class Inheritance:
    """Between `open` and `close` the spool in `own_folder(base, process)` is locked: others take nothing from it.
    Everything here blocks and belongs into a thread; raises OSError."""

    def __init__(self, base: Path, process: str) -> None:
        self._base = base
        self._own = own_folder(base, process)
        self._lock = -1

    def open(self) -> None:
        """More than once is fine."""
        if self._lock >= 0:
            return
        self._own.mkdir(parents=True, exist_ok=True)
        lock = _locked(self._own)
        if lock is None:
            log.error("another process uses this spool: files may be lost", folder=str(self._own))
        else:
            self._lock = lock

    def close(self) -> None:
        """What is left is for whoever comes next; an empty folder of one of several processes is not."""
        if self._lock >= 0:
            (self._own / _LOCK).unlink(missing_ok=True)
            if self._own != self._base and not any(files(self._own / place) for place in MOVED):
                shutil.rmtree(self._own, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def take_over(self) -> int:
        """Moves what dead processes left into our own spool, before it is read; how many files that were."""
        moved = 0
        for folder in self._others():
            lock = _locked(folder)
            if lock is None:
                continue  # it lives
            try:
                for place, target in MOVED.items():
                    for key, file in files(folder / place):
                        waiting = self._own / target / key
                        if waiting.exists() and waiting.stat().st_mtime >= file.stat().st_mtime:
                            file.unlink()  # a newer one of the same name
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
    """A descriptor that locks a spool; None where somebody else has it, or it is gone."""
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
        os.close(lock)  # whoever had it has taken it away since we opened it: once more
