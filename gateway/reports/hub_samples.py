"""Metrics of the hub, read at each scrape: streams, publishers, viewers, bytes, drops, outputs."""

from collections import Counter
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from gateway.ingest.registry import all_listeners
from gateway.lib import metric_table
from gateway.lib.metric_table import MetricSample, by_label
from gateway.live.hub import Hub
from gateway.live.stream import ActivePublisher, StreamState
from gateway.playback.formats import FEEDS
from gateway.ports.events import Event, Events, EventType


class HubSamples:
    """A source of metrics: `Metrics.read_from(HubSamples(hub, events))`.

    A stream ends, but a counter must never decrease. So the received bytes of ended streams come from their end events.
    For drops, only the increase since the last scrape is added.

    per_stream: also reports bitrate and viewers of each stream.
    """

    def __init__(self, hub: Hub, events: Events, per_stream: bool = False) -> None:
        self._hub = hub
        self._per_stream = per_stream
        self._ended_bytes = 0
        self._reported_drops: Counter[str] = Counter()
        self._last_drops: WeakKeyDictionary[ActivePublisher, dict[str, int]] = WeakKeyDictionary()
        events.listen(self._add_ended)

    def _add_ended(self, event: Event) -> None:
        if event.type is EventType.STREAM_ENDED and event.data.get("stream") == event.channel:
            self._ended_bytes += int(event.data.get("bytes", 0))

    def __call__(self) -> Iterator[MetricSample]:
        states: Counter[str] = Counter({str(StreamState.LIVE): 0, str(StreamState.LINGERING): 0})
        publishers: Counter[str] = Counter({listener.protocol or listener.name: 0 for listener in all_listeners()})
        viewers: Counter[str] = Counter(dict.fromkeys(FEEDS, 0))
        outputs: Counter[tuple[str, str]] = Counter()
        received = self._ended_bytes
        renditions = 0
        for stream in self._hub:
            if not stream.is_source:
                renditions += stream.playable
            else:
                received += stream.received.bytes
                if stream.playable:
                    states[str(stream.state)] += 1
                if stream.publisher is not None:
                    publishers[stream.publisher.on_air.protocol] += 1
                    self._count_drops(stream.publisher)
            viewers.update(stream.viewers)
            if stream.outputs is not None:
                outputs.update(stream.outputs.states())
            if self._per_stream:
                yield MetricSample(metric_table.STREAM_BITRATE, stream.received.bitrate, (stream.name,))
                yield MetricSample(metric_table.STREAM_VIEWERS, sum(stream.viewers.values()), (stream.name,))
        yield MetricSample(metric_table.BYTES_IN, received)
        yield MetricSample(metric_table.RENDITIONS, renditions)
        yield from by_label(metric_table.STREAMS, states)
        yield from by_label(metric_table.PUBLISHERS, publishers)
        yield from by_label(metric_table.VIEWERS, viewers)
        yield from by_label(metric_table.DROPPED, self._reported_drops)
        for labels, count in outputs.items():
            yield MetricSample(metric_table.OUTPUTS, count, labels)

    def _count_drops(self, publisher: ActivePublisher) -> None:
        before = self._last_drops.get(publisher, {})
        self._last_drops[publisher] = now = dict(publisher.on_air.dropped)
        for reason, count in now.items():
            self._reported_drops[reason] += max(0, count - before.get(reason, 0))
