"""Creates the measurements of a gateway: its state, and the history of its values."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.app.node_parts import NodeParts
from gateway.app.parts.live import Live
from gateway.channels.channel import Channel
from gateway.diagnosis.daily_traffic import DailyTraffic
from gateway.diagnosis.recorder import Recorder, stream_values
from gateway.diagnosis.show_log import ShowLog, ShowSources
from gateway.lib.metrics import Metrics
from gateway.ports.stores import ConsoleStore
from gateway.reports.node_status import NodeStatus
from gateway.reports.node_summary import summary
from gateway.reports.node_summary import traffic as traffic_counters

_DAY: Final = 86_400  # seconds
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
        traffic_now = traffic_counters(self._metrics)
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


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The measurements of a process.

    recorder: records their history. traffic: by channel and day. shows: of all channels.
    """

    metrics: Metrics
    node_status: NodeStatus
    recorder: Recorder
    traffic: DailyTraffic
    shows: ShowLog

    def summary(self) -> dict[str, Any]:
        """Returns the state of this process for other nodes."""
        return summary(self.node_status, self.metrics)


def build_diagnosis(parts: NodeParts, live: Live, console: ConsoleStore) -> Diagnosis:
    """Returns the measurements. Call it once: `parts.stack` then saves the history when the process ends.

    console: stores the traffic and the shows.
    """
    settings, slot, workers = parts.settings, parts.identity.slot, live.outputs.workers
    urls = {
        "channels": settings.channels,
        "objects": settings.objects,
        "jobs": settings.vod.jobs,
        "films": settings.vod.films,
        "console": settings.admin.store,
        "events": settings.events.store,
    }
    schemes = {name: url.partition(":")[0] for name, url in urls.items()}
    status = NodeStatus(settings.data, schemes, lambda: (workers.running, workers.limit))
    file = settings.data / f"history-{slot.number if slot is not None else 1}.bin"
    recorder = Recorder(live.hub, NodeValues(parts.metrics, status), stream_values(live.viewers_of), file)
    parts.stack.push_async_callback(recorder.save)  # runs after the task of `recorder.run` has ended
    traffic = DailyTraffic(parts.traffic, console)
    parts.stack.push_async_callback(traffic.save)
    remote = live.remote_viewers
    sources = ShowSources(
        live.hub,
        parts.experience,
        viewers=lambda stream: stream.viewers + remote.of(stream.name),
        title=Channel.show_title,
    )
    shows = ShowLog(sources, console, settings.events.days * _DAY)
    parts.events.listen(shows.note)
    parts.stack.push_async_callback(shows.save)
    return Diagnosis(parts.metrics, status, recorder, traffic, shows)
