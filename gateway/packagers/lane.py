"""One CMAF track: samples become parts, parts become segments; the LL-HLS playlist of it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.formats.hls import media
from gateway.formats.mp4.fragment import Sample, fragment, fragment_size
from gateway.packagers.gate import Gate, Waiters
from gateway.packagers.rendered import Rendered
from gateway.packagers.wall import WallClock
from gateway.packagers.window import EPSILON, Part, Segment, Window

_VERSION = 9  # §7: EXT-X-SKIP needs 9
_PARTS_FOR = 3  # Target Durations from the end in which parts are listed (§4.4.4.9)
_LEAST_PART = 0.85  # of the Part Target Duration (§4.4.4.9)
_USUAL_PART = 1.5  # of the wanted one; a frame that makes it longer stood still
_MOST_FIRST_PARTS = 1000
_MOST_INITS = 64


@dataclass(frozen=True, slots=True)
class Header:
    """What an epoch of a track begins with: its initialization segment, its ticks a second, its words for manifests.

    base: ticks on the stream's clock at which presentation time begins; fragments and dates count from there, so that
    no player has to find its place from a publisher's uptime."""

    epoch: int
    uri: str
    clock: int
    codec: str
    wall: WallClock
    base: int = 0
    size: tuple[int, int] | None = None
    rate: int = 0
    channels: int = 0


class Lane:
    """Holds one track's window, its open segment with the parts so far, and prints its playlist.

    Times are ticks of the present header's clock. Decode times place fragments, `shift` is the presentation time of a
    segment's first frame less its decode time. Parts are numbered through, over segments: so the part that a playlist
    hints at always comes true, whichever segment it falls into.
    """

    def __init__(
        self,
        kind: str,
        prefix: str,
        part: float,
        size: int,
        first: tuple[int, int] = (1, 1),
        waiters: Waiters | None = None,
    ) -> None:
        """kind: "video" or "audio", also the folder; prefix: of file names; part: wanted seconds of a part;
        first: the first segment's and the first part's number; waiters: counts who waits at `changed`."""
        self.kind = kind
        self.window = Window(size)
        self.changed = Gate(waiters)
        self.header: Header | None = None
        self.headers: dict[int, Header] = {}  # by epoch, for what the window still holds
        self.inits: OrderedDict[str, bytes] = OrderedDict()
        self.number, self.part_number = first  # of the open segment, of the next part
        self.began = self.number  # the first one's
        self.parts: list[Part] = []
        self.open = False
        self.dirty = False  # a part or segment was completed since the packager looked …
        self.news: list[float] = []  # … and the seconds of those parts
        self.size = 0  # bytes of the open segment
        self.start = 0
        self.part_ticks = 1  # the longest that a part may be
        self.target_part: float | None = None  # the Part Target Duration, once it is promised
        self._first_parts: list[float] = []  # seconds of each part before that
        self._wanted_part = part
        self.prefix = prefix
        self._shift = 0
        self._recent: dict[str, Part] = {}

    # ---- writing ----

    def begin(self, header: Header, init: bytes) -> None:
        """A new epoch: other tracks, or another publisher."""
        self.header = header
        self.headers[header.epoch] = header
        self.inits[header.uri] = init
        if len(self.inits) > _MOST_INITS:
            self.inits.popitem(last=False)
        self.part_ticks = max(int((self.target_part or self._wanted_part) * header.clock + 1e-6), 1)

    def init_uri(self) -> str:
        """A name for the initialization segment of what begins now; never used twice."""
        return f"{self.prefix}-init-{self.number}.mp4"

    def open_segment(self, start: int, shift: int) -> None:
        self.open = True
        self.start = start
        self._shift = shift
        self.size = 0

    def add_part(self, start: int, samples: list[Sample], end: int) -> None:
        """Completes a part of samples from decode time `start` to `end`, all durations but the last's set.

        The playlist never says more than the Part Target Duration, even for a single frame that stays longer."""
        assert self.header is not None
        clock = self.header.clock
        samples[-1].duration = max(end - start - sum([s.duration for s in samples[:-1]]), 1)
        body = _fragment(self.part_number, max(start - self.header.base, 0), samples, not self.parts)
        duration = media.as_printed((end - start) / clock)
        if self.target_part is not None:
            duration = min(duration, self.target_part)
        elif len(self._first_parts) < _MOST_FIRST_PARTS:
            self._first_parts.append(duration)
        uri = self.part_uri(self.part_number)
        independent = samples[0].key
        part = Part(self.part_number, duration, independent, body, media.part(duration, uri, independent))
        self.part_number += 1
        self.parts.append(part)
        self.size += body.size
        self._recent[uri] = part
        self.dirty = True
        self.news.append(duration)

    def close_segment(self, end: int) -> None:
        """Completes the open segment, which has a part, at decode time `end`."""
        header = self.header
        assert header is not None and self.parts
        time = self.start + self._shift - header.base
        length = max(end - self.start, 1)
        most = self.window.target + 0.49 if self.target_part is not None else math.inf
        duration = media.as_printed(min(length / header.clock, most))
        body = _joined(self.parts, self.size)
        uri = self.segment_uri(self.number)
        wall = header.wall.at(time / header.clock)
        window = self.window
        segment = Segment(
            self.number, uri, duration, body, media.segment(duration, uri), header.epoch, wall, header.uri,
            time, length, header.clock, self.parts,
        )  # fmt: skip
        gone = window.add(segment)
        for old in gone:
            for part in old.parts:
                self._recent.pop(self.part_uri(part.number), None)
        if gone:
            self._forget_headers()
        self.number += 1
        self.parts = []
        self.open = False
        self.size = 0
        self.dirty = True

    def promise(self, target: int) -> None:
        """Fixes what the playlist promises, with its first segment complete. target: the Target Duration."""
        if self.target_part is None:
            self.window.target = target
            self.target_part = media.part_target(_target_part(self._first_parts, self._wanted_part))
            self._first_parts = []
            for part in [*(p for s in self.window for p in s.parts), *self.parts]:
                if part.duration > self.target_part:
                    part.duration = self.target_part
                    part.line = media.part(part.duration, self.part_uri(part.number), part.independent)
            if self.header is not None:
                self.part_ticks = max(int(self.target_part * self.header.clock + 1e-6), 1)

    def _forget_headers(self) -> None:
        window = self.window
        oldest = next(iter(window.left()), window[0])
        for epoch in [e for e in self.headers if e < oldest.epoch]:
            del self.headers[epoch]
        used = {h.uri for h in self.headers.values()}
        for uri in [u for u in self.inits if u not in used]:
            del self.inits[uri]

    # ---- reading ----

    @property
    def last(self) -> tuple[int, int | None]:
        """Media Sequence Number and part index of the newest part."""
        if self.parts and not self.hidden:
            return self.number, len(self.parts) - 1
        newest = self.window[-1]
        return newest.number, len(newest.parts) - 1

    @property
    def hidden(self) -> bool:
        """The open segment does not follow what is listed: it is listed, in the place of all that, when complete."""
        return len(self.window) > 0 and self.number != self.window[-1].number + 1

    def part_uri(self, number: int) -> str:
        return f"{self.prefix}-part-{number}.m4s"

    def part(self, uri: str) -> bytes | None:
        """The bytes of a part that can still be fetched."""
        found = self._recent.get(uri)
        return found.body() if found is not None else None

    def segment_uri(self, number: int) -> str:
        return f"{self.prefix}-{number}.m4s"

    def piece(self, number: int, index: int) -> bytes | None:
        """Part `index` of segment `number` while that is open or listed; None where it is not there (yet)."""
        parts: Sequence[Part] = ()
        if number == self.number:
            parts = self.parts
        else:
            for segment in reversed(list(self.window)):
                if segment.number == number:
                    parts = segment.parts
        return parts[index].body() if index < len(parts) else None

    def has(self, msn: int, part: int | None) -> bool:
        """Whether the playlist holds segment `msn`, or its part, or what came instead of that part."""
        if self.hidden:
            return msn <= self.window[-1].number
        if part is None:
            return msn < self.number
        if msn >= self.number:
            return msn == self.number and part < len(self.parts)
        if msn == self.number - 1 and not self.parts and len(self.window):
            # §6.2.5.2: a Part Index greater than that of the segment's final part MUST be treated "as one for Part
            # Index 0 of the following Parent Segment".
            return part < len(self.window[-1].parts)
        return True

    def playlist(self, *, ended: bool, report: str = "", skip: bool = False) -> str:
        """The Media Playlist, media.MARK behind its URIs; `skip`: as a delta update where that saves anything.

        report: the rendition report of the other track. Only after `promise`."""
        window, target = self.window, self.window.target
        assert self.target_part is not None
        skip_until = 6.0 * target
        head = media.head(
            target=target,
            sequence=window[0].number,
            discontinuity_sequence=window.discontinuity_sequence,
            version=_VERSION,
            low_latency=media.LowLatency(self.target_part, 3 * self.target_part, skip_until),
            # A picture may have to be cut in the middle of a GOP one day.
            independent=self.kind == "audio",
        )
        # An epoch without this track counts, too: §6.2.4 wants the discontinuities of all renditions to match.
        body: list[str] = []
        parts = self.parts if not self.hidden else []
        open_seconds = sum([p.duration for p in parts])
        left = window.seconds + open_seconds  # from the start of the segment at hand to the end of the playlist
        skipped = 0
        epoch, map_uri = window[0].epoch, ""
        for segment in window:
            # §6.2.5.1: what is skipped ends before the Skip Boundary.
            if skip and left - segment.duration >= skip_until - EPSILON:
                skipped += 1
                left -= segment.duration
                epoch, map_uri = segment.epoch, segment.map_uri
                continue
            if skipped and not body:
                body.append(media.skip(skipped))
            body.append(media.DISCONTINUITY * (segment.epoch - epoch))
            epoch = segment.epoch
            if segment.map_uri != map_uri:
                map_uri = segment.map_uri
                body.append(media.media_map(map_uri))
            body.append(media.program_date_time(segment.wall))
            left -= segment.duration
            if left < _PARTS_FOR * target - EPSILON:
                body.extend([p.line for p in segment.parts])
            body.append(segment.lines)
        tail: list[str] = []
        if not ended:
            header = self.header
            if parts and header is not None:
                tail.append(media.DISCONTINUITY * (header.epoch - epoch))
                if header.uri != map_uri:
                    tail.append(media.media_map(header.uri))
                tail.append(
                    media.program_date_time(header.wall.at((self.start + self._shift - header.base) / header.clock))
                )
                tail.extend([p.line for p in parts])
            if not self.hidden:
                tail.append(media.preload_hint(self.part_uri(self.part_number)))
            tail.append(report)
        return media.playlist(head, body, ended=ended, tail=tail)


def _target_part(parts: Sequence[float], wanted: float) -> float:
    """The Part Target Duration for a track whose first parts lasted so long, in seconds.

    Frames may last longer than the wanted part, or have a rate of which no number comes near it. A picture that stood
    still for once tells nothing of those to come.
    """
    usual = [p for p in parts if p <= _USUAL_PART * wanted]
    if 2 * len(usual) < len(parts):
        return sorted(parts)[3 * (len(parts) - 1) // 4]
    longest = max(usual, default=wanted)
    fits = _LEAST_PART * wanted <= longest <= wanted + EPSILON
    if fits or (len(usual) < len(parts) and longest <= wanted / 2):
        return wanted
    return max(longest, 1e-3)


def _fragment(number: int, start: int, samples: list[Sample], styp: bool) -> Rendered:
    size = fragment_size(samples, styp=styp)
    return Rendered(lambda: fragment(number, 1, start, samples, styp=styp), size)


def _joined(parts: Sequence[Part], size: int) -> Rendered:
    """The bytes of a segment; once they are there, its parts are slices of them."""

    def join() -> bytes:
        pieces = [part.body() for part in parts]
        body = b"".join(pieces)
        at = 0
        for part, piece in zip(parts, pieces, strict=True):
            part.body.becomes(_slice(body, at, at + len(piece)))
            at += len(piece)
        return body

    return Rendered(join, size)


def _slice(body: bytes, start: int, end: int) -> Callable[[], bytes]:
    return lambda: body[start:end]
