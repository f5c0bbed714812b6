"""Evaluates the health of all source streams once a second."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from gateway.diagnosis.stream_health import CODES, StreamHealth
from gateway.lib.metric_table import STREAM_HEALTH, MetricSample, by_label
from gateway.live.hub import Hub
from gateway.live.stream import Stream
from gateway.ports.events import Event, Events, EventType

_STREAMS_PER_TURN: Final = 20  # streams that are evaluated before other tasks run


class HealthMonitor:
    """Gives each new source stream its `health`, and evaluates it in `run`. A call yields samples for the metrics.

    by_webrtc: whether viewers of a stream watch by WebRTC. Only for them, B-frames are a fault.
    """

    def __init__(self, hub: Hub, events: Events, by_webrtc: Callable[[Stream], bool]) -> None:
        self._hub = hub
        self._events = events
        self._by_webrtc = by_webrtc
        self._streams: dict[str, StreamHealth] = {}
        events.listen(self._on_event)

    def _on_event(self, event: Event) -> None:
        if event.type is EventType.STREAM_STARTED:
            stream = self._hub.find(str(event.data["stream"]))
            if stream is not None and stream.is_source:
                clock_offset = time.time() - time.monotonic()
                health = StreamHealth(stream, self._events.emit, clock_offset, self._by_webrtc)
                self._streams[stream.name] = health
                stream.health = health
        elif event.type is EventType.STREAM_ENDED:
            self._streams.pop(str(event.data["stream"]), None)

    async def run(self) -> None:
        """Evaluates each stream once a second, spread over the second, until it is cancelled."""
        while True:
            streams = list(self._streams.values())
            pause = 1 / max(1, -(-len(streams) // _STREAMS_PER_TURN))
            for first in range(0, max(1, len(streams)), _STREAMS_PER_TURN):
                await asyncio.sleep(pause)
                for health in streams[first : first + _STREAMS_PER_TURN]:
                    health.evaluate(time.monotonic(), time.time())

    def __call__(self) -> Iterator[MetricSample]:
        counts: Counter[str] = Counter(dict.fromkeys(CODES, 0))
        for health in self._streams.values():
            counts.update(finding.code for finding in health.findings)
        yield from by_label(STREAM_HEALTH, counts)
