"""Puts re-encoded pictures, which come back late, at the positions of their originals among the sound."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, TypeAlias

from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit, Timed

Passing: TypeAlias = "AccessUnit | Timed | Tracks"

_VIDEO: Final = Kind.VIDEO
_ROUNDING: Final = 2  # milliseconds by which a worker's decode times may be before the original's


class Interleave:
    """Takes the original's items in their order; pictures are replaced, all other items come out unchanged.

    A replaced picture has about its original's decode time; `replace` returns it with all items before that.
    Originals that got no replacement (dropped, undecodable) are left out as soon as a later one is replaced.
    The time between its first and its last picture or sound is bounded, in ms.
    Beyond the bound the older half is left out and counted in `dropped`; Tracks are always kept.
    """

    def __init__(self, most_ms: int) -> None:
        self._most_ms = most_ms
        self._items: deque[Passing | int] = deque()  # an int is a picture's decode time in milliseconds
        self._newest = 0
        self.dropped = 0

    def add(self, item: Passing) -> None:
        """Takes the next item of the original."""
        if isinstance(item, Tracks):
            self._items.append(item)
            return
        if isinstance(item, Timed):
            self._items.append(item)
        elif item.track.kind is _VIDEO:
            self._newest = milliseconds(item)
            self._items.append(self._newest)
        else:
            self._newest = max(self._newest, milliseconds(item))
            self._items.append(item)
        self._trim()

    def replace(self, picture: AccessUnit) -> Iterator[Passing]:
        """Yields the items before this picture's original, the picture, and the items that follow it."""
        at = milliseconds(picture) + _ROUNDING
        items = self._items
        count = next((n for n, i in enumerate(items) if isinstance(i, int) and i > at), len(items))
        # Items after the original must follow the picture.
        last = next((n for n in range(count - 1, -1, -1) if isinstance(items[n], int)), -1)
        for _ in range(last + 1):
            item = items.popleft()
            if not isinstance(item, int):
                yield item
        yield picture
        yield from self._until_picture()

    def rest(self) -> Iterator[Passing]:
        """Yields everything but the pictures, at the end."""
        while self._items:
            item = self._items.popleft()
            if not isinstance(item, int):
                yield item

    def _until_picture(self) -> Iterator[Passing]:
        while self._items and not isinstance(self._items[0], int | Tracks):
            item = self._items.popleft()
            assert not isinstance(item, int), "asked above"
            yield item

    def _trim(self) -> None:
        oldest = next((t for i in self._items if (t := _time(i)) is not None), self._newest)
        if self._newest - oldest <= self._most_ms:
            return
        # Half of it at once, so that this does not run again for every item that follows.
        since = self._newest - self._most_ms // 2
        kept = [i for i in self._items if (t := _time(i)) is None or t >= since]
        self.dropped += len(self._items) - len(kept)
        self._items = deque(kept)


def milliseconds(unit: AccessUnit) -> int:
    """Returns a unit's decode time in milliseconds."""
    return unit.dts * 1000 // unit.track.timescale


def _time(item: Passing | int) -> int | None:
    if isinstance(item, int):
        return item
    if isinstance(item, AccessUnit):
        return milliseconds(item)
    return item.dts if isinstance(item, Timed) else None
