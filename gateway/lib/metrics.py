"""Metrics: one table of what is measured, what is counted where it happens, and the text that Prometheus reads.

Gauges and most counters are not kept here: `sources` are asked for them when somebody scrapes, so that the hot path
counts nothing twice. What has no home of its own (durations, refusals) is kept in `Counter` and `Histogram`.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

import structlog

log = structlog.get_logger(__name__)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """A line of the table. buckets: upper bounds of a histogram, in its unit, ascending."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_SECONDS: Final = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0)
_DELAY: Final = (0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LAG: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

BUILD: Final = Metric("millrace_build_info", Kind.GAUGE, "Always 1; the version stands in the label.", ("version",))
STREAMS: Final = Metric("millrace_streams", Kind.GAUGE, "Streams that somebody pushes, by state.", ("state",))
RENDITIONS: Final = Metric("millrace_renditions", Kind.GAUGE, "Streams that transcoders make of those.")
PUBLISHERS: Final = Metric("millrace_publishers", Kind.GAUGE, "Connections that push, by protocol.", ("protocol",))
VIEWERS: Final = Metric("millrace_viewers", Kind.GAUGE, "Viewers by protocol.", ("protocol",))
BYTES_IN: Final = Metric("millrace_ingest_bytes_total", Kind.COUNTER, "Media payload received from publishers.")
BYTES_OUT: Final = Metric(
    "millrace_sent_bytes_total", Kind.COUNTER, "Bytes given to viewers, by protocol.", ("protocol",)
)
DROPPED: Final = Metric(
    "millrace_frames_dropped_total",
    Kind.COUNTER,
    "What did not reach somebody, by reason: viewer (too slow), output (too slow), ingest (unusable).",
    ("reason",),
)
REFUSED: Final = Metric(
    "millrace_auth_failures_total",
    Kind.COUNTER,
    "Refusals by what was refused (publish, play, api, login) and why.",
    ("what", "reason"),
)
SEGMENT_SECONDS: Final = Metric(
    "millrace_segment_duration_seconds", Kind.HISTOGRAM, "Duration of finished segments.", ("format",), _SECONDS
)
PART_SECONDS: Final = Metric(
    "millrace_part_duration_seconds", Kind.HISTOGRAM, "Duration of LL-HLS parts.", (), _SECONDS
)
PART_DELAY: Final = Metric(
    "millrace_ingest_to_part_seconds",
    Kind.HISTOGRAM,
    "From the arrival of a part's last frame until the part could be fetched.",
    (),
    _DELAY,
)
OUTPUTS: Final = Metric(
    "millrace_outputs", Kind.GAUGE, "Outputs of live streams by name and state.", ("output", "state")
)
LOOP_LAG: Final = Metric(
    "millrace_event_loop_lag_seconds", Kind.HISTOGRAM, "How late the event loop was, sampled once a second.", (), _LAG
)
HOOKS: Final = Metric(
    "millrace_webhook_events_total", Kind.COUNTER, "Webhook events by what became of them.", ("result",)
)
API_REQUESTS: Final = Metric(
    "millrace_api_requests_total", Kind.COUNTER, "Answers of the admin API by class of status.", ("status",)
)
WORKER_RESTARTS: Final = Metric(
    "millrace_worker_restarts_total",
    Kind.COUNTER,
    "Media workers that died while they were needed, by what they did; each was started again.",
    ("worker",),
)
RELAY_TARGETS: Final = Metric(
    "millrace_relay_targets",
    Kind.GAUGE,
    "Targets of relays by state: connecting, live, retrying (away), failed (somebody has to change something).",
    ("state",),
)
RECORDED: Final = Metric("millrace_recordings_total", Kind.COUNTER, "Finished recordings, by kind.", ("kind",))
ARCHIVE_FILES: Final = Metric(
    "millrace_archive_waiting_files", Kind.GAUGE, "Finished files that the object store has not taken yet."
)
ARCHIVE_BYTES: Final = Metric("millrace_archive_waiting_bytes", Kind.GAUGE, "The bytes of those.")
ARCHIVE_DROPPED: Final = Metric(
    "millrace_archive_dropped_files_total",
    Kind.COUNTER,
    "Finished files that were lost because the object store was away for longer than recording.spool_bytes lasted.",
)
KVS_FRAGMENTS: Final = Metric(
    "millrace_kvs_fragments_total",
    Kind.COUNTER,
    "Fragments for Kinesis Video Streams: persisted; replayed (sent once more); dropped (never stored); unconfirmed "
    "(sent, and forgotten before they were acknowledged).",
    ("result",),
)
EDGE_REQUESTS: Final = Metric(
    "millrace_edge_requests_total",
    Kind.COUNTER,
    "Requests for files of streams that other nodes hold: hit (answered from memory), miss (their holder was asked), "
    "collapsed (waited for the answer to another's), stale (an old playlist, because no holder answered).",
    ("result",),
)
EDGE_UPSTREAM: Final = Metric(
    "millrace_edge_upstream_requests_total", Kind.COUNTER, "Requests to other nodes for files of streams."
)
EDGE_FAILED: Final = Metric(
    "millrace_edge_upstream_failures_total", Kind.COUNTER, "Those of them that were not answered, or not to the end."
)
EDGE_BYTES: Final = Metric("millrace_edge_upstream_bytes_total", Kind.COUNTER, "Bytes that they brought.")
EDGE_CACHE: Final = Metric("millrace_edge_cache_bytes", Kind.GAUGE, "What is kept of them in memory.")
PULLED: Final = Metric(
    "millrace_pulled_streams", Kind.GAUGE, "Streams of other nodes that are pulled here, for FLV and RTMP players."
)
PULLS: Final = Metric("millrace_pulls_total", Kind.COUNTER, "Connections opened to other nodes to pull streams.")
LOOKUPS: Final = Metric("millrace_registry_lookups_total", Kind.COUNTER, "Streams looked up in the registry.")
HELD: Final = Metric("millrace_held_streams", Kind.GAUGE, "Streams that this node holds in the registry.")
PROCESSES: Final = Metric(
    "millrace_processes",
    Kind.GAUGE,
    "Where several processes share the ports: those whose measurements are summed here, and silent ones, of which only "
    "what they counted before is.",
    ("state",),
)
STREAM_BITRATE: Final = Metric(
    "millrace_stream_bitrate_bps",
    Kind.GAUGE,
    "Ingest bitrate of a stream; only where per-stream metrics are on.",
    ("stream",),
)
STREAM_VIEWERS: Final = Metric(
    "millrace_stream_viewers", Kind.GAUGE, "Viewers of a stream; only where per-stream metrics are on.", ("stream",)
)

TABLE: Final[Mapping[str, Metric]] = {
    m.name: m
    for m in (
        BUILD,
        STREAMS,
        RENDITIONS,
        PUBLISHERS,
        VIEWERS,
        BYTES_IN,
        BYTES_OUT,
        DROPPED,
        REFUSED,
        SEGMENT_SECONDS,
        PART_SECONDS,
        PART_DELAY,
        OUTPUTS,
        LOOP_LAG,
        HOOKS,
        API_REQUESTS,
        WORKER_RESTARTS,
        RELAY_TARGETS,
        RECORDED,
        ARCHIVE_FILES,
        ARCHIVE_BYTES,
        ARCHIVE_DROPPED,
        KVS_FRAGMENTS,
        EDGE_REQUESTS,
        EDGE_UPSTREAM,
        EDGE_FAILED,
        EDGE_BYTES,
        EDGE_CACHE,
        PULLED,
        PULLS,
        LOOKUPS,
        HELD,
        PROCESSES,
        STREAM_BITRATE,
        STREAM_VIEWERS,
    )
}

Labels: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """A value read at scrape time; `labels` in the order of the table. Equal ones of several sources are added up."""

    metric: Metric
    value: float
    labels: Labels = ()


Source: TypeAlias = Callable[[], Iterable[Sample]]


class Counter:
    """Counts by labels. At most `MOST` combinations: peers must not make series; what is beyond counts as "other"."""

    MOST = 200

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self.values: dict[Labels, float] = {}

    def add(self, *labels: str, amount: float = 1) -> None:
        """`labels` in the order of the table."""
        if len(labels) != len(self._metric.labels):
            raise ValueError(f"{self._metric.name} has the labels {self._metric.labels}, not {labels}")
        if labels not in self.values and len(self.values) >= self.MOST:
            labels = ("other",) * len(labels)
        self.values[labels] = self.values.get(labels, 0) + amount


class Histogram:
    """Observations in buckets, by labels. `observe` costs a bisection: fit for once a part, not for once a frame."""

    __slots__ = ("_bounds", "_metric", "series")

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._bounds = metric.buckets
        # labels → [count of each bucket, the one beyond the last bound, sum]
        self.series: dict[Labels, list[float]] = {}

    def observe(self, value: float, *labels: str) -> None:
        """One observation in the metric's unit; a value that is no finite number is ignored."""
        if not math.isfinite(value):
            return
        row = self.series.get(labels)
        if row is None:
            if len(labels) != len(self._metric.labels):
                raise ValueError(f"{self._metric.name} has the labels {self._metric.labels}, not {labels}")
            if len(self.series) >= Counter.MOST:
                return
            row = self.series[labels] = [0.0] * (len(self._bounds) + 2)
        row[bisect_left(self._bounds, value)] += 1
        row[-1] += value

    def buckets(self, labels: Labels) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound, as Prometheus wants them."""
        result: list[tuple[str, float]] = []
        total = 0.0
        for bound, count in zip((*self._bounds, math.inf), self.series[labels][:-1], strict=True):
            total += count
            result.append(("+Inf" if bound == math.inf else repr(float(bound)), total))
        return result


class Metrics:
    """What this process measures. Made once, handed to whoever counts; `render` is what a scrape gets."""

    def __init__(self, version: str) -> None:
        self.refused = Counter(REFUSED)
        self.dropped = Counter(DROPPED)
        self.hooks = Counter(HOOKS)
        self.api_requests = Counter(API_REQUESTS)
        self.worker_restarts = Counter(WORKER_RESTARTS)
        self.segment_seconds = Histogram(SEGMENT_SECONDS)
        self.part_seconds = Histogram(PART_SECONDS)
        self.part_delay = Histogram(PART_DELAY)
        self.loop_lag = Histogram(LOOP_LAG)
        self.last_lag = 0.0  # seconds that the loop was late at the last look
        self._version = version
        self._sources: list[Source] = []
        self._process: Any = None

    def read_from(self, source: Source) -> None:
        """Asks `source` at each scrape; it must be quick and touch only what its loop owns."""
        self._sources.append(source)

    async def sample_loop_lag(self, every: float = 1.0) -> None:
        """Measures how late the loop wakes, until cancelled; its owner runs it as a task."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(every)
            self.last_lag = max(0.0, time.monotonic() - began - every)
            self.loop_lag.observe(self.last_lag)

    def render(self) -> bytes:
        """The exposition text of everything in the table that has a value, and of the process itself."""
        from prometheus_client import CollectorRegistry, generate_latest  # 1 MB that a node without scrapes saves
        from prometheus_client.platform_collector import PlatformCollector
        from prometheus_client.process_collector import ProcessCollector

        if self._process is None:
            self._process = CollectorRegistry()
            ProcessCollector(registry=self._process)
            PlatformCollector(registry=self._process)
            self._process.register(_Collector(self))
        text: bytes = generate_latest(self._process)
        return text

    def samples(self) -> Iterator[Sample]:
        """Gauges and counters, those of the sources included."""
        yield Sample(BUILD, 1, (self._version,))
        for metric, counter in (
            (REFUSED, self.refused),
            (DROPPED, self.dropped),
            (HOOKS, self.hooks),
            (API_REQUESTS, self.api_requests),
            (WORKER_RESTARTS, self.worker_restarts),
        ):
            for labels, value in counter.values.items():
                yield Sample(metric, value, labels)
        for source in self._sources:
            try:
                yield from source()
            except Exception as error:
                # A scrape must not fail as a whole: what is missing from it is what raised.
                log.error("a source of metrics failed", exc_info=error)

    def histograms(self) -> Iterator[tuple[Metric, Histogram]]:
        yield SEGMENT_SECONDS, self.segment_seconds
        yield PART_SECONDS, self.part_seconds
        yield PART_DELAY, self.part_delay
        yield LOOP_LAG, self.loop_lag


class _Collector:
    """What prometheus-client calls at each scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Any]:
        """Nothing: asked at registration, when the sources need not be ready yet."""
        return ()

    def collect(self) -> Iterator[Any]:
        from gateway.lib.measured import Measured, families

        return families(Measured.of(self._metrics))
