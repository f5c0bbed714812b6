"""One CMAF track: turns samples into parts and parts into segments, and prints its LL-HLS playlist."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.formats.hls import media_playlist
from gateway.formats.mp4.fragment import Mp4Sample, fragment, fragment_size
from gateway.lib.gate import Gate, Waiters
from gateway.packaging.lazy_bytes import LazyBytes
from gateway.packaging.segment_window import EPSILON, Part, Segment, SegmentWindow
from gateway.packaging.wall_clock import WallClock

_VERSION = 9  # §7: EXT-X-SKIP needs 9
# §4.4.4.9: parts "SHOULD be removed from the Playlist after they are greater than three Target Durations from the end":
# a segment's parts are listed while all of them are within that distance.
_PARTS_FOR = 3
_LEAST_PART = 0.85  # shortest part, as a factor of the Part Target Duration (§4.4.4.9)
_MAX_WHOLE_FRAMES = 1.15  # factor by which a part of whole frames may exceed the wanted duration
_USUAL_PART = 1.5  # factor of the wanted duration; a longer part has a frame that stood still
_MAX_FIRST_PARTS = 1000
_MAX_INITS = 64
_PEAK = 1.1  # bitrate of the largest segment, as a factor of the mean bitrate
_MAX_PROMISE_FACTOR = 4  # a promised bitrate counts up to this multiple of the measured one
_SEEN = 1.0  # seconds that a player may take to load the manifest
_MAX_PROMISED = 1000


@dataclass(frozen=True, slots=True)
class TrackHeader:
    """The constants of one epoch of a track: its initialization segment, its ticks a second, its values for manifests.

    prefix: the start of its file names, which no other epoch uses. A player that goes on counting at the end of an
    epoch must not get segments of the next one. Those need another initialization segment.
    base: ticks on the stream's clock at which presentation time begins. Fragments and dates count from there, so that
    times in the media do not begin at a publisher's uptime.
    """

    epoch: int
    uri: str
    clock: int
    codec: str
    wall: WallClock
    prefix: str
    base: int = 0
    size: tuple[int, int] | None = None
    rate: int = 0
    channels: int = 0
    aspect: tuple[int, int] | None = None  # pixel aspect ratio, None for square pixels


class CmafTrack:
    """Holds one track's window and its open segment with the parts so far, and prints its playlist.

    Times are in ticks of the present header's clock. Decode times place fragments. `shift` is the earliest presentation
    time of a segment minus the decode time of its first frame. Part numbers continue over segments: so the part in a
    preload hint will exist, in this segment or the next, unless the epoch ends before.
    """

    def __init__(
        self,
        kind: str,
        part: float,
        size: int,
        first: tuple[int, int] = (1, 1),
        waiters: Waiters | None = None,
    ) -> None:
        """kind: "video" or "audio", also the folder.
        part: wanted duration of a part, seconds.
        first: numbers of the first segment and of the first part.
        waiters: counts the clients that wait at `changed`.
        """
        self.kind = kind
        self.window = SegmentWindow(size)
        self.changed = Gate(waiters)
        self.promised_rate = 0.0  # bitrate that the publisher announces, bits a second, 0 for none
        self.header: TrackHeader | None = None
        self.headers: dict[int, TrackHeader] = {}  # by epoch, for what the window still holds
        self.inits: OrderedDict[str, bytes] = OrderedDict()
        self.number, self.part_number = first  # of the open segment, of the next part
        self.began = self.number  # of the first segment
        self.parts: list[Part] = []
        self.open = False
        self.dirty = False  # a part or segment was completed since the packager last checked …
        self.news: list[float] = []  # … and the seconds of those parts
        self.size = 0  # bytes of the open segment
        self.start = 0
        self.part_ticks = 1  # the longest that a part may be
        self.target_part: float | None = None  # the Part Target Duration, once it is promised
        self._first_parts: list[float] = []  # seconds of each part before that
        self._wanted_part = part
        self._fitted_part = part  # the wanted duration, rounded to whole frames
        self._promised: dict[str, range] = {}  # of ended epochs, by prefix: see `was_promised`
        self.shift = 0
        self.sap = 1  # type of the stream access point with which the open segment begins, 0: none
        self._lead = 0  # ticks from its earliest presentation time to that of its first frame
        self._given_date: int | None = None
        self.dated = 0  # `shift` when its first part was listed; fixed, so that its date does not change
        self._recent: dict[str, Part] = {}

    # ---- writing ----

    def begin(self, header: TrackHeader, init: bytes, now: float) -> None:
        """Begins an epoch: other tracks, or another publisher. now: when its first frame came, seconds since
        the epoch.
        """
        if self.header is not None and len(self.window):
            self._promised[self.header.prefix] = self._promises(now)
        self.header = header
        self.headers[header.epoch] = header
        self.inits[header.uri] = init
        if len(self.inits) > _MAX_INITS:
            self.inits.popitem(last=False)
        self.part_ticks = max(int((self.target_part or self._wanted_part) * header.clock + 1e-6), 1)

    def fit_parts(self, frame: int) -> None:
        """Rounds the wanted part up to whole frames of `frame` ticks, unless its length is promised already.

        With rounding down, four parts of 0.48 s leave two frames over in a segment of two seconds. Players skip such a
        short part: hls.js looks 0.25 s ahead for the next segment, and gets a hole there.
        """
        if self.target_part is not None or self.header is None:
            return
        wanted = self._wanted_part * self.header.clock
        frames = math.ceil(wanted / frame - 0.01)
        if frames * frame <= _MAX_WHOLE_FRAMES * wanted:
            self.part_ticks = int(frames * frame + frame / 2)  # plus half a frame: steps on a grid differ by a tick
            self._fitted_part = frames * frame / self.header.clock

    def init_uri(self, prefix: str) -> str:
        """Returns a new file name for the initialization segment that begins now."""
        return f"{prefix}-init-{self.number}.mp4"

    def open_segment(self, start: int, shift: int, dated: int | None = None) -> None:
        """Opens a segment at decode time `start`.

        dated: ticks from `start` to its date, if that is not `shift`.
        """
        self.open = True
        self.start = start
        self.shift = shift
        self.size = 0
        self.sap = 1
        self._lead = 0
        self._given_date = dated

    def lead(self, key: int, shown: int) -> None:
        """Notes that a picture of the open segment is shown at `shown`, before its first one, which is shown
        at `key`.
        """
        self.shift = min(self.shift, shown - self.start)
        self._lead = max(self._lead, key - shown)

    def add_part(self, start: int, samples: list[Mp4Sample], end: int, independent: bool) -> None:
        """Completes a part of samples from decode time `start` to `end`. All durations but the last are set.

        independent: one of the samples is a sync sample, not necessarily the first (§4.4.4.9: "YES if … contains an
        independent frame").

        The playlist never shows more than the Part Target Duration, even for a single frame that stays longer.
        """
        assert self.header is not None
        clock = self.header.clock
        samples[-1].duration = max(end - start - sum([s.duration for s in samples[:-1]]), 1)
        if not self.parts:
            self.dated = self.shift if self._given_date is None else self._given_date
        body = _fragment(self.part_number, max(start - self.header.base, 0), samples, not self.parts)
        duration = media_playlist.as_printed((end - start) / clock)
        if self.target_part is not None:
            duration = min(duration, self.target_part)
        elif len(self._first_parts) < _MAX_FIRST_PARTS:
            self._first_parts.append(duration)
        uri = self.part_uri(self.part_number)
        part = Part(self.part_number, uri, duration, independent, body, media_playlist.part(duration, uri, independent))
        self.part_number += 1
        self.parts.append(part)
        self.size += body.size
        self._recent[uri] = part
        self.dirty = True
        self.news.append(duration)

    def close_segment(self, end: int, spacing: int | None = None, last: bool = False) -> None:
        """Completes the open segment, which has at least one part, at decode time `end`.

        spacing: ticks from its first picture to the key frame of the next segment, in presentation time.
        last: the epoch is over.
        """
        header = self.header
        assert header is not None and self.parts
        time = self.start + self.shift - header.base
        length = max(end - self.start, 1)
        most = self.window.target + 0.49 if self.target_part is not None else math.inf
        duration = media_playlist.as_printed(min(length / header.clock, most))
        body = _joined(self.parts, self.size)
        uri = self.segment_uri(self.number)
        window = self.window
        segment = Segment(
            self.number, uri, duration, body, media_playlist.segment(duration, uri), header.epoch, self._date(header),
            header.uri, time, length, header.clock, self.parts, self.sap, self._lead, spacing or length, last,
        )  # fmt: skip
        gone = window.add(segment)
        for old in gone:
            for part in old.parts:
                self._recent.pop(part.uri, None)
        if gone:
            self._forget_headers()
        self.number += 1
        self.parts = []
        self.open = False
        self.size = 0
        self.dirty = True

    def promise(self, target: int) -> None:
        """Fixes what the playlist promises, when its first segment is complete. target: the Target Duration,
        seconds.
        """
        if self.target_part is None:
            self.window.target = target
            self.target_part = media_playlist.part_target(_target_part(self._first_parts, self._fitted_part))
            self._first_parts = []
            for part in [*(p for s in self.window for p in s.parts), *self.parts]:
                if part.duration > self.target_part:
                    part.duration = self.target_part
                    part.line = media_playlist.part(part.duration, part.uri, part.independent)
            if self.header is not None:
                self.part_ticks = max(int(self.target_part * self.header.clock + 1e-6), 1)

    def _date(self, header: TrackHeader) -> float:
        """Returns the arrival time of the open segment's first shown picture, in seconds since the epoch."""
        return header.wall.at((self.start + self.dated - header.base) / header.clock)

    def _forget_headers(self) -> None:
        window = self.window
        oldest = next(iter(window.left()), window[0])
        for epoch in [e for e in self.headers if e < oldest.epoch]:
            self._promised.pop(self.headers.pop(epoch).prefix, None)
        used = {h.uri for h in self.headers.values()}
        for uri in [u for u in self.inits if u not in used]:
            del self.inits[uri]

    # ---- reading ----

    @property
    def peak(self) -> float:
        """Bitrate of the largest segment to expect, bits a second (§4.4.6.2 BANDWIDTH).

        That is the largest measured one, or the publisher's announced bitrate: encoders often begin with less. An
        announced bitrate counts up to `_MAX_PROMISE_FACTOR` times the measured one.
        """
        measured = self.window.peak
        return max(measured, min(_PEAK * self.promised_rate, _MAX_PROMISE_FACTOR * measured))

    @property
    def last(self) -> tuple[int, int | None]:
        """Media Sequence Number and part index of the newest part."""
        if self.parts and not self.hidden:
            return self.number, len(self.parts) - 1
        newest = self.window[-1]
        return newest.number, len(newest.parts) - 1

    @property
    def hidden(self) -> bool:
        """The open segment does not follow the listed ones. It is listed when complete, and replaces all of them."""
        return len(self.window) > 0 and self.number != self.window[-1].number + 1

    def was_promised(self, uri: str) -> bool:
        """Tells whether players may expect a segment that an ended epoch does not have.

        Players compute segment numbers from the clock and an old manifest, until a newer manifest shows them the next
        epoch.
        """
        prefix, _, rest = uri.removesuffix(".m4s").partition("-")
        return rest.isdecimal() and int(rest) in self._promised.get(prefix, ())

    def _promises(self, now: float) -> range:
        """Returns the numbers after the last segment that players may compute until all have seen the next epoch."""
        last = self.window[-1]
        usual = next((s for s in reversed(list(self.window)) if s.epoch == last.epoch and not s.last), last).duration
        # The new Period is listed with its first segment, and seen with the next load of the manifest.
        until = now + 2 * self.window.longest + _SEEN
        passed = (until - last.wall - last.duration) / max(usual, 0.1)
        return range(last.number + 1, last.number + 2 + min(max(math.ceil(passed), 0), _MAX_PROMISED))

    def part_uri(self, number: int) -> str:
        """Returns the URI of a part in the present epoch."""
        return f"{self._prefix}-part-{number}.m4s"

    def part(self, uri: str) -> bytes | None:
        """Returns the bytes of a part that can still be fetched, None for others."""
        found = self._recent.get(uri)
        return found.body() if found is not None else None

    def segment_uri(self, number: int) -> str:
        return f"{self._prefix}-{number}.m4s"

    @property
    def _prefix(self) -> str:
        return self.header.prefix if self.header is not None else ""

    def piece(self, number: int, index: int) -> bytes | None:
        """Returns part `index` of segment `number` if that is open or listed; None if it is not there (yet)."""
        parts: Sequence[Part] = ()
        if number == self.number:
            parts = self.parts
        else:
            for segment in reversed(list(self.window)):
                if segment.number == number:
                    parts = segment.parts
        return parts[index].body() if index < len(parts) else None

    def has(self, msn: int, part: int | None) -> bool:
        """Tells whether the playlist holds segment `msn`, or its part `part`, or media that replaced that part."""
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
        """Returns the Media Playlist with media_playlist.MARK after its URIs. Only after `promise`.

        report: rendition reports of other tracks.
        skip: makes a delta update if that saves anything.
        """
        window, target = self.window, self.window.target
        assert self.target_part is not None
        skip_until = 6.0 * target
        head = media_playlist.head(
            target=target,
            sequence=window[0].number,
            discontinuity_sequence=window.discontinuity_sequence,
            version=_VERSION,
            low_latency=media_playlist.LowLatency(self.target_part, 3 * self.target_part, skip_until),
            # A video segment may have to begin in the middle of a GOP later.
            independent=self.kind == "audio",
        )
        # Counts epochs without this track, too: §6.2.4 wants the discontinuities of all renditions to match.
        body: list[str] = []
        parts = self.parts if not self.hidden else []
        open_seconds = sum([p.duration for p in parts])
        left = window.seconds + open_seconds  # from the start of the current segment to the end of the playlist
        skipped = 0
        epoch, map_uri = window[0].epoch, ""
        for segment in window:
            # §6.2.5.1: what is skipped ends before the Skip Boundary; with ENDLIST the directive MUST be ignored.
            if skip and not ended and left - segment.duration >= skip_until - EPSILON:
                skipped += 1
                left -= segment.duration
                epoch, map_uri = segment.epoch, segment.map_uri
                continue
            if skipped and not body:
                body.append(media_playlist.skip(skipped))
            body.append(media_playlist.DISCONTINUITY * (segment.epoch - epoch))
            epoch = segment.epoch
            if segment.map_uri != map_uri:
                map_uri = segment.map_uri
                body.append(media_playlist.media_map(map_uri))
            body.append(media_playlist.program_date_time(segment.wall))
            if left <= _PARTS_FOR * target + EPSILON:
                body.extend([p.line for p in segment.parts])
            left -= segment.duration
            body.append(segment.lines)
        tail: list[str] = []
        if not ended:
            header = self.header
            if parts and header is not None:
                tail.append(media_playlist.DISCONTINUITY * (header.epoch - epoch))
                if header.uri != map_uri:
                    tail.append(media_playlist.media_map(header.uri))
                tail.append(media_playlist.program_date_time(self._date(header)))
                tail.extend([p.line for p in parts])
            if not self.hidden:
                tail.append(media_playlist.preload_hint(self.part_uri(self.part_number)))
            tail.append(report)
        return media_playlist.playlist(head, body, ended=ended, tail=tail)


def _target_part(parts: Sequence[float], wanted: float) -> float:
    """Returns the Part Target Duration for a track, in seconds.

    parts: seconds of the track's first parts.
    wanted: wanted seconds of a part.

    Frames may last longer than the wanted part, or have a rate of which no multiple comes near it. A single picture
    that stood still says nothing about later ones.
    """
    usual = [p for p in parts if p <= _USUAL_PART * wanted]
    if 2 * len(usual) < len(parts):
        return sorted(parts)[3 * (len(parts) - 1) // 4]
    longest = max(usual, default=wanted)
    fits = _LEAST_PART * wanted <= longest <= wanted + EPSILON
    if fits or (len(usual) < len(parts) and longest <= wanted / 2):
        return wanted
    return max(longest, 1e-3)


def _fragment(number: int, start: int, samples: list[Mp4Sample], styp: bool) -> LazyBytes:
    size = fragment_size(samples, styp=styp)
    return LazyBytes(lambda: fragment(number, 1, start, samples, styp=styp), size)


def _joined(parts: Sequence[Part], size: int) -> LazyBytes:
    """Returns the bytes of a segment. Once they are made, its parts become slices of them."""

    def join() -> bytes:
        pieces = [part.body() for part in parts]
        body = b"".join(pieces)
        at = 0
        for part, piece in zip(parts, pieces, strict=True):
            part.body.becomes(_slice(body, at, at + len(piece)))
            at += len(piece)
        return body

    return LazyBytes(join, size)


def _slice(body: bytes, start: int, end: int) -> Callable[[], bytes]:
    return lambda: body[start:end]
