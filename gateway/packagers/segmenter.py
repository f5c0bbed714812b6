"""Where segments end: at the first key frame after the wanted time, before a bound where no key frame comes."""

from __future__ import annotations

import math

# Until the first playlist fixes a Target Duration, a segment without a key frame is cut here.
FIRST_BOUND = 20.0
# A rounded EXTINF must not exceed the Target Duration: up to half a second more would round down. What is left of it is
# for an audio segment, which ends up to one frame later than the picture's (128 ms of AAC at 8 kHz).
_OVER = 0.35
# Millisecond rounding makes a two-second GOP 1.999 s long.
_ROUNDING = 0.005
# What a Target Duration leaves to segments a little longer than those seen when it was fixed.
_SPARE = 0.1


class Segmenter:
    """Decides for one playlist. Times are ticks of `clock` a second.

    `target` (whole seconds) is None until `fix`, and then never changes (§4.4.3.1 of the HLS draft; a client plans
    with it). `forced_cuts` counts the segments that had to begin without a key frame.
    """

    __slots__ = ("_bound", "_clock", "_forced", "_least", "_wanted", "forced_cuts", "target")

    def __init__(self, clock: int, seconds: float) -> None:
        self._clock = clock
        self._wanted = max(int(seconds * clock), 1)
        self._least = max(int((seconds - _ROUNDING) * clock), 1)
        self._forced = False  # the open segment began without a key frame
        self._bound = int(max(FIRST_BOUND, seconds) * clock)
        self.target: int | None = None
        self.forced_cuts = 0

    def cuts(self, elapsed: int, length: int, key: bool) -> bool:
        """Whether a frame of `length` ticks, which begins `elapsed` ticks after the segment did, begins a new one.

        A segment that had to begin without a key frame ends with the next one already at half the wanted time: so that
        those after it begin with key frames again.
        """
        if key and elapsed >= self._least >> self._forced:
            self._forced = False
            return True
        if elapsed + length > self._bound and elapsed > 0:
            self._forced = not key
            self.forced_cuts += self._forced
            return True
        return False

    def enough(self, elapsed: int) -> bool:
        """Whether a segment of `elapsed` ticks may end, where every frame is a key (audio)."""
        return elapsed >= self._wanted

    def exceeds(self, elapsed: int) -> bool:
        """Whether a segment of `elapsed` ticks would be too long."""
        return elapsed > self._bound

    def fix(self, target: int) -> None:
        """Sets the Target Duration, once."""
        if self.target is None:
            self.target = target
            self._bound = int((target + _OVER) * self._clock)


def target_duration(wanted: float, longest: float) -> int:
    """The Target Duration for segments of at least `wanted` seconds of which the longest so far lasts `longest`."""
    return max(1, math.ceil(wanted - _ROUNDING), math.ceil(longest - _OVER + _SPARE))
