"""The measurements of one process, or of several together, at one moment, and their text for Prometheus."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

from gateway.lib.metric_table import BUILD, TABLE, Labels, Metric, MetricKind, MetricSample

T = TypeVar("T")

_MAX_SERIES: Final = 20_000  # of one process; more means that the text is not from Millrace
# Metrics of a process that prometheus-client provides.
_PROCESS: Final[Mapping[str, tuple[MetricKind, str]]] = {
    "process_virtual_memory_bytes": (MetricKind.GAUGE, "Virtual memory size in bytes."),
    "process_resident_memory_bytes": (MetricKind.GAUGE, "Resident memory size in bytes."),
    "process_start_time_seconds": (MetricKind.GAUGE, "Start time of the process since unix epoch in seconds."),
    "process_cpu_seconds": (MetricKind.COUNTER, "Total user and system CPU time spent in seconds."),
    "process_open_fds": (MetricKind.GAUGE, "Number of open file descriptors."),
    "process_max_fds": (MetricKind.GAUGE, "Maximum number of open file descriptors."),
}


@dataclass(slots=True)
class MetricsSnapshot:
    """Measurements at one moment.

    values: gauges and counters, by metric name and labels.
    rows: rows of histograms in the form of Histogram.series, by metric name and labels.
    processes: operating system values of each process, by its name; empty if only this process answers.
    """

    values: dict[str, dict[Labels, float]] = field(default_factory=dict)
    rows: dict[str, dict[Labels, list[float]]] = field(default_factory=dict)
    processes: dict[str, dict[str, float]] = field(default_factory=dict)

    def put(self, metric: Metric, value: float, labels: Labels = ()) -> None:
        """Adds a value to its series."""
        series = self.values.setdefault(metric.name, {})
        series[labels] = series.get(labels, 0) + value

    def add(self, other: MetricsSnapshot) -> None:
        """Adds the measurements of another process. All values are summed, except the version, which is equal in all
        processes.
        """
        for name, theirs in other.values.items():
            mine = self.values.setdefault(name, {})
            for labels, value in theirs.items():
                mine[labels] = max(mine.get(labels, 0), value) if name == BUILD.name else mine.get(labels, 0) + value
        for name, rows in other.rows.items():
            sums = self.rows.setdefault(name, {})
            for labels, row in rows.items():
                sums[labels] = [a + b for a, b in zip(sums.get(labels, [0.0] * len(row)), row, strict=True)]
        self.processes |= other.processes

    def grown(self) -> MetricsSnapshot:
        """Returns the counters and histograms, which never decrease. They still count when their process is gone."""
        counters = {name: series for name, series in self.values.items() if TABLE[name].kind is MetricKind.COUNTER}
        return MetricsSnapshot(counters, self.rows)

    def samples(self) -> Iterator[MetricSample]:
        """Yields gauges and counters, like Metrics.samples."""
        for name, series in self.values.items():
            for labels, value in series.items():
                yield MetricSample(TABLE[name], value, labels)

    def encode(self) -> bytes:
        """Returns the snapshot as JSON."""
        return json.dumps(
            {
                "values": {name: [[*labels, value] for labels, value in v.items()] for name, v in self.values.items()},
                "rows": {name: [[*labels, row] for labels, row in v.items()] for name, v in self.rows.items()},
                "processes": self.processes,
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """Reads a snapshot. Leaves out metrics that this version does not know. Raises ValueError for any other
        text.
        """
        try:
            told = json.loads(text)
            measured = cls(
                _series(told["values"], _number, histograms=False),
                _series(told["rows"], lambda row: list(map(_number, row)), histograms=True),
                {
                    str(process): {name: _number(value) for name, value in said.items() if name in _PROCESS}
                    for process, said in told["processes"].items()
                },
            )
        except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise ValueError("no measurements") from error
        measured._check()
        return measured

    def _check(self) -> None:
        for tables in (self.values, self.rows):
            for name, series in tables.items():
                if len(series) > _MAX_SERIES or any(len(labels) != len(TABLE[name].labels) for labels in series):
                    raise ValueError(f"no measurements of {name}")
        for name, rows in self.rows.items():
            if any(len(row) != len(TABLE[name].buckets) + 2 for row in rows.values()):
                raise ValueError(f"no measurements of {name}")

    def render(self) -> bytes:
        """Returns the exposition text, with the values of the operating system of each process."""
        from prometheus_client import (
            CollectorRegistry,
            generate_latest,
        )  # late: a node without scrapes saves 1 MB
        from prometheus_client.platform_collector import PlatformCollector
        from prometheus_client.process_collector import ProcessCollector

        registry = CollectorRegistry()
        if not self.processes:
            ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        registry.register(_Families([*_families(self), *_process_families(self.processes)]))
        text: bytes = generate_latest(registry)
        return text


class _Families:
    """The object that prometheus-client calls at a scrape."""

    def __init__(self, found: Iterable[Any]) -> None:
        self._found = found

    def describe(self) -> Iterable[Any]:
        """Returns nothing: names are checked elsewhere."""
        return ()

    def collect(self) -> Iterable[Any]:
        return self._found


def _families(measured: MetricsSnapshot) -> Iterator[Any]:
    """Yields the metrics of the table that have a value, in the form of prometheus-client."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    for name, metric in TABLE.items():
        family: Any
        if metric.kind is MetricKind.HISTOGRAM:
            continue
        family = (CounterMetricFamily if metric.kind is MetricKind.COUNTER else GaugeMetricFamily)(
            name, metric.help, labels=metric.labels
        )
        for labels, value in measured.values.get(name, {}).items():
            family.add_metric(labels, value)
        if not metric.labels and name not in measured.values:
            family.add_metric((), 0)
        yield family
    for name, rows in measured.rows.items():
        metric = TABLE[name]
        family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
        for labels, row in rows.items():
            family.add_metric(labels, metric.cumulative(row), sum_value=row[-1])
        yield family


def _process_families(processes: Mapping[str, Mapping[str, float]]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, (kind, help) in _PROCESS.items() if processes else ():
        make: Any = CounterMetricFamily if kind is MetricKind.COUNTER else GaugeMetricFamily
        family = make(name, help, labels=("process",))
        for process in sorted(processes):
            if name in processes[process]:
                family.add_metric((process,), processes[process][name])
        yield family


def process_values() -> dict[str, float]:
    """Values that the system reports of this process, by the name of the metric."""
    from prometheus_client.process_collector import ProcessCollector

    collector: Any = ProcessCollector(registry=None)
    return {family.name: family.samples[0].value for family in collector.collect() if family.name in _PROCESS}


def _series(told: Any, read: Callable[[Any], T], *, histograms: bool) -> dict[str, dict[Labels, T]]:
    return {
        name: {tuple(map(str, labels)): read(value) for *labels, value in series}
        for name, series in told.items()
        if name in TABLE and (TABLE[name].kind is MetricKind.HISTOGRAM) == histograms
    }


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no number")
    return float(value)
