"""The sound of a stream that its speech engine has not taken yet."""

import asyncio
from collections import deque
from typing import Final

from gateway.lib.metrics import Counter
from gateway.live.sink import EndReason, PartialSink
from gateway.media.track import AccessUnit, Kind, Tracks

MAX_MS: Final = 10_000  # of sound that waits
_WINDOW: Final = 50  # units at the worker that the engine has not taken; about a second
_LONGEST_UNIT: Final = 1_000  # ms; more is a gap of the source
_AUDIO: Final = Kind.AUDIO


class SoundQueue(PartialSink):
    """A sink of a stream. `changed` is set when there may be a next item, and at the end.

    Above MAX_MS, the older half of the sound is skipped, and counted in `skipped` and in `dropped`.
    """

    def __init__(self, dropped: Counter) -> None:
        self.changed = asyncio.Event()
        self.ended = False
        self.error: Exception | None = None  # of this sink
        self.skipped = 0  # units
        self.waiting_ms = 0  # of sound that the engine has not taken
        self._dropped = dropped
        self._items: deque[tuple[Tracks | AccessUnit, int]] = deque()  # with the ms of a unit
        self._sent: deque[int] = deque()  # the ms of each unit at the worker
        self._taken = 0  # units that the engine has taken
        self._last_ms: int | None = None

    def take(self) -> Tracks | AccessUnit | None:
        """Returns the next item for the worker; None if there is none, or if the engine must take others first."""
        if not self._items or len(self._sent) >= _WINDOW:
            return None
        item, ms = self._items.popleft()
        if isinstance(item, AccessUnit):
            self._sent.append(ms)
        return item

    def set_taken(self, units: int) -> None:
        """Notes how many units the engine has taken since the start of the worker."""
        while self._taken < units and self._sent:
            self.waiting_ms -= self._sent.popleft()
            self._taken += 1
        self.changed.set()

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        self._put(Tracks(None, tracks.audio, tracks.epoch), 0)

    def on_unit(self, unit: AccessUnit) -> None:
        if unit.track.kind is not _AUDIO:
            return
        at = unit.dts * 1000 // unit.track.timescale
        ms = 0 if self._last_ms is None else max(0, min(_LONGEST_UNIT, at - self._last_ms))
        self._last_ms = at
        self.waiting_ms += ms
        if self.waiting_ms > MAX_MS:
            self._skip()
        self._put(unit, ms)

    def on_end(self, reason: EndReason) -> None:
        self.ended = True
        self.changed.set()

    def on_failed(self, error: Exception) -> None:
        self.error = error
        self.on_end(EndReason.OUTPUT_OFF)

    def _put(self, item: Tracks | AccessUnit, ms: int) -> None:
        self._items.append((item, ms))
        self.changed.set()

    def _skip(self) -> None:
        """Removes the older half of the units, and all tracks but the last ones before the remaining units."""
        items = list(self._items)
        older = items[: len(items) // 2 + 1]
        tracks = [entry for entry in older if isinstance(entry[0], Tracks)][-1:]
        units = [ms for item, ms in older if isinstance(item, AccessUnit)]
        self.waiting_ms -= sum(units)
        self.skipped += len(units)
        self._dropped.add("output", amount=len(units))
        self._items = deque([*tracks, *items[len(older) :]])
