"""The order of a playlist's items: one after the other, or by the time of day. It opens no film."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final

from gateway.channels.inputs import InputSpec
from gateway.channels.playlist_items import PlaylistItem
from gateway.channels.schedule import time_zone

RETRY_SECONDS: Final = 30.0  # pause after none of the items without a time could be played


@dataclass(frozen=True, slots=True)
class ScheduledItem:
    """The next item of a playlist. Times are seconds since 1970.

    key: of the item; None: nothing is played until `until`.
    begin: when it begins; None: when the previous one has ended. until: when it is cut; infinity: it is not cut.
    offset: seconds of the film that are left out at its beginning.
    """

    key: str | None
    begin: float | None = None
    until: float = math.inf
    offset: float = 0.0


def order_of(spec: InputSpec) -> ListOrder | DayOrder:
    """Returns the order of a playlist's items."""
    items = [PlaylistItem.parse(text) for text in spec.items]
    if any(item.begins is not None for item in items):
        return DayOrder(items, spec.zone, loop=spec.loop)
    return ListOrder(items, loop=spec.loop)


class ListOrder:
    """Plays the items one after the other, once or in a loop.

    When the source runs again, the order goes on where it was.
    """

    def __init__(self, items: Sequence[PlaylistItem], *, loop: bool) -> None:
        self._items = items
        self._loop = loop
        self._index = 0
        self._ended = False
        self._failures = 0  # in a row

    def next(self, now: float) -> ScheduledItem | None:
        """Returns the next item; None: the playlist has ended. now: when the previous one has ended."""
        if self._ended:
            self._ended = False  # when the source runs again, it begins again
            return None
        return ScheduledItem(self._items[self._index].key)

    def report(self, *, played: bool) -> bool:
        """Notes that the last item has ended. Returns False if no item at all can be played.

        played: whether it was played. Without a report, `next` returns the item again.
        """
        self._index = (self._index + 1) % len(self._items)
        self._failures = 0 if played else self._failures + 1
        if self._failures >= len(self._items):
            self._failures = 0
            return False
        self._ended = not self._loop and self._index == 0
        return True


class DayOrder:
    """Begins items with a time of day at this time, every day. Items without a time fill the time between, in order.

    An item that still plays at the time of another one is cut. If its time is past, an item begins where it would be
    now. Without `loop`, the items without a time play at most once between two times.

    zone: name of the time zone; "": UTC.
    """

    def __init__(self, items: Sequence[PlaylistItem], zone: str, *, loop: bool) -> None:
        self._timed = [(item.begins, item.key) for item in items if item.begins is not None]
        self._fillers = [item.key for item in items if item.begins is None]
        self._zone = time_zone(zone) if zone else UTC
        self._loop = loop
        self._filler = 0  # index of the next item without a time
        self._played = 0  # items without a time since the last time
        self._failures = 0  # of them, in a row
        self._begin = -math.inf  # when the last reported item with a time began
        self._next_begin = -math.inf  # when the last item with a time began that was due at the last `next`
        self._day: object = None  # for which `_begins` was computed
        self._begins: list[tuple[float, str]] = []  # time and key, of three days

    def next(self, now: float) -> ScheduledItem:
        """Returns the next item. now: when the previous one has ended."""
        begins = self._begins_around(now)
        index = bisect_right(begins, now, key=lambda entry: entry[0])
        (begin, key), (until, _) = begins[index - 1], begins[index]
        self._next_begin = begin
        if begin != self._begin:
            return ScheduledItem(key, now, until, now - begin)
        count = len(self._fillers)
        if self._played >= count and not (self._loop and count):
            return ScheduledItem(None, until=until)
        if self._failures >= count:
            self._failures = 0
            return ScheduledItem(None, until=min(until, now + RETRY_SECONDS))
        return ScheduledItem(self._fillers[self._filler], until=until)

    def report(self, *, played: bool) -> bool:
        """Notes that the last item has ended, like `ListOrder`."""
        if self._begin != self._next_begin:
            self._begin, self._played, self._failures = self._next_begin, 0, 0
        else:
            self._filler = (self._filler + 1) % len(self._fillers)
            self._played += 1
            self._failures = 0 if played else self._failures + 1
        return True  # another time comes

    def _begins_around(self, now: float) -> list[tuple[float, str]]:
        """Returns time and key of all items with a time, of yesterday, today and tomorrow."""
        today = datetime.fromtimestamp(now, self._zone).date()
        if today != self._day:
            self._day = today
            midnights = [datetime.combine(today + timedelta(days), time(0), self._zone) for days in (-1, 0, 1)]
            # Local time: adding a timedelta ignores offset changes of the zone; timestamp() applies them.
            self._begins = sorted(
                ((midnight + timedelta(seconds=at)).timestamp(), key)
                for midnight in midnights
                for at, key in self._timed
            )
        return self._begins
