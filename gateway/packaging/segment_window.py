"""The segments of one live playlist: those that are listed, and older ones that can still be fetched."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.packaging.lazy_bytes import LazyBytes

# Durations are whole multiples of 10 µs, as printed; the rounding errors of their sums are far smaller.
EPSILON = 1e-6
# Bound of one playlist's media in memory. Beyond it the oldest segments are dropped, listed or not, down to one.
MAX_BYTES = 64_000_000
# A segment that grows beyond this is ended at once: no player could follow such a stream.
MAX_SEGMENT_BYTES = 16_000_000
# A part that grows beyond this is ended before its normal duration.
MAX_PART_BYTES = 4_000_000


@dataclass(slots=True)
class Part:
    """A partial segment.

    duration: seconds, as in the playlist.
    line: its playlist tag.
    """

    number: int
    uri: str
    duration: float
    independent: bool
    body: LazyBytes
    line: str


@dataclass(slots=True)
class Segment:
    """One complete segment.

    number: its Media Sequence Number.
    epoch: grows with each discontinuity before the segment.
    duration: seconds as in the playlist, see `media.as_printed`.
    lines: its tags and URI as the playlist lists them.
    map_uri: URI of its initialization segment, "" if it needs none.
    time, length: earliest presentation time and duration, in ticks of `clock`.
    sap: type of the stream access point with which it begins, 0 for none.
    lead: ticks by which pictures are shown before its key frame.
    spacing: ticks from its key frame to the next segment's.
    last: it is the last one of its epoch, so it may be short.
    served: what a server caches for it.
    """

    number: int
    uri: str
    duration: float
    body: LazyBytes
    lines: str
    epoch: int
    wall: float
    map_uri: str = ""
    time: int = 0
    length: int = 0
    clock: int = 1
    parts: Sequence[Part] = ()
    sap: int = 1
    lead: int = 0
    spacing: int = 0
    last: bool = False
    served: object = None


class SegmentWindow:
    """Keeps `size` segments listed, and older ones as long as a client may still request them.

    `target`: Target Duration in seconds; set it before the list is served.
    """

    def __init__(self, size: int, max_bytes: int = MAX_BYTES) -> None:
        self._size = max(size, 1)
        self._max_bytes = max_bytes
        self._listed: deque[Segment] = deque()
        self._left: deque[Segment] = deque()
        self._by_uri: dict[str, Segment] = {}
        self.target = 1
        self.bytes = 0
        self.seconds = 0.0  # of the listed segments
        self._left_seconds = 0.0
        self.longest = 0.0  # of all segments so far, seconds
        self.total = 0  # bytes of all segments so far …
        self.played = 0.0  # … and their seconds
        self.peak = 0.0  # the highest bit rate of a segment
        self._first_epoch = 0

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._listed)

    def __getitem__(self, index: int) -> Segment:
        return self._listed[index]

    @property
    def discontinuity_sequence(self) -> int:
        """The number of discontinuities that left the list (§4.4.3.3)."""
        return self._listed[0].epoch if self._listed else self._first_epoch

    @property
    def average(self) -> float:
        """Mean bit rate of all segments so far."""
        return self.total * 8 / self.played if self.played else 0.0

    def find(self, uri: str) -> Segment | None:
        return self._by_uri.get(uri)

    def left(self) -> Iterator[Segment]:
        """Returns the segments that are no longer listed, oldest first."""
        return iter(self._left)

    def add(self, segment: Segment) -> list[Segment]:
        """Lists a segment; returns the segments that can no longer be fetched.

        If its number does not follow the last one (a rendition was absent), all segments listed before leave the list.
        Media Sequence Numbers must count without a gap.
        """
        listed = self._listed
        if listed and segment.number != listed[-1].number + 1:
            while listed:
                self._unlist()
        listed.append(segment)
        self._by_uri[segment.uri] = segment
        size = segment.body.size
        self.bytes += size
        self.total += size
        self.seconds += segment.duration
        self.played += segment.duration
        self.longest = max(self.longest, segment.duration)
        self.peak = max(self.peak, size * 8 / max(segment.duration, 0.1))
        # §6.2.2: "a server MUST NOT remove a Media Segment … if the duration of the Playlist minus the duration of the
        # segment is less than three times the Target Duration".
        while len(listed) > self._size and self.seconds - listed[0].duration >= 3 * self.target - EPSILON:
            self._unlist()
        gone: list[Segment] = []
        # §6.2.2: it "MUST remain available to clients for a period of time equal to the duration of the segment plus
        # the duration of the longest Playlist file distributed by the server containing that segment".
        while self._left and self._left_seconds > self.seconds + self.longest + self._left[0].duration:
            gone.append(self._forget())
        while self.bytes > self._max_bytes and len(listed) > 1:
            if not self._left:
                self._unlist()
            gone.append(self._forget())
        return gone

    def _unlist(self) -> None:
        segment = self._listed.popleft()
        self.seconds -= segment.duration
        self._left.append(segment)
        self._left_seconds += segment.duration

    def _forget(self) -> Segment:
        segment = self._left.popleft()
        self._left_seconds -= segment.duration
        self.bytes -= segment.body.size
        del self._by_uri[segment.uri]
        return segment
