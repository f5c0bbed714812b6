"""Maps the times of a container, which may jump, to a timeline that only increases."""

from __future__ import annotations

from typing import Final

from gateway.media.clock import VIDEO_CLOCK

_MAX_BACKWARD: Final = 1 * VIDEO_CLOCK  # a larger step back is a jump; a smaller one is a picture in the wrong order
_SAME_JUMP: Final = 2 * VIDEO_CLOCK  # if jumps of audio and video differ by less, they are one jump of the file


class ContinuousTimeline:
    """The continuous times of one track, in ticks of 90 kHz.

    max_gap: the longest gap between frames; a longer one is a jump of the timestamps.
    leader: the timeline of the video, for an audio track. A jump of the audio is handled like that of the video, so
    that both stay in sync.
    """

    def __init__(self, max_gap: int, leader: ContinuousTimeline | None = None) -> None:
        self._max_gap = max_gap
        self._leader = leader
        self._offset = 0
        self._last: int | None = None
        self.end = 0  # end of the last frame
        self.jumps: list[int] = []  # the offset after each jump

    def place(self, time: int, duration: int) -> int | None:
        """Returns the new time of a frame at `time`; None if the frame must be dropped: its time was already used."""
        at = time + self._offset
        if self._last is not None:
            if at < self._last - _MAX_BACKWARD or at > self.end + self._max_gap:
                at = time + self._jump(self.end - time)
            if at <= self._last:
                return None
        self._last = at
        self.end = at + max(0, duration)
        return at

    def _jump(self, offset: int) -> int:
        """Handles a jump of the file. Returns the new offset: that of the leader for this jump, else `offset`."""
        number = len(self.jumps)
        if self._leader is not None and number < len(self._leader.jumps):
            leader_offset = self._leader.jumps[number]
            if abs(leader_offset - offset) < _SAME_JUMP:
                offset = leader_offset
        self.jumps.append(offset)
        self._offset = offset
        return offset
