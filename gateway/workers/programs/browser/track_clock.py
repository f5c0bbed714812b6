"""Maps the times of a recording's tracks to one continuous timeline, for any first time and after jumps."""

from __future__ import annotations

from typing import Final

from gateway.media.clock import PublisherTimeline
from gateway.media.track import Kind

_START_MS: Final = 1000  # time of the first sample; not 0, because the other track may begin a little earlier
_MIN_GAP_MS: Final = 33  # between the last sample of one recording and the first of the next
_TRACKS: Final = {Kind.VIDEO: 0, Kind.AUDIO: 1}
_MASK: Final = (1 << 32) - 1


class TrackClock:
    """Moves the times of all tracks by one number of whole milliseconds, so that durations stay exact.

    Repairs large jumps like `PublisherTimeline`. The decode times of each track strictly increase.
    """

    def __init__(self) -> None:
        self._timeline = PublisherTimeline()
        self._begin = _START_MS  # start of the recording on the push's timeline
        self._origin: int | None = None  # time of the recording, in ms, at 0 of the timeline
        self._last: dict[Kind, float] = {}  # time of each track's last sample, in seconds

    def restart(self, gap: float) -> None:
        """Starts another recording. gap: seconds since the arrival of the last sample of the previous recording."""
        if self._origin is not None:
            self._begin = self._timeline.latest + max(_MIN_GAP_MS, round(gap * 1000))
            self._timeline, self._origin = PublisherTimeline(), None

    def stamp(self, kind: Kind, time: int, timescale: int) -> tuple[int, int]:
        """Returns the decode time of a sample, and its extra delay, both in ticks. time: in the recording, in ticks.

        The delay is 0 unless the decode time would not increase without it.
        """
        raw = time * 1000 // timescale
        if self._origin is None:
            self._origin = raw - self._begin
        moved = self._timeline.stamp(_TRACKS[kind], raw - self._origin & _MASK) - raw
        exact = time + moved * timescale // 1000
        last = self._last.get(kind)
        stamped = exact if last is None else max(exact, round(last * timescale) + 1)
        self._last[kind] = stamped / timescale
        return stamped, stamped - exact
