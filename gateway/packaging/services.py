"""The parts that the packagers of one process share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.lib import metric_table
from gateway.lib.metric_table import MetricSample
from gateway.lib.metrics import Metrics
from gateway.packaging.backlog import Backlogs
from gateway.packaging.feed import FeedCounts
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class PackagingServices:
    """feeds, backlogs: count what viewers of feeds got and what waits for them. metrics: counts segments; None: nothing
    does.
    """

    settings: Settings
    backlogs: Backlogs
    feeds: FeedCounts = field(default_factory=FeedCounts)
    metrics: Metrics | None = None

    @property
    def flush(self) -> float:
        """Seconds for which a feed batches frames at most."""
        return self.settings.http.flush_ms / 1000

    @property
    def stall(self) -> float:
        """Seconds after which a viewer that takes nothing is cut; 0: never."""
        return self.settings.limits.viewer_stall

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of the feeds."""
        for kind, sent in self.feeds.sent.items():
            yield MetricSample(metric_table.BYTES_OUT, sent, (kind,))
        yield MetricSample(metric_table.DROPPED, self.feeds.dropped, ("viewer",))
        yield MetricSample(metric_table.BACKLOG, self.backlogs.bytes)
