"""Orders the units of video and audio by their decode times."""

from __future__ import annotations

from collections import deque
from typing import Final

from gateway.media.track import Kind
from gateway.media.unit import AccessUnit

LEAD_MS: Final = 2_000  # films have their tracks at most this far apart
_MAX_UNITS: Final = 1_000
_MAX_BYTES: Final = 16_000_000


class Interleaver:
    """Merges two tracks, each in decode order, with times in milliseconds.

    A unit waits until the other track has a later one. It waits for at most `lead_ms` of media, 1,000 units or 16 MB.
    """

    def __init__(self, lead_ms: int = LEAD_MS) -> None:
        self._lead_ms = lead_ms
        self._waiting: dict[Kind, deque[AccessUnit]] = {Kind.VIDEO: deque(), Kind.AUDIO: deque()}
        self._bytes = 0
        self.kinds = frozenset((Kind.VIDEO, Kind.AUDIO))

    def push(self, unit: AccessUnit) -> list[AccessUnit]:
        """Adds a unit; returns the units that are in order now."""
        self._waiting[unit.track.kind].append(unit)
        self._bytes += len(unit.payload)
        ready: list[AccessUnit] = []
        while (kind := self._ready_kind()) is not None:
            ready.append(self._pop(kind))
        return ready

    @property
    def waiting(self) -> list[AccessUnit]:
        """The next unit of each track that has one."""
        return [queue[0] for queue in self._waiting.values() if queue]

    def flush(self) -> list[AccessUnit]:
        """Returns the remaining units in order."""
        units = sorted((u for queue in self._waiting.values() for u in queue), key=lambda u: u.dts)
        for queue in self._waiting.values():
            queue.clear()
        self._bytes = 0
        return units

    def _ready_kind(self) -> Kind | None:
        video, audio = self._waiting[Kind.VIDEO], self._waiting[Kind.AUDIO]
        if video and audio:
            return Kind.VIDEO if video[0].dts <= audio[0].dts else Kind.AUDIO
        kind, queue = (Kind.VIDEO, video) if video else (Kind.AUDIO, audio)
        if not queue:
            return None
        alone = len(self.kinds) < 2
        late = queue[-1].dts - queue[0].dts > self._lead_ms or len(queue) > _MAX_UNITS or self._bytes > _MAX_BYTES
        return kind if alone or late else None

    def _pop(self, kind: Kind) -> AccessUnit:
        unit = self._waiting[kind].popleft()
        self._bytes -= len(unit.payload)
        return unit
