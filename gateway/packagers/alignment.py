"""Where segments begin, and with which numbers: what the packagers of one ladder agree upon."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary, WeakSet

from gateway.hub.names import channel_of

if TYPE_CHECKING:
    from gateway.hub.stream import EndReason, Stream
    from gateway.packagers.timing import VideoTiming

_NEAR = 900  # ticks of 90 kHz, 10 ms: further apart, times in two renditions are not those of one picture
_KEPT = 1024  # boundaries that are remembered; renditions are seconds late, not hours


class Member(Protocol):
    """A packager of the source or of a rendition."""

    @property
    def over(self) -> bool: ...

    def catch_up(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """What an epoch begins with. time: its first presentation time, ticks of 90 kHz on the streams' common clock;
    wall: when that picture came, seconds since the epoch."""

    number: int
    time: int
    wall: float


@dataclass(slots=True)
class Boundary:
    """A segment begins: the one of this number in every rendition. began: the members that have come so far."""

    time: int
    number: int
    origin: Origin
    began: WeakSet[Member] = field(default_factory=WeakSet)


@dataclass(frozen=True, slots=True)
class Moment:
    """A picture with which a segment may begin. decoded, shown: its times, ticks of 90 kHz on the streams' common
    clock; wall: when it came; fresh: what went before is over (other tracks, another publisher); inside: a segment is
    open; least: the number that a new one needs at least."""

    decoded: int
    shown: int
    wall: float
    fresh: bool
    inside: bool
    least: int


class Alignment:
    """One timeline for a source and its renditions: equal numbers, dates, discontinuities and Target Durations.

    Whoever comes to a picture first decides whether a segment begins there; all others follow. That is the source,
    which is made to look at its pictures before a rendition's are judged, unless a watermark holds it up. Times are the
    same in all of them, because renditions keep the source's.
    """

    def __init__(self) -> None:
        self.next_epoch = 0
        self.base: int | None = None  # where the first epoch begins: the earlier of its decode and presentation time
        self.start = 0.0  # when that came, seconds since the epoch
        self.timing: VideoTiming | None = None  # the source's
        self.source: Member | None = None
        self._next_number = 0
        self._target: int | None = None
        self._origin: Origin | None = None
        self._boundaries: deque[Boundary] = deque(maxlen=_KEPT)
        self._members: WeakSet[Member] = WeakSet()
        self._inside: WeakKeyDictionary[Member, int] = WeakKeyDictionary()  # how far members came in their segments

    def count_from(self, number: int) -> None:
        """What the first segment of all is numbered with at least."""
        if not self._boundaries:
            self._next_number = max(self._next_number, number)

    def fix_target(self, target: int) -> int:
        """The Target Duration for a playlist that needs at least `target`: all of a ladder should have one (§6.2.4)."""
        if self._target is None:
            self._target = target
        return max(self._target, target)

    @property
    def undecided(self) -> bool:
        """The source will say which Target Duration there is to be, and has not yet."""
        return self._target is None and self.source is not None and not self.source.over

    def begin_epoch(self, decoded: int, shown: int, wall: float) -> Origin:
        """An epoch by itself, for what has no pictures to agree upon; times and wall are its first frame's."""
        if self.base is None:
            self.base = min(decoded, shown)
            self.start = wall
        self._origin = Origin(self.next_epoch, shown, wall)
        self.next_epoch += 1
        return self._origin

    def since(self, shown: int) -> int | None:
        """Ticks from the newest boundary to `shown`, None where there is none."""
        return shown - self._boundaries[-1].time if self._boundaries else None

    def boundary(self, member: Member, at: Moment, own: bool) -> Boundary | None:
        """The one at this picture, None where no segment may begin with it. own: whether `member` would begin one."""
        self._members.add(member)
        source = self.source
        if source is not None and source is not member:
            if source.over:
                source = self.source = self.timing = None
            else:
                source.catch_up()
        found = self._find(at.shown)
        if found is not None and member is source and not any(not m.over for m in found.began):
            self._boundaries.remove(found)  # of a packager that was started again, from the cached GOP
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
            # Renditions, ahead of a watermark, saw no new epoch here: for them it begins with the next segment.
            found.origin = self.begin_epoch(at.decoded, at.shown, at.wall)
        if found is None or found.number < at.least:
            if at.inside:
                self._inside[member] = at.shown
            return None
        self._inside[member] = at.shown
        found.began.add(member)
        return found

    def abandons(self, member: Member, number: int) -> bool:
        """Whether `member`, whose segment `number` breaks off, should throw it away: others never got so far, and go on
        with that number. Only for a segment that nobody has seen."""
        newest = self._boundaries[-1] if self._boundaries else None
        if newest is None or newest.number != number:
            return number >= self._next_number  # another one threw it away before
        if all(m in newest.began for m in self._members if not m.over):
            return False
        self._boundaries.pop()
        self._next_number = number
        return True

    # ---- details ----

    def _passed(self, member: Member, shown: int) -> bool:
        """Whether others have gone past here in an open segment: who comes late waits for their next one."""
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
    """The alignment of each channel's streams, from the first one's packager to the end of the last of them."""

    def __init__(self) -> None:
        self._present: dict[str, _Shared] = {}

    def of(self, stream: Stream) -> Alignment:
        """The one that a packager of `stream` takes part in; a source that was pushed anew has a new one."""
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
