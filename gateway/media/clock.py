"""Clocks: a publisher's 64-bit timeline, audio time from sample counts, and decode times from presentation times."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import Final

VIDEO_CLOCK: Final = 90_000  # ticks a second: of transport streams, of pictures in RTP, and of our segments
MILLISECONDS: Final = 1_000  # a second: of FLV and RTMP


class PublisherTimeline:
    """The common 64-bit clock of all tracks of one publisher, which counts as its source does.

    Wraps of the source's clock have no effect: 32 bits of milliseconds, 33 bits of ticks. A timestamp is a jump if it
    is more than `reorder` behind its track, or more than `leap` ahead of all tracks. A jump re-bases the clock: the
    track gets a new offset, with which it continues one frame after the latest time.
    Another track adopts this offset if its timestamps make the same jump, so audio and video stay in sync. Until then
    it keeps its previous offset. A track with one wrong timestamp returns to its previous offset. Smaller reorderings
    pass unchanged.

    rate: of all times, ticks a second. start: time of the first timestamp, for a publisher that returns to a stream;
    None: the timestamp is unchanged. reorder, leap: milliseconds.

    No time of a track is more than `reorder` below the track's latest time, or below `start` (or 0).
    """

    __slots__ = (
        *("_floor", "_half", "_leap", "_offset", "_overlap", "_reorder", "_start", "_tracks", "_wrap"),
        *("jumped", "latest", "rate", "rebased"),
    )

    def __init__(
        self, rate: int = MILLISECONDS, *, start: int | None = None, reorder: int = 100, leap: int = 10_000
    ) -> None:
        self.rate = rate
        self._wrap = 1 << (32 if rate == MILLISECONDS else 33)
        self._half = self._wrap >> 1
        self._start = start
        self._floor = start or 0
        self._reorder = reorder * rate // MILLISECONDS
        self._leap = leap * rate // MILLISECONDS
        # A track that adopts another track's offset may be this far behind: tracks are not interleaved exactly.
        self._overlap = rate
        self._tracks: dict[int, _TrackClock] = {}
        self.latest = 0  # the greatest time returned so far
        self._offset = 0  # offset of the track that began or jumped last
        self.rebased = 0  # number of jumps that re-based the clock
        self.jumped = 0  # milliseconds of the last jump; below 0: backwards

    def stamp(self, track: int, raw: int) -> int:
        """Returns the time of a timestamp.

        track: a number that the caller chose. raw: the timestamp, with or without wraps.
        """
        track_clock = self._tracks.get(track)
        if track_clock is None:
            return self._join(track, raw)
        ahead = raw + track_clock.offset - track_clock.high
        if 0 < ahead <= self._leap:  # hot path: the next frame, on a clock that has not wrapped
            track_clock.step = ahead
            track_clock.overlap = self._reorder
            track_clock.high = high = track_clock.high + ahead
            if high > self.latest:
                self.latest = high
            return high
        ahead = self._distance(ahead, 0)
        if ahead > 0:
            # A track may pause for a long time (a camera is switched off) while the others continue.
            if ahead > self._leap and self._distance(raw + track_clock.offset, self.latest) > self._leap:
                return self._jump(track_clock, raw)
            track_clock.step = ahead if ahead < self._leap else self._leap
            track_clock.overlap = self._reorder
            track_clock.high += ahead
            if track_clock.high > self.latest:
                self.latest = track_clock.high
            return track_clock.high
        if ahead < -track_clock.overlap:
            return self._jump(track_clock, raw)
        return max(self._floor, track_clock.high + max(ahead, -self._reorder))

    def near(self, raw: int, leap: int | None = None) -> int:
        """Returns the time of a timestamp that belongs to no track, for script data. It never re-bases the clock.

        Timestamps of script data are often 0. Returns the latest time if `raw` is not within `leap` of it.
        leap: ticks; None: that of the clock.
        """
        ahead, leap = self._distance(raw + self._offset, self.latest), self._leap if leap is None else leap
        return max(self._floor, self.latest + ahead) if -leap <= ahead <= leap else self.latest

    def _join(self, track: int, raw: int) -> int:
        """Returns the time of a track's first timestamp: on the clock of the other tracks if it fits."""
        if self._tracks:
            ahead = self._distance(raw + self._offset, self.latest)
            # The origins may differ (audio from 0, video from the encoder's uptime). Then the track starts at the
            # latest time. Otherwise its times would never be near those of the others.
            time = self.latest + (ahead if -self._leap <= ahead <= self._leap else 0)
        else:
            time = raw % self._wrap if self._start is None else self._start
        self._offset = (time - raw) % self._wrap
        # A track that begins before the floor stays at the floor until the common clock has passed it.
        first = max(time, self._floor)
        self._tracks[track] = _TrackClock(self._offset, first, max(self._reorder, first - time))
        self.latest = max(self.latest, first)
        return first

    def _jump(self, track_clock: _TrackClock, raw: int) -> int:
        """Returns the time of a timestamp that is a jump: with the offset of another track, or with a new offset."""
        for other in self._tracks.values():
            ahead = self._distance(raw + other.offset, self.latest)
            if other.offset != track_clock.offset and -self._overlap <= ahead <= self._leap:
                track_clock.offset = other.offset
                break
        else:
            # This track is the first one that jumps.
            jumped = self._distance(raw + track_clock.offset, track_clock.high)
            self.jumped = jumped * MILLISECONDS // self.rate
            track_clock.offset = (self.latest + track_clock.step - raw) % self._wrap
            self.rebased += 1
        self._offset = track_clock.offset
        ahead = self._distance(raw + track_clock.offset, track_clock.high)
        if ahead <= 0:
            track_clock.overlap = max(self._reorder, -ahead)
            return max(self._floor, track_clock.high + max(ahead, -self._reorder))
        track_clock.overlap = self._reorder
        track_clock.high += ahead
        self.latest = max(self.latest, track_clock.high)
        return track_clock.high

    def _distance(self, time: int, reference: int) -> int:
        """Returns how far `time` is ahead of `reference` on the source's clock, at most half of its range."""
        return (time - reference + self._half) % self._wrap - self._half


@dataclass(slots=True)
class _TrackClock:
    """The state of one track, in ticks of the clock.

    offset: added to its timestamps, modulo the range of the source's clock.
    high: its latest time.
    overlap: how far below `high` a timestamp may be before it is a jump.
    step: its last distance between two frames.
    """

    offset: int
    high: int
    overlap: int
    step: int = 1


class AudioClock:
    """Audio time from sample counts: without rounding to milliseconds, without gaps or overlaps.

    rate: Hz; the returned times are in ticks of it.
    timescale: ticks a second of the publisher's timestamps.
    tolerance: seconds. If a timestamp differs more from the computed time, the clock continues from the timestamp.
    Times still grow by at least one tick. Timestamps may be early by one and a half frames: some publishers send two
    frames with one timestamp. But a late one is a lost frame, which must not make the sound early.
    Some phones stamp a frame when they have it, by tens of milliseconds too early or too late. So the tolerance is four
    times the mean departure of a timestamp from the one before, if that is more, up to five times `tolerance`.
    resynced: whether the last call continued from the timestamp.
    """

    __slots__ = ("_departure", "_expected", "_last", "_next", "_rate", "_timescale", "_tolerance", "resynced")

    def __init__(self, rate: int, timescale: int = 1000, *, tolerance: float = 0.040) -> None:
        if rate <= 0 or timescale <= 0:
            raise ValueError(f"a clock of {rate} Hz on a timescale of {timescale}")
        self._rate = rate
        self._timescale = timescale
        self._tolerance = int(rate * tolerance)
        self._next: int | None = None
        self._expected = 0  # the next timestamp, if it follows the last one
        self._departure = 0.0  # from it, the mean of about eight frames
        self._last = -1
        self.resynced = False

    def stamp(self, dts: int, samples: int) -> int:
        """Returns the time of a frame, in ticks of `rate`.

        dts: its timestamp, in ticks of `timescale`.
        samples: samples in the frame.
        """
        time = self._next
        stamped = dts * self._rate // self._timescale
        tolerance = self._tolerance
        if self._departure > tolerance / 4:
            tolerance = min(round(4 * self._departure), 5 * tolerance)
        self.resynced = False
        if time is None:
            time = self._expected = stamped
        elif not (-tolerance <= stamped - time <= tolerance or -3 * samples <= 2 * (stamped - time) <= 0):
            self.resynced = True
            time = max(stamped, self._last + 1)
        departure = min(abs(stamped - self._expected), 3 * self._tolerance)
        self._departure += (departure - self._departure) / 8
        self._expected = stamped + samples
        self._last = time
        self._next = time + samples
        return time


class DecodeTimes:
    """Computes decode times of pictures that have only presentation times, as in Matroska.

    Takes presentation times in decode order. Each decode time is at most its picture's presentation time.
    It stores `depth` unused presentation times. The smallest of these and the new one becomes the next decode time.
    Decode times always grow. If `depth` is too small, a decode time may exceed the presentation time.

    depth: the number of pictures that may be decoded before a picture that is shown before them.
    step: ticks between the decode times of the first pictures; a millisecond, so that FLV has different ones, too.
    """

    __slots__ = ("_depth", "_last", "_step", "_times")

    def __init__(self, depth: int, step: int = 1) -> None:
        self._depth = depth
        self._step = step
        self._times: list[int] = []
        self._last: int | None = None

    def stamp(self, presentation: int) -> int:
        """Returns the decode time of the picture with this presentation time."""
        if not self._times:
            # No earlier pictures exist whose times the first pictures could use.
            self._times = list(range(presentation - self._depth * self._step, presentation, self._step))
        insort(self._times, presentation)
        time = self._times.pop(0)
        if self._last is not None and time <= self._last:
            time = self._last + 1
        self._last = time
        return time
