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

RETRY_SECONDS: Final = 30.0  # pause after none of the fillers could be played


@dataclass(frozen=True, slots=True)
class NextItem:
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

    def next(self, now: float) -> NextItem | None:
        """Returns the next item; None: the playlist has ended. now: when the previous one has ended."""
        if self._ended:
            self._ended = False  # when the source runs again, it begins again
            return None
        return NextItem(self._items[self._index].key)

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
    """Begins scheduled items (those with a time of day) every day. The others are fillers: they play between, in order.

    An item that still plays when a scheduled item begins is cut. If its time is past, a scheduled item begins where it
    would be now. Without `loop`, each filler plays at most once between two scheduled items.

    zone: name of the time zone; "": UTC.
    """

    def __init__(self, items: Sequence[PlaylistItem], zone: str, *, loop: bool) -> None:
        self._scheduled = [(item.begins, item.key) for item in items if item.begins is not None]
        self._fillers = [item.key for item in items if item.begins is None]
        self._zone = time_zone(zone) if zone else UTC
        self._loop = loop
        self._filler = 0  # index of the next one
        self._played = 0  # fillers since the last scheduled item
        self._failures = 0  # of fillers, in a row
        self._reported_begin = -math.inf  # begin of the scheduled item that was last reported
        self._due_begin = -math.inf  # begin of the scheduled item that was due at the last call of `next`
        self._day: object = None  # for which `_begins` was computed
        self._begins: list[tuple[float, str]] = []  # begin and key, of three days

    def next(self, now: float) -> NextItem:
        """Returns the next item. now: when the previous one has ended."""
        begins = self._begins_around(now)
        index = bisect_right(begins, now, key=lambda entry: entry[0])
        (begin, key), (until, _) = begins[index - 1], begins[index]
        self._due_begin = begin
        if begin != self._reported_begin:
            return NextItem(key, now, until, now - begin)
        count = len(self._fillers)
        if self._played >= count and not (self._loop and count):
            return NextItem(None, until=until)
        if self._failures >= count:
            self._failures = 0
            return NextItem(None, until=min(until, now + RETRY_SECONDS))
        return NextItem(self._fillers[self._filler], until=until)

    def report(self, *, played: bool) -> bool:
        """Notes that the last item has ended, like `ListOrder`."""
        if self._reported_begin != self._due_begin:
            self._reported_begin, self._played, self._failures = self._due_begin, 0, 0
        else:
            self._filler = (self._filler + 1) % len(self._fillers)
            self._played += 1
            self._failures = 0 if played else self._failures + 1
        return True  # another scheduled item comes

    def _begins_around(self, now: float) -> list[tuple[float, str]]:
        """Returns begin and key of all scheduled items, of yesterday, today and tomorrow."""
        today = datetime.fromtimestamp(now, self._zone).date()
        if today != self._day:
            self._day = today
            midnights = [datetime.combine(today + timedelta(days), time(0), self._zone) for days in (-1, 0, 1)]
            # Local time: adding a timedelta ignores offset changes of the zone; timestamp() applies them.
            self._begins = sorted(
                ((midnight + timedelta(seconds=at)).timestamp(), key)
                for midnight in midnights
                for at, key in self._scheduled
            )
        return self._begins
