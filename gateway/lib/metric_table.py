"""The table of the metrics: their names, kinds and labels."""

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

    buckets: upper bounds of a histogram, ascending, in the unit of the metric.
    """

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def cumulative(self, row: Sequence[float]) -> list[tuple[str, float]]:
        """Returns the cumulative counts of a histogram by upper bound, as Prometheus expects them.

        row: as in Histogram.series.
        """
        result: list[tuple[str, float]] = []
        total = 0.0
        for bound, count in zip((*self.buckets, math.inf), row[:-1], strict=True):
            total += count
            result.append(("+Inf" if bound == math.inf else repr(float(bound)), total))
        return result


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return Metric(name, MetricKind.GAUGE, help, labels)


def _counter(name: str, help: str, *labels: str) -> Metric:
    return Metric(name, MetricKind.COUNTER, help, labels)


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(name, MetricKind.HISTOGRAM, help, labels, buckets)


_SECONDS: Final = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0)
_DELAY: Final = (0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LAG: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

BUILD: Final = _gauge("millrace_build_info", "Always 1; the label has the version.", "version")
STREAMS: Final = _gauge("millrace_streams", "Pushed streams, by state.", "state")
RENDITIONS: Final = _gauge("millrace_renditions", "Streams that transcoders make from pushed streams.")
PUBLISHERS: Final = _gauge("millrace_publishers", "Connections that push, by protocol.", "protocol")
VIEWERS: Final = _gauge("millrace_viewers", "Viewers by protocol.", "protocol")
BYTES_IN: Final = _counter("millrace_ingest_bytes_total", "Media payload received from publishers.")
BYTES_OUT: Final = _counter("millrace_sent_bytes_total", "Bytes sent to viewers, by protocol.", "protocol")
DROPPED: Final = _counter(
    "millrace_frames_dropped_total",
    "Dropped frames, by reason: viewer (too slow), output (too slow), ingest (unusable), data (too much of it).",
    "reason",
)
BACKLOG: Final = _gauge(
    "millrace_viewer_backlog_bytes",
    "Bytes that wait for viewers of FLV, RTMP, SRT, HTTP, and WebRTC by TCP; limits.viewer_memory.",
)
REFUSED: Final = _counter(
    "millrace_auth_failures_total", "Refusals by action (publish, play, api, login, node) and reason.", "what", "reason"
)
PENDING: Final = _gauge(
    "millrace_pending_connections",
    "Connections of the RTMP and WebSocket listeners that are neither publishers nor players yet.",
)
PENDING_BYTES: Final = _gauge("millrace_pending_bytes", "Bytes that pending connections use, at most 56 MB.")
PENDING_REFUSED: Final = _counter(
    "millrace_pending_refused_total",
    "Pending connections closed by limit: address (512), full or memory (56 MB).",
    "reason",
)
WEBRTC_CONNECTIONS: Final = _gauge(
    "millrace_webrtc_connections",
    "WebRTC connections by state: opening (no finished handshake yet), connected.",
    "state",
)
WEBRTC_TCP: Final = _gauge("millrace_webrtc_tcp_connections", "TCP connections of the WebRTC port.")
WEBRTC_DATAGRAMS: Final = _counter(
    "millrace_webrtc_datagrams_total", "Datagrams of the WebRTC port; out: only media and RTCP.", "direction"
)
WEBRTC_BYTES: Final = _counter("millrace_webrtc_bytes_total", "Bytes of these datagrams.", "direction")
WEBRTC_DROPPED: Final = _counter(
    "millrace_webrtc_dropped_total", "Packets that the WebRTC port dropped, in both directions, by reason.", "reason"
)
WEBRTC_ENDED: Final = _counter("millrace_webrtc_ended_total", "WebRTC connections that ended, by reason.", "reason")
WEBRTC_REFUSED: Final = _counter(
    "millrace_webrtc_refused_total", "WebRTC and TCP connections of its port that a limit of [webrtc] refused."
)
SRT_CONNECTIONS: Final = _gauge(
    "millrace_srt_connections", "Connections of the SRT port by direction: publish, play.", "direction"
)
SRT_PACKETS: Final = _counter(
    "millrace_srt_packets_total",
    "Data packets of these connections: received or sent, lost (did not come the first time), retransmitted, dropped "
    "(too late).",
    "direction",
    "what",
)
SRT_REFUSED: Final = _counter(
    "millrace_srt_refused_total", "Refused connections of the SRT port, by class of the reject code.", "code"
)
SEGMENT_SECONDS: Final = _histogram(
    "millrace_segment_duration_seconds", "Duration of finished segments.", _SECONDS, "format"
)
PART_SECONDS: Final = _histogram("millrace_part_duration_seconds", "Duration of LL-HLS parts.", _SECONDS)
PART_DELAY: Final = _histogram(
    "millrace_ingest_to_part_seconds",
    "From the arrival of a part's last frame until the part could be fetched; 0 while no client waits.",
    _DELAY,
)
OUTPUTS: Final = _gauge("millrace_outputs", "Outputs of live streams by name and state.", "output", "state")
LOOP_LAG: Final = _histogram(
    "millrace_event_loop_lag_seconds", "How late the event loop was, sampled once a second.", _LAG
)
HOOKS: Final = _counter("millrace_webhook_events_total", "Webhook events by result.", "result")
AUTH_HOOK: Final = _counter(
    "millrace_auth_hook_requests_total", "Questions to the auth hook by action and result.", "action", "result"
)
ALARMS: Final = _counter("millrace_alarms_total", "Messages of alarms by result.", "result")
EVENTS: Final = _counter("millrace_events_total", "Events of the events log by result: stored or dropped.", "result")
API_REQUESTS: Final = _counter("millrace_api_requests_total", "Answers of the admin API by class of status.", "status")
WORKER_RESTARTS: Final = _counter(
    "millrace_worker_restarts_total",
    "Media workers that died during their work, by kind of work; each was started again.",
    "worker",
)
RELAY_TARGETS: Final = _gauge(
    "millrace_relay_targets",
    "Targets of relays by state: connecting, live, retrying (unavailable), failed (a change is necessary).",
    "state",
)
RECORDED: Final = _counter("millrace_recordings_total", "Finished recordings, by kind.", "kind")
ARCHIVE_FILES: Final = _gauge(
    "millrace_archive_waiting_files", "Finished files that the object store has not accepted yet."
)
ARCHIVE_BYTES: Final = _gauge(
    "millrace_archive_waiting_bytes", "Bytes of finished files that the object store has not accepted yet."
)
ARCHIVE_DROPPED: Final = _counter(
    "millrace_archive_dropped_files_total",
    "Finished files that were lost because the object store was unavailable until recording.spool_bytes was full.",
)
KVS_FRAGMENTS: Final = _counter(
    "millrace_kvs_fragments_total",
    "Fragments for Kinesis Video Streams: persisted; replayed (sent once more); dropped (never stored); unconfirmed "
    "(sent, and deleted before they were acknowledged).",
    "result",
)
EDGE_REQUESTS: Final = _counter(
    "millrace_edge_requests_total",
    "Requests for files of streams that other nodes hold: hit (answered from memory), miss (fetched from that "
    "node), collapsed (waited for an equal request), stale (an old playlist, because no node answered).",
    "result",
)
EDGE_UPSTREAM: Final = _counter(
    "millrace_edge_upstream_requests_total", "Requests to other nodes for files of streams."
)
EDGE_FAILED: Final = _counter(
    "millrace_edge_upstream_failures_total",
    "Requests to other nodes for files of streams that got no answer, or an incomplete one.",
)
EDGE_BYTES: Final = _counter(
    "millrace_edge_upstream_bytes_total", "Bytes of files of streams received from other nodes."
)
EDGE_CACHE: Final = _gauge("millrace_edge_cache_bytes", "Bytes of files of other nodes that are cached in memory.")
PULLED: Final = _gauge(
    "millrace_pulled_streams", "Streams of other nodes that are pulled here, for FLV and RTMP players."
)
PULLS: Final = _counter("millrace_pulls_total", "Connections opened to other nodes to pull streams.")
LOOKUPS: Final = _counter("millrace_registry_lookups_total", "Streams looked up in the registry.")
REGISTRY_FAILING: Final = _gauge(
    "millrace_registry_failing", "Processes whose last heartbeat the registry did not take; 0 is good."
)
HELD: Final = _gauge("millrace_held_streams", "Streams that this node holds in the registry.")
PROCESSES: Final = _gauge(
    "millrace_processes",
    "Processes that share the ports, by state: those with values in these sums, and silent ones, "
    "of which only earlier counters are included.",
    "state",
)
CERTIFICATE_EXPIRY: Final = _gauge(
    "millrace_certificate_expiry_seconds",
    "Seconds until the certificate of the ports over TLS expires; 0: expired, or there is none yet.",
)
VIEWER_STARTUP: Final = _histogram(
    "millrace_viewer_startup_seconds",
    "From opening a player to its first picture, as players report it.",
    _SECONDS,
    "protocol",
)
VIEWER_LATENCY: Final = _histogram(
    "millrace_viewer_latency_seconds", "From the publisher to the picture, as players report it.", _SECONDS, "protocol"
)
VIEWER_STALLS: Final = _counter(
    "millrace_viewer_stalls_total", "Times that a player had no picture to show, as players report it.", "protocol"
)
VIEWER_STALL_SECONDS: Final = _counter(
    "millrace_viewer_stall_seconds_total",
    "Seconds for which players had no picture to show, as players report it.",
    "protocol",
)
VIEWER_REPORTS: Final = _counter(
    "millrace_viewer_reports_total",
    "Reports of viewers by kind: page (sent by a page), request (CMCD of a player's request), malformed, "
    "limited (more than an address may report).",
    "kind",
)
STREAM_BITRATE: Final = _gauge(
    "millrace_stream_bitrate_bps", "Ingest bitrate of a stream; only if metrics.per_stream is on.", "stream"
)
STREAM_HEALTH: Final = _gauge("millrace_stream_health", "Streams with this fault, by code.", "code")
INPUTS: Final = _gauge("millrace_inputs", "Inputs of the running channels that have several, by state.", "state")
INPUT_SWITCHES: Final = _counter(
    "millrace_input_switches_total", "Switches from one input of a channel to another, by reason.", "reason"
)
STREAM_VIEWERS: Final = _gauge(
    "millrace_stream_viewers", "Viewers of a stream; only if metrics.per_stream is on.", "stream"
)
STREAM_BYTES: Final = _counter(
    "millrace_stream_bytes_total",
    "Bytes of a channel: in (media from its publisher), out (to its viewers); only if metrics.per_stream is on.",
    "stream",
    "direction",
)

TABLE: Final[Mapping[str, Metric]] = {
    metric.name: metric for metric in tuple(globals().values()) if isinstance(metric, Metric)
}

Labels: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MetricSample:
    """A value at a scrape.

    labels: in the order of the table. Samples of several sources with equal labels are added.
    """

    metric: Metric
    value: float
    labels: Labels = ()


def by_label(metric: Metric, counts: Mapping[str, float]) -> Iterator[MetricSample]:
    """Yields the samples of a metric with one label. counts: values by label."""
    for label, value in counts.items():
        yield MetricSample(metric, value, (label,))
