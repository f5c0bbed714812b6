"""The outputs that viewers play from feeds, and what they count."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.lib.metric_table import BACKLOG, BYTES_OUT, DROPPED, MetricSample
from gateway.live.output import OutputSpec
from gateway.packaging.backlog import Backlogs
from gateway.packaging.feed import FeedCounts
from gateway.packaging.feed_outputs import feed_outputs
from gateway.settings import Settings


class ViewerFeeds:
    """FLV and RTMP of all streams of a process, also of those that it pulls from other nodes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._counts = FeedCounts()
        self._backlogs = Backlogs(settings.limits.viewer_memory)

    def specs(self) -> list[OutputSpec]:
        """Returns the specifications of the outputs."""
        flush, stall = self._settings.http.flush_ms / 1000, self._settings.limits.viewer_stall
        return feed_outputs(flush, stall, self._settings.rtmp.chunk_size, self._counts, self._backlogs)

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of the feeds."""
        for kind, sent in self._counts.sent.items():
            yield MetricSample(BYTES_OUT, sent, (kind,))
        yield MetricSample(DROPPED, self._counts.dropped, ("viewer",))
        yield MetricSample(BACKLOG, self._backlogs.bytes)
