"""The settings, counters and limits that the packagers of one process share."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.lib import metric_table
from gateway.lib.metric_table import MetricSample
from gateway.lib.metrics import Metrics
from gateway.lib.viewer_memory import ViewerMemory
from gateway.live.stream import Stream
from gateway.packaging.feed import Feed, FeedCounts, Rendering
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class PackagingServices:
    """The settings, counters and limits that the packagers of one process share.

    backlogs: counts and limits the bytes that wait for viewers of feeds.
    feeds: counts the bytes that these viewers received.
    metrics: counts segments; None: segments are not counted.
    """

    settings: Settings
    backlogs: ViewerMemory
    feeds: FeedCounts = field(default_factory=FeedCounts)
    metrics: Metrics | None = None

    def make_feed(self, stream: Stream, rendering: Rendering) -> Feed:
        """Returns a feed with the counters and the memory limit of the process."""
        flush_seconds, stall_seconds = self.settings.http.flush_ms / 1000, self.settings.limits.viewer_stall
        return Feed(stream, rendering, flush_seconds, stall_seconds, self.feeds, self.backlogs)

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of the feeds."""
        for kind, sent in self.feeds.sent.items():
            yield MetricSample(metric_table.BYTES_OUT, sent, (kind,))
        yield MetricSample(metric_table.DROPPED, self.feeds.dropped, ("viewer",))
        yield MetricSample(metric_table.BACKLOG, self.backlogs.bytes)
