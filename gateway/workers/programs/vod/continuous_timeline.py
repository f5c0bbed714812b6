"""Maps the times of a container, which may jump, to a timeline that only grows."""

from __future__ import annotations

from typing import Final

TICKS: Final = 90_000  # per second, for all times of a VOD

_BACK: Final = 1 * TICKS  # a larger step back is a jump; a smaller one is a picture that comes too early
_ALIKE: Final = 2 * TICKS  # jumps of audio and video that differ by less are the same jump


class ContinuousTimeline:
    """The continuous times of one track, in ticks of 90 kHz.

    ahead: a longer step forward than this is a jump and not a pause.
    leader: the timeline of the video, for an audio track. A jump of the audio is handled like that of the video, so
    that both stay in sync.
    """

    def __init__(self, ahead: int, leader: ContinuousTimeline | None = None) -> None:
        self._ahead = ahead
        self._leader = leader
        self._offset = 0
        self._last: int | None = None
        self.end = 0  # end of the last frame
        self.jumps: list[int] = []  # the offset after each jump

    def place(self, time: int, duration: int) -> int | None:
        """Returns the new time of a frame at `time`; None if that place is taken and the frame has to be left out."""
        at = time + self._offset
        if self._last is not None:
            if at < self._last - _BACK or at > self.end + self._ahead:
                at = time + self._jumped(self.end - time)
            if at <= self._last:
                return None
        self._last = at
        self.end = at + max(0, duration)
        return at

    def _jumped(self, offset: int) -> int:
        number = len(self.jumps)
        if self._leader is not None and number < len(self._leader.jumps):
            led = self._leader.jumps[number]
            if abs(led - offset) < _ALIKE:
                offset = led
        self.jumps.append(offset)
        self._offset = offset
        return offset
