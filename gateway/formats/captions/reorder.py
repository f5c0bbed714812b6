"""PictureOrder: brings the data of pictures from decode order into presentation order."""

from heapq import heappop, heappush
from typing import Final

MAX_HELD: Final = 64  # pictures; H.264 and H.265 hold at most 16 for reordering


class PictureOrder:
    """Data of pictures that are decoded and not yet shown. Above 64 of them, the earliest is released."""

    __slots__ = ("_added", "_held")

    def __init__(self) -> None:
        self._held: list[tuple[int, int, bytes]] = []  # a heap: presentation time, number, data
        self._added = 0

    def add(self, data: bytes, shown: int, decoded: int) -> list[tuple[int, bytes]]:
        """Returns the presentation times and data of the pictures that no later one can precede.

        shown, decoded: presentation and decode time of the picture that is added, ticks of 90 kHz. Pictures come in
        decode order. A later one is shown at its decode time or after it.
        """
        held = self._held
        heappush(held, (shown, self._added, data))
        self._added += 1
        released = []
        while held and (held[0][0] <= decoded or len(held) > MAX_HELD):
            shown, _, data = heappop(held)
            released.append((shown, data))
        return released
