"""The metrics of this process, and their text for Prometheus.

A scrape reads most gauges and counters from `sources`, so that the hot path does not count twice. `Counter` and
`Histogram` hold the values that no other object has (durations, refusals).
"""

import asyncio
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

import structlog

from gateway.lib import metric_table as table
from gateway.lib.metric_table import Labels, Metric, MetricSample
from gateway.lib.metrics_snapshot import MetricsSnapshot, process_values

log = structlog.get_logger(__name__)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Source: TypeAlias = Callable[[], Iterable[MetricSample]]


class Counter:
    """Counts by labels.

    There are at most `MAX_SERIES` combinations, because clients must not create series. Additional combinations
    are counted as "other".
    """

    MAX_SERIES = 200

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.values: dict[Labels, float] = {}

    def add(self, *labels: str, amount: float = 1) -> None:
        """Adds `amount`. labels: in the order of the table."""
        if len(labels) != len(self.metric.labels):
            raise ValueError(f"{self.metric.name} has the labels {self.metric.labels}, not {labels}")
        if labels not in self.values and len(self.values) >= self.MAX_SERIES:
            labels = ("other",) * len(labels)
        self.values[labels] = self.values.get(labels, 0) + amount


class Histogram:
    """Observations in buckets, by labels. `observe` searches the buckets: call it for each part, not for each frame."""

    __slots__ = ("_bounds", "metric", "series")

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._bounds = metric.buckets
        # labels → [count of each bucket, count above the last bound, sum]
        self.series: dict[Labels, list[float]] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Adds one observation in the unit of the metric. Ignores NaN and infinity."""
        if not math.isfinite(value):
            return
        row = self.series.get(labels)
        if row is None:
            if len(labels) != len(self.metric.labels):
                raise ValueError(f"{self.metric.name} has the labels {self.metric.labels}, not {labels}")
            if len(self.series) >= Counter.MAX_SERIES:
                return
            row = self.series[labels] = [0.0] * (len(self._bounds) + 2)
        row[bisect_left(self._bounds, value)] += 1
        row[-1] += value


class Metrics:
    """All metrics of this process, in one object."""

    def __init__(self, version: str) -> None:
        self.refused = Counter(table.REFUSED)
        self.dropped = Counter(table.DROPPED)
        self.hooks = Counter(table.HOOKS)
        self.auth_hook = Counter(table.AUTH_HOOK)
        self.alarms = Counter(table.ALARMS)
        self.events = Counter(table.EVENTS)
        self.api_requests = Counter(table.API_REQUESTS)
        self.worker_restarts = Counter(table.WORKER_RESTARTS)
        self.segment_seconds = Histogram(table.SEGMENT_SECONDS)
        self.part_seconds = Histogram(table.PART_SECONDS)
        self.part_delay = Histogram(table.PART_DELAY)
        self.loop_lag = Histogram(table.LOOP_LAG)
        self.viewer_startup = Histogram(table.VIEWER_STARTUP)
        self.viewer_latency = Histogram(table.VIEWER_LATENCY)
        self.viewer_stalls = Counter(table.VIEWER_STALLS)
        self.viewer_stall_seconds = Counter(table.VIEWER_STALL_SECONDS)
        self.viewer_reports = Counter(table.VIEWER_REPORTS)
        self._counters = [value for value in vars(self).values() if isinstance(value, Counter)]
        self._histograms = [value for value in vars(self).values() if isinstance(value, Histogram)]
        self.last_lag = 0.0  # seconds by which the loop was late at the last sample
        self.version = version
        self._sources: list[Source] = []

    def read_from(self, source: Source) -> None:
        """Adds a source. It is called at each scrape, must be fast, and may read only data of its event loop."""
        self._sources.append(source)

    async def sample_loop_lag(self, every: float = 1.0) -> None:
        """Measures how late the event loop wakes up, until cancelled. The caller runs it as a task."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(every)
            self.last_lag = max(0.0, time.monotonic() - began - every)
            self.loop_lag.observe(self.last_lag)

    def render(self) -> bytes:
        """Returns the text for Prometheus, including values of the process itself."""
        return self.snapshot().render()

    def samples(self) -> Iterator[MetricSample]:
        """Yields gauges and counters, including the sources."""
        yield MetricSample(table.BUILD, 1, (self.version,))
        for counter in self._counters:
            for labels, value in counter.values.items():
                yield MetricSample(counter.metric, value, labels)
        for source in self._sources:
            try:
                yield from source()
            except Exception as error:
                # A failing source must not fail the whole scrape: only its samples are missing.
                log.error("a source of metrics failed", exc_info=error)

    def snapshot(self, process: str = "") -> MetricsSnapshot:
        """Returns the current values. process: the name of this process if there are several."""
        snapshot = MetricsSnapshot()
        for sample in self.samples():
            snapshot.put(sample.metric, sample.value, sample.labels)
        for histogram in self._histograms:
            metric = histogram.metric
            if not metric.labels:
                histogram.series.setdefault((), [0.0] * (len(metric.buckets) + 2))
            snapshot.rows[metric.name] = {labels: list(row) for labels, row in histogram.series.items()}
        if process:
            snapshot.processes[process] = process_values()
        return snapshot
