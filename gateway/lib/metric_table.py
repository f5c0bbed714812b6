"""The table of what is measured: names, kinds and labels of the metrics, and a value of one of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias


class MetricKind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table.

    buckets: upper bounds of a histogram, in the unit of the metric, ascending.
    """

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def cumulative(self, row: Sequence[float]) -> list[tuple[str, float]]:
        """Counts of a histogram's row by upper bound, each with those below it, as Prometheus wants them."""
        result: list[tuple[str, float]] = []
        total = 0.0
        for bound, count in zip((*self.buckets, math.inf), row[:-1], strict=True):
            total += count
            result.append(("+Inf" if bound == math.inf else repr(float(bound)), total))
        return result


_SECONDS: Final = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0)
_DELAY: Final = (0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LAG: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

BUILD: Final = Metric(
    "millrace_build_info", MetricKind.GAUGE, "Always 1; the version stands in the label.", ("version",)
)
STREAMS: Final = Metric("millrace_streams", MetricKind.GAUGE, "Streams that somebody pushes, by state.", ("state",))
RENDITIONS: Final = Metric(
    "millrace_renditions", MetricKind.GAUGE, "Streams that transcoders make from pushed streams."
)
PUBLISHERS: Final = Metric(
    "millrace_publishers", MetricKind.GAUGE, "Connections that push, by protocol.", ("protocol",)
)
VIEWERS: Final = Metric("millrace_viewers", MetricKind.GAUGE, "Viewers by protocol.", ("protocol",))
BYTES_IN: Final = Metric("millrace_ingest_bytes_total", MetricKind.COUNTER, "Media payload received from publishers.")
BYTES_OUT: Final = Metric(
    "millrace_sent_bytes_total", MetricKind.COUNTER, "Bytes given to viewers, by protocol.", ("protocol",)
)
DROPPED: Final = Metric(
    "millrace_frames_dropped_total",
    MetricKind.COUNTER,
    "What did not reach somebody, by reason: viewer (too slow), output (too slow), ingest (unusable).",
    ("reason",),
)
BACKLOG: Final = Metric(
    "millrace_viewer_backlog_bytes",
    MetricKind.GAUGE,
    "Bytes that wait for viewers of FLV and RTMP; limits.viewer_memory.",
)
REFUSED: Final = Metric(
    "millrace_auth_failures_total",
    MetricKind.COUNTER,
    "Refusals by what was refused (publish, play, api, login, node) and why.",
    ("what", "reason"),
)
PENDING: Final = Metric(
    "millrace_pending_connections",
    MetricKind.GAUGE,
    "Connections of the RTMP and WebSocket listeners that are neither publishers nor players yet.",
)
PENDING_BYTES: Final = Metric(
    "millrace_pending_bytes", MetricKind.GAUGE, "Bytes that pending connections use; limits.pending_bytes."
)
PENDING_REFUSED: Final = Metric(
    "millrace_pending_refused_total",
    MetricKind.COUNTER,
    "Pending connections closed by limit: address (limits.pending_per_address), full or memory (limits.pending_bytes).",
    ("reason",),
)
SEGMENT_SECONDS: Final = Metric(
    "millrace_segment_duration_seconds", MetricKind.HISTOGRAM, "Duration of finished segments.", ("format",), _SECONDS
)
PART_SECONDS: Final = Metric(
    "millrace_part_duration_seconds", MetricKind.HISTOGRAM, "Duration of LL-HLS parts.", (), _SECONDS
)
PART_DELAY: Final = Metric(
    "millrace_ingest_to_part_seconds",
    MetricKind.HISTOGRAM,
    "From the arrival of a part's last frame until the part could be fetched.",
    (),
    _DELAY,
)
OUTPUTS: Final = Metric(
    "millrace_outputs", MetricKind.GAUGE, "Outputs of live streams by name and state.", ("output", "state")
)
LOOP_LAG: Final = Metric(
    "millrace_event_loop_lag_seconds",
    MetricKind.HISTOGRAM,
    "How late the event loop was, sampled once a second.",
    (),
    _LAG,
)
HOOKS: Final = Metric(
    "millrace_webhook_events_total", MetricKind.COUNTER, "Webhook events by what became of them.", ("result",)
)
API_REQUESTS: Final = Metric(
    "millrace_api_requests_total", MetricKind.COUNTER, "Answers of the admin API by class of status.", ("status",)
)
WORKER_RESTARTS: Final = Metric(
    "millrace_worker_restarts_total",
    MetricKind.COUNTER,
    "Media workers that died while they were needed, by what they did; each was started again.",
    ("worker",),
)
RELAY_TARGETS: Final = Metric(
    "millrace_relay_targets",
    MetricKind.GAUGE,
    "Targets of relays by state: connecting, live, retrying (away), failed (somebody has to change something).",
    ("state",),
)
RECORDED: Final = Metric("millrace_recordings_total", MetricKind.COUNTER, "Finished recordings, by kind.", ("kind",))
ARCHIVE_FILES: Final = Metric(
    "millrace_archive_waiting_files", MetricKind.GAUGE, "Finished files that the object store has not taken yet."
)
ARCHIVE_BYTES: Final = Metric(
    "millrace_archive_waiting_bytes",
    MetricKind.GAUGE,
    "Bytes of finished files that the object store has not taken yet.",
)
ARCHIVE_DROPPED: Final = Metric(
    "millrace_archive_dropped_files_total",
    MetricKind.COUNTER,
    "Finished files that were lost because the object store was away for longer than recording.spool_bytes lasted.",
)
KVS_FRAGMENTS: Final = Metric(
    "millrace_kvs_fragments_total",
    MetricKind.COUNTER,
    "Fragments for Kinesis Video Streams: persisted; replayed (sent once more); dropped (never stored); unconfirmed "
    "(sent, and forgotten before they were acknowledged).",
    ("result",),
)
EDGE_REQUESTS: Final = Metric(
    "millrace_edge_requests_total",
    MetricKind.COUNTER,
    "Requests for files of streams that other nodes hold: hit (answered from memory), miss (their holder was asked), "
    "collapsed (waited for the answer to another's), stale (an old playlist, because no holder answered).",
    ("result",),
)
EDGE_UPSTREAM: Final = Metric(
    "millrace_edge_upstream_requests_total", MetricKind.COUNTER, "Requests to other nodes for files of streams."
)
EDGE_FAILED: Final = Metric(
    "millrace_edge_upstream_failures_total",
    MetricKind.COUNTER,
    "Requests to other nodes for files of streams that got no answer, or an incomplete one.",
)
EDGE_BYTES: Final = Metric(
    "millrace_edge_upstream_bytes_total", MetricKind.COUNTER, "Bytes of files of streams received from other nodes."
)
EDGE_CACHE: Final = Metric(
    "millrace_edge_cache_bytes", MetricKind.GAUGE, "Bytes of files of other nodes kept in memory."
)
PULLED: Final = Metric(
    "millrace_pulled_streams",
    MetricKind.GAUGE,
    "Streams of other nodes that are pulled here, for FLV and RTMP players.",
)
PULLS: Final = Metric("millrace_pulls_total", MetricKind.COUNTER, "Connections opened to other nodes to pull streams.")
LOOKUPS: Final = Metric("millrace_registry_lookups_total", MetricKind.COUNTER, "Streams looked up in the registry.")
HELD: Final = Metric("millrace_held_streams", MetricKind.GAUGE, "Streams that this node holds in the registry.")
PROCESSES: Final = Metric(
    "millrace_processes",
    MetricKind.GAUGE,
    "Processes that share the ports, by state: those whose values are summed here, and silent ones, "
    "whose earlier counters alone are included.",
    ("state",),
)
STREAM_BITRATE: Final = Metric(
    "millrace_stream_bitrate_bps",
    MetricKind.GAUGE,
    "Ingest bitrate of a stream; only where per-stream metrics are on.",
    ("stream",),
)
STREAM_VIEWERS: Final = Metric(
    "millrace_stream_viewers",
    MetricKind.GAUGE,
    "Viewers of a stream; only where per-stream metrics are on.",
    ("stream",),
)

TABLE: Final[Mapping[str, Metric]] = {one.name: one for one in tuple(globals().values()) if isinstance(one, Metric)}

Labels: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MetricSample:
    """A value read at scrape time. `labels` has the order of the table. Equal samples of several sources are added."""

    metric: Metric
    value: float
    labels: Labels = ()


def by_label(metric: Metric, counts: Mapping[str, float]) -> Iterator[MetricSample]:
    """Yields the samples of a metric that has one label. counts: values by this label."""
    for label, value in counts.items():
        yield MetricSample(metric, value, (label,))
