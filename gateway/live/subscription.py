"""A queue with limits between a Fanout and one consumer that waits for disks or networks."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

from gateway.live.fanout import Fanout
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit, Kind, TimedData, Tracks


@dataclass(frozen=True, slots=True)
class End:
    """The stream has ended; no item follows."""

    reason: EndReason


@dataclass(slots=True)
class AdditionalUnit:
    """A unit of another stream with the same times, such as an additional track. name: of this stream's rendition."""

    name: str
    unit: AccessUnit


_TIMED_COST: Final = 200  # bytes of an object in the queue, because timed data may be very short

Item: TypeAlias = "Tracks | AccessUnit | AdditionalUnit | TimedData | End"


class Subscription:
    """Yields Tracks first and after every change, then units and timed data, then End.

    The queue is limited in bytes and in seconds. Above a limit it drops the waiting items, up to the next key frame.
    It drops whole GOPs. The last Tracks and the End are never dropped. `dropped` counts units.
    overflowed: monotonic seconds when it last dropped the waiting items; -inf: never.

    `async with Subscription(stream) as items:` yields what viewers get; with `stream.original`, what was pushed.
    """

    def __init__(self, stream: Fanout, *, max_bytes: int = 16_000_000, max_seconds: float = 10.0) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._first_dts: float | None = None  # seconds, of the last taken or oldest unit; None: no unit waits
        self._skipping = False
        self._has_video = False
        self._decodable: set[str] = set()  # additional tracks whose key frame was queued since units were last dropped
        self._wake: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.dropped = 0
        self.overflowed = -math.inf

    async def __aenter__(self) -> Self:
        self._stream.attach(self)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stream.detach(self)

    async def __aiter__(self) -> AsyncIterator[Item]:
        while True:
            while self._items:
                item = self._items.popleft()
                if isinstance(item, AccessUnit):
                    self._bytes -= len(item.payload)
                    self._first_dts = item.dts / item.track.timescale
                elif isinstance(item, AdditionalUnit):
                    self._bytes -= len(item.unit.payload)
                elif isinstance(item, TimedData):
                    self._bytes -= _TIMED_COST + item.value.size
                yield item
                if isinstance(item, End):
                    return
            if self._error is not None:
                raise self._error
            self._first_dts = None
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake

    @property
    def waiting(self) -> int:
        """The number of items that the consumer has not taken yet."""
        return len(self._items)

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        self._has_video = tracks.video is not None
        if self._items and isinstance(self._items[-1], Tracks):
            self._items[-1] = tracks  # no unit used the earlier tracks
            return
        self._put(tracks)

    def on_unit(self, unit: AccessUnit) -> None:
        starts = unit.key and (unit.track.kind is Kind.VIDEO or not self._has_video)
        if self._skipping:
            if not starts:
                self.dropped += 1
                return
            self._skipping = False
        seconds = unit.dts / unit.track.timescale
        late = self._first_dts is not None and seconds - self._first_dts > self._max_seconds
        if late or self._bytes + len(unit.payload) > self._max_bytes:
            self._drop_waiting()
            if not starts:
                self._skipping = True
                self.dropped += 1
                return
        if self._first_dts is None:
            self._first_dts = seconds
        self._bytes += len(unit.payload)
        self._put(unit)

    def on_additional(self, name: str, unit: AccessUnit) -> None:
        """Queues a unit of an additional track within the same limits. After a drop, it begins again at a key frame."""
        size = len(unit.payload)
        if self._skipping or (not unit.key and name not in self._decodable) or self._bytes + size > self._max_bytes:
            self._decodable.discard(name)
            self.dropped += 1
            return
        self._decodable.add(name)
        self._bytes += size
        self._put(AdditionalUnit(name, unit))

    def on_timed(self, timed: TimedData) -> None:
        cost = _TIMED_COST + timed.value.size
        if not self._skipping and self._bytes + cost <= self._max_bytes:
            self._bytes += cost
            self._put(timed)

    def on_end(self, reason: EndReason) -> None:
        self._put(End(reason))

    def on_failed(self, error: Exception) -> None:
        self._error = error
        self._notify()

    def _drop_waiting(self) -> None:
        tracks = [i for i in self._items if isinstance(i, Tracks)]
        ends = [i for i in self._items if isinstance(i, End)]
        self.dropped += sum(isinstance(i, AccessUnit | AdditionalUnit) for i in self._items)
        self.overflowed = time.monotonic()
        self._decodable.clear()
        self._items = deque([*tracks[-1:], *ends])
        self._bytes = 0
        self._first_dts = None

    def _put(self, item: Item) -> None:
        self._items.append(item)
        self._notify()

    def _notify(self) -> None:
        wake = self._wake
        if wake is not None:
            self._wake = None
            if not wake.done():
                wake.set_result(None)
