"""The segments of one live playlist: listed segments, and older ones that can still be fetched.

The § numbers refer to HLS (RFC 8216bis).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway.live.pushed_tracks import MediaBudget
from gateway.packaging.caption_pieces import CaptionPieces

# Durations are multiples of 10 µs, as in the playlist. The rounding errors of their sums are far smaller.
EPSILON = 1e-6
# Maximum memory of one playlist's media. Above it, the oldest segments are dropped, listed or not, down to one.
MAX_BYTES = 64_000_000
# A larger segment ends immediately: no player could follow a stream with this bitrate.
MAX_SEGMENT_BYTES = 16_000_000
# A larger part ends before its normal duration.
MAX_PART_BYTES = 4_000_000


class LazyBytes:
    """The bytes of a segment or part, made on the first request and then kept. Most segments are never requested.

    size: number of bytes; for MPEG-TS an estimate.

    Only one event loop may use it.
    """

    __slots__ = ("_data", "_source", "size")

    def __init__(self, make: Callable[[], bytes], size: int) -> None:
        self._source: Callable[[], bytes] | None = make
        self._data = b""
        self.size = size

    def __call__(self) -> bytes:
        make = self._source
        if make is not None:
            self._data = make()
            self._source = None  # frees the source media
        return self._data

    def replace_source(self, make: Callable[[], bytes]) -> None:
        """Drops the bytes. The next call gets them from `make`."""
        self._data, self._source = b"", make


@dataclass(slots=True)
class Part:
    """A partial segment.

    duration: seconds, as in the playlist.
    line: its playlist tag.
    captions: only of the main track's parts.
    """

    number: int
    uri: str
    duration: float
    independent: bool
    body: LazyBytes
    line: str
    captions: CaptionPieces | None = None


@dataclass(slots=True)
class Segment:
    """One complete segment.

    number: its Media Sequence Number.
    duration: seconds as in the playlist, see `media_playlist.as_printed`.
    lines: its tags and URI in the playlist.
    epoch: grows with each discontinuity before the segment.
    wall: its date, seconds since 1970.
    map_uri: URI of its initialization segment; "" if it needs none.
    time, length: earliest presentation time and duration, in ticks. clock: ticks a second.
    sap: type of the stream access point at its start; 0: none.
    leading: ticks from `time` to its key frame; more than 0 if pictures are shown before the key frame.
    spacing: ticks from its key frame to the next segment's key frame.
    last: whether it is the last one of its epoch; then it may be short.
    captions: of a segment without parts.
    served: the HTTP response that the playback listener keeps for it; None before the first request.
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
    leading: int = 0
    spacing: int = 0
    last: bool = False
    captions: CaptionPieces | None = None
    served: object = None


@dataclass(slots=True)
class ListLength:
    """How many segments the playlists of a ladder list at least. It grows when a client gets one of them."""

    least: int = 0


class SegmentWindow:
    """Lists `size` segments, and keeps older ones while a client may still request them.

    Segments that were in no playlist that a client got are dropped when they leave the list: see `show`.

    target: Target Duration in seconds. It must be set before the list is served.

    budget: memory that several windows share; a window that adds a segment above it drops its own oldest.
    length: shared by the windows of a ladder, so that renditions list what their source lists.
    """

    def __init__(
        self, size: int, max_bytes: int = MAX_BYTES, budget: MediaBudget | None = None, length: ListLength | None = None
    ) -> None:
        self._size = max(size, 1)
        self._length = length or ListLength()
        self._max_bytes = max_bytes
        self._budget = budget
        self._listed: deque[Segment] = deque()
        self._unlisted: deque[Segment] = deque()
        self._by_uri: dict[str, Segment] = {}
        self.target = 1
        self.bytes = 0
        self.seconds = 0.0  # duration of the listed segments
        self._unlisted_seconds = 0.0
        self._shown = -1  # number of the last segment that was listed when a playlist was written
        self.longest = 0.0  # maximum duration of all segments so far, seconds
        self.total_bytes = 0  # bytes of all segments so far
        self.total_seconds = 0.0  # seconds of all segments so far
        self._peak = 0.0  # the highest measured bitrate, see `peak`

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._listed)

    def __getitem__(self, index: int) -> Segment:
        return self._listed[index]

    @property
    def discontinuity_sequence(self) -> int:
        """The number of discontinuities that left the list (§4.4.3.3)."""
        return self._listed[0].epoch if self._listed else 0

    @property
    def average(self) -> float:
        """The mean bitrate of all segments so far, bits a second."""
        return self.total_bytes * 8 / self.total_seconds if self.total_seconds else 0.0

    @property
    def peak(self) -> float:
        """The peak segment bitrate so far, bits a second (§4.4.6.2): of successive segments of 0.5 to 1.5 targets.

        A shorter segment alone does not count: a few frames after a key frame have a far higher bitrate.
        """
        return self._peak or self.average

    def lead(self, other: SegmentWindow) -> float:
        """Returns the seconds by which this list ends after another one. Neither may be empty.

        The time before the newest epoch began does not count, because the publisher was away then.
        """
        newest, last = self[-1], other[-1]
        begin = next(s.wall for s in self if s.epoch == newest.epoch)
        return newest.wall + newest.duration - max(last.wall + last.duration, begin)

    def find(self, uri: str) -> Segment | None:
        return self._by_uri.get(uri)

    def show(self, least: int = 0) -> None:
        """Notes that clients get the list, and may still request its segments after they left it.

        least: number of segments that it keeps listed from now on.
        """
        self._length.least = max(self._length.least, least)
        if self._listed:
            self._shown = self._listed[-1].number

    def unlisted(self) -> Iterator[Segment]:
        """Returns the segments that are no longer listed, oldest first."""
        return iter(self._unlisted)

    def add(self, segment: Segment) -> list[Segment]:
        """Lists a segment. Returns the segments that can no longer be fetched.

        If its number does not follow the last one (a rendition was absent), all previous segments leave the list,
        because Media Sequence Numbers must have no gap.
        """
        listed = self._listed
        if listed and segment.number != listed[-1].number + 1:
            while listed:
                self._unlist()
        listed.append(segment)
        self._by_uri[segment.uri] = segment
        size = segment.body.size
        self.bytes += size
        budget = self._budget
        if budget is not None:
            budget.add(self, self.bytes)
        self.total_bytes += size
        self.seconds += segment.duration
        self.total_seconds += segment.duration
        self.longest = max(self.longest, segment.duration)
        joined, seconds = 0, 0.0
        for each in reversed(listed):
            joined, seconds = joined + each.body.size, seconds + each.duration
            if each is not segment and seconds > 1.5 * self.target:
                break
            if seconds >= 0.5 * self.target:
                self._peak = max(self._peak, joined * 8 / seconds)
        # §6.2.2: "a server MUST NOT remove a Media Segment … if the duration of the Playlist minus the duration of the
        # segment is less than three times the Target Duration".
        fewest = max(self._size, self._length.least)
        while len(listed) > fewest and self.seconds - listed[0].duration >= 3 * self.target - EPSILON:
            self._unlist()
        removed: list[Segment] = []
        # §6.2.2: it "MUST remain available to clients for a period of time equal to the duration of the segment plus
        # the duration of the longest Playlist file distributed by the server containing that segment".
        while self._unlisted and (
            self._unlisted[0].number > self._shown
            or self._unlisted_seconds > self.seconds + self.longest + self._unlisted[0].duration
        ):
            removed.append(self._remove_oldest())
        while (self.bytes > self._max_bytes or (budget is not None and budget.exceeded)) and len(listed) > 1:
            if not self._unlisted:
                self._unlist()
            removed.append(self._remove_oldest())
        return removed

    def _unlist(self) -> None:
        segment = self._listed.popleft()
        self.seconds -= segment.duration
        self._unlisted.append(segment)
        self._unlisted_seconds += segment.duration

    def _remove_oldest(self) -> Segment:
        segment = self._unlisted.popleft()
        self._unlisted_seconds -= segment.duration
        self.bytes -= segment.body.size
        if self._budget is not None:
            self._budget.add(self, self.bytes)
        del self._by_uri[segment.uri]
        return segment
