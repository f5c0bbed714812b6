"""When media was captured: one fixed relation between a publisher's time and the clock on the wall."""

from __future__ import annotations


class WallClock:
    """Media time `media` arrived at `wall`, both in seconds: the same for all tracks, so that their dates agree.

    Fixed for as long as a publisher stays: dates that followed the jitter of arrivals would contradict the durations
    between them.
    """

    __slots__ = ("_media", "_wall")

    def __init__(self, media: float, wall: float) -> None:
        self._media = media
        self._wall = wall

    def at(self, media: float) -> float:
        """Seconds since the epoch for media time `media`."""
        return self._wall + (media - self._media)
