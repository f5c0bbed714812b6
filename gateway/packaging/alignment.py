"""Aligns the packagers of one ladder: the start times and the numbers of their segments.

The § numbers refer to HLS (RFC 8216bis).
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from gateway.channels.names import channel_of
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.packaging.packager import Packager
from gateway.packaging.segment_window import ListLength
from gateway.packaging.segmenter import Segmenter
from gateway.packaging.timing import DateCorrection, VideoTiming

_TOLERANCE = 900  # ticks of 90 kHz, 10 ms: times with a larger difference belong to different pictures
_MAX_BOUNDARIES = 128  # stored boundaries; renditions are seconds late, not minutes
_LAGS = 4  # parts of sound: one that comes late alone changes nothing


@dataclass(frozen=True, slots=True)
class EpochOrigin:
    """The start of an epoch, or of another DASH Period in it.

    time: its first presentation time, ticks of 90 kHz on the streams' common clock, corrected by `DateCorrection`.
    wall: date of the epoch's first picture, seconds since 1970: when it arrived, or soon after the date before.
    period: number of the Period in its epoch.
    """

    number: int
    time: int
    wall: float
    period: int = 0


@dataclass(slots=True)
class Boundary:
    """The start of a segment that has this number in all renditions.

    time: presentation time, ticks of 90 kHz. slew: the correction of its segment's times, see `DateCorrection`.
    members: the members that have reached it so far, by their numbers.
    """

    time: int
    number: int
    origin: EpochOrigin
    slew: int = 0
    members: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CutCandidate:
    """A picture that may be the first one of a segment.

    decoded, shown: its decode and presentation time, ticks of 90 kHz on the streams' common clock.
    wall: its arrival time, seconds since 1970.
    is_new_epoch: whether it is the first picture of other tracks or of another publisher.
    segment_open: whether the member has an open segment.
    min_number: the minimum number of a new segment.
    begins_period: whether the segment begins another DASH Period of its epoch.
    leaves_gap: whether a gap remains before the segment if it is moved later.
    """

    decoded: int
    shown: int
    wall: float
    is_new_epoch: bool
    segment_open: bool
    min_number: int
    begins_period: bool = False
    leaves_gap: bool = False


class Alignment:
    """One timeline for a source and its renditions: the same numbers, dates, discontinuities and Target Durations.

    Its members are their packagers.

    The first member that reaches a picture decides whether a segment begins there. All others follow. Normally this is
    the source: it must package its waiting pictures before a rendition decides, unless a watermark delays it.
    Renditions keep the source's times, so all members have the same times.
    """

    def __init__(self) -> None:
        self.next_epoch = 0
        # The start of the first epoch, ticks of 90 kHz: the minimum of its first decode and presentation time.
        self.start_time: int | None = None
        self.start_wall = 0.0  # arrival time of its first picture, seconds since 1970
        self.timing: VideoTiming | None = None  # timing of the source
        self.dates = DateCorrection()
        self.source: Packager | None = None
        self.length = ListLength()
        self.part_target = 0.0  # the longest Part Target Duration of all tracks, in seconds
        self._lags = deque[float](maxlen=_LAGS)  # by which the last parts of sound came later than pictures, seconds
        self._lag = 0.0  # the most by which `_LAGS` parts in a row all came later
        self._next_number = 0
        self._name_offset: int | None = None
        self._target: int | None = None  # seconds
        self._origin: EpochOrigin | None = None
        self._boundaries: deque[Boundary] = deque(maxlen=_MAX_BOUNDARIES)
        self._members: WeakKeyDictionary[Packager, int] = WeakKeyDictionary()  # with their numbers
        self._numbers = itertools.count()
        # Last picture time of each member in its open segment.
        self._last_times: WeakKeyDictionary[Packager, int] = WeakKeyDictionary()

    def count_from(self, number: int, epoch: int, name: int) -> int:
        """Sets minimum numbers for the ladder's first segment and first epoch.

        number, epoch: the minimum number of the first segment and of the first epoch.
        name: the minimum number in the first segment's file name.

        Returns the offset from a segment's number to its file name. The first member decides it for all.
        """
        if not self._boundaries:
            self._next_number = max(self._next_number, number)
        if self._origin is None:
            self.next_epoch = max(self.next_epoch, epoch)
        if self._name_offset is None:
            self._name_offset = name - self._next_number
        return self._name_offset

    def fix_target(self, target: int) -> int:
        """Returns the Target Duration for a playlist that needs at least `target` seconds.

        All playlists of a ladder should have the same Target Duration (§6.2.4).
        """
        if self._target is None:
            self._target = target
        return max(self._target, target)

    @property
    def target(self) -> int | None:
        """The Target Duration of the ladder, in seconds; None until it is decided."""
        return self._target

    @property
    def is_target_undecided(self) -> bool:
        """Whether the source will decide the Target Duration, and has not decided yet."""
        return self._target is None and self.source is not None and not self.source.over

    @property
    def hold_back(self) -> float:
        """PART-HOLD-BACK in seconds (§4.4.3.8), the same for all tracks.

        Players begin so far from the last picture. hls.js waits for ever for sound that is not there yet. Lags are
        rounded to half a second, so that the value rarely changes.
        """
        return 3 * self.part_target + max(0, math.ceil(2 * (self._lag - self.part_target))) / 2

    def note_lag(self, seconds: float) -> None:
        """Notes by how much a part of sound came later than the pictures of its time."""
        self._lags.append(seconds)
        if len(self._lags) == _LAGS:
            self._lag = max(self._lag, min(self._lags))

    def begin_epoch(self, decoded: int, shown: int, wall: float) -> EpochOrigin:
        """Begins an epoch without a boundary, for media without pictures. Times and `wall` are of its first frame."""
        self._lags.clear()
        self._lag = 0.0
        if self.start_time is None:
            self.start_time = min(decoded, shown)
            self.start_wall = wall
        date = self.dates.begin(shown, wall)
        self.start_wall = min(self.start_wall, date)  # the clock may have been set back
        self._origin = EpochOrigin(self.next_epoch, shown - self.dates.slew, date)
        self.next_epoch += 1
        return self._origin

    def follow(self, shown: int, wall: float, begins_period: bool, leaves_gap: bool = False) -> EpochOrigin | None:
        """Returns the origin of a segment that begins at `shown`; None before the first epoch.

        It begins an epoch if the publisher's clock has left its dates.
        """
        if self.dates.follow(shown, wall, leaves_gap):
            return self.begin_epoch(shown, shown, wall)
        origin = self._origin
        if origin is not None and begins_period:
            origin = self._origin = replace(origin, time=shown - self.dates.slew, period=origin.period + 1)
        return origin

    def decide_boundary(
        self, member: Packager, at: CutCandidate, wants_cut: bool, segmenter: Segmenter | None = None
    ) -> Boundary | None:
        """Returns the boundary at this picture; None if no segment may begin with it.

        wants_cut: whether `member` alone would begin a segment here. For a rendition without an open segment,
        `segmenter` decides instead, with the time since the newest boundary. Without a source in the alignment, a
        rendition that had segments before begins its new epoch at once: no other member would.
        """
        returned = at.is_new_epoch and self.source is None and member in self._last_times
        if segmenter is not None and not (at.segment_open or returned or member is self.source) and self._boundaries:
            wants_cut = segmenter.take_frame(at.shown - self._boundaries[-1].time, 0, True, at.shown)
        if (number := self._members.get(member)) is None:
            number = self._members[member] = next(self._numbers)
        source = self.source
        if source is not None and source is not member:
            if source.over:
                source = self.source = self.timing = None
            else:
                source.catch_up()
        boundary = self._find(at.shown)
        if boundary is not None and member is source and all(m.over for m in self._members_at(boundary)):
            self._boundaries.remove(boundary)  # of an earlier packager; this one got the cached GOP again
            boundary = None
        first = member is source and at.is_new_epoch
        if boundary is None and wants_cut and (first or not self._is_passed(member, at.shown)):
            origin = None if at.is_new_epoch else self.follow(at.shown, at.wall, at.begins_period, at.leaves_gap)
            if origin is None:
                origin = self.begin_epoch(at.decoded, at.shown, at.wall)
            boundary = Boundary(at.shown, max(self._next_number, at.min_number), origin, self.dates.slew)
            self._next_number = boundary.number + 1
            self._insert(boundary)
        elif boundary is not None and first and abs(boundary.origin.time + boundary.slew - at.shown) > _TOLERANCE:
            # Renditions ahead of a delayed source had no new epoch here: their epoch begins with the next segment.
            boundary.origin = self.begin_epoch(at.decoded, at.shown, at.wall)
        if boundary is None or boundary.number < at.min_number:
            if at.segment_open:
                self._last_times[member] = at.shown
            return None
        self._last_times[member] = at.shown
        if number not in boundary.members:
            boundary.members += (number,)
        return boundary

    def withdraw(self, member: Packager, number: int) -> bool:
        """Withdraws segment `number`, which `member` cannot complete, if another member has not reached it.

        Then the number will be used again. Returns whether `member` must discard its segment.
        """
        newest = self._boundaries[-1] if self._boundaries else None
        if newest is None or newest.number != number:
            return number >= self._next_number  # another member has discarded it before
        if all(reached in newest.members for m, reached in self._members.items() if not m.over):
            return False
        self._boundaries.pop()
        self._next_number = number
        return True

    # ---- details ----

    def _members_at(self, boundary: Boundary) -> Iterator[Packager]:
        """Yields the members that have reached a boundary and still exist."""
        return (member for member, number in self._members.items() if number in boundary.members)

    def _is_passed(self, member: Packager, shown: int) -> bool:
        """Whether another member has passed this picture in an open segment.

        Then `member`, which is late, waits for their next boundary.
        """
        return any(at >= shown - _TOLERANCE for m, at in self._last_times.items() if m is not member and not m.over)

    def _insert(self, boundary: Boundary) -> None:
        boundaries = self._boundaries
        while boundaries and boundaries[-1].time >= boundary.time:
            boundaries.pop()
        boundaries.append(boundary)

    def _find(self, shown: int) -> Boundary | None:
        for boundary in reversed(self._boundaries):
            if boundary.time < shown - _TOLERANCE:
                return None
            if boundary.time <= shown + _TOLERANCE:
                return boundary
        return None


class Alignments:
    """The alignment of each channel's streams, from the first stream's packager to the end of the last stream."""

    def __init__(self) -> None:
        self._by_channel: dict[str, _ChannelAlignment] = {}

    def of(self, stream: Stream) -> Alignment:
        """Returns the alignment for a packager of `stream`. A source that is published again gets a new alignment."""
        channel = channel_of(stream.name)
        shared = self._by_channel.get(channel)
        source = stream if stream.is_source else None
        if shared is None or (source is not None and shared.source not in (None, source)):
            shared = self._by_channel[channel] = _ChannelAlignment(Alignment())
        shared.source = source or shared.source
        if stream not in shared.streams:
            shared.streams.add(stream)
            stream.when_ended(lambda reason: self._leave(channel, shared, stream, reason))
        return shared.alignment

    def _leave(self, channel: str, shared: _ChannelAlignment, stream: Stream, reason: EndReason) -> None:
        shared.streams.discard(stream)
        if (not shared.streams or shared.source is stream) and self._by_channel.get(channel) is shared:
            del self._by_channel[channel]


@dataclass(slots=True)
class _ChannelAlignment:
    alignment: Alignment
    source: Stream | None = None
    streams: set[Stream] = field(default_factory=set)
