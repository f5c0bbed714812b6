"""Recovers exact frame times from a publisher's rounded milliseconds, and maps media times to wall-clock times.

A part must be complete when its last frame arrives. So the duration of this frame must be known before the next frame
arrives: it follows from the frame rate. This module finds the rate and moves the frames to its grid. The grid is fine
and regular, and sums of durations on it are exact. If the frames have no regular rate, their times do not change, and
`step` is None.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import InitVar, dataclass, field
from fractions import Fraction
from itertools import pairwise

from gateway.media import codecs
from gateway.media.clock import MILLISECONDS, VIDEO_CLOCK, AudioClock
from gateway.media.track import AccessUnit, Codec, MediaTrack

# The times of the first and the current frame are rounded down or to the nearest millisecond, both alike. So their
# difference is wrong by less than 1 ms; the rest is for the rounding to ticks.
_TOLERANCE = int(1.15 * VIDEO_CLOCK / MILLISECONDS)
_ROUNDING = 2  # ticks between the exact time of a frame and that of a fine clock
_MIN_REGULAR_STEPS = 4  # consecutive steps of one frame, after which the rate is known
_ESTIMATE_INTERVALS = 24  # number of intervals from which an unknown rate is estimated
_MAX_FPS, _MIN_FPS = 480, 1
# Frame rates of encoders. A measured rate is replaced by the nearest one if rounding can explain the difference.
_WHOLE_RATES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 72, 75, 90, 100, 120, 144, 240)
_RATES = sorted([*map(Fraction, _WHOLE_RATES), *(Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120))])
_MIDDLES = [float(low + high) / 2 for low, high in pairwise(_RATES)]


@dataclass(slots=True, eq=False)
class VideoTiming:
    """Converts (dts, cts) in a track's timescale into ticks of 90 kHz. Decode times always grow.

    hint: frames a second from the track's configuration or metadata, which may be wrong.
    step: the predicted ticks to the next frame; None if the frames are irregular.
    ahead: ticks that the last frame is after the time of which `step` is counted.

    Times of sources with a fine timescale are not changed: then the grid only predicts the next frame.

    reference: the timing of these pictures in another rendition; then both use one grid.
    earlier: the timing of the epoch before.
    """

    timescale: int
    hint: InitVar[float | None]
    reference: VideoTiming | None = None
    earlier: InitVar[VideoTiming | None] = None
    step: int | None = field(default=None, init=False)
    ahead: int = field(default=0, init=False)
    _num: int = field(init=False)
    _den: int = field(init=False)
    _anchor: int = field(default=0, init=False)  # time of frame 0 of the grid
    _count: int = field(default=0, init=False)  # number of the last frame on the grid
    _regular_steps: int = field(default=0, init=False)  # consecutive steps of exactly one frame
    _skipped: int = field(default=0, init=False)  # frames of the grid that the last skip left out
    _equal_skips: int = field(default=0, init=False)  # consecutive skips of `_skipped` frames
    _base: int = field(default=0, init=False)  # time at which the measurement of the period began
    _before: int = field(default=0, init=False)  # number of frames from `_base` to the anchor
    _last: int | None = field(default=None, init=False)  # the last returned decode time
    _recent: deque[int] = field(default_factory=lambda: deque(maxlen=_ESTIMATE_INTERVALS + 1), init=False)
    _known: tuple[int, int] = field(default=(0, 1), init=False)  # the last period, in the earlier epoch too

    def __post_init__(self, hint: float | None, earlier: VideoTiming | None) -> None:
        # The period in ticks is _num / _den; _num is 0 while it is unknown. They are integers because of the hot path.
        self._num, self._den = _period_of(hint) if hint else (0, 1)
        if earlier is not None:
            self._known = (earlier._num, earlier._den) if earlier._num else earlier._known

    @property
    def frame_rate(self) -> Fraction | None:
        """Frames a second; None if they are not regular."""
        is_regular = self._num and self._regular_steps >= _MIN_REGULAR_STEPS
        return Fraction(VIDEO_CLOCK * self._den, self._num) if is_regular else None

    def variant_rate(self, range: str) -> float | None:
        """Returns the frames a second for a variant. None for "SDR" if they are not regular.

        AVPlayer discards variants of other ranges without a rate. They get the last one of this epoch, else `hint`,
        else that of the earlier epoch, else the mean of the latest frames.
        """
        num, den = self._num, self._den
        if range == "SDR" and self._regular_steps < _MIN_REGULAR_STEPS:
            return None
        if not num:
            num, den = self._known
        if not num and self._recent:
            num, den = self._recent[-1] - self._recent[0], len(self._recent) - 1
        return VIDEO_CLOCK * den / num if num > 0 else None

    def stamp(self, dts: int, cts: int) -> tuple[int, int]:
        """Returns decode time and composition offset in ticks of 90 kHz. Hot path."""
        scale = self.timescale
        if scale == MILLISECONDS:
            raw, shift = dts * 90, cts * 90
        else:
            raw, shift = dts * VIDEO_CLOCK // scale, cts * VIDEO_CLOCK // scale
        last, num, den = self._last, self._num, self._den
        if last is None:
            reference, self.reference = self.reference, None
            time = raw if reference is None else self._join(reference, raw)
            self._restart(time)
        elif not num:
            time = raw if raw > last else last + 1
            self._estimate_period(raw)
        else:
            count = self._count + 1
            time = self._anchor + count * num // den
            if -_TOLERANCE <= raw - time <= _TOLERANCE:
                self._count = count
                regular_steps = self._regular_steps = self._regular_steps + 1
                if regular_steps >= _MIN_REGULAR_STEPS:
                    anchor = self._anchor
                    self.step = anchor + (count + 1) * num // den - time
                    if shift and scale <= MILLISECONDS:
                        # Presentation times are on the grid too.
                        near = anchor + (count + (2 * shift * den + num) // (2 * num)) * num // den - time
                        if -2 * _TOLERANCE <= shift - near <= 2 * _TOLERANCE:
                            shift = near
            else:
                time = self._off_grid(raw, raw - time)
        if scale > MILLISECONDS:
            ahead = raw - time
            self.ahead = ahead if -_ROUNDING <= ahead <= _ROUNDING else 0
            time = raw if last is None or raw > last else last + 1
            shift += raw - time
        self._last = time
        return time, shift

    def _restart(self, raw: int) -> None:
        """Begins a new grid and a new measurement of the period at time `raw`."""
        self._anchor = self._base = raw
        self._count = self._before = self._regular_steps = 0
        self.step = None
        self._recent.clear()
        self._recent.append(raw)

    def _join(self, reference: VideoTiming, raw: int) -> int:
        """Returns the time of a first frame at `raw` on the reference's grid.

        Returns `raw` if rounding cannot explain the difference.
        """
        num, den = reference._num, reference._den
        if not num or reference._regular_steps < _MIN_REGULAR_STEPS:
            return raw
        count = (2 * (raw - reference._anchor) * den + num) // (2 * num)
        time = reference._anchor + count * num // den
        if abs(time - raw) > _TOLERANCE:
            return raw
        self._num, self._den = num, den
        return time

    def _off_grid(self, raw: int, off: int) -> int:
        """Returns the time of a frame that is not on the grid: frames were skipped, the rate drifts, or no rate exists.

        off: ticks after the expected time.
        """
        num, den = self._known = self._num, self._den
        floor = (self._last or 0) + 1
        was_regular = self._regular_steps >= _MIN_REGULAR_STEPS
        self.step = None
        skipped = (2 * off * den + num) // (2 * num)
        if skipped >= 1 and abs(off - skipped * num // den) <= _TOLERANCE:
            self._count += 1 + skipped
            time = self._anchor + self._count * num // den
            is_equal = skipped == self._skipped and not self._regular_steps
            self._equal_skips = self._equal_skips + 1 if is_equal else 1
            self._skipped, self._regular_steps = skipped, 0
            if self._equal_skips >= _ESTIMATE_INTERVALS:
                # The real rate is a fraction of the announced one.
                self._equal_skips = 0
                self._restart(time)
                self._num, self._den = _period_of(VIDEO_CLOCK * den / (num * (1 + skipped)))
            return time
        if was_regular and abs(off) <= 3 * _TOLERANCE:
            # Drift: the real period is the mean since the measurement began.
            self._before += self._count + 1
            self._anchor, self._count = max(raw, floor), 0
            span = raw - self._base
            rate = VIDEO_CLOCK * self._before / span if span > 0 else 0.0
            self._num, self._den = _period_of(rate, near=2 * _TOLERANCE / span if span > 0 else 0.0)
            if self._num:
                return self._anchor
        self._num = 0
        time = max(raw, floor)
        self._restart(time)
        return time

    def _estimate_period(self, raw: int) -> None:
        """Sets the period if the recent frames, this one included, lie on a regular grid."""
        recent = self._recent
        recent.append(raw)
        total = raw - recent[0]
        if len(recent) <= _ESTIMATE_INTERVALS or total <= 0:
            return
        first, tolerance = recent[0], _TOLERANCE
        if abs(2 * (recent[_ESTIMATE_INTERVALS // 2] - first) - total) > 3 * (tolerance + 1):
            return  # no grid has the first, the middle and the last frame
        for near in (2 * tolerance / total, 0.0):
            num, den = _period_of(VIDEO_CLOCK * _ESTIMATE_INTERVALS / total, near)
            if num and all(-tolerance <= time - first - n * num // den <= tolerance for n, time in enumerate(recent)):
                self._restart(raw)
                self._num, self._den = num, den
                return


class AudioTiming:
    """The lengths and the clock of the frames of one audio track, in ticks of `rate`: samples a second.

    payload: the first frame. Raises InvalidData.
    """

    __slots__ = ("_length", "clock", "rate")

    def __init__(self, track: MediaTrack, payload: bytes) -> None:
        self.rate = codecs.audio_rate(track, payload)
        self.clock = AudioClock(self.rate, track.timescale)
        # 0: differs from frame to frame.
        self._length = codecs.samples_per_frame(track, payload) if track.codec is Codec.AAC else 0

    def length(self, unit: AccessUnit) -> int:
        """Returns the samples of a frame. Raises InvalidData. Hot path."""
        return self._length or codecs.samples_per_frame(unit.track, unit.payload)


def _period_of(rate: float, near: float = 0.0005) -> tuple[int, int]:
    """Returns the ticks of 90 kHz between frames as a fraction (numerator, denominator).

    near: a usual rate is used if it differs by at most this fraction of `rate`.

    Returns (0, 1) for rates outside _MIN_FPS to _MAX_FPS.
    """
    if not _MIN_FPS <= rate <= _MAX_FPS:
        return 0, 1
    usual = _RATES[bisect_left(_MIDDLES, rate)]
    close = abs(float(usual) - rate) <= near * rate
    period = VIDEO_CLOCK / (usual if close else Fraction(rate).limit_denominator(1 << 20))
    period = period.limit_denominator(1 << 20)
    return period.numerator, period.denominator


@dataclass(frozen=True, slots=True)
class WallClock:
    """Maps media time to wall-clock time: media time `media` arrived at `wall`, both in seconds.

    All tracks use one relation, so that their dates agree. It is fixed while a publisher is connected. Otherwise the
    jitter of arrival times would make dates contradict the durations between them.
    """

    media: float
    wall: float

    def at(self, media: float) -> float:
        """Returns the wall-clock time of media time `media` (seconds), in seconds since 1970."""
        return self.wall + (media - self.media)


# Seconds. Errors up to the first value are jitter, and times stay exact. A late first picture dates all media too late:
# then they may be early by the second value, too. From the third and fourth on, media without a step would stay too
# long in the future or late. `_LATE_FOR` is how long they are late without catching up.
_JITTER, _MAX_LATE_START, _MAX_LEAD, _MAX_LATE, _LATE_FOR = 0.1, 0.4, 1.0, 1.0, 10.0
_LOST, _CERTAIN = 2.0, 3  # seconds that are lost at once, and the segments after which that is certain
_DATE_WINDOW = 20.0  # seconds of media, of which the earliest arrival counts: networks delay, and nothing comes early
_MAX_SLEW = 0.0005  # of the time that passes; crystals differ by at most 200 ppm
MAX_STEP = 180  # ticks, 2 ms: less than any picture, and 200 ppm of a segment of 10 s
_MAX_GAP = 90  # ticks, 1 ms: dates must follow from the durations of segments
_APART = MAX_STEP + 90  # ticks between two dates: they are printed in milliseconds, and the first may lack a step
_FRAME = 13_500  # ticks, 0.15 s: sound may begin a frame after its pictures; in a burst, an epoch cannot wait for it
_SLEW_SECONDS = 200.0  # in which an error would vanish
_MAX_SLEWED = 60.0  # seconds; a larger error is a wrong clock of this machine
_MAX_ARRIVALS = 256


class DateCorrection:
    """Keeps the dates of media near their arrival, although a publisher's clock is too fast or too slow.

    slew: subtracted from media times, in ticks of 90 kHz; below 0 for a slow clock. It changes by at most `_MAX_SLEW`.

    If the clock jumps, a new epoch must begin. Dates go back only if the clock of this machine was set back by more
    than `_MAX_SLEWED`, for `_LATE_FOR`: DASH players would wait as long for segments. After a smaller change, an
    earlier date is in the future, and only `slew` corrects it. In a burst, each segment is an epoch that begins right
    after the one before.
    Memory: the arrivals of `_DATE_WINDOW`, at most `_MAX_ARRIVALS`.
    """

    __slots__ = (
        *("_apart", "_arrivals", "_arrived", "_begun", "_in_burst", "_last", "_late_start", "_set_back", "_zero"),
        "slew",
    )

    def __init__(self) -> None:
        self.slew = 0
        self._begun = 0  # time of the first call of the epoch, not corrected
        self._late_start = 0.0  # seconds by which the first picture of the epoch was late
        self._set_back: int | None = None  # time at which the clock of this machine was set back
        self._zero: float | None = None  # date of corrected time 0
        self._last = 0  # time of the last call, not corrected
        self._arrived = 0.0  # arrival of the last call
        self._in_burst = False  # whether the epoch began in a burst
        self._apart = _FRAME  # ticks by which the date of the next epoch is at least later than the last one
        # Times with their dates of time 0 (without correction).
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=_MAX_ARRIVALS)

    def begin(self, time: int, wall: float) -> float:
        """Begins an epoch: media time `time` (ticks, not corrected) arrived at `wall`. Returns its date."""
        self._arrived = wall
        next_date, self._apart = self._date_after(self._apart), _FRAME
        if time >= self._last and 0 < next_date - wall < _MAX_SLEWED:  # the picture of a late source may be earlier
            wall = next_date
        self._zero = wall - (time - self.slew) / VIDEO_CLOCK
        self._begun = self._last = time
        self._late_start = 0.0
        self._set_back = None
        self._arrivals.clear()
        return wall

    def _date_after(self, ticks: int) -> float:
        """Returns the date some ticks after that of the last call; 0 before the first one."""
        return self._zero + (self._last - self.slew + ticks) / VIDEO_CLOCK if self._zero is not None else 0.0

    def follow(self, time: int, wall: float, leaves_gap: bool = False) -> bool:
        """Takes the arrival of media that may begin a segment. Returns whether an epoch must begin with them.

        leaves_gap: whether a gap remains before them if they are moved later.
        """
        zero, arrivals, last, arrived = self._zero, self._arrivals, self._last, self._arrived
        if zero is None:
            return False
        if wall < arrived - _MAX_SLEWED:
            self._set_back = time
        arrivals.append((time, wall - time / VIDEO_CLOCK))
        while len(arrivals) > 1 and time - arrivals[1][0] >= _DATE_WINDOW * VIDEO_CLOCK:
            arrivals.popleft()  # the window needs two arrivals, also if segments are longer
        error = min([arrival for _, arrival in arrivals]) + self.slew / VIDEO_CLOCK - zero
        is_paced = len(arrivals) > 1 and arrivals[-1][1] + _JITTER > arrivals[-2][1]
        is_free = wall > self._date_after(_FRAME if is_paced else _APART)
        if error < -_MAX_LEAD and (is_free or (not is_paced and wall >= arrived)):
            self._apart = _APART if self._in_burst else _FRAME
            self._in_burst = not is_paced
            return True
        self._in_burst &= not is_paced
        self._last, self._arrived = time, wall
        if self._set_back is not None and time - self._set_back >= _LATE_FOR * VIDEO_CLOCK:
            self._set_back = None
            if arrivals[-1][1] + self.slew / VIDEO_CLOCK < zero - _MAX_SLEWED:  # and was not set forward again
                return True
        if error > _MAX_LATE and time - arrivals[0][0] >= _LATE_FOR * VIDEO_CLOCK:
            return True
        if len(arrivals) > _CERTAIN:
            # Media that the encoder dropped during an outage. What was only delayed comes faster than it plays.
            before, *late = [arrivals[at][1] for at in range(-_CERTAIN - 1, 0)]
            if late[0] - before > _LOST and min(late) + _JITTER > late[0]:
                return True
        if time - self._begun <= _DATE_WINDOW * VIDEO_CLOCK:
            self._late_start = min(max(self._late_start, -error), _MAX_LATE_START)
        excess = abs(error) - _JITTER - (self._late_start if error < 0 else 0.0)
        if 0 < excess < _MAX_SLEWED:
            rate = min(excess / _SLEW_SECONDS, _MAX_SLEW)
            step = min(round(max(time - last, 0) * rate), _MAX_GAP if leaves_gap and error > 0 else MAX_STEP)
            self.slew += step if error < 0 else -step
        return False
