"""The metrics of one process or of several together, at one time, and their text for Prometheus."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

from gateway.lib.bounded_json import MAX_NUMBER
from gateway.lib.metric_table import BUILD, CERTIFICATE_EXPIRY, TABLE, Labels, Metric, MetricKind, MetricSample

T = TypeVar("T")

_MAX_SERIES: Final = 20_000  # series of one process; a text with more is not from Millrace
# Metrics of a process from prometheus-client.
_PROCESS: Final[Mapping[str, tuple[MetricKind, str]]] = {
    "process_virtual_memory_bytes": (MetricKind.GAUGE, "Virtual memory size in bytes."),
    "process_resident_memory_bytes": (MetricKind.GAUGE, "Resident memory size in bytes."),
    "process_start_time_seconds": (MetricKind.GAUGE, "Start time of the process since unix epoch in seconds."),
    "process_cpu_seconds": (MetricKind.COUNTER, "Total user and system CPU time spent in seconds."),
    "process_open_fds": (MetricKind.GAUGE, "Number of open file descriptors."),
    "process_max_fds": (MetricKind.GAUGE, "Maximum number of open file descriptors."),
}

_NOT_ADDED = (BUILD.name, CERTIFICATE_EXPIRY.name)  # equal in all processes


@dataclass(slots=True)
class MetricsSnapshot:
    """Metrics at one time.

    values: gauges and counters, by metric name and labels.
    rows: rows of histograms like Histogram.series, by metric name and labels.
    processes: values of the operating system by process name; empty if there is only this process.
    """

    values: dict[str, dict[Labels, float]] = field(default_factory=dict)
    rows: dict[str, dict[Labels, list[float]]] = field(default_factory=dict)
    processes: dict[str, dict[str, float]] = field(default_factory=dict)

    def put(self, metric: Metric, value: float, labels: Labels = ()) -> None:
        """Adds a value to its series."""
        series = self.values.setdefault(metric.name, {})
        series[labels] = series.get(labels, 0) + value

    def add(self, other: MetricsSnapshot) -> None:
        """Adds the metrics of another process. All values are summed, except the version, which is always 1."""
        for name, series in other.values.items():
            totals = self.values.setdefault(name, {})
            for labels, value in series.items():
                total = totals.get(labels, 0)
                totals[labels] = max(total, value) if name in _NOT_ADDED else total + value
        for name, rows in other.rows.items():
            sums = self.rows.setdefault(name, {})
            for labels, row in rows.items():
                sums[labels] = [a + b for a, b in zip(sums.get(labels, [0.0] * len(row)), row, strict=True)]
        self.processes |= other.processes

    def cumulative_metrics(self) -> MetricsSnapshot:
        """Returns the counters and histograms. They never decrease, so they stay valid when their process ends."""
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
        """Reads a snapshot. Omits metrics that this version does not have. Raises ValueError for other text."""
        try:
            fields = json.loads(text)
            snapshot = cls(
                _series(fields["values"], _number, histograms=False),
                _series(fields["rows"], lambda row: list(map(_number, row)), histograms=True),
                {
                    str(process): {name: _number(value) for name, value in values.items() if name in _PROCESS}
                    for process, values in fields["processes"].items()
                },
            )
        except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise ValueError("not a snapshot of metrics") from error
        snapshot._check()
        return snapshot

    def _check(self) -> None:
        for tables in (self.values, self.rows):
            for name, series in tables.items():
                if len(series) > _MAX_SERIES or any(len(labels) != len(TABLE[name].labels) for labels in series):
                    raise ValueError(f"not the values of {name}")
        for name, rows in self.rows.items():
            if any(len(row) != len(TABLE[name].buckets) + 2 or min(row) < 0 for row in rows.values()):
                raise ValueError(f"not the values of {name}")
        for name, series in self.cumulative_metrics().values.items():
            if min(series.values(), default=0) < 0:
                raise ValueError(f"{name} below 0")

    def render(self) -> bytes:
        """Returns the text for Prometheus, including values of the operating system for each process."""
        # Imported late: a node without scrapes saves 1 MB.
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.platform_collector import PlatformCollector
        from prometheus_client.process_collector import ProcessCollector

        registry = CollectorRegistry()
        if not self.processes:
            ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        registry.register(_Families([*_families(self), *_process_families(self.processes)]))
        return generate_latest(registry)


class _Families:
    """The collector that prometheus-client calls at a scrape."""

    def __init__(self, families: Iterable[Any]) -> None:
        self._families = families

    def describe(self) -> Iterable[Any]:
        """Returns nothing, because names are checked elsewhere."""
        return ()

    def collect(self) -> Iterable[Any]:
        return self._families


def _families(snapshot: MetricsSnapshot) -> Iterator[Any]:
    """Yields the metrics of the table as families of prometheus-client."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    for name, metric in TABLE.items():
        if metric.kind is MetricKind.HISTOGRAM:
            continue
        create: Any = CounterMetricFamily if metric.kind is MetricKind.COUNTER else GaugeMetricFamily
        family = create(name, metric.help, labels=metric.labels)
        for labels, value in snapshot.values.get(name, {}).items():
            family.add_metric(labels, value)
        if not metric.labels and name not in snapshot.values:
            family.add_metric((), 0)
        yield family
    for name, rows in snapshot.rows.items():
        metric = TABLE[name]
        family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
        for labels, row in rows.items():
            family.add_metric(labels, metric.cumulative(row), sum_value=row[-1])
        yield family


def _process_families(processes: Mapping[str, Mapping[str, float]]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, (kind, help) in _PROCESS.items() if processes else ():
        create: Any = CounterMetricFamily if kind is MetricKind.COUNTER else GaugeMetricFamily
        family = create(name, help, labels=("process",))
        for process in sorted(processes):
            if name in processes[process]:
                family.add_metric((process,), processes[process][name])
        yield family


def process_values() -> dict[str, float]:
    """Returns the values of the operating system for this process, by metric name."""
    from prometheus_client.process_collector import ProcessCollector

    collector: Any = ProcessCollector(registry=None)
    return {family.name: family.samples[0].value for family in collector.collect() if family.name in _PROCESS}


def _series(fields: Any, read: Callable[[Any], T], *, histograms: bool) -> dict[str, dict[Labels, T]]:
    return {
        name: {tuple(map(str, labels)): read(value) for *labels, value in series}
        for name, series in fields.items()
        if name in TABLE and (TABLE[name].kind is MetricKind.HISTOGRAM) == histograms
    }


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise ValueError("not a number")
    return float(value)
