"""What happens to streams, told to whoever wants to know (webhooks, logs, metrics)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    STREAM_STARTED = "stream.started"
    STREAM_ENDED = "stream.ended"
    PUBLISH_REFUSED = "publish.refused"
    OUTPUT_FAILED = "output.failed"
    OUTPUT_RECOVERED = "output.recovered"
    RECORDING_READY = "recording.ready"
    JOB_DONE = "job.done"
    JOB_FAILED = "job.failed"


@dataclass(frozen=True, slots=True)
class Event:
    """time: seconds since the epoch; channel: the id it is about; data: JSON-able, free of secrets."""

    type: EventType
    time: float
    channel: str
    data: dict[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


class Events:
    """Listeners, called in order on the loop. A listener must not block or raise; it queues what takes time."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
