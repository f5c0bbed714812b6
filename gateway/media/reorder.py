"""Computes decode times of pictures that have only presentation times, as in Matroska."""

from __future__ import annotations

from bisect import insort


class DecodeTimes:
    """Takes presentation times in decode order and returns decode times, each at most its picture's presentation time.

    It keeps `depth` presentation times that are not used yet. The smallest of those and the new one becomes the next
    decode time. Decode times always grow. If `depth` is too small, a decode time may exceed the presentation time.
    """

    __slots__ = ("_depth", "_last", "_times")

    def __init__(self, depth: int) -> None:
        """depth: how many pictures may be decoded before a picture that is shown before them."""
        self._depth = depth
        self._times: list[int] = []
        self._last: int | None = None

    def stamp(self, shown: int) -> int:
        """Returns the decode time of a picture that is shown at `shown`."""
        if not self._times:
            # The first pictures have no earlier ones to take times from.
            self._times = list(range(shown - self._depth, shown))
        insort(self._times, shown)
        time = self._times.pop(0)
        if self._last is not None and time <= self._last:
            time = self._last + 1
        self._last = time
        return time
