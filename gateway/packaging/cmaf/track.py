"""One CMAF track: turns samples into parts and parts into segments, and writes its LL-HLS playlist."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gateway.formats.hls import media_playlist
from gateway.formats.mp4.event_message import EventMessage, emsg, ticks
from gateway.formats.mp4.fragment import Mp4Sample, fragment, fragment_size
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.gate import Gate, Waiters
from gateway.lib.numbers import read_integer
from gateway.media.colors import UNSPECIFIED_SIGNAL, VideoSignal
from gateway.packaging.caption_pieces import CaptionPieces, moved
from gateway.packaging.date_ranges import CueTags, DateRanges
from gateway.packaging.packager import SegmentPlan
from gateway.packaging.segment_window import EPSILON, LazyBytes, Part, Segment, SegmentWindow
from gateway.packaging.timing import WallClock

_VERSION = 9  # §7: EXT-X-SKIP needs 9
# §4.4.4.9: parts "SHOULD be removed from the Playlist after they are greater than three Target Durations from the end".
# A segment's parts are listed while all of them are within this distance.
_PART_TARGET_DURATIONS = 3
MIN_LISTED = 10  # segments, as soon as a client has got a list
_MIN_PART_FACTOR = 0.85  # shortest part, as a factor of the Part Target Duration (§4.4.4.9)
_MAX_FRAME_ROUNDING = 1.15  # factor by which a part of whole frames may exceed the wanted duration
# Seconds. If hls.js gets the playlist that completes a segment while it still appends the segment's last but one part,
# it takes the segment as buffered, because less than 0.2 s is missing. Then it loads nothing for three Target
# Durations.
_SHORT_PART = 0.2
_MAX_USUAL_PART = 1.5  # factor of the wanted duration; a longer part contains a very long frame
_MAX_FIRST_PARTS = 1000
_MAX_INITS = 64
_MAX_NUMBER = 10**12  # largest number of a segment in a URI
_PEAK = 1.1  # bitrate of the largest segment, as a factor of the mean bitrate
_MAX_ANNOUNCED_FACTOR = 4  # the announced bitrate is limited to this multiple of the measured one
_MANIFEST_LOAD_SECONDS = 1.0  # maximum time that a player needs to load the manifest
_MAX_EXPECTED_NUMBERS = 1000
_MAX_EVENTS = 64  # that wait for their time; then the oldest is dropped


@dataclass(frozen=True, slots=True)
class CmafHeader:
    """The constants of one epoch of a track: initialization segment, timescale, manifest values.

    uri: of the initialization segment.
    clock: ticks a second.
    prefix: the unique start of this epoch's file names. A player that continues to count must not get the next epoch's
    segments, because the next epoch needs another initialization segment.
    base: stream time of presentation time zero, in ticks. Fragments and dates are relative to it, so that media times
    do not begin at a publisher's uptime.
    aspect: pixel aspect ratio; None for square pixels.
    signal: the colors of the pictures.
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
    aspect: tuple[int, int] | None = None
    signal: VideoSignal = UNSPECIFIED_SIGNAL


class CmafTrack:
    """One track: its segment window, its open segment and its playlist.

    Times are in ticks of the current header's clock. Fragments have decode times. `shift` is the earliest presentation
    time of a segment minus the decode time of its first frame. Part numbers continue across segments. So the hinted
    part will exist, unless the epoch ends first.

    kind: the folder: "video", "audio", or "audio-<id>" for an additional audio track.
    plan: the wanted segments, and the memory that it shares with other tracks.
    first: numbers of the first segment and of the first part.
    waiters: counts the clients that wait at `changed`.
    """

    def __init__(self, kind: str, plan: SegmentPlan, first: tuple[int, int], waiters: Waiters) -> None:
        self.kind = kind
        self.media = "video" if kind == "video" else "audio"
        self.window = SegmentWindow(plan.size, budget=plan.budget, length=plan.length)
        self.window.target = max(math.ceil(plan.seconds), 1)  # until `fix_durations`
        self.changed = Gate(waiters)
        # Returns the captions between two presentation times, in ticks of a clock; only of the main track.
        self.cut_captions: Callable[[int, int, int], CaptionPieces | None] | None = None
        self.announced_bitrate = 0.0  # from the publisher, bits a second; 0 if it announces none
        self.header: CmafHeader | None = None
        self.headers: dict[int, CmafHeader] = {}  # by epoch, for the segments in the window
        self.inits: BoundedDict[str, bytes] = BoundedDict(_MAX_INITS)
        self.number, self.part_number = first  # numbers of the open segment and of the next part
        self.first_number = self.number  # number of the first segment
        self.parts: list[Part] = []  # parts of the open segment
        self.open = False
        self.dirty = False  # a part or segment was completed since the last check of the packager
        self.new_part_seconds: list[float] = []  # durations of the parts completed since then
        self.end_date = 0.0  # of the newest part, seconds since 1970
        self.size = 0  # bytes of the open segment
        self.start = 0  # decode time of the open segment
        self.part_ticks = 1  # maximum duration of a part
        self.part_target: float | None = None  # the Part Target Duration; None until it is fixed
        self._first_parts: list[float] = []  # durations of the parts before it is fixed
        self._wanted_part = plan.part
        self._rounded_part = plan.part  # the wanted duration, rounded to whole frames
        self._expected_numbers: dict[str, range] = {}  # of ended epochs, by prefix: see `may_be_requested`
        self.shift = 0
        self._slew = 0  # correction of the open segment's times, see `DateCorrection`
        self.sap = 1  # type of the stream access point with which the open segment begins, 0: none
        self.independent = True  # each segment so far can be decoded alone
        self._leading = 0  # ticks from its earliest presentation time to the presentation time of its first frame
        self._date_offset: int | None = None  # ticks from `start` to the date of the open segment; None: `shift`
        self.date_shift = 0  # `shift` when the first part was listed, so that the date does not change
        self._recent: dict[str, Part] = {}  # by URI, the parts that can still be fetched
        self.cue_tags: CueTags | None = None  # see `hls.cue_tags`
        self.event_schemes: tuple[str, ...] = ()  # schemes of the events so far
        self._events: list[EventMessage] = []  # events that wait for their part

    # ---- writing ----

    def begin(self, header: CmafHeader, init: bytes, now: float) -> None:
        """Begins an epoch: other tracks, or another publisher.

        now: arrival time of its first frame, seconds since 1970.
        """
        if self.header is not None:
            # The new Period is listed with its first segment. Players get it when they load the next manifest.
            load = 2 * self.window.longest + _MANIFEST_LOAD_SECONDS
            self._expected_numbers[self.header.prefix] = self.numbers_players_expect(now, load)
        self.header = header
        self.headers[header.epoch] = header
        self.inits[header.uri] = init
        self.part_ticks = max(int((self.part_target or self._wanted_part) * header.clock + 1e-6), 1)

    def round_parts(self, frame: int) -> None:
        """Rounds the part length up to whole frames of `frame` ticks, unless it is fixed.

        Rounding down leaves a part of two frames in a segment of 2 s with parts of 0.48 s. Players skip this short
        part: hls.js searches the next segment 0.25 s ahead and finds no data.
        """
        if self.part_target is not None or self.header is None:
            return
        wanted = self._wanted_part * self.header.clock
        frames = math.ceil(wanted / frame - 0.01)
        if frames * frame <= _MAX_FRAME_ROUNDING * wanted:
            # Plus half a frame, because frame durations differ by one tick.
            self.part_ticks = int(frames * frame + frame / 2)
            self._rounded_part = frames * frame / self.header.clock

    def add_event(self, event: EventMessage) -> None:
        """Adds an event. It is written before the part in which its time lies, or the next one if that is complete."""
        if event.scheme not in self.event_schemes:
            self.event_schemes = (*self.event_schemes, event.scheme)
        self._events = [*self._events, event][-_MAX_EVENTS:]

    def _due_events(self, start: int, end: int) -> bytes:
        """Returns the boxes of the events before `end` of a part that begins at `start`, presentation times."""
        header = self.header
        assert header is not None
        clock = header.clock
        times = [(event, ticks(event, clock) - self._slew) for event in self._events]
        self._events = [event for event, time in times if time >= end]
        return b"".join([emsg(e, max(time, start) - header.base, clock) for e, time in times if time < end])

    def init_uri(self, prefix: str) -> str:
        """Returns a new file name for the initialization segment of a new epoch."""
        return f"{prefix}-init-{self.number}.mp4"

    def open_segment(self, start: int, shift: int, date_shift: int | None = None, slew: int = 0) -> None:
        """Opens a segment at decode time `start`.

        shift: ticks from `start` to its earliest presentation time, as far as known.
        date_shift: ticks from `start` to its date; None: `shift`.
        slew: correction of its times.
        """
        self.open = True
        self._slew = slew
        self.start = start
        self.shift = shift
        self.size = 0
        self.sap = 1
        self._leading = 0
        self._date_offset = date_shift

    def note_earlier_picture(self, key: int, presentation: int) -> None:
        """Notes a picture of the open segment that is shown at `presentation`, before the first one (at `key`)."""
        self.shift = min(self.shift, presentation - self.start)
        self._leading = max(self._leading, key - presentation)

    def add_part(self, start: int, samples: list[Mp4Sample], end: int, independent: bool) -> None:
        """Completes a part of samples from decode time `start` to `end`. All durations except the last are set.

        independent: whether one of the samples is a sync sample, not necessarily the first (§4.4.4.9: "YES if …
        contains an independent frame").

        In the playlist a part is never longer than the Part Target Duration, even if it is one longer frame.
        """
        assert self.header is not None
        clock = self.header.clock
        samples[-1].duration = max(end - start - sum([s.duration for s in samples[:-1]]), 1)
        if not self.parts:
            self.date_shift = self.shift if self._date_offset is None else self._date_offset
        events = self._due_events(max(start + self.shift, self.header.base), end + self.shift) if self._events else b""
        body = _fragment(self.part_number, max(start - self.header.base, 0), samples, not self.parts, events)
        duration = media_playlist.as_printed((end - start) / clock)
        if self.part_target is not None:
            duration = min(duration, self.part_target)
        elif len(self._first_parts) < _MAX_FIRST_PARTS:
            self._first_parts.append(duration)
        uri = self.part_uri(self.part_number)
        line = media_playlist.part(duration, uri, independent)
        cut = self.cut_captions
        shift = self.shift + self._slew
        captions = moved(cut(start + shift, end + shift, clock), -self._slew, clock) if cut is not None else None
        part = Part(self.part_number, uri, duration, independent, body, line, captions)
        self.end_date = self.header.wall.at((end + self.date_shift - self.header.base) / clock)
        self.part_number += 1
        self.parts.append(part)
        self.size += body.size
        self._recent[uri] = part
        self.dirty = True
        self.new_part_seconds.append(duration)

    def close_segment(self, end: int, spacing: int | None = None, last: bool = False) -> None:
        """Completes the open segment, which has at least one part, at decode time `end`.

        spacing: ticks between its first picture and the next segment's key frame, in presentation time.
        last: whether this is the epoch's last segment.
        """
        header = self.header
        assert header is not None and self.parts
        time = self.start + self.shift - header.base
        length = max(end - self.start, 1)
        max_seconds = self.window.target + 0.49 if self.part_target is not None else math.inf
        duration = media_playlist.as_printed(min(length / header.clock, max_seconds))
        body = _join_parts(self.parts, self.size)
        uri = self.segment_uri(self.number)
        window, wall = self.window, self._date(header)
        cues = self.cue_tags.before(wall) if self.cue_tags is not None else ""
        segment = Segment(
            self.number, uri, duration, body, cues + media_playlist.segment(duration, uri), header.epoch, wall,
            header.uri, time, length, header.clock, self.parts, self.sap, self._leading, spacing or length, last,
        )  # fmt: skip
        self.independent = self.independent and self._begins_alone
        removed = window.add(segment)
        for old in removed:
            for part in old.parts:
                self._recent.pop(part.uri, None)
        if removed:
            self._drop_old_headers()
        self.number += 1
        self.parts = []
        self.open = False
        self.size = 0
        self.dirty = True

    def fix_durations(self, target: int) -> float:
        """Fixes the durations of the playlist after the first segment. Returns the Part Target Duration, seconds.

        target: Target Duration, seconds.
        """
        if self.part_target is None:
            self.window.target = target
            self.part_target = media_playlist.part_target(_choose_part_target(self._first_parts, self._rounded_part))
            self._first_parts = []
            for part in [*(p for s in self.window for p in s.parts), *self.parts]:
                if part.duration > self.part_target:
                    part.duration = self.part_target
                    part.line = media_playlist.part(part.duration, part.uri, part.independent)
            if self.header is not None:
                self.part_ticks = max(int(self.part_target * self.header.clock + 1e-6), 1)
        return self.part_target

    def _date(self, header: CmafHeader) -> float:
        """Returns the arrival time of the open segment's first shown picture, in seconds since 1970."""
        return header.wall.at((self.start + self.date_shift - header.base) / header.clock)

    def _drop_old_headers(self) -> None:
        window = self.window
        oldest = next(iter(window.unlisted()), window[0])
        for epoch in [e for e in self.headers if e < oldest.epoch]:
            self._expected_numbers.pop(self.headers.pop(epoch).prefix, None)
        used = {h.uri for h in self.headers.values()}
        for uri in [u for u in self.inits if u not in used]:
            del self.inits[uri]

    # ---- reading ----

    @property
    def peak(self) -> float:
        """The expected bitrate of the largest segment, bits a second (§4.4.6.2 BANDWIDTH).

        It is the largest measured bitrate, or the announced one, because encoders often start lower. The announced
        bitrate is limited to `_MAX_ANNOUNCED_FACTOR` times the measured one.
        """
        measured = self.window.peak
        return max(measured, min(_PEAK * self.announced_bitrate, _MAX_ANNOUNCED_FACTOR * measured))

    @property
    def last(self) -> tuple[int, int | None]:
        """The Media Sequence Number and part index of the newest part."""
        if self.parts and not self.is_unlisted:
            return self.number, len(self.parts) - 1
        newest = self.window[-1]
        return newest.number, len(newest.parts) - 1

    @property
    def _begins_alone(self) -> bool:
        """Whether the open segment begins with a key frame, and no picture of it needs an earlier one."""
        return 0 < self.sap <= 2

    @property
    def is_unlisted(self) -> bool:
        """Whether the open segment's number does not follow the listed segments.

        When it is complete, it replaces all of them.
        """
        return len(self.window) > 0 and self.number != self.window[-1].number + 1

    def may_be_requested(self, uri: str) -> bool:
        """Whether players may request a segment that an ended epoch does not have.

        Players compute segment numbers from the clock and an old manifest, until they load the next epoch's manifest.
        """
        prefix, _, rest = uri.removesuffix(".m4s").partition("-")
        return read_integer(rest, _MAX_NUMBER) in self._expected_numbers.get(prefix, ())

    def numbers_players_expect(self, now: float, load: float = 0.0) -> range:
        """Returns the numbers of later segments that follow from the clock of a manifest, whether media arrive or not.

        now: time of the player, seconds since 1970. load: seconds for which it keeps the manifest.
        """
        if not len(self.window):
            return range(0)
        last = self.window[-1]
        typical = next((s for s in reversed(list(self.window)) if s.epoch == last.epoch and not s.last), last).duration
        passed = (now + load - min(last.wall + last.duration, now)) / max(typical, 0.1)
        return range(last.number + 1, last.number + 2 + min(max(math.ceil(passed), 0), _MAX_EXPECTED_NUMBERS))

    def part_uri(self, number: int) -> str:
        """Returns the URI of a part in the current epoch."""
        return f"{self._prefix}-part-{number}.m4s"

    def find_part(self, uri: str) -> Part | None:
        return self._recent.get(uri)

    def part(self, uri: str) -> bytes | None:
        """Returns the bytes of a part; None if it can no longer be fetched."""
        found = self._recent.get(uri)
        return found.body() if found is not None else None

    def segment_uri(self, number: int) -> str:
        return f"{self._prefix}-{number}.m4s"

    @property
    def _prefix(self) -> str:
        return self.header.prefix if self.header is not None else ""

    def part_at(self, number: int, index: int) -> bytes | None:
        """Returns part `index` of segment `number`; None if it does not exist (yet), or the segment is not listed."""
        listed = (segment.parts for segment in self.window if segment.number == number)
        parts = self.parts if number == self.number else next(listed, ())
        return parts[index].body() if index < len(parts) else None

    def has(self, msn: int, part: int | None) -> bool:
        """Whether the playlist contains segment `msn`, its part `part`, or later media."""
        if self.is_unlisted:
            return msn <= self.window[-1].number
        if part is None:
            return msn < self.number
        if msn >= self.number:
            return msn == self.number and part < len(self.parts)
        if msn == self.number - 1 and not self.parts and len(self.window):
            # §6.2.5.2: a Part Index after the segment's final part MUST be treated "as one for Part Index 0 of the
            # following Parent Segment". A very short final part waits for that one too.
            newest = self.window[-1]
            waits = newest.parts[-1].duration < _SHORT_PART and not newest.last
            return part < len(newest.parts) - waits
        return True

    def playlist(
        self, hold_back: float, *, ended: bool, report: str = "", skip: bool = False, ranges: DateRanges | None = None
    ) -> str:
        """Returns the Media Playlist with media_playlist.MARK after its URIs. `fix_durations` must come first.

        hold_back: seconds, for all tracks of the presentation.
        report: rendition reports of other tracks.
        skip: whether to make a delta update, if it is shorter. It has all date ranges (§6.2.5.1).
        ranges: of the stream.
        """
        window, target = self.window, self.window.target
        assert self.part_target is not None
        window.show(MIN_LISTED)
        skip_until = 6.0 * target
        head = media_playlist.head(
            target=target,
            sequence=window[0].number,
            discontinuity_sequence=window.discontinuity_sequence,
            version=_VERSION,
            low_latency=media_playlist.LowLatency(self.part_target, hold_back, skip_until),
            # A later video segment may begin inside a GOP. Then the tag is left out from this segment on.
            independent=self.independent and (not self.parts or self._begins_alone),
        )
        if ranges is not None:
            head += ranges.lines(window[0].wall)
        # Also counts epochs without this track: §6.2.4 requires the same discontinuities in all renditions.
        body: list[str] = []
        parts = self.parts if not self.is_unlisted else []
        open_seconds = sum([p.duration for p in parts])
        remaining = window.seconds + open_seconds  # from the start of the current segment to the end of the playlist
        skipped = 0
        epoch, map_uri = window[0].epoch, ""
        for segment in window:
            # §6.2.5.1: skipped segments end before the Skip Boundary. With ENDLIST the directive MUST be ignored.
            if skip and not ended and remaining - segment.duration >= skip_until - EPSILON:
                skipped += 1
                remaining -= segment.duration
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
            if remaining <= _PART_TARGET_DURATIONS * target + EPSILON:
                body.extend([p.line for p in segment.parts])
            remaining -= segment.duration
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
            if not self.is_unlisted:
                tail.append(media_playlist.preload_hint(self.part_uri(self.part_number)))
            tail.append(report)
        return media_playlist.playlist(head, body, ended=ended, tail=tail)


def rendition_reports(track: CmafTrack | None, listed: Iterable[tuple[str, CmafTrack | None]], path: str) -> str:
    """Returns rendition reports of all tracks except `track`. listed: their URIs, below the relative `path`."""
    others = [(uri, other) for uri, other in listed if other is not None and other is not track]
    return "".join([media_playlist.rendition_report(path + uri, *other.last) for uri, other in others])


def _choose_part_target(parts: Sequence[float], wanted: float) -> float:
    """Returns the Part Target Duration for a track, in seconds.

    parts: seconds of the track's first parts.
    wanted: wanted seconds of a part.

    Frames may be longer than the wanted part, or no multiple of a frame is near it. One very long picture is ignored.
    """
    typical = [p for p in parts if p <= _MAX_USUAL_PART * wanted]
    if 2 * len(typical) < len(parts):
        return sorted(parts)[3 * (len(parts) - 1) // 4]
    longest = max(typical, default=wanted)
    fits = _MIN_PART_FACTOR * wanted <= longest <= wanted + EPSILON
    if fits or (len(typical) < len(parts) and longest <= wanted / 2):
        return wanted
    return max(longest, 1e-3)


def _fragment(number: int, start: int, samples: list[Mp4Sample], styp: bool, events: bytes) -> LazyBytes:
    size = fragment_size(samples, styp=styp) + len(events)
    return LazyBytes(lambda: fragment(number, 1, start, samples, styp=styp, events=events), size)


def _join_parts(parts: Sequence[Part], size: int) -> LazyBytes:
    """Joins the parts of a segment. Afterwards the parts are slices of the joined bytes."""

    def join() -> bytes:
        pieces = [part.body() for part in parts]
        body = b"".join(pieces)
        at = 0
        for part, part_at in zip(parts, pieces, strict=True):
            part.body.replace_source(_slice(body, at, at + len(part_at)))
            at += len(part_at)
        return body

    return LazyBytes(join, size)


def _slice(body: bytes, start: int, end: int) -> Callable[[], bytes]:
    return lambda: body[start:end]
