"""The faults that last now, as this process sees them: of its streams by events, of keys, disk and nodes by reports."""

from collections.abc import Callable, Collection
from typing import Final

from gateway.alarms.fault import Fault, FaultKind
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.ports.events import Event, EventType

MAX_FAULTS: Final = 10_000  # beyond that, the oldest is forgotten
_KINDS: Final = {"input_lost": FaultKind.ON_SLATE, "output_failing": FaultKind.OUTPUT_FAILING}
# The kinds that the events of a stream begin and end. All others are reported.
OF_STREAM: Final = (FaultKind.OFF_AIR, FaultKind.HEALTH, *_KINDS.values())
_PRESENCE: Final = (
    *(EventType.STREAM_STARTED, EventType.STREAM_ENDED),
    *(EventType.PUBLISH_STARTED, EventType.PUBLISH_ENDED),
)
# The stream continues elsewhere or was meant to end: nobody must be told.
_NO_FAULT: Final = frozenset(map(str, (EndReason.SHUTDOWN, EndReason.MOVED, EndReason.NO_MEDIA, EndReason.DELETED)))
# All other reasons are a stop that the encoder or a user asked for.
_BREAKS: Final = frozenset(
    map(str, (EndReason.PUBLISHER_GONE, EndReason.KEPT_CHANGING, EndReason.EXPIRED, EndReason.BIT_RATE))
)


class FaultBoard:
    """A listener of events: `events.listen(board.note)`.

    find: returns a live stream. A channel is off air from the moment when its stream has no publisher.
    started: ids of channels whose streams started since the caller cleared it.
    """

    def __init__(self, find: Callable[[str], Stream | None]) -> None:
        self._find = find
        self._faults: dict[str, Fault] = {}
        self.started: set[str] = set()

    @property
    def faults(self) -> Collection[Fault]:
        return self._faults.values()

    def get(self, key: str) -> Fault | None:
        return self._faults.get(key)

    def note(self, event: Event) -> None:
        """Applies an event."""
        if event.type is EventType.STREAM_HEALTH:
            self._note_health(event)
        elif event.type in _PRESENCE:
            self._note_presence(event)
        elif event.type is EventType.CHANNEL_DELETED:
            self.forget(event.channel)

    def forget(self, channel: str) -> None:
        """Removes the faults of a deleted channel."""
        for fault in [fault for fault in self.faults if fault.channel == channel]:
            del self._faults[fault.key]

    def remove(self, fault: Fault) -> None:
        """Removes this fault. A later one with its key stays."""
        if self._faults.get(fault.key) is fault:
            del self._faults[fault.key]

    def report(self, kind: FaultKind, found: Collection[Fault]) -> None:
        """Replaces all faults of a kind. A fault that lasts keeps its beginning."""
        keys = {fault.key for fault in found}
        for old in [fault.key for fault in self.faults if fault.kind is kind and fault.key not in keys]:
            del self._faults[old]
        for fault in found:
            if fault.key not in self._faults:
                self._begin(fault)

    def _note_health(self, event: Event) -> None:
        data, code = event.data, str(event.data["code"])
        kind = _KINDS.get(code, FaultKind.HEALTH)
        # A code may have several faults at a time, with the name of what fails as its value.
        value = data.get("value")
        subject = f"{code} {value}" if isinstance(value, str) else code
        fault = Fault(kind, event.channel, subject[:300], event.time, str(data.get("text", "")))
        if data.get("state") == "begun":
            self._begin(fault)
        else:
            self._faults.pop(fault.key, None)

    def _note_presence(self, event: Event) -> None:
        if event.data.get("stream") != event.channel:
            return  # a rendition
        reason = str(event.data.get("reason", ""))
        stream = self._find(event.channel)
        key = Fault(FaultKind.OFF_AIR, event.channel, "", 0, "").key
        if stream is not None and stream.publisher is not None:
            if stream.original.tracks is not None:
                self._faults.pop(key, None)
                self.started.add(event.channel)
        elif reason == EndReason.DELETED:
            self._faults.pop(key, None)
        elif reason not in _NO_FAULT and key not in self._faults and self._was_on_air(event, stream):
            stopped = reason not in _BREAKS
            text = f"The broadcast was ended ({reason})." if stopped else f"The broadcast broke off ({reason})."
            self._begin(Fault(FaultKind.OFF_AIR, event.channel, "", event.time, text, stopped))

    @staticmethod
    def _was_on_air(event: Event, stream: Stream | None) -> bool:
        """Whether the end of a push or a stream takes a channel off air. Without tracks nobody saw anything."""
        return event.type is EventType.STREAM_ENDED or (stream is not None and stream.original.tracks is not None)

    def _begin(self, fault: Fault) -> None:
        self._faults.pop(fault.key, None)
        if len(self._faults) >= MAX_FAULTS:
            del self._faults[next(iter(self._faults))]
        self._faults[fault.key] = fault
