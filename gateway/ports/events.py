"""Events of streams, recordings and jobs, for listeners such as webhooks and logs."""

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
    STREAM_HEALTH = "stream.health"


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    time: seconds since the epoch. channel: the id of its channel. data: JSON values, without secrets.
    """

    type: EventType
    time: float
    channel: str
    data: dict[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


class Events:
    """Calls listeners in order on the event loop. A listener must not block or raise; it queues slow work."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
