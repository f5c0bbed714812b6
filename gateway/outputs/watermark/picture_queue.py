"""A bounded queue of a stream's pictures for a worker. It drops whole GOPs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import TypeAlias

from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit

Item: TypeAlias = "Tracks | AccessUnit"


class PictureQueue:
    """A queue of tracks and pictures in decode order, on one loop, for one reading task.

    seconds, max_bytes: limits of the waiting pictures.
    At a limit all waiting pictures are dropped up to the next key frame. `dropped` counts them.
    The pictures of `refill` are not counted, because a worker decodes them much faster than real time.
    """

    def __init__(self, seconds: float, max_bytes: int = 16_000_000) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._refilled: deque[Item] = deque()
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._skipping = False
        self._ended = False
        self._changed = asyncio.Event()
        self.dropped = 0

    def refill(self, items: Iterable[Item]) -> None:
        """Adds items before all others: tracks, and pictures from a key frame on."""
        self._refilled.extend(items)
        self._changed.set()

    def add_tracks(self, tracks: Tracks) -> None:
        self._items.append(tracks)
        self._changed.set()

    def add(self, unit: AccessUnit) -> None:
        """Adds the next picture."""
        if self._skipping and not unit.key:
            self.dropped += 1
            return
        self._skipping = False
        size = len(unit.payload)
        oldest = next((i for i in self._items if isinstance(i, AccessUnit)), unit)
        too_long = (unit.dts - oldest.dts) / unit.track.timescale > self._seconds
        if too_long or self._bytes + size > self._max_bytes:
            self._drop()
            if not unit.key:
                self._skipping = True
                self.dropped += 1
                return
        self._bytes += size
        self._items.append(unit)
        self._changed.set()

    def end(self) -> None:
        """Ends the queue; waiting items are still delivered."""
        self._ended = True
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[Item]:
        while True:
            while self._refilled or self._items:
                if self._refilled:
                    yield self._refilled.popleft()
                    continue
                item = self._items.popleft()
                if isinstance(item, AccessUnit):
                    self._bytes -= len(item.payload)
                yield item
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()

    def _drop(self) -> None:
        self.dropped += sum(isinstance(i, AccessUnit) for i in self._items)
        self._items = deque(i for i in self._items if isinstance(i, Tracks))
        self._bytes = 0
