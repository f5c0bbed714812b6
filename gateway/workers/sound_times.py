"""Relates the sound that a speech engine got to the times of the stream."""

import threading
from collections import deque
from typing import Final

from gateway.workers.speech_protocol import RATE

MAX_PAIRS: Final = 256  # gaps and jumps that are remembered; a word before the oldest one gets its time


class SoundTimes:
    """Remembers at which time of the stream each run of sound without gap began. Any thread may use it."""

    def __init__(self) -> None:
        self._pairs: deque[tuple[int, int]] = deque(maxlen=MAX_PAIRS)  # samples given before; time of the next one
        self._given = 0
        self._lock = threading.Lock()

    @property
    def next(self) -> int | None:
        """The time after the last sample, in samples; None: there was no sound."""
        return self._pairs[-1][1] + self._given - self._pairs[-1][0] if self._pairs else None

    def add(self, start: int, count: int) -> None:
        """Adds sound that the engine gets. start: time of its first sample on the stream, in samples."""
        with self._lock:
            if start != self.next:
                self._pairs.append((self._given, start))
            self._given += count

    def time_of(self, seconds: float, *, is_end: bool = False) -> float:
        """Returns the seconds of the stream for seconds of the engine's sound. Later ones than it got: the last time.

        is_end: whether it is the end of a word: at a gap it belongs to the sound before.
        """
        with self._lock:
            at = min(max(0, round(seconds * RATE)), self._given)
            before = (pair for pair in reversed(self._pairs) if pair[0] < at or (pair[0] == at and not is_end))
            given, start = next(before, self._pairs[0] if self._pairs else (0, 0))
            return max(0, start + at - given) / RATE
