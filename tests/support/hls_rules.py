"""The rules of draft-pantos-hls-rfc8216bis for Media Playlists, single ones and sequences of snapshots.

Written from the specification and independent of the gateway's printers: it reads only text.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s]+)(?:,|$)')
_CORRECTED = 0.25  # seconds
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@functools.lru_cache(4096)  # a client reads each line of a playlist again and again
def attributes(text: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _ATTRIBUTE.match(text, at)
        assert match, f"attribute list {text!r} at {at}"
        assert match[1] not in found, f"{match[1]} twice in {text!r}"  # §4.2
        found[match[1]] = match[2]
        at = match.end()
    return found


def quoted(value: str) -> str:
    assert value[0] == value[-1] == '"', f"{value} is no quoted-string"
    return value[1:-1]


@dataclass
class Part:
    uri: str
    duration: float
    independent: bool


@dataclass
class Segment:
    number: int
    discontinuity: int
    uri: str = ""
    duration: float = 0.0
    parts: list[Part] = field(default_factory=list)
    map_uri: str | None = None
    date: str | None = None


@dataclass
class Playlist:
    text: str
    version: int = 1
    target: int = 0
    sequence: int = 0
    discontinuity_sequence: int = 0
    skipped: int = 0
    segments: list[Segment] = field(default_factory=list)
    open: Segment | None = None
    control: Mapping[str, str] = field(default_factory=dict)
    part_target: float | None = None
    hint: str | None = None
    reports: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    ended: bool = False
    independent: bool = False
    ranges: dict[str, dict[str, str]] = field(default_factory=dict)  # by ID: the attributes of all its tags
    cue_tags: list[tuple[int, str]] = field(default_factory=list)  # with the number of the segment after each

    @property
    def last(self) -> int:
        return self.segments[-1].number if self.segments else self.sequence + self.skipped - 1


def parse(text: str) -> Playlist:
    """Reads a Media Playlist strictly. An `AssertionError` names the violated rule."""
    assert text.startswith("#EXTM3U\n"), "§4.4.1.1: EXTM3U MUST be the first line"
    assert text.endswith("\n")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text), "§4.1: no control characters"
    p = Playlist(text)
    once: set[str] = set()
    discontinuities = 0
    map_uri: str | None = None
    at = Segment(0, 0)
    pending: float | None = None
    for line in text.split("\n")[1:-1]:
        assert line == line.strip() and line
        if not line.startswith("#"):
            assert pending is not None, "§4.4.4.1: EXTINF is REQUIRED for each segment"
            at.number = p.sequence + p.skipped + len(p.segments)
            at.discontinuity = p.discontinuity_sequence + discontinuities
            at.uri, at.duration, at.map_uri = line, pending, map_uri
            p.segments.append(at)
            at, pending = Segment(0, 0), None
            continue
        assert line.startswith("#EXT"), line
        tag, _, value = line.partition(":")
        if tag in ("#EXT-X-VERSION", "#EXT-X-TARGETDURATION", "#EXT-X-MEDIA-SEQUENCE", "#EXT-X-DISCONTINUITY-SEQUENCE",
                   "#EXT-X-SERVER-CONTROL", "#EXT-X-PART-INF", "#EXT-X-SKIP", "#EXT-X-ENDLIST",
                   "#EXT-X-INDEPENDENT-SEGMENTS"):  # fmt: skip
            assert tag not in once, f"{tag} twice"
            once.add(tag)
        match tag:
            case "#EXT-X-VERSION":
                p.version = int(value)
            case "#EXT-X-TARGETDURATION":
                p.target = int(value)
            case "#EXT-X-MEDIA-SEQUENCE":
                assert not p.segments and not at.parts, "§4.4.3.2: before the first segment"
                p.sequence = int(value)
            case "#EXT-X-DISCONTINUITY-SEQUENCE":
                assert not p.segments and not discontinuities, "§4.4.3.3: before the first segment and discontinuity"
                p.discontinuity_sequence = int(value)
            case "#EXT-X-SERVER-CONTROL":
                p.control = attributes(value)
            case "#EXT-X-PART-INF":
                p.part_target = float(attributes(value)["PART-TARGET"])
            case "#EXT-X-SKIP":
                assert not p.segments
                p.skipped = int(attributes(value)["SKIPPED-SEGMENTS"])
            case "#EXT-X-MAP":
                assert not at.parts, "a part's MAP stands before it"
                map_uri = quoted(attributes(value)["URI"])
            case "#EXT-X-DISCONTINUITY":
                assert not at.parts
                discontinuities += 1
            case "#EXT-X-PROGRAM-DATE-TIME":
                assert _DATE.fullmatch(value), value
                at.date = value
            case "#EXT-X-PART":
                a = attributes(value)
                at.parts.append(Part(quoted(a["URI"]), float(a["DURATION"]), a.get("INDEPENDENT") == "YES"))
            case "#EXTINF":
                pending = float(value.rstrip(",").split(",")[0])
            case "#EXT-X-PRELOAD-HINT":
                a = attributes(value)
                assert a["TYPE"] == "PART" and p.hint is None
                p.hint = quoted(a["URI"])
            case "#EXT-X-RENDITION-REPORT":
                a = attributes(value)
                p.reports[quoted(a["URI"])] = (int(a["LAST-MSN"]), int(a["LAST-PART"]) if "LAST-PART" in a else None)
            case "#EXT-X-INDEPENDENT-SEGMENTS":
                p.independent = True
            case "#EXT-X-DATERANGE":
                _add_range(p, attributes(value))
            case "#EXT-X-CUE-OUT" | "#EXT-X-CUE-OUT-CONT" | "#EXT-X-CUE-IN":
                p.cue_tags.append((p.sequence + p.skipped + len(p.segments), line))
            case "#EXT-X-ENDLIST":
                p.ended = True
            case _:
                raise AssertionError(f"unknown tag {tag}")
    if at.parts:
        at.number = p.sequence + p.skipped + len(p.segments)
        at.discontinuity = p.discontinuity_sequence + discontinuities
        at.map_uri = map_uri
        p.open = at
    assert p.target > 0 and "#EXT-X-TARGETDURATION" in once, "§4.4.3.1: REQUIRED"
    return p


def changes_of_media(text: str) -> list[str]:
    """Returns the segments that follow a discontinuity although their dates go on: other tracks, or another epoch.

    The other discontinuities correct dates, because media came a second too late for a while, as on a busy machine.
    """
    found = []
    for before, after in pairwise(parse(text).segments):
        if after.discontinuity == before.discontinuity:
            continue
        assert before.date and after.date, "each segment has a date"
        step = datetime.fromisoformat(after.date) - datetime.fromisoformat(before.date)
        if abs(step.total_seconds() - before.duration) < _CORRECTED:
            found.append(after.uri)
    return found


def _add_range(p: Playlist, found: Mapping[str, str]) -> None:
    """Checks one EXT-X-DATERANGE (§4.4.5.1)."""
    name = quoted(found["ID"])
    assert _DATE.fullmatch(quoted(found["START-DATE"])), found
    known = p.ranges.setdefault(name, {})
    for key, value in found.items():
        assert known.setdefault(key, value) == value, f"{key} of {name} differs between its tags"
    for key in ("DURATION", "PLANNED-DURATION"):
        assert float(found.get(key, 0)) >= 0
    if "END-DATE" in found:
        start, end = (datetime.fromisoformat(quoted(found[key])) for key in ("START-DATE", "END-DATE"))
        assert end >= start
        assert "DURATION" not in found or abs((end - start).total_seconds() - float(found["DURATION"])) < 1e-6
    for key in ("SCTE35-OUT", "SCTE35-IN", "SCTE35-CMD"):
        assert re.fullmatch(r"0x([0-9A-F]{2})+", found.get(key, "0x00")), found[key]


def check(p: Playlist) -> Playlist:
    """Checks the rules for a single playlist."""
    fractions = any(not float(s.duration).is_integer() for s in p.segments)
    assert p.version >= (3 if fractions else 1)
    for s in p.segments:
        assert s.duration > 0
        assert math.floor(s.duration + 0.5) <= p.target, f"§4.4.3.1: EXTINF {s.duration} over {p.target}"
        if s.map_uri is not None:
            assert p.version >= 6, "§7: EXT-X-MAP without I-FRAMES-ONLY needs 6"
    everything = [*p.segments, *([p.open] if p.open else [])]
    if any(s.parts for s in everything):
        assert p.part_target, "§4.4.3.7: EXT-X-PART-INF is REQUIRED with EXT-X-PART"
    if p.independent:
        whole = [s.parts for s in everything if s.parts]
        assert all(parts[0].independent for parts in whole), "§4.4.2.1: a segment that depends on another"
    if p.part_target is not None:
        hold = float(p.control["PART-HOLD-BACK"])  # §4.4.3.8: REQUIRED with EXT-X-PART-INF
        assert hold >= 3 * p.part_target - 1e-5 >= 2 * p.part_target
        for s in everything:
            for n, part in enumerate(s.parts):
                assert part.duration <= p.part_target + 1e-9, f"§4.4.4.9: part {part.duration} over {p.part_target}"
                last = s is not p.open and n == len(s.parts) - 1
                if not last and not part.independent and not (s is p.open and n == len(s.parts) - 1):
                    assert part.duration >= 0.85 * p.part_target - 1e-5, f"§4.4.4.9: part {part.duration} under 85 %"
            if s is not p.open and s.parts:
                total = sum(x.duration for x in s.parts)
                # The declared duration of a longer frame is the maximum duration of a part.
                longer = any(abs(x.duration - p.part_target) < 1e-5 for x in s.parts)
                assert -0.1 < s.duration - total < (math.inf if longer else 0.1), (
                    f"parts {total} of segment {s.duration}"
                )
        # §4.4.4.9: parts SHOULD be removed when they are more than three Target Durations from the end.
        behind = sum(x.duration for x in p.open.parts) if p.open else 0.0
        for s in reversed(p.segments):
            assert not s.parts or behind < 3 * p.target + 1e-6, "parts too far from the end"
            behind += s.duration
    if "CAN-SKIP-UNTIL" in p.control:
        assert float(p.control["CAN-SKIP-UNTIL"]) >= 6 * p.target, "§4.4.3.8"
    if p.skipped:
        assert p.version >= 9, "§7: EXT-X-SKIP needs 9"
        rest = sum(s.duration for s in p.segments) + (sum(x.duration for x in p.open.parts) if p.open else 0.0)
        assert rest >= float(p.control["CAN-SKIP-UNTIL"]) - 1e-3, "§6.2.5.1: skipped beyond the Skip Boundary"
    if p.ended:
        assert p.hint is None and not p.reports and p.open is None
    dated = any(s.date for s in everything) or p.skipped
    assert not p.ranges or dated, "§4.4.5.1: a date range needs EXT-X-PROGRAM-DATE-TIME"
    uris = [s.uri for s in p.segments]
    assert len(set(uris)) == len(uris)
    return p


class Follower:
    """A client that compares each snapshot with the earlier ones (§6.2.1, §6.2.2)."""

    def __init__(self) -> None:
        self.last: Playlist | None = None
        self.segments: dict[int, Segment] = {}
        self.parts: dict[tuple[int, int], str] = {}
        self.snapshots = 0
        self.hints_kept = 0
        self._hint: tuple[str, int] | None = None

    def see(self, text: str) -> Playlist:
        p = check(parse(text))
        self.snapshots += 1
        old = self.last
        if old is not None:
            assert p.target == old.target, "§6.2.1: EXT-X-TARGETDURATION MUST NOT change"
            assert p.version == old.version
            assert p.part_target == old.part_target
            assert p.sequence >= old.sequence, f"§6.2.2: MEDIA-SEQUENCE went back, {old.sequence} to {p.sequence}"
            assert p.discontinuity_sequence >= old.discontinuity_sequence
            assert p.last >= old.last
            assert not old.ended or p.ended
            if p.sequence > old.sequence and not p.ended:
                total = sum(s.duration for s in p.segments)
                assert p.skipped or total >= 3 * p.target - 1e-6 or len(p.segments) > 100, "§6.2.2: list too short"
        for s in p.segments:
            known = self.segments.setdefault(s.number, s)
            same = (known.uri, known.duration, known.discontinuity, known.date) == (
                s.uri, s.duration, s.discontinuity, s.date,
            )  # fmt: skip
            assert same, f"segment {s.number} changed from {known} to {s}"
            if s.map_uri is not None and known.map_uri is not None:
                assert s.map_uri == known.map_uri
        for s in [*p.segments, *([p.open] if p.open else [])]:
            for n, part in enumerate(s.parts):
                uri = self.parts.setdefault((s.number, n), part.uri)
                assert uri == part.uri, f"part {s.number}.{n} was {uri}, is {part.uri}"
        self.last = p
        return p
