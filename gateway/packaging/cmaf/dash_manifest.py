"""Turns the contents of the CMAF tracks into the values of an MPD: Periods, and how each addresses its segments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from gateway.formats.dash.mpd import AdaptationSet, Mpd, Period, Representation, Template, TimelineEntry
from gateway.packaging.cmaf.track import CmafTrack, TrackHeader
from gateway.packaging.segment_window import Segment
from gateway.packaging.timing import VIDEO_CLOCK
from gateway.packaging.wall_clock import WallClock

CLOCK_URL = "/time"
# As a fraction of a segment's usual duration: a segment further from its place on the grid needs a SegmentTimeline
# (ISO/IEC 23009-1 §7.2.1 allows half a segment; players work better with less).
_TOLERANCE = 0.15
_MAX_LEAD = 0.4  # fraction that may be shown before its key frame
# ffmpeg's DASH demuxer (5.1 to 7) computes in whole unsigned seconds since availabilityStartTime, with the values of
# its first MPD. It needs a time shift buffer of three seconds, and neither that nor the delay may exceed the elapsed
# time. Otherwise it requests the first segment for ever.
_LEAST_DEPTH = 3
_LATE = 1.0  # seconds by which a segment may be late before a template's availability times are wrong
_LAG = 0.5  # seconds by which a rendition follows its source
_LATEST = 1.9  # seconds, in addition to a segment, by which an overloaded worker may be late
_LATE_START = 3  # segments by which a rendition may begin after its source and still be listed


@dataclass(slots=True)
class Epoch:
    """One publisher's media, a Period.

    origin: its first presentation time, ticks of 90 kHz.
    prefix: the start of its file names.
    usual: duration of a segment, ticks of 90 kHz, None until the first is complete.
    first: by track, the number that a segment at the origin has.
    regular: number times duration gives the place of each segment.
    """

    number: int
    origin: int
    wall: WallClock
    prefix: str
    usual: int | None = None
    regular: bool = True
    first: dict[str, int] = field(default_factory=dict)

    def note(self, kind: str, leads: bool, segment: Segment, arrived: float) -> None:
        """Evaluates a complete segment.

        leads: it is of the track that decides the usual duration.
        arrived: when its last frame came, seconds since the epoch.
        """
        lead = segment.lead / segment.clock
        start = segment.time / segment.clock + lead - self.origin / VIDEO_CLOCK
        length = segment.spacing / segment.clock
        if self.usual is None:
            if not leads:
                return
            self.usual = max(round(length * VIDEO_CLOCK), 1)
        usual = self.usual / VIDEO_CLOCK
        first = self.first.get(kind)
        if first is None:
            first = self.first[kind] = segment.number - round(start / usual)
        off = abs(start - (segment.number - first) * usual)
        off_end = start + length - (segment.number - first + 1) * usual
        off_end = max(off_end, 0.0) if segment.last else abs(off_end)
        late = arrived - self.wall.at((segment.time + segment.length) / segment.clock)
        self.note_start(segment.parts[0].independent)
        if first < 0 or max(off, off_end) > _TOLERANCE * usual or late > _LATE or lead > _MAX_LEAD * usual:
            self.regular = False

    def note_start(self, independent: bool) -> None:
        """Evaluates the first part of a segment.

        independent: the part has a sync sample. Players that join a segment sent in chunks begin at its start, and need
        one there.
        """
        if not independent:
            self.regular = False


@dataclass(frozen=True, slots=True)
class AlternateRendition:
    """A video rendition that has the source's numbers and times. name: also its folder."""

    name: str
    lane: CmafTrack
    frame_rate: Fraction | None

    def covers(self, source: CmafTrack) -> bool:
        """Tells whether it has all listed segments of the source, so that a player that switches finds no hole."""
        ours, theirs = source.window, self.lane.window
        if not len(ours) or not len(theirs):
            return False
        first = max(ours[0].number, source.began + _LATE_START)
        return theirs[0].number <= first and not lost(source, self.lane)


def lost(source: CmafTrack, rung: CmafTrack) -> bool:
    """Tells whether a rendition lacks so much of the source's media that it is more than just late. Both list
    segments.
    """
    ours, theirs = source.window[-1], rung.window[-1]
    return ours.wall + ours.duration - theirs.wall - theirs.duration > source.window.longest + _LATEST


@dataclass(frozen=True, slots=True)
class MpdSnapshot:
    """The content of an MPD at one moment.

    besides: further renditions; those that cover the source are listed.
    start: availabilityStartTime.
    now: publishTime.
    part: seconds of a chunk.
    """

    lanes: Sequence[CmafTrack]
    epochs: Mapping[int, Epoch]
    besides: Sequence[AlternateRendition]
    start: float
    now: float
    part: float

    def manifest(self, *, ended: bool, frame_rate: Fraction | None) -> Mpd:
        """Returns the values of the present MPD.

        ended: the stream is over. frame_rate: of the video, None if it is not regular.
        """
        lanes, epochs, start, now, part = self.lanes, self.epochs, self.start, self.now, self.part
        besides = [b for b in self.besides if b.covers(lanes[0])]
        listed = sorted({s.epoch for lane in lanes for s in lane.window})
        longest = _longest(lanes)
        depth = max(lane.window.seconds for lane in lanes)
        last = listed[-1]
        epoch = epochs[last]
        low_latency = _low_latency(epoch) and not ended
        if low_latency:
            # Before segments leave the list, everything since the start is available, also the incomplete segment.
            depth = min(max(depth, _LEAST_DEPTH), max(_elapsed(_beginning(lanes, besides, start), now), 1))
        periods = []
        presentation = 0.0
        for number in listed:
            e = epochs[number]
            wall = e.wall.at(e.origin / VIDEO_CLOCK)
            begin = wall - start
            sets = []
            end, grid = 0.0, math.inf
            for index, lane in enumerate(lanes):
                segments = [s for s in lane.window if s.epoch == number]
                header = lane.headers.get(number)
                if not segments or header is None:
                    continue
                end = max(end, (segments[-1].time + segments[-1].length) / header.clock - e.origin / VIDEO_CLOCK)
                # A Period that is over keeps its addressing: shaka-player (5.2.12) fails on a manifest in which a
                # Period has changed it.
                by_number = _low_latency(e) and not ended and lane.kind in e.first
                if by_number:
                    template = _by_number(lane, header, e, part)
                    # A track may end a little after its grid: then players must not miss a number after the last
                    # segment.
                    grid = min(grid, (segments[-1].number - template.start_number + 1) * (e.usual or 0) / VIDEO_CLOCK)
                else:
                    template = _by_time(header, e, segments)
                ours = representation(lane, header, frame_rate)
                own = besides if not index else ()
                alike, others = _renditions(own, lane, e, segments, by_number, part, ours.codecs)
                if alike:
                    ours = replace(ours, template=template)
                sap = max(s.sap for s in segments) if all(s.sap for s in segments) else 0
                sets.append(AdaptationSet(index + 1, lane.kind, template, (ours, *alike), wall, sap))
                if others:
                    sets.append(AdaptationSet(len(lanes) + 1, lane.kind, template, tuple(others), wall, sap))
            end = min(end, grid)
            over = number != last or ended
            periods.append(Period(str(number + 1), begin, tuple(sets), end if over else None))
            presentation = begin + end
        usual = (epoch.usual or VIDEO_CLOCK) / VIDEO_CLOCK
        latency = _latency(epoch, part) if low_latency else None
        return Mpd(
            start=start,
            published=now,
            update=longest,
            buffer=2 * part if low_latency else usual,
            depth=depth,
            # At first there is less media than the later delay, and no player can begin before the first segment.
            delay=min(latency if latency is not None else 3 * longest, depth),
            longest=longest,
            latency=latency,
            periods=tuple(periods),
            clock=CLOCK_URL,
            presentation=presentation if ended else None,
        )

    def joinable(self) -> bool:
        """Tells whether every player can start with the present MPD, and it lists all of `besides`.

        That takes some time after the first segments.
        """
        epoch = self.epochs[max(lane.window[-1].epoch for lane in self.lanes)]
        if not all(b.covers(self.lanes[0]) for b in self.besides):
            return False
        elapsed = _elapsed(_beginning(self.lanes, self.besides, self.start), self.now)
        return not _low_latency(epoch) or elapsed >= max(_LEAST_DEPTH, int(_latency(epoch, self.part)))


def _low_latency(epoch: Epoch) -> bool:
    return epoch.regular and epoch.usual is not None


def _latency(epoch: Epoch, part: float) -> float:
    return (epoch.usual or VIDEO_CLOCK) / VIDEO_CLOCK + 2 * part


def _elapsed(start: float, now: float) -> int:
    """Returns the seconds from `start` to `now` as a clock of whole seconds sees them."""
    return int(now) - int(start)


def _beginning(lanes: Sequence[CmafTrack], besides: Sequence[AlternateRendition], start: float) -> float:
    """Returns the time since which all listed tracks have media: `start`, or the first segment of a later rendition."""
    since = lanes[0].window[0].number
    return max([start, *(b.lane.window[0].wall for b in besides if b.lane.window[0].number > since)])


def _renditions(
    besides: Sequence[AlternateRendition],
    source: CmafTrack,
    epoch: Epoch,
    segments: Sequence[Segment],
    by_number: bool,
    part: float,
    codec: str,
) -> tuple[list[Representation], list[Representation]]:
    """Returns the renditions that have the source's segments of a Period: those of its codec, and those of other
    codecs.

    Other codecs need an AdaptationSet of their own. Renditions are numbered like their source, so they share its grid.
    """
    alike: list[Representation] = []
    others: list[Representation] = []
    for b in besides:
        lane = b.lane
        header = lane.headers.get(epoch.number)
        if header is None:
            continue
        folder = f"{b.name}/{lane.kind}"
        if by_number:
            template = _by_number(source, header, epoch, part + _LAG, folder)
        else:
            theirs = [s for s in lane.window if s.epoch == epoch.number]
            if not theirs or theirs[-1].number < segments[-1].number - 1:
                continue
            template = _by_time(header, epoch, theirs, folder)
        r = replace(representation(lane, header, b.frame_rate), id=b.name, template=template)
        (alike if r.codecs.partition(".")[0] == codec.partition(".")[0] else others).append(r)
    return alike, others


def representation(lane: CmafTrack, header: TrackHeader, frame_rate: Fraction | None = None) -> Representation:
    """Returns one track as a Representation, with its folder as id."""
    rate = None
    if lane.kind == "video" and frame_rate is not None and frame_rate.denominator <= 1001:
        rate = str(frame_rate)
    # The header has Apple's name for MP3; RFC 6381 and DASH players in browsers use another one.
    codec = "mp4a.6B" if header.codec == "mp4a.40.34" else header.codec
    return Representation(
        lane.kind, codec, max(int(lane.peak), 1), header.size, rate, header.rate, header.channels,
        aspect=header.aspect,
    )  # fmt: skip


def _names(header: TrackHeader, folder: str) -> tuple[str, str]:
    return f"{folder}/{header.uri}", f"{folder}/{header.prefix}-$Number$.m4s"


def _by_number(
    lane: CmafTrack, header: TrackHeader, epoch: Epoch, part: float, folder: str = "$RepresentationID$"
) -> Template:
    """Returns a template with numbers, in ticks of 90 kHz for all tracks.

    All tracks have the same offset and duration, so rounding cannot make their numbers drift apart.
    """
    assert epoch.usual is not None
    initialization, media = _names(header, folder)
    early = max(epoch.usual / VIDEO_CLOCK - part, 0.0)
    return Template(VIDEO_CLOCK, initialization, media, epoch.first[lane.kind], epoch.origin, epoch.usual, (), early)


def _by_time(
    header: TrackHeader, epoch: Epoch, segments: Sequence[Segment], folder: str = "$RepresentationID$"
) -> Template:
    """Returns a template with a SegmentTimeline. Listed entries never change: none depends on the segment after it."""
    initialization, media = _names(header, folder)
    entries = tuple(TimelineEntry(s.time, s.length) for s in segments)
    offset = epoch.origin * header.clock // VIDEO_CLOCK
    return Template(header.clock, initialization, media, segments[0].number, offset, timeline=entries)


def _longest(lanes: Sequence[CmafTrack]) -> float:
    """Returns the seconds of the longest segment so far, rounded up to milliseconds.

    A playlist may state less for a segment in which pictures stood still (Target Duration).
    """
    listed = max(s.length / s.clock for lane in lanes for s in lane.window)
    return math.ceil(max(listed, *(lane.window.longest for lane in lanes)) * 1000 - 1e-6) / 1000
