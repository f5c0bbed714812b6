"""Limits the rate of track changes of a stream, because each change is expensive for every consumer.

Recorders start a file, packagers start a Period, relays send headers, and workers restart. So a stream allows a few
changes at once, and then one change per second. A change that comes too soon is delayed with its media. A publisher
with too many changes is ended.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import Final, TypeAlias

from gateway.live.pushed_tracks import MAX_PUSHED
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, AmfValue, Kind, MediaTrack, TimedData

INTERVAL_SECONDS: Final = 1.0  # between two changes of a stream, after the first MAX_BURST changes
MAX_BURST: Final = 5  # changes at once: tracks may come late, and a publisher may reconnect at once
MAX_CHANGES: Final = 12  # changes of a publisher in WINDOW_SECONDS; changes within one second count as one
WINDOW_SECONDS: Final = 30.0  # an encoder that adapts its picture size changes it a few times a minute
HELD_BYTES: Final = 8_000_000  # of delayed media: more than a second of 4K
HELD_ITEMS: Final = 2_000

Item: TypeAlias = AccessUnit | TimedData


class KeepsChanging(InvalidData):
    """A publisher has changed its tracks too often and is ended. Its peer and the log get the message."""

    def __init__(self) -> None:
        super().__init__(f"The tracks keep changing: more than {MAX_CHANGES} times in {WINDOW_SECONDS:.0f} s.")


@dataclass(slots=True, eq=False)
class IntervalLimiter:
    """Allows `at_once` events at once, and one more every INTERVAL_SECONDS.

    The caller passes the times, always of one clock. If this clock is set back, earlier events are forgotten.
    """

    at_once: int = MAX_BURST
    _burst_ready: float = field(default=-inf, init=False)  # when `at_once` events may happen at once again
    _last: float = field(default=-inf, init=False)

    def due(self, now: float) -> float:
        """Returns the earliest time for the next event. It is not later than `now` if the event may happen now."""
        if now < self._last:
            self._burst_ready = -inf
        return self._burst_ready - (self.at_once - 1) * INTERVAL_SECONDS

    def take(self, now: float) -> bool:
        """Whether the event may happen now. If it may, it is counted."""
        if self.due(now) > now:
            return False
        self._last = now
        self._burst_ready = max(self._burst_ready, now) + INTERVAL_SECONDS
        return True


@dataclass(slots=True, eq=False)
class ChangeLimiters:
    """The limiters of one stream's changes. A later stream of this name uses these limiters again.

    Otherwise, a publisher that connects again could change its tracks more often, and so make more files.
    tracks: for the default tracks. additional: for all additional tracks together. It allows a push and two
    reconnections at once, which each change all of these tracks.
    """

    tracks: IntervalLimiter = field(default_factory=IntervalLimiter)
    additional: IntervalLimiter = field(default_factory=lambda: IntervalLimiter(3 * MAX_PUSHED))


class TrackChangeLimit:
    """Counts the changes of one publisher. `count` raises KeepsChanging for the first change above the limit."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=MAX_CHANGES + 1)

    def count(self, now: float) -> None:
        """Counts a change. now: monotonic seconds."""
        times = self._times
        if times and now - times[-1] < INTERVAL_SECONDS:
            return  # IntervalLimiter limits changes within a second; only continued changes end a publisher
        times.append(now)
        if len(times) > MAX_CHANGES and now - times[0] <= WINDOW_SECONDS:
            raise KeepsChanging


@dataclass(slots=True, eq=False)
class DelayedChange:
    """A change that came too soon, and the items pushed after it.

    Above the limits (HELD_BYTES, HELD_ITEMS), items are dropped until the next key frame.
    continuous: whether the new tracks continue the earlier ones.
    media: whether pushed items are delayed too: true if the tracks change, false if only the metadata change.
    due: the time at which it may be announced, monotonic seconds. `StreamPublisher` sets it.
    """

    video: MediaTrack | None
    audio: MediaTrack | None
    metadata: dict[str, AmfValue]
    continuous: bool
    media: bool = field(kw_only=True)
    due: float = field(default=-inf, init=False)
    dropped: int = field(default=0, init=False)
    _key_due: bool = field(default=False, init=False)
    _items: list[tuple[Item, float]] = field(default_factory=list, init=False)
    _bytes: int = field(default=0, init=False)

    def replace_earlier(self, earlier: DelayedChange) -> None:
        """Replaces an earlier change that was not announced. Items that were pushed for other tracks are dropped."""
        if not earlier.media:
            return
        self.dropped = earlier.dropped
        if (earlier.video, earlier.audio) == (self.video, self.audio) and self.continuous:
            self.continuous, self._key_due = earlier.continuous, earlier._key_due
            self._items, self._bytes = earlier._items, earlier._bytes
        else:
            self.continuous = False
            self.dropped = earlier.lost

    def add(self, item: Item, now: float) -> None:
        """Adds an item that was pushed at `now`."""
        if isinstance(item, AccessUnit):
            starts = item.key and (item.track.kind is Kind.VIDEO or self.video is None)
            if self._key_due and not starts:
                self.dropped += 1
                return
            self._key_due = False
            size = len(item.payload)
        else:
            size = item.value.size
        if self._bytes + size > HELD_BYTES or len(self._items) >= HELD_ITEMS:
            self.dropped += _units(self._items) + 1
            self._items, self._bytes, self._key_due = [], 0, True
            return
        self._bytes += size
        self._items.append((item, now))

    @property
    def lost(self) -> int:
        """The number of units that are lost if the change is never announced."""
        return self.dropped + _units(self._items)

    def take_items(self) -> list[tuple[Item, float]]:
        """Removes and returns the delayed items, each with the time of its push."""
        items, self._items = self._items, []
        return items


def _units(items: list[tuple[Item, float]]) -> int:
    return sum(isinstance(item, AccessUnit) for item, _ in items)
