"""Aligns the packagers of one ladder: where segments begin, and with which numbers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary, WeakSet

from gateway.channels.names import channel_of
from gateway.packaging.segmenter import Segmenter

if TYPE_CHECKING:
    from gateway.live.sink import EndReason
    from gateway.live.stream import Stream
    from gateway.packaging.timing import VideoTiming

_NEAR = 900  # ticks of 90 kHz, 10 ms: times further apart in two renditions belong to different pictures
_MAX_BOUNDARIES = 1024  # boundaries that are remembered; renditions are seconds late, not hours


class Member(Protocol):
    """A packager of the source or of a rendition."""

    @property
    def over(self) -> bool: ...

    def catch_up(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EpochOrigin:
    """The start of an epoch.

    time: its first presentation time, ticks of 90 kHz on the streams' common clock.
    wall: when that picture came, seconds since the epoch.
    """

    number: int
    time: int
    wall: float


@dataclass(slots=True)
class Boundary:
    """The start of a segment that has this number in every rendition.

    began: the members that have reached it so far.
    """

    time: int
    number: int
    origin: EpochOrigin
    began: WeakSet[Member] = field(default_factory=WeakSet)


@dataclass(frozen=True, slots=True)
class CutCandidate:
    """A picture with which a segment may begin.

    decoded, shown: its decode and presentation time, ticks of 90 kHz on the streams' common clock.
    wall: when it came, seconds since the epoch.
    fresh: it is the first of other tracks or of another publisher.
    inside: a segment is open.
    least: the lowest number that a new segment may have.
    """

    decoded: int
    shown: int
    wall: float
    fresh: bool
    inside: bool
    least: int


class Alignment:
    """One timeline for a source and its renditions: equal numbers, dates, discontinuities and Target Durations.

    The first member that reaches a picture decides whether a segment begins there; all others follow. Normally that is
    the source: it must package its waiting pictures before a rendition decides, unless a watermark delays it.
    Renditions keep the source's times, so the times are equal in all of them.
    """

    def __init__(self) -> None:
        self.next_epoch = 0
        self.base: int | None = None  # start of the first epoch: the smaller of its decode and presentation time
        self.start = 0.0  # when that picture came, seconds since the epoch
        self.timing: VideoTiming | None = None  # the source's
        self.source: Member | None = None
        self._next_number = 0
        self._to_name: int | None = None
        self._target: int | None = None
        self._origin: EpochOrigin | None = None
        self._boundaries: deque[Boundary] = deque(maxlen=_MAX_BOUNDARIES)
        self._members: WeakSet[Member] = WeakSet()
        self._inside: WeakKeyDictionary[Member, int] = (
            WeakKeyDictionary()
        )  # last picture time of each member in its open segment

    def count_from(self, number: int, epoch: int, name: int) -> int:
        """Sets lower bounds for the numbers of the ladder's first segment and first epoch.

        number, epoch: the lowest number of the first segment and of the first epoch.
        name: the lowest number in the first segment's file name.

        Returns what all members add to a segment's number to get its file name. The first member decides it.
        """
        if not self._boundaries:
            self._next_number = max(self._next_number, number)
        if self._origin is None:
            self.next_epoch = max(self.next_epoch, epoch)
        if self._to_name is None:
            self._to_name = name - self._next_number
        return self._to_name

    def fix_target(self, target: int) -> int:
        """Returns the Target Duration for a playlist that needs at least `target` seconds.

        All playlists of a ladder should have the same one (§6.2.4).
        """
        if self._target is None:
            self._target = target
        return max(self._target, target)

    @property
    def undecided(self) -> bool:
        """The source is going to decide the Target Duration, and has not done it yet."""
        return self._target is None and self.source is not None and not self.source.over

    def begin_epoch(self, decoded: int, shown: int, wall: float) -> EpochOrigin:
        """Begins an epoch without a boundary, for media without pictures; times and `wall` are those of its first
        frame.
        """
        if self.base is None:
            self.base = min(decoded, shown)
            self.start = wall
        self._origin = EpochOrigin(self.next_epoch, shown, wall)
        self.next_epoch += 1
        return self._origin

    def boundary(
        self, member: Member, at: CutCandidate, own: bool, segmenter: Segmenter | None = None
    ) -> Boundary | None:
        """Returns the boundary at this picture, None if no segment may begin with it.

        own: whether `member` alone would begin a segment here. A rendition without an open segment asks its `segmenter`
        instead, for the time since the newest boundary.
        """
        if segmenter is not None and not at.inside and member is not self.source and self._boundaries:
            own = segmenter.cuts(at.shown - self._boundaries[-1].time, 0, True)
        self._members.add(member)
        source = self.source
        if source is not None and source is not member:
            if source.over:
                source = self.source = self.timing = None
            else:
                source.catch_up()
        found = self._find(at.shown)
        if found is not None and member is source and not any(not m.over for m in found.began):
            self._boundaries.remove(found)  # left by a packager that was restarted and replays the cached GOP
            found = None
        first = member is source and at.fresh
        if found is None and own and (first or not self._passed(member, at.shown)):
            origin = self._origin
            if at.fresh or origin is None:
                origin = self.begin_epoch(at.decoded, at.shown, at.wall)
            found = Boundary(at.shown, max(self._next_number, at.least), origin)
            self._next_number = found.number + 1
            self._insert(found)
        elif found is not None and first and abs(found.origin.time - at.shown) > _NEAR:
            # Renditions that were ahead of a delayed source saw no new epoch here: theirs begins with the next segment.
            found.origin = self.begin_epoch(at.decoded, at.shown, at.wall)
        if found is None or found.number < at.least:
            if at.inside:
                self._inside[member] = at.shown
            return None
        self._inside[member] = at.shown
        found.began.add(member)
        return found

    def abandons(self, member: Member, number: int) -> bool:
        """Tells whether `member`, whose segment `number` is incomplete, should discard it.

        That is so if some other member has not reached that segment: its number will be used again. Only for a segment
        that is not published.
        """
        newest = self._boundaries[-1] if self._boundaries else None
        if newest is None or newest.number != number:
            return number >= self._next_number  # another member has discarded it before
        if all(m in newest.began for m in self._members if not m.over):
            return False
        self._boundaries.pop()
        self._next_number = number
        return True

    # ---- details ----

    def _passed(self, member: Member, shown: int) -> bool:
        """Tells whether other members have passed this picture in an open segment: a late member waits for their next
        boundary.
        """
        return any(at >= shown - _NEAR for m, at in self._inside.items() if m is not member and not m.over)

    def _insert(self, boundary: Boundary) -> None:
        boundaries = self._boundaries
        while boundaries and boundaries[-1].time >= boundary.time:
            boundaries.pop()
        boundaries.append(boundary)

    def _find(self, shown: int) -> Boundary | None:
        for boundary in reversed(self._boundaries):
            if boundary.time < shown - _NEAR:
                return None
            if boundary.time <= shown + _NEAR:
                return boundary
        return None


class Alignments:
    """The alignment of each channel's streams, from the first stream's packager to the end of the last stream."""

    def __init__(self) -> None:
        self._present: dict[str, _Shared] = {}

    def of(self, stream: Stream) -> Alignment:
        """Returns the alignment for a packager of `stream`. A source that was published again gets a new one."""
        channel = channel_of(stream.name)
        shared = self._present.get(channel)
        source = stream if stream.is_source else None
        if shared is None or (source is not None and shared.source not in (None, source)):
            shared = self._present[channel] = _Shared(Alignment())
        shared.source = source or shared.source
        if stream not in shared.streams:
            shared.streams.add(stream)
            stream.when_ended(lambda reason: self._leave(channel, shared, stream, reason))
        return shared.alignment

    def _leave(self, channel: str, shared: _Shared, stream: Stream, reason: EndReason) -> None:
        shared.streams.discard(stream)
        if (not shared.streams or shared.source is stream) and self._present.get(channel) is shared:
            del self._present[channel]


@dataclass(slots=True)
class _Shared:
    alignment: Alignment
    source: Stream | None = None
    streams: set[Stream] = field(default_factory=set)
