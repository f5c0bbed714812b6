"""Node: what a process knows of itself and its machine: processor, memory, disk, workers, what its stores are."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

_LEAST_SPAN: Final = 1.0  # seconds over which processor time is averaged, at least


def _none() -> tuple[int, int]:
    """No workers."""
    return 0, 0


class Node:
    """Read when somebody asks. data: the folder whose disk matters. stores: by what is kept, what keeps it (sqlite,
    dynamodb, file, s3). workers: how many run and how many may."""

    def __init__(
        self,
        data: Path,
        stores: Mapping[str, str],
        workers: Callable[[], tuple[int, int]] = _none,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.data = data
        self.stores = dict(stores)
        self._workers = workers
        self._clock = clock
        self._began = clock()
        self._used = (self._began, _processor_seconds())
        self._percent = 0.0

    @property
    def uptime(self) -> float:
        """Seconds."""
        return self._clock() - self._began

    def cpu(self) -> dict[str, Any]:
        """percent: what this process took since the last look; 100 is one core."""
        now, (before, used) = self._clock(), self._used
        if now - before >= _LEAST_SPAN:
            total = _processor_seconds()
            self._percent = round(100 * (total - used) / (now - before), 1)
            self._used = (now, total)
        return {"cores": os.cpu_count() or 1, "percent": self._percent, "load": round(os.getloadavg()[0], 2)}

    def memory(self) -> dict[str, int]:
        """Bytes: of this process, and of the machine."""
        return {"rss": _resident(), "total": _physical()}

    def disk(self) -> dict[str, Any]:
        """Bytes of the disk that the data folder is on. Blocks."""
        usage = shutil.disk_usage(self.data)
        return {"path": str(self.data), "free": usage.free, "total": usage.total}

    def workers(self) -> dict[str, int]:
        """Media workers: how many run, and how many may."""
        running, most = self._workers()
        return {"running": running, "most": most}


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # not Linux
        return 0


def _physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0
