"""Clocks: one growing timeline from a publisher's 32-bit milliseconds, and audio time from sample counts."""

from __future__ import annotations

_WRAP = 1 << 32
_HALF = 1 << 31
_MASK = _WRAP - 1


class PublisherTimeline:
    """The common 64-bit millisecond clock of all lanes (tracks) of one publisher.

    Wraps of the 32-bit clock have no effect. A timestamp is a jump if it falls more than `reorder` behind its lane, or
    leaps more than `leap` ahead of all lanes. A jump re-bases the clock: the lane goes on one frame after the latest
    time.
    The other lanes take the same offset when their timestamps make the same jump, so audio and video stay in sync.
    Until then they keep their own offset, and a lane with one wrong timestamp returns to it. Smaller reorderings pass
    unchanged.

    start: time of the first timestamp, for a publisher that returns to a stream; None keeps the timestamp.

    No time of a lane is more than `reorder` below the lane's latest, or below `start` (or 0). All values are
    milliseconds.
    """

    __slots__ = ("_floor", "_lanes", "_latest", "_leap", "_offset", "_reorder", "_start", "rebased")

    # A lane that takes over another lane's offset may be this far (ms) behind: tracks are not interleaved exactly.
    OVERLAP = 1_000

    def __init__(self, *, start: int | None = None, reorder: int = 100, leap: int = 10_000) -> None:
        self._start = start
        self._floor = start or 0
        self._reorder = reorder
        self._leap = leap
        self._lanes: dict[int, _Lane] = {}
        self._latest = 0
        self._offset = 0  # of the lane that began or jumped last
        self.rebased = 0  # how often the clock was re-based

    @property
    def latest(self) -> int:
        """The greatest time returned so far, in milliseconds."""
        return self._latest

    def stamp(self, lane: int, raw: int) -> int:
        """Returns the time of a timestamp, in milliseconds.

        lane: a small number chosen by the caller.
        raw: the 32-bit timestamp.
        """
        at = self._lanes.get(lane)
        if at is None:
            return self._join(lane, raw)
        ahead = raw + at.offset - at.high
        if 0 < ahead <= self._leap:  # hot: the next frame, on a clock that has not wrapped
            at.step = ahead
            at.overlap = self._reorder
            at.high = high = at.high + ahead
            if high > self._latest:
                self._latest = high
            return high
        ahead = (ahead + _HALF & _MASK) - _HALF  # as _distance
        if ahead > 0:
            # A lane may pause for long (a camera that is switched off) while the others go on.
            if ahead > self._leap and _distance(raw + at.offset, self._latest) > self._leap:
                return self._jump(at, raw)
            at.step = ahead if ahead < self._leap else self._leap
            at.overlap = self._reorder
            at.high += ahead
            if at.high > self._latest:
                self._latest = at.high
            return at.high
        if ahead < -at.overlap:
            return self._jump(at, raw)
        return max(self._floor, at.high + max(ahead, -self._reorder))

    def near(self, raw: int) -> int:
        """Returns the time of a timestamp that belongs to no lane, as for script data. It never re-bases the clock.

        Such timestamps are often 0. If `raw` is not within `leap` of the latest time, the latest time is returned.
        """
        ahead = _distance(raw + self._offset, self._latest)
        return max(self._floor, self._latest + ahead) if -self._leap <= ahead <= self._leap else self._latest

    def _join(self, lane: int, raw: int) -> int:
        """Returns the time of a lane's first timestamp: on the clock of the other lanes if it fits."""
        if self._lanes:
            ahead = _distance(raw + self._offset, self._latest)
            # A lane with another origin (audio from 0, video from the encoder's uptime) would never meet the others.
            time = self._latest + (ahead if -self._leap <= ahead <= self._leap else 0)
        else:
            time = raw % _WRAP if self._start is None else self._start
        self._offset = (time - raw) % _WRAP
        # A lane that begins before the floor stays at the floor until the common clock has passed it.
        shown = max(time, self._floor)
        self._lanes[lane] = _Lane(self._offset, shown, max(self._reorder, shown - time))
        self._latest = max(self._latest, shown)
        return shown

    def _jump(self, at: _Lane, raw: int) -> int:
        for other in self._lanes.values():
            ahead = _distance(raw + other.offset, self._latest)
            if other.offset != at.offset and -self.OVERLAP <= ahead <= self._leap:
                at.offset = other.offset
                break
        else:
            # This lane is the first to jump.
            at.offset = (self._latest + at.step - raw) % _WRAP
            self.rebased += 1
        self._offset = at.offset
        ahead = _distance(raw + at.offset, at.high)
        if ahead <= 0:
            at.overlap = max(self._reorder, -ahead)
            return max(self._floor, at.high + max(ahead, -self._reorder))
        at.overlap = self._reorder
        at.high += ahead
        self._latest = max(self._latest, at.high)
        return at.high


def _distance(time: int, reference: int) -> int:
    """Returns how far `time` is ahead of `reference` on a 32-bit clock, from -2**31 to 2**31 - 1."""
    return ((time - reference + _HALF) % _WRAP) - _HALF


class _Lane:
    """The state of one lane, in milliseconds.

    offset: added to its timestamps, modulo 2**32.
    high: its latest time.
    step: its last distance between two frames.
    overlap: how far below `high` a timestamp may be before it counts as a jump.
    """

    __slots__ = ("high", "offset", "overlap", "step")

    def __init__(self, offset: int, high: int, overlap: int) -> None:
        self.offset = offset
        self.high = high
        self.overlap = overlap
        self.step = 1


class AudioClock:
    """Audio time from sample counts: free of rounding to milliseconds, without gaps or overlaps.

    rate: Hz, also the ticks of the returned times.
    timescale: ticks a second of the given timestamps.
    tolerance: seconds. If a timestamp differs more from the computed time, the clock takes the timestamp. Times still
    grow by at least one tick.
    resynced: the last call took the timestamp.
    resyncs: number of those calls.
    """

    __slots__ = ("_last", "_next", "_rate", "_timescale", "_tolerance", "resynced", "resyncs")

    def __init__(self, rate: int, timescale: int = 1000, *, tolerance: float = 0.040) -> None:
        if rate <= 0 or timescale <= 0:
            raise ValueError(f"a clock of {rate} Hz on a timescale of {timescale}")
        self._rate = rate
        self._timescale = timescale
        self._tolerance = int(rate * tolerance)
        self._next: int | None = None
        self._last = -1
        self.resynced = False
        self.resyncs = 0

    @property
    def expected(self) -> int | None:
        """Ticks at which the next frame is due; None before the first."""
        return self._next

    def stamp(self, dts: int, samples: int) -> int:
        """Returns the time of a frame, in ticks of `rate`.

        dts: its timestamp, in ticks of `timescale`.
        samples: samples in the frame.
        """
        time = self._next
        given = dts * self._rate // self._timescale
        if time is None:
            time = given
            self.resynced = False
        elif -self._tolerance <= given - time <= self._tolerance:
            self.resynced = False
        else:
            time = max(given, self._last + 1)
            self.resynced = True
            self.resyncs += 1
        self._last = time
        self._next = time + samples
        return time
