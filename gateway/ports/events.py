"""Events of streams, channels, recordings and jobs, for listeners such as webhooks and the events log."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gateway.lib.redact import masked


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
    KEY_EXPIRES = "key.expires"
    INPUT_SWITCHED = "input.switched"
    CUE = "cue"
    PUBLISH_STARTED = "publish.started"
    PUBLISH_ENDED = "publish.ended"
    CHANNEL_CREATED = "channel.created"
    CHANNEL_CHANGED = "channel.changed"
    CHANNEL_DELETED = "channel.deleted"
    SETTINGS_CHANGED = "settings.changed"
    WORKER_DIED = "worker.died"
    CERTIFICATE_RENEWED = "certificate.renewed"
    CERTIFICATE_FAILED = "certificate.failed"
    REGISTRY_FAILED = "registry.failed"
    REGISTRY_RECOVERED = "registry.recovered"


# The events that only the events log has. Webhooks get all others.
LOG_ONLY: Final = frozenset(
    (
        *(EventType.PUBLISH_STARTED, EventType.PUBLISH_ENDED, EventType.WORKER_DIED),
        *(EventType.CHANNEL_CREATED, EventType.CHANNEL_CHANGED, EventType.CHANNEL_DELETED),
        EventType.SETTINGS_CHANGED,
    )
)
# Members with names of files, fields, targets or faults. They have no secrets, but `masked` would hide them: they are
# called `key` or `code`, names may look like keys, and `["key", "outdate"]` looks like a header.
_NAMES: Final = {
    EventType.CHANNEL_CHANGED: ("fields",),
    EventType.SETTINGS_CHANGED: ("name", "fields"),
    EventType.STREAM_HEALTH: ("code", "value"),
    EventType.OUTPUT_FAILED: ("target",),
    EventType.OUTPUT_RECOVERED: ("target",),
    EventType.RECORDING_READY: ("key",),
    EventType.JOB_DONE: ("source", "outputs"),
    EventType.JOB_FAILED: ("source",),
    EventType.CUE: ("id",),
}


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    time: seconds since 1970. channel: the id of its channel. data: JSON values, without secrets.
    """

    type: EventType
    time: float
    channel: str
    data: dict[str, Any] = field(default_factory=dict)

    def masked_data(self) -> dict[str, Any]:
        """Returns the data with every text that looks like a secret replaced, except names."""
        names = _NAMES.get(self.type, ())
        return dict(masked("", self.data)) | {name: self.data[name] for name in names if name in self.data}


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of the events log.

    id: unique; later events have greater ids (`gateway.diagnosis.event_log`). node: id of the node where it happened.
    """

    id: str
    type: str
    time: float
    channel: str
    node: str
    data: dict[str, Any]


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
