"""Silence beside pictures that come without sound. Browsers show nothing where one of two tracks has no media."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from gateway.lib.token_bucket import TokenBucket
from gateway.media.silent_frames import SilentFrame
from gateway.media.track import MadeSilence, MediaTrack

_JUMP: Final = 5  # seconds; a longer step of the times is not filled


def silence_limit() -> TokenBucket:
    """Returns how many seconds of silence may be made: a hostile push has times that are much faster than real time."""
    return TokenBucket(2, 30)


class SilentSound:
    """Makes frames of silence for a track that has no others. frame: of the track."""

    def __init__(self, track: MediaTrack, frame: SilentFrame) -> None:
        self._track, self._payload = track, frame.payload
        self._length = frame.seconds * track.timescale  # in ticks of the track
        self._next: Fraction | None = None  # when the next frame begins
        self._limit = silence_limit()

    def until(self, time: int, wall: float, now: float) -> Iterator[MadeSilence]:
        """Yields the frames that begin up to a time, in ticks of the track. wall: of them. now: monotonic seconds."""
        at, scale = self._next, self._track.timescale
        if at is None or not -scale <= time - at <= _JUMP * scale:
            at = Fraction(time)
        count = (time - at) // self._length + 1
        self._next = at + count * self._length
        if count > 0 and self._limit.take(float(count * self._length / scale), now):
            for number in range(count):
                yield MadeSilence(self._track, int(at + number * self._length), 0, True, wall, self._payload)
