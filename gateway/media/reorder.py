"""Decode times of pictures whose presentation times alone are known, as Matroska has them."""

from __future__ import annotations

from bisect import insort


class DecodeTimes:
    """Presentation times in decode order go in, decode times come out, each at most its picture's presentation time.

    Of the times of `depth` + 1 pictures, the least is the decode time of the last: sorted, they are when a picture is
    due, so many pictures later. They always grow; where the depth was a lie, a decode time may pass its presentation.
    """

    __slots__ = ("_depth", "_last", "_times")

    def __init__(self, depth: int) -> None:
        """depth: how many pictures may come ahead of one that is shown before them."""
        self._depth = depth
        self._times: list[int] = []
        self._last: int | None = None

    def stamp(self, shown: int) -> int:
        """The decode time of a picture that is shown at `shown`."""
        if not self._times:
            # The first ones have none before them to take times from.
            self._times = list(range(shown - self._depth, shown))
        insort(self._times, shown)
        time = self._times.pop(0)
        if self._last is not None and time <= self._last:
            time = self._last + 1
        self._last = time
        return time
