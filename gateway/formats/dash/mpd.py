"""The Media Presentation Description of a live stream: values in, XML out (ISO/IEC 23009-1, DASH-IF low latency)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.sax.saxutils import escape

# A character that XML 1.0 cannot contain: where the query of a protected player goes, and where the current time.
MARK = "\x00"
NOW = "\x01"

_PROFILES = (
    "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019,"
    "http://www.dashif.org/guidelines/low-latency-live-v5"
)
_PLAIN_PROFILES = "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019"


def finish(text: str, suffix: str = "", now: float = 0.0) -> bytes:
    """The finished MPD: `suffix` ("" or "?…") behind every URL of a template, the time `now` for direct UTCTiming.

    A `$` of the suffix would begin an identifier of the template and is doubled (§5.3.9.4.4: "$$").
    """
    return text.replace(MARK, escape(suffix.replace("$", "$$"), {'"': "&quot;"})).replace(NOW, date(now)).encode()


def date(epoch_seconds: float) -> str:
    """xs:dateTime with milliseconds, UTC."""
    return (
        datetime.fromtimestamp(round(epoch_seconds, 3), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def duration(seconds: float) -> str:
    """xs:duration in seconds, to the millisecond."""
    return f"PT{max(seconds, 0.0):.3f}S"


@dataclass(frozen=True, slots=True)
class Entry:
    """One segment of a SegmentTimeline: presentation time and duration in ticks (§5.3.9.6)."""

    time: int
    duration: int


@dataclass(frozen=True, slots=True)
class Template:
    """SegmentTemplate (§5.3.9.4). offset: presentationTimeOffset, ticks of the media shown at the Period's start.

    duration (ticks): segment n covers offset + (n - start_number) * duration. Else `timeline`, and start_number is the
    number of its first entry. available_early: availabilityTimeOffset in seconds where an unfinished segment is sent
    chunk by chunk, None where it is not.
    """

    timescale: int
    initialization: str
    media: str
    start_number: int
    offset: int
    duration: int | None = None
    timeline: tuple[Entry, ...] = ()
    available_early: float | None = None


@dataclass(frozen=True, slots=True)
class Representation:
    """§5.3.5. Of video: size, frame rate as "30" or "30000/1001"; of audio: rate, channels. 0 and None: unknown.

    template: its own, None where it uses the set's."""

    id: str
    codecs: str
    bandwidth: int
    size: tuple[int, int] | None = None
    frame_rate: str | None = None
    rate: int = 0
    channels: int = 0
    template: Template | None = None


@dataclass(frozen=True, slots=True)
class AdaptationSet:
    """§5.3.3; all its representations are aligned. Those without a template of their own share the set's, where
    `$RepresentationID$` in its URLs tells them apart.

    wall: when the media at the template's offset was captured, for ProducerReferenceTime (§5.12). independent: every
    segment begins with a key frame."""

    id: int
    kind: str
    template: Template
    representations: tuple[Representation, ...]
    wall: float | None = None
    independent: bool = True


@dataclass(frozen=True, slots=True)
class Period:
    """§5.3.2. start: seconds after availabilityStartTime; length: seconds, for one that is over."""

    id: str
    start: float
    sets: tuple[AdaptationSet, ...]
    length: float | None = None


@dataclass(frozen=True, slots=True)
class Mpd:
    """§5.3.1, all in seconds. latency: what a player aims for, None where chunks are not sent early.

    presentation: the length of a presentation that has ended; None while it is live. clock: URL of the current time.
    """

    start: float
    published: float
    update: float
    buffer: float
    depth: float
    delay: float
    longest: float
    latency: float | None
    periods: tuple[Period, ...]
    clock: str
    presentation: float | None = None


def mpd(m: Mpd) -> str:
    """The MPD with MARK and NOW in it, for `finish`.

    One that has ended is static, with its length: everything it lists is there, and nothing will come (§5.3.1.2).
    Players that met it while it was dynamic finish what they have (dash.js goes on asking where only the length is
    said); ffmpeg's, which looks at it once, plays to the end instead of waiting for more.
    """
    over = m.presentation is not None
    attributes = [
        'xmlns="urn:mpeg:dash:schema:mpd:2011"',
        f'profiles="{_PLAIN_PROFILES if m.latency is None else _PROFILES}"',
        f'type="{"static" if over else "dynamic"}"',
        f'availabilityStartTime="{date(m.start)}"',
        f'publishTime="{date(m.published)}"',
        f'minBufferTime="{duration(m.buffer)}"',
        f'maxSegmentDuration="{duration(m.longest)}"',
    ]
    if m.presentation is None:
        attributes.append(f'timeShiftBufferDepth="{duration(m.depth)}"')
        attributes.append(f'suggestedPresentationDelay="{duration(m.delay)}"')
        attributes.append(f'minimumUpdatePeriod="{duration(m.update)}"')
    else:
        attributes.append(f'mediaPresentationDuration="{duration(m.presentation)}"')
    lines = ['<?xml version="1.0" encoding="UTF-8"?>\n<MPD ', " ".join(attributes), ">\n"]
    if m.latency is not None and not over:
        target = round(m.latency * 1000)
        lines.append(
            f'<ServiceDescription id="0"><Latency referenceId="0" target="{target}" min="{target // 2}" '
            f'max="{target * 2}"/><PlaybackRate min="0.96" max="1.04"/></ServiceDescription>\n'
        )
    for period in m.periods:
        lines.extend(_period(period, m.latency is not None, m.clock))
    lines.append(
        f'<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="{escape(m.clock)}"/>\n'
        f'<UTCTiming schemeIdUri="urn:mpeg:dash:utc:direct:2014" value="{NOW}"/>\n</MPD>\n'
    )
    return "".join(lines)


def _period(p: Period, low_latency: bool, clock: str) -> Iterable[str]:
    length = "" if p.length is None else f' duration="{duration(p.length)}"'
    yield f'<Period id="{escape(p.id)}" start="{duration(p.start)}"{length}>\n'
    for s in p.sets:
        sap = ' startWithSAP="1"' if s.independent else ""
        yield (
            f'<AdaptationSet id="{s.id}" contentType="{s.kind}" mimeType="{s.kind}/mp4" segmentAlignment="true"{sap}>\n'
        )
        if s.wall is not None and low_latency:
            yield (
                f'<ProducerReferenceTime id="0" type="captured" wallClockTime="{date(s.wall)}" '
                f'presentationTime="{s.template.offset}">'
                f'<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="{escape(clock)}"/>'
                "</ProducerReferenceTime>\n"
            )
        if not all(r.template for r in s.representations):
            yield "".join(_template(s.template))
        for r in s.representations:
            yield _representation(r)
        yield "</AdaptationSet>\n"
    yield "</Period>\n"


def _template(t: Template) -> Iterable[str]:
    # A `$` that begins no identifier does not occur: names are ours.
    attributes = [
        f'timescale="{t.timescale}"',
        f'initialization="{escape(t.initialization)}{MARK}"',
        f'media="{escape(t.media)}{MARK}"',
        f'startNumber="{t.start_number}"',
        f'presentationTimeOffset="{t.offset}"',
    ]
    if t.duration is not None:
        attributes.append(f'duration="{t.duration}"')
        if t.available_early is not None:
            attributes.append(f'availabilityTimeOffset="{t.available_early:.3f}" availabilityTimeComplete="false"')
        yield f"<SegmentTemplate {' '.join(attributes)}/>\n"
        return
    yield f"<SegmentTemplate {' '.join(attributes)}><SegmentTimeline>{''.join(_timeline(t.timeline))}"
    yield "</SegmentTimeline></SegmentTemplate>\n"


def _timeline(entries: Sequence[Entry]) -> Iterable[str]:
    """S elements; `r` counts further segments of one duration, `t` stands where one does not follow the last."""
    at = 0
    expected: int | None = None
    while at < len(entries):
        first = entries[at]
        repeat = 0
        time = first.time + first.duration
        while at + repeat + 1 < len(entries) and entries[at + repeat + 1] == Entry(time, first.duration):
            repeat += 1
            time += first.duration
        t = "" if first.time == expected else f' t="{first.time}"'
        r = f' r="{repeat}"' if repeat else ""
        yield f'<S{t} d="{first.duration}"{r}/>'
        expected = time
        at += repeat + 1


def _representation(r: Representation) -> str:
    attributes = [f'id="{escape(r.id)}"', f'codecs="{escape(r.codecs)}"', f'bandwidth="{r.bandwidth}"']
    if r.size is not None:
        attributes.append(f'width="{r.size[0]}" height="{r.size[1]}"')
    if r.frame_rate:
        attributes.append(f'frameRate="{r.frame_rate}"')
    if r.rate:
        attributes.append(f'audioSamplingRate="{r.rate}"')
    inside = ""
    if r.channels:
        inside = (
            '<AudioChannelConfiguration schemeIdUri="urn:mpeg:dash:23003:3:audio_channel_configuration:2011" '
            f'value="{r.channels}"/>'
        )
    if r.template is not None:
        inside += "".join(_template(r.template)).rstrip()
    start = f"<Representation {' '.join(attributes)}"
    return f"{start}>{inside}</Representation>\n" if inside else f"{start}/>\n"
