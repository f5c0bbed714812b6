"""Decides where segments end: at the first key frame after the wanted time, or at a limit without a key frame."""

import math
from collections import deque
from collections.abc import Collection

# Seconds after which a segment without a key frame is cut, until the first playlist fixes a Target Duration. It is a
# little longer than ffmpeg's default GOP, 250 frames at 24 frames a second.
FIRST_CUT = 10.5
# The longest expected GOP after a forced cut, in seconds. If no GOP is longer, only the first one is cut.
LONG_GOP = 20.0
# A rounded EXTINF must not exceed the Target Duration. Less than half a second more is rounded down. 0.15 s of this is
# reserved for audio segments, which end up to one frame after the video's (128 ms of AAC at 8 kHz).
_OVER = 0.35
# Millisecond rounding makes a two-second GOP 1.999 s long.
_ROUNDING = 0.005
# Seconds added to a Target Duration, because later segments may be slightly longer than the first ones.
_SPARE = 0.1
# Seconds around a splice: a key frame up to _AFTER_SPLICE after it begins a segment. Times are rounded to milliseconds.
_BEFORE_SPLICE, _AFTER_SPLICE = 0.01, 0.2


class Segmenter:
    """Decides where the segments of one playlist end. Times are in ticks of `clock` a second.

    splices: times of ad breaks, on the clock of `shown` in `take_frame`. A key frame there ends a segment of any
    length. But the first segments, which fix the Target Duration, are not shortened.
    target: Target Duration in whole seconds; None until `fix`. Then it never changes, because clients use it
    (§4.4.3.1 of the HLS draft).
    forced_cuts: number of segments that had to begin without a key frame, because the GOP was too long.
    """

    __slots__ = (
        *("_bound", "_clock", "_gops", "_key", "_least", "_shortest", "_splices", "_wanted"),
        *("forced_cuts", "target"),
    )

    def __init__(self, clock: int, seconds: float, splices: Collection[int] = ()) -> None:
        self._clock = clock
        self._splices = splices
        self._wanted = max(int(seconds * clock), 1)
        self._least = max(int((seconds - _ROUNDING) * clock), 1)
        self._shortest = self._least  # ticks after which the open segment ends at a key frame
        self._bound = int(max(FIRST_CUT, min(2 * seconds, LONG_GOP), seconds) * clock)
        self._key = 0  # ticks from the start of the segment to the latest key frame
        self._gops: deque[int] = deque(maxlen=3)  # ticks of the latest GOPs
        self.target: int | None = None
        self.forced_cuts = 0

    def take_frame(self, elapsed: int, length: int, key: bool, shown: int = 0, full: bool = False) -> bool:
        """Takes the next frame. Returns whether it begins a new segment.

        elapsed: ticks from the start of the segment to the frame.
        length: duration of the frame in ticks.
        key: whether it is a key frame.
        shown: the presentation time of a key frame, on the stream's clock.
        full: whether the segment has too many bytes.

        A segment that had to begin without a key frame may end at a key frame after half the wanted time; if the
        previous one was full, at any key frame. So the next segments begin with key frames again. A segment ends early
        too where the next key frame would come too late: a change of the input shortens a GOP.
        """
        if key and (
            full
            or elapsed >= self._shortest
            or self._is_last_chance(elapsed)
            or (self._splices and self._is_splice(elapsed, shown))
        ):
            self._note_key(elapsed)
            self._shortest = self._least
            self._key = 0
            return True
        if (full or elapsed + length > self._bound) and elapsed > 0:
            self.forced_cuts += not (key or full)
            self._shortest = self._least if key else 1 if full else self._least // 2
            self._key = 0 if key else self._key - elapsed
            return True
        if key:
            self._note_key(elapsed)
        return False

    def _note_key(self, elapsed: int) -> None:
        # `_key` is later than this key frame if a ladder's boundary moved the start: then the GOP's length is unknown.
        if elapsed > self._key:
            self._gops.append(elapsed - self._key)
        self._key = elapsed

    def _is_last_chance(self, elapsed: int) -> bool:
        """Whether the segment would exceed its bound before the next key frame, if GOPs stay as long as lately."""
        gop = max(self._gops, default=0)
        return elapsed > 0 and gop <= self._bound < elapsed + gop

    def _is_splice(self, elapsed: int, shown: int) -> bool:
        """Whether this is the first key frame at a splice, and the segment began before it."""
        before, after = int(_BEFORE_SPLICE * self._clock), int(_AFTER_SPLICE * self._clock)
        at_splice = any(shown - elapsed < time - before <= shown <= time + after for time in self._splices)
        return self.target is not None and at_splice

    def enough(self, elapsed: int) -> bool:
        """Whether a segment of `elapsed` ticks may end, for media with only key frames (audio)."""
        return elapsed >= self._wanted

    def exceeds(self, elapsed: int) -> bool:
        """Whether a segment of `elapsed` ticks would be too long."""
        return elapsed > self._bound

    def fix(self, target: int) -> None:
        """Sets the Target Duration, once."""
        if self.target is None:
            self.target = target
            self._bound = int((target + _OVER) * self._clock)


def target_duration(wanted: float, longest: float, forced: bool = False) -> int:
    """Returns the Target Duration in seconds.

    wanted: minimum seconds of a segment.
    longest: seconds of the longest segment so far.
    forced: whether a segment had to end without a key frame.
    """
    if forced:
        longest = max(longest, LONG_GOP)
    return max(1, math.ceil(wanted - _ROUNDING), math.ceil(longest - _OVER + _SPARE))
