"""Reads a DASH manifest (ISO/IEC 23009-1) into values; breaks of what must stand there go to the findings."""

from __future__ import annotations

import datetime
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from urllib.parse import urljoin

from judges.findings import Findings

_NAMESPACE = "{urn:mpeg:dash:schema:mpd:2011}"
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?")


@dataclass(frozen=True)
class Entry:
    """One segment of a SegmentTimeline, in units of the timescale."""

    number: int
    time: int
    duration: int


@dataclass(frozen=True)
class Representation:
    """A representation with its SegmentTemplate. entries: None where segments are addressed by @duration."""

    id: str
    period: str
    period_start: float
    period_end: float | None
    is_video: bool
    start_with_sap: str | None
    sample_aspect: str | None
    timescale: int
    offset: int
    start_number: int
    initialization: str
    media: str
    time_offset: float
    duration: int | None
    entries: list[Entry] | None

    def segment_url(self, number: int, time: int = 0) -> str:
        """Address of a segment."""
        return re.sub(r"\$Number(?:%0\d+d)?\$", str(number), self.media).replace("$Time$", str(time))


@dataclass
class Manifest:
    """A manifest. Times are seconds since the epoch, durations seconds; None: not there."""

    dynamic: bool
    has_duration: bool
    available: float
    published: float
    time_shift: float | None
    delay: float | None
    update_period: float | None
    max_segment: float | None
    clocks: list[tuple[str, str]] = field(default_factory=list)
    periods: int = 0
    representations: list[Representation] = field(default_factory=list)


def seconds_of(text: str | None) -> float | None:
    """Seconds of an ISO 8601 duration."""
    match = _DURATION.fullmatch(text) if text else None
    if match is None:
        return None
    return sum(float(value or 0) * unit for value, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))


def date_time(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 date."""
    return datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00")).timestamp()


def parse(data: bytes, url: str, findings: Findings) -> Manifest | None:
    """Reads a manifest; None where it is not readable."""
    try:
        root = ElementTree.fromstring(data)
        return _manifest(root, url, findings)
    except (ElementTree.ParseError, ValueError, KeyError, TypeError) as error:
        findings.breaks("the manifest is readable", f"{error!r}")
        return None


def _manifest(root: ElementTree.Element, url: str, findings: Findings) -> Manifest:
    dynamic = root.get("type") == "dynamic"
    if dynamic:
        for name in ("availabilityStartTime", "publishTime", "minBufferTime", "profiles"):
            findings.require(root.get(name), f"MPD@{name} is there")
    found = Manifest(
        dynamic=dynamic,
        has_duration=root.get("mediaPresentationDuration") is not None,
        available=date_time(root.get("availabilityStartTime", "1970-01-01T00:00:00Z")),
        published=date_time(root.get("publishTime", "1970-01-01T00:00:00Z")),
        time_shift=seconds_of(root.get("timeShiftBufferDepth")),
        delay=seconds_of(root.get("suggestedPresentationDelay")),
        update_period=seconds_of(root.get("minimumUpdatePeriod")),
        max_segment=seconds_of(root.get("maxSegmentDuration")),
        clocks=[(clock.get("schemeIdUri", ""), clock.get("value", "")) for clock in root.findall(_tag("UTCTiming"))],
    )
    periods = root.findall(_tag("Period"))
    found.periods = len(periods)
    ids = [period.get("id") for period in periods]
    findings.require(len(set(ids)) == len(ids) and None not in ids, "5.3.2.2 Period@id is there and unique", ids)
    starts = [seconds_of(period.get("start")) or 0.0 for period in periods]
    findings.require(starts == sorted(starts), "5.3.2.1 Period@start goes up", starts)
    base = root.find(_tag("BaseURL"))
    address = urljoin(url, base.text or "") if base is not None else url
    for index, period in enumerate(periods):
        end = starts[index + 1] if index + 1 < len(starts) else None
        for group in period.findall(_tag("AdaptationSet")):
            for one in group.findall(_tag("Representation")):
                found.representations.append(
                    _representation(one, group, period, (starts[index], end), address, findings)
                )
    return found


def _tag(name: str) -> str:
    return _NAMESPACE + name


def _representation(
    one: ElementTree.Element,
    group: ElementTree.Element,
    period: ElementTree.Element,
    span: tuple[float, float | None],
    base: str,
    findings: Findings,
) -> Representation:
    id = one.get("id", "")
    template = one.find(_tag("SegmentTemplate"))
    template = group.find(_tag("SegmentTemplate")) if template is None else template
    if template is None:
        raise ValueError(f"representation {id} without SegmentTemplate")
    is_video = (group.get("contentType") or group.get("mimeType") or "").startswith("video")
    findings.require(one.get("bandwidth"), "5.3.5.2 Representation@bandwidth is there", id)
    sized = not is_video or one.get("width") or group.get("width")
    findings.require(sized, "5.3.7.2 the picture's @width is there", id)

    def address(name: str) -> str:
        return urljoin(base, template.get(name, "").replace("$RepresentationID$", id))

    start_number = int(template.get("startNumber", "1"))
    timeline = template.find(_tag("SegmentTimeline"))
    duration = template.get("duration")
    return Representation(
        id=id,
        period=period.get("id", ""),
        period_start=span[0],
        period_end=span[1],
        is_video=is_video,
        start_with_sap=one.get("startWithSAP") or group.get("startWithSAP"),
        sample_aspect=one.get("sar") or group.get("sar"),
        timescale=int(template.get("timescale", "1")),
        offset=int(template.get("presentationTimeOffset", "0")),
        start_number=start_number,
        initialization=address("initialization"),
        media=address("media"),
        time_offset=float(template.get("availabilityTimeOffset", group.get("availabilityTimeOffset", "0"))),
        duration=None if duration is None else int(duration),
        entries=None if timeline is None else _entries(timeline, start_number),
    )


def _entries(timeline: ElementTree.Element, number: int) -> list[Entry]:
    """§5.3.9.6: @r counts repetitions; a missing @t goes on where the entry before ends."""
    found: list[Entry] = []
    time = 0
    for entry in timeline.findall(_tag("S")):
        number = int(entry.get("n", number))
        time = int(entry.get("t", time))
        duration = int(entry.attrib["d"])
        for _ in range(int(entry.get("r", "0")) + 1):
            found.append(Entry(number, time, duration))
            number, time = number + 1, time + duration
    return found
