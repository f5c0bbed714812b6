"""The values of this process that its history records."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from gateway.lib.metrics import Metrics
from gateway.reports.node_status import NodeStatus
from gateway.reports.node_summary import traffic

_RATES: Final = {"in": "bytesIn", "out": "bytesOut"}  # bits per second, from counters of bytes


class NodeValues:
    """Reads processor, memory, loop lag, streams, viewers and traffic. Each call measures since the last one."""

    def __init__(self, metrics: Metrics, status: NodeStatus, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics, self._status, self._clock = metrics, status, clock
        self._last: tuple[float, float, Mapping[str, int]] | None = None  # time, processor seconds, counters

    def __call__(self) -> dict[str, float]:
        """Returns the values by series. The first call has no rates.

        cpu: percent of one core. memory: bytes. lag: seconds. in, out: bits per second. viewers.<protocol>: viewers.
        """
        traffic_now = traffic(self._metrics)
        now, cpu = self._clock(), time.process_time()
        viewers = traffic_now["viewers"]
        values: dict[str, float] = {
            "memory": float(self._status.memory()["rss"]),
            "lag": self._metrics.last_lag,
            "streams": float(traffic_now["streams"]),
            "publishers": float(traffic_now["publishers"]),
            "viewers": float(sum(viewers.values())),
            **{f"viewers.{protocol}": float(count) for protocol, count in viewers.items()},
        }
        counters = {name: traffic_now[counter] for name, counter in _RATES.items()}
        if self._last is not None and now > self._last[0]:
            before, cpu_before, counters_before = self._last
            seconds = now - before
            values["cpu"] = 100 * (cpu - cpu_before) / seconds
            for name, count in counters.items():
                if count >= counters_before[name]:
                    values[name] = (count - counters_before[name]) * 8 / seconds
        self._last = now, cpu, counters
        return values
