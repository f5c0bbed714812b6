"""Gives media times a date: one fixed relation between a publisher's media time and wall-clock time."""

from __future__ import annotations


class WallClock:
    """Maps media time to wall-clock time: media time `media` arrived at `wall`, both in seconds.

    All tracks use one relation, so that their dates agree. It stays fixed while a publisher is connected: dates that
    followed the jitter of arrivals would contradict the durations between them.
    """

    __slots__ = ("_media", "_wall")

    def __init__(self, media: float, wall: float) -> None:
        self._media = media
        self._wall = wall

    def at(self, media: float) -> float:
        """Returns the wall-clock time of media time `media` (seconds), in seconds since the epoch."""
        return self._wall + (media - self._media)
