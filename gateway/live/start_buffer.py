"""A buffer with the first seconds of a stream, for viewers that waited for the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from gateway.live.sink import EndReason, Item
from gateway.media.track import AccessUnit, Kind, TimedData, Tracks

MAX_BYTES: Final = 64_000_000  # bytes in the buffers of all streams of one hub
_ITEM_BYTES: Final = 256  # cost of an item besides its payload, because a publisher may send many tiny items
_TRACKS_BYTES: Final = 65_536  # the largest metadata (`live.flv_intake`)


class StartBufferBudget:
    """The limit in bytes for the start buffers of all streams. Each `StartBuffer` takes its bytes."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0


class StartBuffer:
    """A Sink that stores all items from a stream's first unit.

    A publisher may send its first seconds within one turn of the event loop (a burst, or ffmpeg without `-re`).
    Viewers that waited join in a later turn, and other nodes find the stream even later.
    At that time the GOP cache contains only the last GOP.
    It also keeps the changes of tracks, in order. The buffer is dropped after its time and above its limit.

    drop: called when it is dropped. seconds: lifetime of the buffer. max_bytes: limit for this stream.
    """

    def __init__(
        self, drop: Callable[[StartBuffer], None], seconds: float, max_bytes: int, budget: StartBufferBudget
    ) -> None:
        self.items: list[Item] = []
        self.lacks_key_frame = False  # the key frame of the last pictures did not come
        self._on_drop = drop
        self._max_bytes = max_bytes
        self._budget = budget
        self._bytes = 0
        self._has_key = False  # a key frame is in the buffer, or the stream has no video
        self._timer = asyncio.get_running_loop().call_later(seconds, self.drop)

    def __iter__(self) -> Iterator[Item]:
        """Yields tracks first, then units in order. They begin with a decodable picture and the audio before it."""
        return iter(list(self.items))

    def drop(self) -> None:
        """Drops the buffer. New viewers then get the GOP cache. It may be called more than once."""
        self._timer.cancel()
        self._on_drop(self)
        self._budget.bytes -= self._bytes
        self._bytes = 0
        self.items = []

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        if tracks.video is None:
            self._has_key, self.lacks_key_frame = True, False
        self._add(tracks, _TRACKS_BYTES if self.items else 0)

    def on_unit(self, unit: AccessUnit) -> None:
        if not self._has_key and unit.track.kind is Kind.VIDEO:
            self._has_key = unit.key
            if not unit.key or self.lacks_key_frame:
                # Units before the key frame are useless without the missing pictures.
                self._drop_units()
                self.lacks_key_frame = not unit.key
            if not unit.key:
                return
        elif self.lacks_key_frame:
            return
        self._add(unit, len(unit.payload) + _ITEM_BYTES)

    def on_timed(self, timed: TimedData) -> None:
        if not self.lacks_key_frame:
            self._add(timed, timed.value.size + _ITEM_BYTES)

    def on_end(self, reason: EndReason) -> None:
        self.drop()

    def on_failed(self, error: Exception) -> None:
        self.drop()
        asyncio.get_running_loop().call_exception_handler({"message": "a start buffer failed", "exception": error})

    def _add(self, item: Item, size: int) -> None:
        self._bytes += size
        self._budget.bytes += size
        if self._bytes > self._max_bytes or self._budget.bytes > self._budget.max_bytes:
            self.drop()
        else:
            self.items.append(item)

    def _drop_units(self) -> None:
        self.items[:] = [item for item in self.items if isinstance(item, Tracks)][-1:]
        self._budget.bytes -= self._bytes
        self._bytes = 0
