"""From what the CMAF lanes hold to the values of an MPD: Periods, and how each addresses its segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import zip_longest

from gateway.formats.dash.mpd import AdaptationSet, Entry, Mpd, Period, Representation, Template
from gateway.packagers.lane import Header, Lane
from gateway.packagers.timing import VIDEO_CLOCK
from gateway.packagers.wall import WallClock
from gateway.packagers.window import Segment

CLOCK_URL = "/time"
# Of a segment's usual duration: what lies further from its place on the grid makes a SegmentTimeline necessary
# (ISO/IEC 23009-1 §7.2.1 allows half a segment; players are happier with less).
_TOLERANCE = 0.15
_UNEVEN = 0.25  # seconds by which the reordering of pictures may move the first one of a segment
# ffmpeg's DASH demuxer (5.1 to 7) reckons in whole seconds since availabilityStartTime, unsigned, with what the first
# MPD said: it needs a shift buffer of three seconds, and neither that nor the delay greater than the time gone by. It
# asks for the first segment for ever otherwise.
_LEAST_DEPTH = 3
_LATE = 1.0  # seconds after which a segment that is not there yet breaks the promise of a template
_LAG = 0.5  # seconds that a rendition comes behind its source
_LATEST = 1.9  # seconds, beside a segment: what a worker that has too much to do may be late
_LATE_START = 3  # segments that a rendition may begin after its source and be shown from its own beginning on


@dataclass(slots=True)
class Epoch:
    """One publisher's media, a Period. origin: its first presentation time in ticks of 90 kHz.

    usual: the duration of a segment, ticks of 90 kHz, None until the first is complete; first: by lane, the number that
    a segment at the origin has; regular: whether number times duration says where each segment lies.
    """

    number: int
    origin: int
    wall: WallClock
    usual: int | None = None
    regular: bool = True
    first: dict[str, int] = field(default_factory=dict)

    def note(self, kind: str, leads: bool, segment: Segment, arrived: float) -> None:
        """Learns from a complete segment. leads: of the lane that decides; arrived: when its last frame came."""
        start = segment.time / segment.clock - self.origin / VIDEO_CLOCK
        length = segment.length / segment.clock
        if self.usual is None:
            if not leads:
                return
            self.usual = max(round(length * VIDEO_CLOCK), 1)
        usual = self.usual / VIDEO_CLOCK
        first = self.first.get(kind)
        if first is None:
            first = self.first[kind] = segment.number - round(start / usual)
        off = abs(start - (segment.number - first) * usual)
        off_end = abs(start + length - (segment.number - first + 1) * usual)
        late = arrived - self.wall.at((segment.time + segment.length) / segment.clock)
        if first < 0 or max(off, off_end) > _TOLERANCE * usual or late > _LATE:
            self.regular = False


@dataclass(frozen=True, slots=True)
class Beside:
    """A rendition of the picture, whose numbers and times are the source's. name: also its folder."""

    name: str
    lane: Lane
    frame_rate: Fraction | None

    def covers(self, source: Lane) -> bool:
        """Whether it has what is listed of the source: a player that changes over finds no hole."""
        ours, theirs = source.window, self.lane.window
        if not len(ours) or not len(theirs):
            return False
        first = max(ours[0].number, source.began + _LATE_START)
        return theirs[0].number <= first and not lost(source, self.lane)


def lost(source: Lane, rung: Lane) -> bool:
    """Whether a rendition lacks so much of what the source has that it is not only late; both list segments."""
    ours, theirs = source.window[-1], rung.window[-1]
    return ours.wall + ours.duration - theirs.wall - theirs.duration > source.window.longest + _LATEST


def manifest(
    lanes: Sequence[Lane],
    epochs: Mapping[int, Epoch],
    besides: Sequence[Beside] = (),
    *,
    start: float,
    now: float,
    part: float,
    ended: bool,
    frame_rate: Fraction | None,
) -> Mpd:
    """The present state.

    besides: renditions; those that cover the source are listed. start: availabilityStartTime; now: publishTime; part:
    seconds of a chunk; frame_rate: of the picture, None where it is not regular."""
    besides = [b for b in besides if b.covers(lanes[0])]
    listed = sorted({s.epoch for lane in lanes for s in lane.window})
    longest = max(lane.window.longest for lane in lanes)
    depth = max(lane.window.seconds for lane in lanes)
    last = listed[-1]
    epoch = epochs[last]
    low_latency = _low_latency(epoch) and not ended
    if low_latency:
        # Before anything has left the list, all since the start can be had, also what is no complete segment yet.
        depth = min(max(depth, _LEAST_DEPTH), max(_elapsed(_beginning(lanes, besides, start), now), 1))
    periods = []
    presentation = 0.0
    for number in listed:
        e = epochs[number]
        begin = e.wall.at(e.origin / VIDEO_CLOCK) - start
        sets = []
        end = 0.0
        for index, lane in enumerate(lanes):
            segments = [s for s in lane.window if s.epoch == number]
            header = lane.headers.get(number)
            if not segments or header is None:
                continue
            end = max(end, (segments[-1].time + segments[-1].length) / header.clock - e.origin / VIDEO_CLOCK)
            by_number = number == last and low_latency and lane.kind in e.first
            template = _by_number(lane, header, e, part) if by_number else _by_time(lane, header, e, segments)
            ours = representation(lane, header, frame_rate)
            alike, others = _renditions(besides if not index else (), lane, e, segments, by_number, part, ours.codecs)
            if alike:
                ours = replace(ours, template=template)
            wall = e.wall.at(e.origin / VIDEO_CLOCK)
            independent = all(s.parts[0].independent for s in segments)
            sets.append(AdaptationSet(index + 1, lane.kind, template, (ours, *alike), wall, independent=independent))
            if others:
                sets.append(
                    AdaptationSet(len(lanes) + 1, lane.kind, template, tuple(others), wall, independent=independent)
                )
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
        delay=latency if latency is not None else 3 * longest,
        longest=longest,
        latency=latency,
        periods=tuple(periods),
        clock=CLOCK_URL,
        presentation=presentation if ended else None,
    )


def joinable(
    lanes: Sequence[Lane],
    epochs: Mapping[int, Epoch],
    besides: Sequence[Beside] = (),
    *,
    start: float,
    now: float,
    part: float,
) -> bool:
    """Whether so much time has gone by that every player can begin with the MPD of now, which lists all of `besides`;
    arguments as for `manifest`."""
    epoch = epochs[max(lane.window[-1].epoch for lane in lanes)]
    if not all(b.covers(lanes[0]) for b in besides):
        return False
    elapsed = _elapsed(_beginning(lanes, besides, start), now)
    return not _low_latency(epoch) or elapsed >= max(_LEAST_DEPTH, int(_latency(epoch, part)))


def _low_latency(epoch: Epoch) -> bool:
    return epoch.regular and epoch.usual is not None


def _latency(epoch: Epoch, part: float) -> float:
    return (epoch.usual or VIDEO_CLOCK) / VIDEO_CLOCK + 2 * part


def _elapsed(start: float, now: float) -> int:
    """Seconds between the two as a clock of whole seconds sees them."""
    return int(now) - int(start)


def _beginning(lanes: Sequence[Lane], besides: Sequence[Beside], start: float) -> float:
    """Since when there is media of everything that is listed: `start`, or the first segment of a later rendition."""
    since = lanes[0].window[0].number
    return max([start, *(b.lane.window[0].wall for b in besides if b.lane.window[0].number > since)])


def _renditions(
    besides: Sequence[Beside],
    source: Lane,
    epoch: Epoch,
    segments: Sequence[Segment],
    by_number: bool,
    part: float,
    codec: str,
) -> tuple[list[Representation], list[Representation]]:
    """Those that have the source's segments of a Period: of its codec, and of another, which is another set.

    Renditions are numbered like their source, so they share its grid."""
    alike: list[Representation] = []
    others: list[Representation] = []
    for b in besides:
        lane = b.lane
        header = lane.headers.get(epoch.number)
        if header is None:
            continue
        folder = f"{b.name}/{lane.kind}"
        if by_number:
            template = _by_number(source, header, epoch, part + _LAG, folder, lane.prefix)
        else:
            theirs = [s for s in lane.window if s.epoch == epoch.number]
            if not theirs or theirs[-1].number < segments[-1].number - 1:
                continue
            template = _by_time(lane, header, epoch, theirs, folder)
        r = replace(representation(lane, header, b.frame_rate), id=b.name, template=template)
        (alike if r.codecs.partition(".")[0] == codec.partition(".")[0] else others).append(r)
    return alike, others


def representation(lane: Lane, header: Header, frame_rate: Fraction | None = None) -> Representation:
    """One lane as a Representation, named like its folder."""
    window = lane.window
    rate = None
    if lane.kind == "video" and frame_rate is not None and frame_rate.denominator <= 1001:
        rate = str(frame_rate)
    # Apple's name for MP3, which the header has, is not what RFC 6381 and browsers' DASH players call it.
    codec = "mp4a.6B" if header.codec == "mp4a.40.34" else header.codec
    return Representation(lane.kind, codec, max(int(window.peak), 1), header.size, rate, header.rate, header.channels)


def _names(header: Header, prefix: str, folder: str) -> tuple[str, str]:
    return f"{folder}/{header.uri}", f"{folder}/{prefix}-$Number$.m4s"


def _by_number(
    lane: Lane, header: Header, epoch: Epoch, part: float, folder: str = "$RepresentationID$", prefix: str = ""
) -> Template:
    """All lanes in ticks of 90 kHz with one offset and duration: so their numbers cannot drift apart by rounding."""
    assert epoch.usual is not None
    initialization, media = _names(header, prefix or lane.prefix, folder)
    early = max(epoch.usual / VIDEO_CLOCK - part, 0.0)
    return Template(VIDEO_CLOCK, initialization, media, epoch.first[lane.kind], epoch.origin, epoch.usual, (), early)


def _by_time(
    lane: Lane, header: Header, epoch: Epoch, segments: Sequence[Segment], folder: str = "$RepresentationID$"
) -> Template:
    initialization, media = _names(header, lane.prefix, folder)
    entries = []
    for s, following in zip_longest(segments, segments[1:]):
        length = s.length
        if following is not None and abs(following.time - s.time - length) <= _UNEVEN * s.clock:
            # Key frames that wait differently long to be shown: entries that follow each other must not overlap.
            length = following.time - s.time
        entries.append(Entry(s.time, length))
    offset = epoch.origin * header.clock // VIDEO_CLOCK
    return Template(header.clock, initialization, media, segments[0].number, offset, timeline=tuple(entries))
