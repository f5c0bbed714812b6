"""The load and the free capacity of this node, for the registry, for load balancers and for services that scale."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import structlog

from gateway.lib.clocks import Clock
from gateway.lib.control_group import processor_quotas
from gateway.playback.viewer_limits import ViewerLimits
from gateway.ports.nodes import Node

log = structlog.get_logger(__name__)

_MIN_SPAN_SECONDS: Final = 3.0  # minimum time between two measurements of the processor
_SPANS: Final = 4  # the free share is that of as many spans, so that a short task of others does not count
Processes: TypeAlias = Callable[[], Iterable[Node]]
_Counters: TypeAlias = tuple[float, float]  # used and available processor time since some start, in one unit


class FreeProcessor:
    """Measures the free share of the processor time that this process may use, with all programs that share it.

    These are the cores that the scheduler may give to this process, and the quotas of its control group. They count as
    free on other systems than Linux. The event loop of this process has one core at most.

    root: the folder with `proc` and `sys`. loop: returns the processor time of the event loop, whose thread calls this.
    """

    def __init__(
        self, clock: Clock = time.monotonic, root: Path = Path("/"), loop: Callable[[], float] = time.thread_time
    ) -> None:
        self._clock, self._loop = clock, loop
        self._root = root
        self._measured_at = clock()
        self._measured: deque[dict[str, _Counters]] = deque([dict(self._counters())], _SPANS + 1)
        self._percent = 100.0

    def percent(self) -> float:
        """Returns the free share in the last _SPANS spans between calls, 0 to 100."""
        now = self._clock()
        if now - self._measured_at >= _MIN_SPAN_SECONDS:
            self._measured_at = now
            self._measured.append(dict(self._counters()))
            first, last = self._measured[0], self._measured[-1]
            self._percent = min((_free(first[n], new) for n, new in last.items() if n in first), default=100.0)
        return self._percent

    def _counters(self) -> Iterator[tuple[str, _Counters]]:
        yield "loop", (self._loop(), self._clock())
        with suppress(OSError, ValueError, IndexError):  # not Linux
            yield "machine", self._machine()
        for quota in processor_quotas(self._root):
            yield str(quota.group), (quota.used, self._clock() * quota.cores)

    def _machine(self) -> _Counters:
        """Returns the ticks of the cores of this process (proc(5), `/proc/stat`)."""
        cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = (line.split() for line in (self._root / "proc/stat").read_text("ascii").splitlines())
        ticks = [[int(value) for value in values[:8]] for core, *values in lines if core in cores]
        total = sum(map(sum, ticks))
        return total - sum(values[3] + values[4] for values in ticks), total  # idle, iowait


class FreeCapacity:
    """The load and the free capacity of this process, and of all processes that share its ports.

    viewers: returns the number of viewers of this process. processes: returns all, as the registry has them.
    """

    def __init__(
        self, processor: FreeProcessor, limits: ViewerLimits, viewers: Callable[[], int], processes: Processes = tuple
    ) -> None:
        self._processor, self._limits, self._viewers, self._processes = processor, limits, viewers, processes

    @property
    def percent(self) -> float:
        """The smallest free share of the processor and the bandwidth, of the busiest process, 0 to 100."""
        return min((float(self._figures()["percent"]), *(node.free for node in self._processes())))

    async def log_load(self, seconds: float) -> None:
        """Logs the load again and again, for services that scale by it. The caller runs it as a task."""
        while True:
            await asyncio.sleep(seconds)
            log.info("load", busiest=round(100 - self.percent, 1))

    def shown(self) -> dict[str, Any]:
        """Returns the fields for the registry. mbps: the free bandwidth; None without limits.node_mbps."""
        return {"free": self._figures(), "viewers": self._viewers()}

    def _figures(self) -> dict[str, Any]:
        processor, mbps = round(self._processor.percent(), 1), self._limits.free_mbps()
        if mbps is None:
            return {"cpuPercent": processor, "mbps": None, "percent": processor}
        share = 100 * mbps / self._limits.node_mbps
        return {"cpuPercent": processor, "mbps": round(mbps, 2), "percent": round(min(processor, share), 1)}


def _free(old: _Counters, new: _Counters) -> float:
    available = new[1] - old[1]
    return min(100.0, max(0.0, 100 * (1 - (new[0] - old[0]) / available))) if available > 0 else 100.0
