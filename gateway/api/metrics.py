"""What the hub knows, read when somebody scrapes: streams, publishers, viewers, bytes, drops, outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from gateway.hub.events import Event, Events, EventType
from gateway.hub.hub import Hub
from gateway.hub.publisher import Publisher
from gateway.hub.stream import StreamState
from gateway.lib import metrics
from gateway.lib.metrics import Sample


class HubSamples:
    """A source of metrics: `Metrics.read_from(HubSamples(hub, events))`.

    Streams come and go, counters must only grow: what an ended stream received is kept as a sum (its event says it),
    and of drops what was added since the last scrape. per_stream: also bitrate and viewers of each stream, one series
    each.
    """

    def __init__(self, hub: Hub, events: Events, per_stream: bool = False) -> None:
        self._hub = hub
        self._per_stream = per_stream
        self._ended_bytes = 0
        self._dropped: Counter[str] = Counter()
        self._seen: WeakKeyDictionary[Publisher, dict[str, int]] = WeakKeyDictionary()
        events.listen(self._event)

    def _event(self, event: Event) -> None:
        if event.type is EventType.STREAM_ENDED and event.data.get("stream") == event.channel:
            self._ended_bytes += int(event.data.get("bytes", 0))

    def __call__(self) -> Iterator[Sample]:
        states: Counter[str] = Counter({str(StreamState.LIVE): 0, str(StreamState.LINGERING): 0})
        publishers: Counter[str] = Counter({"rtmp": 0, "ws": 0})
        viewers: Counter[str] = Counter({"flv": 0, "rtmp": 0})
        outputs: Counter[tuple[str, str]] = Counter()
        received = self._ended_bytes
        renditions = 0
        for stream in self._hub:
            if not stream.is_source:
                renditions += stream.playable
            else:
                received += stream.bytes_in
                if stream.playable:
                    states[str(stream.state)] += 1
                if stream.publisher is not None:
                    publishers[stream.publisher.protocol] += 1
                    self._note_drops(stream.publisher)
            viewers.update(stream.viewers)
            if stream.outputs is not None:
                for status in stream.outputs.status():
                    outputs[str(status["name"]), str(status["state"])] += 1
            if self._per_stream:
                yield Sample(metrics.STREAM_BITRATE, stream.bitrate, (stream.name,))
                yield Sample(metrics.STREAM_VIEWERS, sum(stream.viewers.values()), (stream.name,))
        yield Sample(metrics.BYTES_IN, received)
        for state, count in states.items():
            yield Sample(metrics.STREAMS, count, (state,))
        yield Sample(metrics.RENDITIONS, renditions)
        for protocol, count in publishers.items():
            yield Sample(metrics.PUBLISHERS, count, (protocol,))
        for protocol, count in viewers.items():
            yield Sample(metrics.VIEWERS, count, (protocol,))
        for (name, state), count in outputs.items():
            yield Sample(metrics.OUTPUTS, count, (name, state))
        for reason, count in self._dropped.items():
            yield Sample(metrics.DROPPED, count, (reason,))

    def _note_drops(self, publisher: Publisher) -> None:
        before = self._seen.get(publisher, {})
        self._seen[publisher] = now = dict(publisher.dropped)
        for reason, count in now.items():
            self._dropped[reason] += max(0, count - before.get(reason, 0))
