"""Lane clock: the times of a recording's lanes on one timeline that goes on, wherever they begin and jump."""

from __future__ import annotations

from typing import Final

from gateway.media.clock import Timeline
from gateway.media.track import Kind

_START_MS: Final = 1000  # where the first sample lands: the other lane may have begun a little earlier
_STEP_MS: Final = 33  # between the last of one recording and the first of the next, at least
_LANES: Final = {Kind.VIDEO: 0, Kind.AUDIO: 1}
_MASK: Final = (1 << 32) - 1


class LaneClock:
    """Moves times by whole milliseconds and by the same for all lanes, so that what lies between samples stays exact.

    Jumps of more than seconds are repaired as in media.Timeline. Decode times of each lane grow strictly.
    """

    def __init__(self) -> None:
        self._timeline = Timeline()
        self._begin = _START_MS  # of the recording, on the push's timeline
        self._origin: int | None = None  # the recording's milliseconds at the timeline's 0
        self._last: dict[Kind, float] = {}  # seconds of each lane's last sample

    def restart(self, gap: float) -> None:
        """Another recording begins, so many seconds after the last sample of the one before came."""
        if self._origin is not None:
            self._begin = self._timeline.latest + max(_STEP_MS, round(gap * 1000))
            self._timeline, self._origin = Timeline(), None

    def stamp(self, kind: Kind, time: int, timescale: int) -> tuple[int, int]:
        """The decode time of a sample that the recording has at `time`, and by how much it had to be put off, ticks."""
        raw = time * 1000 // timescale
        if self._origin is None:
            self._origin = raw - self._begin
        moved = self._timeline.stamp(_LANES[kind], raw - self._origin & _MASK) - raw
        exact = time + moved * timescale // 1000
        last = self._last.get(kind)
        stamped = exact if last is None else max(exact, round(last * timescale) + 1)
        self._last[kind] = stamped / timescale
        return stamped, stamped - exact
