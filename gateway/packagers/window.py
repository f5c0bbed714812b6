"""The segments of one live playlist: those listed, and those that left the list and can still be fetched."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.packagers.rendered import Rendered

# Durations are whole multiples of 10 µs, as they are printed; sums of them are off by far less than that.
EPSILON = 1e-6
# Media of one playlist in memory. At this bound the oldest segments go, fetchable or listed, until one is left.
MAX_BYTES = 64_000_000
# A segment that grows beyond this is ended where it stands: its stream is no video that a player could follow.
MAX_SEGMENT_BYTES = 16_000_000
# The same for a part: it ends before its time.
MAX_PART_BYTES = 4_000_000


@dataclass(slots=True)
class Part:
    """A partial segment. duration: seconds as the playlist says; line: its tag."""

    number: int
    duration: float
    independent: bool
    body: Rendered
    line: str


@dataclass(slots=True)
class Segment:
    """One complete segment. number: its Media Sequence Number; epoch: grows with each discontinuity before it.
    duration: seconds as the playlist says, media.as_printed.

    lines: its tags and URI as the playlist lists them; map_uri: of its initialization, "" where it needs none.
    time, length: first presentation time and duration in ticks of `clock`. served: what a server keeps beside it.
    """

    number: int
    uri: str
    duration: float
    body: Rendered
    lines: str
    epoch: int
    wall: float
    map_uri: str = ""
    time: int = 0
    length: int = 0
    clock: int = 1
    parts: Sequence[Part] = ()
    served: object = None


class Window:
    """Keeps `size` segments listed and those that left for as long as a client may still ask for them.

    `target`: seconds, to be set before the list is shown.
    """

    def __init__(self, size: int, max_bytes: int = MAX_BYTES) -> None:
        self._size = max(size, 1)
        self._max_bytes = max_bytes
        self._listed: deque[Segment] = deque()
        self._left: deque[Segment] = deque()
        self._by_uri: dict[str, Segment] = {}
        self.target = 1
        self.bytes = 0
        self.seconds = 0.0  # of what is listed
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
        """§4.4.3.3: discontinuities that left the list."""
        return self._listed[0].epoch if self._listed else self._first_epoch

    @property
    def average(self) -> float:
        """Mean bit rate of all segments so far."""
        return self.total * 8 / self.played if self.played else 0.0

    def find(self, uri: str) -> Segment | None:
        return self._by_uri.get(uri)

    def left(self) -> Iterator[Segment]:
        """Those that are no longer listed, oldest first."""
        return iter(self._left)

    def add(self, segment: Segment) -> list[Segment]:
        """Lists a segment; returns those that are gone for good.

        Where its number does not follow the last one (a rendition that was away), what was listed before leaves: Media
        Sequence Numbers count without a gap.
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
