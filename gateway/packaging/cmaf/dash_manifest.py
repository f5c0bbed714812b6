"""Turns the contents of the CMAF tracks into the values of an MPD: its Periods, and their segment addressing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from gateway.formats.dash.mpd import AdaptationSet, Descriptor, Mpd, Period, Representation, Template, TimelineEntry
from gateway.lib.rfc3339 import milliseconds
from gateway.media.caption_track import CaptionTrack
from gateway.media.clock import MILLISECONDS, VIDEO_CLOCK
from gateway.media.colors import VideoSignal
from gateway.packaging.cmaf.track import MIN_LISTED, CmafHeader, CmafTrack
from gateway.packaging.segment_window import Segment
from gateway.packaging.timing import WallClock

CLOCK_URL = "/time"
# Fraction of a segment's typical duration. A segment that is farther from its position on the grid needs a
# SegmentTimeline. ISO/IEC 23009-1 §7.2.1 allows half a segment, but players work better with less.
_TOLERANCE = 0.15
_MAX_OFF = 54_000  # ticks, 0.6 s: long segments too, with what `DateCorrection` leaves, are late by less than a second
_MAX_LEAD = 0.4  # fraction of a segment that may be shown before its key frame
# Seconds. ffmpeg's DASH demuxer (5.1 to 7) computes in whole unsigned seconds since availabilityStartTime. It uses the
# values of its first MPD. It needs a time shift buffer of three seconds. Neither this buffer nor the delay may exceed
# the elapsed time, otherwise it always requests the first segment.
_MIN_DEPTH = 3
_MAX_UPDATE = 2.5  # seconds between two requests of the MPD: players stand still until they know the next Period
_MIN_PERIOD = 0.5  # seconds; those of a burst are shorter, and dash.js (5.2.1) shows no picture after them
_STEADY = 0.05  # fraction of a segment by which lengths may differ and still have one grid
_MAX_WAIT = 2  # complete segments of the main track, after which a Period is listed without its other tracks
_TEXT_BANDWIDTH = 2_000  # bits a second
RENDITION_DELAY = 0.5  # seconds by which a rendition from a worker is later than its source
_MAX_WORKER_DELAY = 1.9  # seconds, in addition to a segment, by which an overloaded worker may be late
_MAX_LATE_START = 3  # segments by which a rendition may begin after its source and still be listed


@dataclass(frozen=True, slots=True)
class AudioLabel:
    """Language (BCP 47) and name of an audio track; "" if unknown."""

    language: str
    name: str


_NO_LABEL = AudioLabel("", "")


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of an MPD: the folders of its tracks, the captions in the pictures, and those as text.

    audio: languages and names by track, if there are several audio tracks.
    """

    tracks: frozenset[str]
    audio: Mapping[str, AudioLabel]
    captions: Sequence[CaptionTrack]
    texts: Sequence[CaptionTrack]


@dataclass(slots=True)
class Epoch:
    """The media of one publisher, or a part of them, listed as one Period.

    A Period that was listed keeps its addressing and its contents: shaka-player (5.2.12) fails on other updates. If
    something must change, another Period of the epoch begins with the next segment, with the same file names.

    period: number of the Period in its epoch. change: number of those in it that begin with other renditions.
    origin: its first presentation time, ticks of 90 kHz.
    prefix: the start of its file names.
    typical: duration of a segment, ticks of 90 kHz; None until the first one is complete.
    by_number: whether players compute the segments from `typical`; None before it is listed.
    regular: whether each segment's time is its number times the duration.
    first: by track, the number of a segment at the origin; the main track comes first.
    contents: what the MPD lists; None before it is listed. is_outdated: whether that has changed.
    renditions: as they were last written, by name, and whether each has the codec and range of the source; None before
    it is listed.
    """

    number: int
    origin: int
    wall: WallClock
    prefix: str
    period: int = 0
    typical: int | None = None
    by_number: bool | None = None
    regular: bool = True
    first: dict[str, int] = field(default_factory=dict)
    contents: Contents | None = None
    is_outdated: bool = False
    change: int = 0
    renditions: dict[str, tuple[Representation, bool]] | None = None
    _latest: int = field(init=False)  # start of the latest segment of the main track
    _is_steady: bool = field(default=True, init=False)  # whether the segment before `_latest` has the typical length

    def __post_init__(self) -> None:
        self._latest = self.origin

    @property
    def id(self) -> str:
        """The id of its Period. It is unique also after another node has continued the stream."""
        change = f".{self.change}" if self.change else ""
        return f"{self.number + 1}.{self.period}{change}" if self.period or change else f"{self.number + 1}"

    @property
    def date(self) -> float:
        """The date of its begin, seconds since 1970."""
        return self.wall.at(self.origin / VIDEO_CLOCK)

    def is_after(self, segment: Segment) -> bool:
        """Whether most of a segment is before this Period."""
        middle = (2 * segment.time + segment.length) * VIDEO_CLOCK // (2 * segment.clock)
        return segment.epoch < self.number or (segment.epoch == self.number and middle < self.origin)

    def has(self, segment: Segment) -> bool:
        """Whether a segment of this or an earlier Period is in this one. The first one has all before the second."""
        is_first = not self.period and not self.change
        return segment.epoch == self.number and (is_first or not self.is_after(segment))

    def ends_at(self, time: int, number: int) -> bool:
        """Whether segment `number` of the main track needs another Period. It begins at `time`, ticks of 90 kHz."""
        length, self._latest = time - self._latest, time
        if self.typical is None:
            return False
        self._is_steady = abs(length - self.typical) <= _STEADY * self.typical
        first = next(iter(self.first.values()))
        is_off = abs(time - self.origin - (number - first) * self.typical) > min(_TOLERANCE * self.typical, _MAX_OFF)
        if self.by_number is None:  # no player knows it
            self.regular = self.regular and (self._is_steady or not is_off)
            return is_off and self.regular
        return self.is_outdated or (self.by_number and (is_off or not self.regular))

    def next_period(self, time: int, period: int, number: int) -> Epoch:
        """Returns the Period that begins with segment `number` of the main track at `time`.

        A publisher whose clock drifts leaves the grid slowly: then the measured length makes the next one.
        """
        assert self.typical is not None
        regular, (kind, first) = self.regular and self._is_steady, next(iter(self.first.items()))
        typical = round((time - self.origin) / max(number - first, 1))
        if abs(typical - self.typical) > _STEADY * self.typical:
            typical = self.typical
        regular = regular and self.by_number is not False
        return Epoch(self.number, time, self.wall, self.prefix, period, typical, None, regular, {kind: number})

    def next_change(self, segment: Segment) -> Epoch:
        """Returns the Period for other renditions that begins with a complete segment of the main track."""
        time = (segment.time + segment.leading) * VIDEO_CLOCK // segment.clock
        following = self.next_period(time, self.period, segment.number)
        following.change, following._latest = self.change + 1, self._latest
        return following

    def note(self, kind: str, is_main: bool, segment: Segment) -> None:
        """Evaluates a complete segment. is_main: whether its track decides the typical duration."""
        leading = segment.leading / segment.clock
        start = segment.time / segment.clock + leading - self.origin / VIDEO_CLOCK
        length = segment.spacing / segment.clock
        if self.typical is None:
            if not is_main:
                return
            self.typical = max(round(length * VIDEO_CLOCK), 1)
        typical = self.typical / VIDEO_CLOCK
        first = self.first.get(kind)
        if first is None:
            first = self.first[kind] = segment.number - round(start / typical)
        start_error = abs(start - (segment.number - first) * typical)
        end_error = start + length - (segment.number - first + 1) * typical
        end_error = max(end_error, 0.0) if segment.last else abs(end_error)
        self.note_start(segment.parts[0].independent)
        if first < 0 or max(start_error, end_error) > 2 * _TOLERANCE * typical or leading > _MAX_LEAD * typical:
            self.regular = False

    def note_start(self, independent: bool) -> None:
        """Evaluates the first part of a segment.

        independent: whether the part has a sync sample. Players that join a segment sent in chunks begin at its start,
        so they need a sync sample there.
        """
        if not independent:
            self.regular = False


@dataclass(frozen=True, slots=True)
class AlternateRendition:
    """A video rendition with the source's numbers and times.

    name: also its folder. delay: seconds by which it is later than its source.
    """

    name: str
    track: CmafTrack
    frame_rate: Fraction | None
    delay: float = RENDITION_DELAY

    def covers(self, source: CmafTrack, number: int = 0) -> bool:
        """Whether it has all listed segments of the source from `number` on. Players that switch then find no gap."""
        source_window, window = source.window, self.track.window
        if not len(source_window) or not len(window):
            return False
        first = max(source_window[0].number, source.first_number + _MAX_LATE_START, number)
        return window[0].number <= first and not lags_too_far(source, self.track)


def lags_too_far(source: CmafTrack, rendition: CmafTrack) -> bool:
    """Whether a rendition is farther behind the source than a late worker can be. Both must list segments."""
    return source.window.lead(rendition.window) > source.window.longest + _MAX_WORKER_DELAY


@dataclass(frozen=True, slots=True)
class MpdSnapshot:
    """The content of an MPD at one moment.

    tracks: all that are packaged. epochs: their Periods, by time.
    alternates: additional renditions; listed if they cover the source.
    start, now: availabilityStartTime and publishTime, seconds since 1970.
    part: seconds of a chunk.
    contents: of the next Period that begins.
    """

    tracks: Sequence[CmafTrack]
    epochs: Sequence[Epoch]
    alternates: Sequence[AlternateRendition]
    start: float
    now: float
    part: float
    contents: Contents

    def manifest(self, *, ended: bool, frame_rate: Fraction | None) -> Mpd:
        """Returns the values of the current MPD.

        ended: whether the stream has ended. frame_rate: of the video; None if it is not regular.
        """
        tracks, start, now, part = self.tracks, self.start, self.now, self.part
        for track in (*tracks, *(a.track for a in self.alternates)):
            track.window.show(MIN_LISTED)
        longest = _longest(tracks)
        depth = max(track.window.seconds for track in tracks)
        listed = self._listed_periods(ended)
        epoch = listed[-1][0]
        low_latency = bool(epoch.by_number) and not ended
        if low_latency:
            # Before segments leave the list, all media since the start are available, even the incomplete segment.
            depth = min(max(depth, _MIN_DEPTH), max(_elapsed(self._beginning(), now), 1))
        periods: list[Period] = []
        presentation = 0.0
        for index, (e, by_track) in enumerate(listed):
            following = listed[index + 1][0] if index + 1 < len(listed) else None
            begin = e.date - start
            sets, end = self._sets(e, by_track, frame_rate)
            if following is not None:
                distance = following.date - start - begin
                end = distance if following.number == e.number else min(end, distance)
                if end < _MIN_PERIOD:
                    continue
            periods.append(Period(e.id, begin, sets, end if following is not None or ended else None))
            presentation = begin + end
        typical = (epoch.typical or VIDEO_CLOCK) / VIDEO_CLOCK
        latency = _latency(epoch, part) if low_latency else None
        return Mpd(
            start=start,
            published=now,
            update=min(longest, _MAX_UPDATE),
            buffer=2 * part if low_latency else typical,
            depth=depth,
            # At first, the media are shorter than the later delay. No player can begin before the first segment.
            delay=min(latency if latency is not None else 3 * longest, depth),
            longest=longest,
            latency=latency,
            periods=tuple(periods),
            clock=CLOCK_URL,
            presentation=presentation if ended else None,
        )

    def _listed_periods(self, ended: bool) -> list[tuple[Epoch, dict[str, list[Segment]]]]:
        """Returns the Periods that have media, with their segments by track.

        The last one waits for the first segments of all tracks, because a listed Period gets no other tracks. Periods
        with later dates, of the time before the clock was set back, end with it: Periods are in order. A
        presentation that no player knew before its end (`ended`) lists what is left of it.
        """
        found: list[tuple[Epoch, dict[str, list[Segment]]]] = []
        contents, main = self.contents, self.tracks[0].kind
        for at, epoch in enumerate(self.epochs):
            following = self.epochs[at + 1] if at + 1 < len(self.epochs) else None
            by_track: dict[str, list[Segment]] = {}
            for track in self.tracks:
                own = [s for s in track.window if epoch.has(s) and (following is None or following.is_after(s))]
                if own and epoch.number in track.headers:
                    by_track[track.kind] = own
            if epoch.contents is None:
                waits = len(by_track.get(main, ())) < _MAX_WAIT and not contents.tracks <= by_track.keys()
                if not by_track or (waits and found and following is None):
                    continue
                tracks = frozenset(by_track) if following is not None else contents.tracks & by_track.keys()
                epoch.contents = replace(contents, tracks=tracks or frozenset(by_track))
                epoch.by_number = epoch.regular and epoch.typical is not None and not ended
            if following is None:
                epoch.is_outdated = epoch.contents != contents
            own_tracks = {kind: own for kind, own in by_track.items() if kind in epoch.contents.tracks}
            if not own_tracks and not found and following is None:
                own_tracks = by_track  # the listed tracks have ended: an MPD cannot be empty
            if own_tracks:
                found = [(earlier, own) for earlier, own in found if earlier.date <= epoch.date]
                found.append((epoch, own_tracks))
        return found

    @property
    def renditions_changed(self) -> bool:
        """Whether there are other renditions than the last Period lists."""
        epoch = self.epochs[-1]
        own = [segment for segment in self.tracks[0].window if epoch.has(segment)]
        listed = epoch.renditions
        return listed is not None and bool(own) and listed.keys() != self._covering(epoch, own).keys()

    def _covering(self, epoch: Epoch, segments: Sequence[Segment]) -> dict[str, AlternateRendition]:
        """Returns the renditions, by name, that have the source's segments of a Period."""
        source, first = self.tracks[0], segments[0].number
        return {a.name: a for a in self.alternates if epoch.number in a.track.headers and a.covers(source, first)}

    def _beginning(self) -> float:
        """Returns the first time at which all listed tracks have media: `start`, or the start of a later rendition."""
        source = self.tracks[0]
        listed = [a.track.window[0] for a in self.alternates if a.covers(source)]
        return max([self.start, *(s.wall for s in listed if s.number > source.window[0].number)])

    def _sets(
        self,
        e: Epoch,
        by_track: Mapping[str, Sequence[Segment]],
        frame_rate: Fraction | None,
    ) -> tuple[tuple[AdaptationSet, ...], float]:
        """Returns the AdaptationSets of a Period, and its length in seconds."""
        sets: list[AdaptationSet] = []
        end, grid = 0.0, math.inf
        contents = e.contents or self.contents
        captions, wall = _accessibility(contents.captions), e.wall.at(e.origin / VIDEO_CLOCK)
        for index, track in enumerate(self.tracks):
            segments = by_track.get(track.kind)
            if segments is None:
                continue
            header, label = track.headers[e.number], contents.audio.get(track.kind, _NO_LABEL)
            is_additional = label is not _NO_LABEL and track.kind != "audio"
            if is_additional and not sets:
                continue  # its Period has no media of the main tracks
            by_number = bool(e.by_number) and track.kind in e.first
            template = _by_number(track, header, e, self.part) if by_number else _by_time(header, e, segments)
            if not is_additional:  # the main tracks decide where a Period ends
                end = max(end, (segments[-1].time + segments[-1].length) / header.clock - e.origin / VIDEO_CLOCK)
                if by_number:
                    # A track may end slightly after its grid. Then players must not expect a number after the last
                    # segment.
                    grid = min(grid, (segments[-1].number - template.start_number + 1) * (e.typical or 0) / VIDEO_CLOCK)
            main = representation(track, header, frame_rate)
            same_codec, other_codecs = (
                _renditions(self._covering(e, segments), track, e, segments, by_number, self.part, header)
                if not index
                else ([], [])
            )
            if same_codec:
                main = replace(main, template=template)
            sap = max(s.sap for s in segments) if all(s.sap for s in segments) else 0
            role = "" if label is _NO_LABEL else "alternate" if is_additional else "main"
            shared = track.media, template
            words, seen = (label.language, label.name, role), captions if track.media == "video" else ()
            main_set = AdaptationSet(index + 1, *shared, (main, *same_codec), wall, sap, *words)
            properties = _color_properties(header.signal)
            sets.append(replace(main_set, accessibility=seen, properties=properties, events=track.event_schemes))
            if other_codecs:
                other_set = AdaptationSet(len(self.tracks) + 1, *shared, tuple(other_codecs), wall, sap)
                sets.append(replace(other_set, accessibility=seen, events=track.event_schemes))
        return (*sets, *_text_sets(sets, contents.texts)), min(end, grid)

    def is_playable(self) -> bool:
        """Whether every player can start with the current MPD, and it lists all of `alternates`.

        This becomes true some time after the first segments.
        """
        epoch = self._listed_periods(False)[-1][0]
        if not all(a.covers(self.tracks[0]) for a in self.alternates):
            return False
        elapsed = _elapsed(self._beginning(), self.now)
        return not epoch.by_number or elapsed >= max(_MIN_DEPTH, int(_latency(epoch, self.part)))


def _latency(epoch: Epoch, part: float) -> float:
    """Returns the seconds by which players should be behind: a segment and two chunks."""
    return (epoch.typical or VIDEO_CLOCK) / VIDEO_CLOCK + 2 * part


def _elapsed(start: float, now: float) -> int:
    """Returns the seconds from `start`, as the MPD shows it, to `now` on a clock of whole seconds."""
    return int(now) - milliseconds(start) // MILLISECONDS


def _renditions(
    alternates: Mapping[str, AlternateRendition],
    source: CmafTrack,
    epoch: Epoch,
    segments: Sequence[Segment],
    by_number: bool,
    part: float,
    like: CmafHeader,
) -> tuple[list[Representation], list[Representation]]:
    """Returns the renditions of a Period.

    The first list has those with the source's codec and range, the second the others, which need another
    AdaptationSet. like: the source. Renditions have the numbers of their source, so they share its grid.

    A Period that was listed keeps its renditions: Media3 (1.11) and ffmpeg's DASH demuxer count them. For one that is
    lost, the answers are empty segments. alternates: those that are not lost, by name.
    """
    listed, written = epoch.renditions, dict[str, tuple[Representation, bool]]()
    for name in alternates if listed is None else listed:
        alternate = alternates.get(name)
        if alternate is None:
            assert listed is not None
            lost, is_same = listed[name]
            if not by_number and lost.template is not None:
                gone = max(segments[0].number - lost.template.start_number, 0)
                first, timeline = lost.template.start_number + gone, lost.template.timeline[gone:]
                if not timeline:
                    first, timeline = segments[0].number, _entries(segments)
                template = replace(lost.template, start_number=first, timeline=timeline)
                lost = replace(lost, template=template)
            written[name] = lost, is_same
            continue
        track = alternate.track
        header, folder = track.headers[epoch.number], f"{name}/{track.kind}"
        if by_number:
            template = _by_number(source, header, epoch, part + alternate.delay, folder)
        else:
            own = [s for s in track.window if segments[0].number <= s.number <= segments[-1].number]
            template = _by_time(header, epoch, own or segments, folder)  # an answer waits for the first segment
        r = replace(representation(track, header, alternate.frame_rate), id=name, template=template)
        is_same = header.codec.partition(".")[0] == like.codec.partition(".")[0]
        written[name] = r, is_same and header.signal.range == like.signal.range
    epoch.renditions = written
    return [r for r, is_same in written.values() if is_same], [r for r, is_same in written.values() if not is_same]


def representation(track: CmafTrack, header: CmafHeader, frame_rate: Fraction | None = None) -> Representation:
    """Returns one track as a Representation, with its folder as id."""
    rate = None
    if track.kind == "video" and frame_rate is not None and frame_rate.denominator <= 1001:
        rate = str(frame_rate)
    # The header contains Apple's name for MP3. RFC 6381 and DASH players in browsers use another name.
    codec = "mp4a.6B" if header.codec == "mp4a.40.34" else header.codec
    return Representation(
        track.kind, codec, max(int(track.peak), 1), header.size, rate, header.rate, header.channels,
        aspect=header.aspect,
    )  # fmt: skip


def _color_properties(signal: VideoSignal) -> tuple[Descriptor, ...]:
    """Returns the properties of pictures in HDR (DASH-IF IOP 4.3 §10.3, ISO/IEC 23091-2).

    Chromium shows such pictures on every screen, but players refuse some: dash.js 5.1 leaves out a set with essential
    properties, and shaka-player 5.2 one with the ColourPrimaries of BT.2020. So there are only two, not essential.
    """
    if signal.range == "SDR":
        return ()
    numbers = ("MatrixCoefficients", signal.matrix), ("TransferCharacteristics", signal.transfer)
    return tuple(Descriptor(f"urn:mpeg:mpegB:cicp:{name}", str(number)) for name, number in numbers)


def _names(header: CmafHeader, folder: str) -> tuple[str, str]:
    return f"{folder}/{header.uri}", f"{folder}/{header.prefix}-$Number$.m4s"


def _by_number(
    track: CmafTrack, header: CmafHeader, epoch: Epoch, part: float, folder: str = "$RepresentationID$"
) -> Template:
    """Returns a template with numbers, in ticks of 90 kHz for all tracks.

    All tracks use one offset and duration. So rounding cannot create a growing difference between their numbers.
    """
    assert epoch.typical is not None
    initialization, media = _names(header, folder)
    early = max(epoch.typical / VIDEO_CLOCK - part, 0.0)
    return Template(VIDEO_CLOCK, initialization, media, epoch.first[track.kind], epoch.origin, epoch.typical, (), early)


def _by_time(
    header: CmafHeader, epoch: Epoch, segments: Sequence[Segment], folder: str = "$RepresentationID$"
) -> Template:
    """Returns a template with a SegmentTimeline. Entries never change, because none depends on the next segment."""
    initialization, media = _names(header, folder)
    offset = epoch.origin * header.clock // VIDEO_CLOCK
    return Template(header.clock, initialization, media, segments[0].number, offset, timeline=_entries(segments))


def _entries(segments: Sequence[Segment]) -> tuple[TimelineEntry, ...]:
    return tuple(TimelineEntry(s.time, s.length) for s in segments)


def _longest(tracks: Sequence[CmafTrack]) -> float:
    """Returns the seconds of the longest segment so far, rounded up to milliseconds.

    The HLS playlist may state less for a segment with a very long frame (Target Duration).
    """
    longest_listed = max(s.length / s.clock for track in tracks for s in track.window)
    return math.ceil(max(longest_listed, *(track.window.longest for track in tracks)) * 1000 - 1e-6) / 1000


def _text_sets(sets: Sequence[AdaptationSet], texts: Sequence[CaptionTrack]) -> list[AdaptationSet]:
    """Returns the caption tracks of a Period. They have the segments of its main track."""
    if not sets:
        return []
    template = replace(sets[0].template, available_early=None)
    last = max(adaptation_set.id for adaptation_set in sets)
    return [
        AdaptationSet(
            last + 1 + index,
            "text",
            template,
            (Representation(text.folder, "wvtt", _TEXT_BANDWIDTH),),
            language=text.language,
            label=text.label,
            role="caption",
        )
        for index, text in enumerate(texts)
    ]


def _accessibility(captions: Sequence[CaptionTrack]) -> tuple[Descriptor, ...]:
    """Returns the captions in the words of ANSI/SCTE 214-1 (§7.2)."""
    found = []
    cea_608 = [track for track in captions if track.source.startswith("CC")]
    if cea_608:
        values = ";".join(f"{track.source}={track.language or 'und'}" for track in cea_608)
        found.append(Descriptor("urn:scte:dash:cc:cea-608:2015", values))
    services = [(track.source.removeprefix("SERVICE"), track) for track in captions if track not in cea_608]
    if services:
        values = ";".join(f"{number}=lang:{track.language or 'und'}" for number, track in services)
        found.append(Descriptor("urn:scte:dash:cc:cea-708:2015", values))
    return tuple(found)
