"""Decode times for encoders that stamp their pictures with presentation times although they send B-frames.

FLV wants the decode time in each message, and the offset of the presentation time in its body (Annex E.4.3.1). Without
the offsets, players show the pictures in the order in which they are sent.
"""

from __future__ import annotations

from typing import Final

from gateway.media.clock import DecodeTimes
from gateway.media.slice_check import is_bidirectional
from gateway.media.track import AccessUnit

_MOST_BACK: Final = 1_000  # milliseconds by which a B-frame is before the picture that is sent before it
_JUMP: Final = 2_000  # milliseconds; a larger step is another clock
_USUAL_DEPTH: Final = 2  # of B-frames, where the parameter sets do not say it


class PresentationStamps:
    """Computes the decode times of the pictures that follow. All times are milliseconds, and never wrap here.

    depth: how many pictures may be decoded before a picture that is shown before them; 0: unknown.
    last: the time of the picture before.
    """

    def __init__(self, depth: int, last: int) -> None:
        self._times = DecodeTimes(depth or _USUAL_DEPTH)
        self._last = last

    @staticmethod
    def begins(unit: AccessUnit, time: int, before: int) -> bool:
        """Whether a picture is a B-frame whose time is before that of the last picture, without an offset."""
        return not unit.cts and 0 < before - time <= _MOST_BACK and is_bidirectional(unit.track, unit.payload)

    def decode_time(self, unit: AccessUnit, time: int, before: int) -> int | None:
        """Returns the decode time of a picture, and sets its offset. before: the time of the picture before.

        None: the encoder no longer stamps so.
        """
        if unit.cts or abs(time - before) > _JUMP:
            return None
        if time != before:  # else it is a further part of the same picture
            self._last = max(self._times.stamp(time), self._last + 1)
        unit.cts = time - self._last
        return self._last
