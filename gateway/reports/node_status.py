"""The state of this process and its machine: processor, memory, disk, media workers, and the kinds of its stores."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from gateway.lib.control_group import cores, memory_limit

_MIN_SPAN_SECONDS: Final = 1.0  # minimum time between two measurements of CPU use


class NodeStatus:
    """The state of this node, read at each request.

    data: the folder whose disk is reported. stores: kind of store (sqlite, dynamodb, file, s3) by content. workers:
    returns the numbers of running and of allowed workers.
    """

    def __init__(
        self,
        data: Path,
        stores: Mapping[str, str],
        workers: Callable[[], tuple[int, int]] = lambda: (0, 0),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.data = data
        self.stores = dict(stores)
        self._workers = workers
        self._clock = clock
        self._started = clock()
        self._last_cpu = (self._started, _processor_seconds())
        self._percent = 0.0

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def cpu(self) -> dict[str, Any]:
        """Returns the cores that this process may use, load of the machine, and percent of this process.

        100 percent is one core. Percent is measured since the last call that was at least _MIN_SPAN_SECONDS before.
        """
        now, (measured_at, cpu_before) = self._clock(), self._last_cpu
        if now - measured_at >= _MIN_SPAN_SECONDS:
            total = _processor_seconds()
            self._percent = round(100 * (total - cpu_before) / (now - measured_at), 1)
            self._last_cpu = (now, total)
        return {"cores": cores(), "percent": self._percent, "load": round(os.getloadavg()[0], 2)}

    def memory(self) -> dict[str, int]:
        """Returns bytes used by this process, and bytes of the machine or its container."""
        total = machine_memory()[0]
        return {"rss": _resident_bytes(), "total": min(total, memory_limit() or total)}

    def disk(self) -> dict[str, Any]:
        """Returns the free and total bytes of the disk with the data folder. Blocks."""
        usage = shutil.disk_usage(self.data)
        return {"path": str(self.data), "free": usage.free, "total": usage.total}

    def workers(self) -> dict[str, int]:
        """Returns the numbers of running and of allowed media workers."""
        running, maximum = self._workers()
        return {"running": running, "most": maximum}


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # not Linux
        return 0


def machine_memory() -> tuple[int, int]:
    """Returns the total and free bytes of the machine; 0 if the system does not report them."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        return 0, 0
