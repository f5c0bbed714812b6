"""Maps the times of a recording's lanes to one continuous timeline, wherever they begin or jump."""

from __future__ import annotations

from typing import Final

from gateway.media.clock import PublisherTimeline
from gateway.media.track import Kind

_START_MS: Final = 1000  # time of the first sample; not 0, because the other lane may begin a little earlier
_STEP_MS: Final = 33  # least time between the last sample of one recording and the first of the next
_LANES: Final = {Kind.VIDEO: 0, Kind.AUDIO: 1}
_MASK: Final = (1 << 32) - 1


class TrackClock:
    """Moves the times of all lanes by the same whole milliseconds, so that the distances of samples stay exact.

    Large jumps are repaired as in `PublisherTimeline`. The decode times of each lane strictly increase.
    """

    def __init__(self) -> None:
        self._timeline = PublisherTimeline()
        self._begin = _START_MS  # start of the recording on the push's timeline
        self._origin: int | None = None  # time of the recording, in ms, at 0 of the timeline
        self._last: dict[Kind, float] = {}  # seconds of each lane's last sample

    def restart(self, gap: float) -> None:
        """Begins another recording, `gap` seconds after the arrival of the last sample of the one before."""
        if self._origin is not None:
            self._begin = self._timeline.latest + max(_STEP_MS, round(gap * 1000))
            self._timeline, self._origin = PublisherTimeline(), None

    def stamp(self, kind: Kind, time: int, timescale: int) -> tuple[int, int]:
        """Returns the decode time of a sample at `time` of the recording, and its forced delay, both in ticks.

        The delay is not 0 only if the decode time would not have increased.
        """
        raw = time * 1000 // timescale
        if self._origin is None:
            self._origin = raw - self._begin
        moved = self._timeline.stamp(_LANES[kind], raw - self._origin & _MASK) - raw
        exact = time + moved * timescale // 1000
        last = self._last.get(kind)
        stamped = exact if last is None else max(exact, round(last * timescale) + 1)
        self._last[kind] = stamped / timescale
        return stamped, stamped - exact
