"""Writes the Media Presentation Description of a live stream as XML (ISO/IEC 23009-1, DASH-IF low latency)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from gateway.lib.rfc3339 import rfc3339
from gateway.media.labels import printable

_TYPES = {"text": "application"}  # ISO/IEC 14496-30 §7
# Placeholders, which XML 1.0 cannot contain: for the query of a protected player, and for the current time.
MARK = "\x00"
NOW = "\x01"

_PLAIN_PROFILES = "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019"
_PROFILES = f"{_PLAIN_PROFILES},http://www.dashif.org/guidelines/low-latency-live-v5"


def finish(text: str, suffix: str = "", now: float = 0.0) -> bytes:
    """Returns the finished MPD.

    suffix: "" or "?…", appended to every URL of a template.
    now: the time for direct UTCTiming, seconds since 1970.

    A `$` in the suffix would start an identifier of the template, so it is doubled (§5.3.9.4.4: "$$").
    """
    return text.replace(MARK, escape(suffix.replace("$", "$$"))).replace(NOW, rfc3339(now)).encode()


def duration(seconds: float) -> str:
    """Returns an xs:duration in seconds, to the millisecond."""
    return f"PT{max(seconds, 0.0):.3f}S"


def _escaped(text: str) -> str:
    """Returns a text as XML 1.0 can have it, also between quotation marks."""
    return escape(printable(text))


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One segment of a SegmentTimeline: presentation time and duration in ticks (§5.3.9.6)."""

    time: int
    duration: int


@dataclass(frozen=True, slots=True)
class Template:
    """SegmentTemplate (§5.3.9.4).

    offset: presentationTimeOffset, the media time at the Period's start, in ticks.
    start_number: the number of the first segment, or of the first entry of `timeline`.
    duration: ticks of each segment; None: `timeline` is used.
    available_early: availabilityTimeOffset in seconds; None if unfinished segments are not sent in chunks.
    """

    timescale: int
    initialization: str
    media: str
    start_number: int
    offset: int
    duration: int | None = None
    timeline: tuple[TimelineEntry, ...] = ()
    available_early: float | None = None


@dataclass(frozen=True, slots=True)
class Representation:
    """Representation (§5.3.5); 0 and None mean unknown.

    size: of video, width and height.
    frame_rate: of video, "30" or "30000/1001".
    rate, channels: of audio.
    template: None if it uses the AdaptationSet's template.
    aspect: of video, the pixel aspect ratio if pixels are not square.
    """

    id: str
    codecs: str
    bandwidth: int
    size: tuple[int, int] | None = None
    frame_rate: str | None = None
    rate: int = 0
    channels: int = 0
    template: Template | None = None
    aspect: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A property with its scheme (§5.8.2)."""

    scheme: str
    value: str


@dataclass(frozen=True, slots=True)
class AdaptationSet:
    """AdaptationSet (§5.3.3); all its representations are aligned.

    template: for representations without a template; its URLs contain `$RepresentationID$`.
    wall: capture time of the media at the template's offset, seconds since 1970, for ProducerReferenceTime
    (§5.12).
    sap: maximum type of the stream access points at the start of all segments; 0: some segments begin without one.
    language, label: of audio; "" if unknown. role: urn:mpeg:dash:role:2011, "" for none; players begin with "main".
    accessibility: of video, such as captions in the pictures.
    properties: of video, which players may ignore.
    events: schemes of the events in the segments.
    """

    id: int
    kind: str
    template: Template
    representations: tuple[Representation, ...]
    wall: float | None = None
    sap: int = 1
    language: str = ""
    label: str = ""
    role: str = ""
    accessibility: tuple[Descriptor, ...] = ()
    properties: tuple[Descriptor, ...] = ()
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Period:
    """Period (§5.3.2).

    start: seconds after availabilityStartTime.
    length: seconds; None for a Period that has not ended.
    """

    id: str
    start: float
    sets: tuple[AdaptationSet, ...]
    length: float | None = None


@dataclass(frozen=True, slots=True)
class Mpd:
    """MPD (§5.3.1). All times are in seconds.

    start, published: availabilityStartTime and publishTime, since 1970.
    update: minimumUpdatePeriod. buffer: minBufferTime. depth: timeShiftBufferDepth.
    delay: suggestedPresentationDelay. longest: maxSegmentDuration.
    latency: the target latency for players; None if chunks are not sent early.
    clock: URL of the current time.
    presentation: length of a presentation that has ended; None while it is live.
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
    """Returns the MPD with MARK and NOW in it, for `finish`.

    An ended presentation is static, with its length: all listed segments are available, and none follows (§5.3.1.2).
    Players that loaded it while it was dynamic play to the end. If only the length were set, dash.js would continue to
    request it. ffmpeg loads it once and plays to the end; it does not wait for more.
    """
    has_ended = m.presentation is not None
    attributes = [
        'xmlns="urn:mpeg:dash:schema:mpd:2011"',
        f'profiles="{_PLAIN_PROFILES if m.latency is None else _PROFILES}"',
        f'type="{"static" if has_ended else "dynamic"}"',
        f'availabilityStartTime="{rfc3339(m.start)}"',
        f'publishTime="{rfc3339(m.published)}"',
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
    if m.latency is not None and not has_ended:
        target = round(m.latency * 1000)
        lines.append(
            f'<ServiceDescription id="0"><Latency referenceId="0" target="{target}" min="{target // 2}" '
            f'max="{target * 2}"/><PlaybackRate min="0.96" max="1.04"/></ServiceDescription>\n'
        )
    for period in m.periods:
        lines.extend(_period(period, m.latency is not None, m.clock))
    lines.append(
        f'<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="{_escaped(m.clock)}"/>\n'
        f'<UTCTiming schemeIdUri="urn:mpeg:dash:utc:direct:2014" value="{NOW}"/>\n</MPD>\n'
    )
    return "".join(lines)


def _period(p: Period, low_latency: bool, clock: str) -> Iterable[str]:
    length = "" if p.length is None else f' duration="{duration(p.length)}"'
    yield f'<Period id="{_escaped(p.id)}" start="{duration(p.start)}"{length}>\n'
    for s in p.sets:
        sap = f' startWithSAP="{s.sap}"' if s.sap else ""
        lang = f' lang="{_escaped(s.language)}"' if s.language else ""
        yield (
            f'<AdaptationSet id="{s.id}" contentType="{s.kind}"{lang} mimeType="{_TYPES.get(s.kind, s.kind)}/mp4" '
            f'segmentAlignment="true"{sap}>\n'
        )
        for each in s.properties:
            yield f'<SupplementalProperty schemeIdUri="{_escaped(each.scheme)}" value="{_escaped(each.value)}"/>\n'
        for scheme in s.events:
            yield f'<InbandEventStream schemeIdUri="{_escaped(scheme)}" value=""/>\n'
        if s.label:
            yield f"<Label>{_escaped(s.label)}</Label>\n"
        if s.wall is not None and low_latency:
            yield (
                f'<ProducerReferenceTime id="0" type="captured" wallClockTime="{rfc3339(s.wall)}" '
                f'presentationTime="{s.template.offset}">'
                f'<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="{_escaped(clock)}"/>'
                "</ProducerReferenceTime>\n"
            )
        for d in s.accessibility:
            yield f'<Accessibility schemeIdUri="{_escaped(d.scheme)}" value="{_escaped(d.value)}"/>\n'
        if s.role:
            yield f'<Role schemeIdUri="urn:mpeg:dash:role:2011" value="{_escaped(s.role)}"/>\n'
        if not all(r.template for r in s.representations):
            yield "".join(_template(s.template))
        for r in s.representations:
            yield _representation(r)
        yield "</AdaptationSet>\n"
    yield "</Period>\n"


def _template(t: Template) -> Iterable[str]:
    # The gateway's file names contain `$` only in identifiers.
    attributes = [
        f'timescale="{t.timescale}"',
        f'initialization="{_escaped(t.initialization)}{MARK}"',
        f'media="{_escaped(t.media)}{MARK}"',
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


def _timeline(entries: Sequence[TimelineEntry]) -> Iterable[str]:
    """Yields the S elements.

    `r` is the number of further segments with this duration. `t` is written if a segment does not follow the previous
    one.
    """
    at = 0
    expected: int | None = None
    while at < len(entries):
        first = entries[at]
        repeat = 0
        time = first.time + first.duration
        while at + repeat + 1 < len(entries) and entries[at + repeat + 1] == TimelineEntry(time, first.duration):
            repeat += 1
            time += first.duration
        t = "" if first.time == expected else f' t="{first.time}"'
        r = f' r="{repeat}"' if repeat else ""
        yield f'<S{t} d="{first.duration}"{r}/>'
        expected = time
        at += repeat + 1


def _representation(r: Representation) -> str:
    attributes = [f'id="{_escaped(r.id)}"', f'codecs="{_escaped(r.codecs)}"', f'bandwidth="{r.bandwidth}"']
    if r.size is not None:
        attributes.append(f'width="{r.size[0]}" height="{r.size[1]}"')
    if r.frame_rate:
        attributes.append(f'frameRate="{r.frame_rate}"')
    if r.aspect is not None:
        attributes.append(f'sar="{r.aspect[0]}:{r.aspect[1]}"')
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
