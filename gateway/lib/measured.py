"""Measured: what one process measured at a moment, or several together, and the text that Prometheus reads of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from gateway.lib.metrics import BUILD, TABLE, Histogram, Kind, Labels, Metric, Metrics, Sample

_MOST_SERIES: Final = 20_000  # of one process; beyond it somebody else wrote this
# What prometheus-client tells of a process.
_PROCESS: Final[Mapping[str, tuple[Kind, str]]] = {
    "process_virtual_memory_bytes": (Kind.GAUGE, "Virtual memory size in bytes."),
    "process_resident_memory_bytes": (Kind.GAUGE, "Resident memory size in bytes."),
    "process_start_time_seconds": (Kind.GAUGE, "Start time of the process since unix epoch in seconds."),
    "process_cpu_seconds": (Kind.COUNTER, "Total user and system CPU time spent in seconds."),
    "process_open_fds": (Kind.GAUGE, "Number of open file descriptors."),
    "process_max_fds": (Kind.GAUGE, "Maximum number of open file descriptors."),
}


@dataclass(slots=True)
class Measured:
    """values: gauges and counters; rows: of histograms, as of Histogram.series; both by the metric's name and labels.
    processes: what the system says of each process, by its name; none where there is but the one that answers."""

    values: dict[str, dict[Labels, float]] = field(default_factory=dict)
    rows: dict[str, dict[Labels, list[float]]] = field(default_factory=dict)
    processes: dict[str, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, metrics: Metrics, process: str = "") -> Self:
        """Now. process: the name of this one, where there are several."""
        measured = cls()
        for sample in metrics.samples():
            measured.put(sample.metric, sample.value, sample.labels)
        for metric, histogram in metrics.histograms():
            if not metric.labels:
                histogram.series.setdefault((), [0.0] * (len(metric.buckets) + 2))
            measured.rows[metric.name] = {labels: list(row) for labels, row in histogram.series.items()}
        if process:
            measured.processes[process] = _of_this_process()
        return measured

    def put(self, metric: Metric, value: float, labels: Labels = ()) -> None:
        """Adds to what is there."""
        series = self.values.setdefault(metric.name, {})
        series[labels] = series.get(labels, 0) + value

    def add(self, other: Measured) -> None:
        """What another process measured counts too: sums, but for the version, which is the same."""
        for name, theirs in other.values.items():
            mine = self.values.setdefault(name, {})
            for labels, value in theirs.items():
                mine[labels] = max(mine.get(labels, 0), value) if name == BUILD.name else mine.get(labels, 0) + value
        for name, rows in other.rows.items():
            sums = self.rows.setdefault(name, {})
            for labels, row in rows.items():
                sums[labels] = [a + b for a, b in zip(sums.get(labels, [0.0] * len(row)), row, strict=True)]
        self.processes |= other.processes

    def grown(self) -> Measured:
        """What only ever grows: of a process that is gone this still counts."""
        counters = {name: dict(v) for name, v in self.values.items() if TABLE[name].kind is Kind.COUNTER}
        return Measured(counters, {name: {k: list(row) for k, row in rows.items()} for name, rows in self.rows.items()})

    def samples(self) -> Iterator[Sample]:
        """Gauges and counters, as Metrics.samples."""
        for name, series in self.values.items():
            for labels, value in series.items():
                yield Sample(TABLE[name], value, labels)

    def encode(self) -> bytes:
        """JSON."""
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
        """What another version does not know here is left out. Raises ValueError for what is none."""
        try:
            told = json.loads(text)
            measured = cls(
                {
                    name: {tuple(map(str, labels)): _number(value) for *labels, value in series}
                    for name, series in told["values"].items()
                    if name in TABLE and TABLE[name].kind is not Kind.HISTOGRAM
                },
                {
                    name: {tuple(map(str, labels)): list(map(_number, row)) for *labels, row in series}
                    for name, series in told["rows"].items()
                    if name in TABLE and TABLE[name].kind is Kind.HISTOGRAM
                },
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
                if len(series) > _MOST_SERIES or any(len(labels) != len(TABLE[name].labels) for labels in series):
                    raise ValueError(f"no measurements of {name}")
        for name, rows in self.rows.items():
            if any(len(row) != len(TABLE[name].buckets) + 2 for row in rows.values()):
                raise ValueError(f"no measurements of {name}")

    def render(self) -> bytes:
        """The exposition text of several processes."""
        from prometheus_client import CollectorRegistry, generate_latest  # 1 MB that a node without scrapes saves
        from prometheus_client.platform_collector import PlatformCollector

        registry = CollectorRegistry()
        PlatformCollector(registry=registry)
        registry.register(_Families([*families(self), *_process_families(self.processes)]))
        text: bytes = generate_latest(registry)
        return text


class _Families:
    """What prometheus-client calls at a scrape."""

    def __init__(self, found: Iterable[Any]) -> None:
        self._found = found

    def describe(self) -> Iterable[Any]:
        """Nothing: names are checked elsewhere."""
        return ()

    def collect(self) -> Iterable[Any]:
        return self._found


def families(measured: Measured) -> Iterator[Any]:
    """Of everything in the table that has a value, for prometheus-client."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    for name, metric in TABLE.items():
        family: Any
        if metric.kind is Kind.HISTOGRAM:
            continue
        family = (CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily)(
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
        histogram = Histogram(metric)
        histogram.series.update(rows)
        for labels, row in rows.items():
            family.add_metric(labels, histogram.buckets(labels), sum_value=row[-1])
        yield family


def _process_families(processes: Mapping[str, Mapping[str, float]]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, (kind, help) in _PROCESS.items():
        make: Any = CounterMetricFamily if kind is Kind.COUNTER else GaugeMetricFamily
        family = make(name, help, labels=("process",))
        for process in sorted(processes):
            if name in processes[process]:
                family.add_metric((process,), processes[process][name])
        yield family


def _of_this_process() -> dict[str, float]:
    from prometheus_client.process_collector import ProcessCollector

    collector: Any = ProcessCollector(registry=None)
    return {family.name: family.samples[0].value for family in collector.collect() if family.name in _PROCESS}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no number")
    return float(value)
