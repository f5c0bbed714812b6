"""Time: one growing timeline out of a publisher's 32-bit milliseconds, and audio time out of sample counts."""

from __future__ import annotations

_WRAP = 1 << 32
_HALF = 1 << 31
_MASK = _WRAP - 1


class Timeline:
    """The shared 64-bit millisecond clock of all lanes (tracks) of one publisher.

    Wraps of the 32-bit clock go unnoticed. A timestamp that falls back by more than `reorder` behind its lane, or leaps
    more than `leap` ahead of everything seen, re-bases the clock: the lane goes on one frame after the latest time.
    The other lanes take the same offset when their timestamps make the same jump, so A/V sync stays; until then they
    keep theirs, and a lane that glitched for a frame comes back to them. Smaller reorderings pass unchanged.

    start: where the first timestamp lands, for a publisher that comes back to a stream; None leaves it as it is.
    No time of a lane is ever more than `reorder` below the lane's latest, or below `start` (or 0).
    """

    __slots__ = ("_floor", "_lanes", "_latest", "_leap", "_offset", "_reorder", "_start", "rebased")

    # A lane that takes over another's offset may lie this far (ms) behind: tracks are not interleaved exactly.
    OVERLAP = 1_000

    def __init__(self, *, start: int | None = None, reorder: int = 100, leap: int = 10_000) -> None:
        self._start = start
        self._floor = start or 0
        self._reorder = reorder
        self._leap = leap
        self._lanes: dict[int, _Lane] = {}
        self._latest = 0
        self._offset = 0  # of the lane that came or jumped last
        self.rebased = 0  # how often the clock had to be repaired

    @property
    def latest(self) -> int:
        """The greatest time handed out, in milliseconds."""
        return self._latest

    def stamp(self, lane: int, raw: int) -> int:
        """The time in milliseconds of raw timestamp `raw` (32 bits) on `lane`, a small number the caller chooses."""
        at = self._lanes.get(lane)
        if at is None:
            return self._join(lane, raw)
        ahead = (raw + at.offset - at.high + _HALF & _MASK) - _HALF  # _distance, without its call: hot
        if ahead > 0:
            # A lane may rest for long (a picture that is switched off) while the others go on.
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
        """The time of a timestamp on no lane, as script data have it: often 0, and never a reason to repair the clock.

        On the clock when within `leap` of the latest time, else that time itself.
        """
        ahead = _distance(raw + self._offset, self._latest)
        return max(self._floor, self._latest + ahead) if -self._leap <= ahead <= self._leap else self._latest

    def _join(self, lane: int, raw: int) -> int:
        """The first timestamp of a lane: on the clock of the others, where it fits."""
        if self._lanes:
            ahead = _distance(raw + self._offset, self._latest)
            # A lane of another age (audio from 0, video from the encoder's uptime) would never meet the others.
            time = self._latest + (ahead if -self._leap <= ahead <= self._leap else 0)
        else:
            time = raw % _WRAP if self._start is None else self._start
        self._offset = (time - raw) % _WRAP
        # A lane that begins before the floor waits there until its clock, which it shares with the others, has come.
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
    """How far `time` is ahead of `reference` on a clock of 32 bits, the short way round."""
    return ((time - reference + _HALF) % _WRAP) - _HALF


class _Lane:
    """offset: of this lane, modulo 2^32; high: its latest time; step: its last distance between two frames;
    overlap: how far below `high` a timestamp may lie before it counts as a jump."""

    __slots__ = ("high", "offset", "overlap", "step")

    def __init__(self, offset: int, high: int, overlap: int) -> None:
        self.offset = offset
        self.high = high
        self.overlap = overlap
        self.step = 1


class AudioClock:
    """Audio time from sample counts: free of the rounding to milliseconds, without gaps or overlaps.

    rate: Hz, also the ticks of the times returned; timescale: ticks a second of the timestamps given.
    When a timestamp leaves the derived time by more than `tolerance` seconds, the clock takes the timestamp, but never
    runs backward: times grow by at least one tick.
    resynced tells whether the last call did that; resyncs counts them.
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
        """Ticks (of `rate`) of a frame that holds `samples` and came with timestamp `dts` (of `timescale`)."""
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
