"""Reads HLS playlists (RFC 8216bis) into values; breaks of the syntax go to the findings."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field

from judges.findings import Findings

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"\r\n]*"|[^,]*)(?:,|$)')
ONCE = {
    "EXT-X-VERSION", "EXT-X-TARGETDURATION", "EXT-X-MEDIA-SEQUENCE", "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-SERVER-CONTROL", "EXT-X-PART-INF",
}  # fmt: skip
KNOWN = ONCE | {
    "EXTM3U", "EXT-X-MAP", "EXT-X-PROGRAM-DATE-TIME", "EXTINF", "EXT-X-PART", "EXT-X-PRELOAD-HINT",
    "EXT-X-RENDITION-REPORT", "EXT-X-DISCONTINUITY", "EXT-X-ENDLIST", "EXT-X-SKIP", "EXT-X-INDEPENDENT-SEGMENTS",
    "EXT-X-GAP", "EXT-X-PLAYLIST-TYPE", "EXT-X-START", "EXT-X-BITRATE", "EXT-X-DATERANGE", "EXT-X-STREAM-INF",
    "EXT-X-MEDIA", "EXT-X-I-FRAME-STREAM-INF", "EXT-X-SESSION-DATA",
}  # fmt: skip


@dataclass
class Part:
    """A partial segment. map_uri: of its CMAF header."""

    uri: str
    duration: float
    independent: bool
    gap: bool
    map_uri: str | None


@dataclass
class Segment:
    """A listed segment, or the one that is still open (without uri). date: seconds since the epoch."""

    number: int = 0
    uri: str = ""
    duration: float | None = None
    date: float | None = None
    discontinuity: bool = False
    map_uri: str | None = None
    gap: bool = False
    parts: list[Part] = field(default_factory=list)


@dataclass
class Playlist:
    """A Media Playlist. last: Media Sequence Number of its last complete segment."""

    url: str
    version: int = 1
    target: int | None = None
    part_target: float | None = None
    sequence: int = 0
    discontinuity_sequence: int | None = None
    skipped: int = 0
    ended: bool = False
    maps: int = 0
    control: dict[str, str] = field(default_factory=dict)
    hint: dict[str, str] | None = None
    reports: list[dict[str, str]] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    open: Segment = field(default_factory=Segment)

    @property
    def last(self) -> int:
        return self.sequence + self.skipped + len(self.segments) - 1

    @property
    def blocking(self) -> bool:
        return self.control.get("CAN-BLOCK-RELOAD") == "YES"

    @property
    def duration(self) -> float:
        return sum(segment.duration or 0 for segment in self.segments)

    @property
    def hinted(self) -> str | None:
        return unquoted(self.hint["URI"]) if self.hint and "URI" in self.hint else None


def unquoted(value: str) -> str:
    """The content of a quoted string; other values as they are."""
    return value[1:-1] if value.startswith('"') else value


def attributes(text: str, findings: Findings) -> dict[str, str]:
    """Reads an attribute list (§4.2)."""
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(text):
        findings.require(match[1] not in found, "4.2 an attribute stands once", text)
        found[match[1]] = match[2]
    written = ",".join(f"{name}={value}" for name, value in found.items())
    findings.require(written == text, "4.2 attribute list syntax", text)
    return found


def date_time(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 date."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def parse_media(text: str, url: str, findings: Findings) -> Playlist:
    """Reads a Media Playlist."""
    lines = text.split("\n")
    findings.require(lines[0].strip() == "#EXTM3U", "4.4.1.1 EXTM3U is the first line", url)
    findings.require(text.endswith("\n"), "4.1 the last line ends", url)
    return _Reader(Playlist(url), findings).read([line.rstrip("\r") for line in lines[1:]])


class _Reader:
    """Reads the lines of one Media Playlist."""

    def __init__(self, playlist: Playlist, findings: Findings) -> None:
        self._playlist = playlist
        self._findings = findings
        self._seen: set[str] = set()
        self._map: str | None = None
        self._segment = Segment()

    def read(self, lines: list[str]) -> Playlist:
        for line in lines:
            if line.startswith("#EXT"):
                name, _, value = line[1:].partition(":")
                self._tag(name, value)
            elif line and not line.startswith("#"):
                self._address(line)
        open_segment = self._segment
        open_segment.number, open_segment.map_uri = self._playlist.last + 1, self._map
        self._playlist.open = open_segment
        return self._playlist

    def _address(self, line: str) -> None:
        playlist, segment = self._playlist, self._segment
        self._findings.require(segment.duration is not None, "4.4.4.1 EXTINF is required", line)
        segment.uri, segment.map_uri, segment.number = line, self._map, playlist.last + 1
        playlist.segments.append(segment)
        self._segment = Segment()

    def _tag(self, name: str, value: str) -> None:
        findings = self._findings
        findings.require(name in KNOWN, "the tag is known", name)
        if name in ONCE:
            findings.require(name not in self._seen, "4.4.3 the tag stands once", name)
            self._seen.add(name)
        try:
            self._of_playlist(name, value)
            self._of_segment(name, value)
        except (ValueError, KeyError) as error:
            findings.breaks("4 the value of a tag is well-formed", f"{name}:{value} ({error})")

    def _of_playlist(self, name: str, value: str) -> None:
        playlist, findings = self._playlist, self._findings
        match name:
            case "EXT-X-VERSION":
                playlist.version = int(value)
            case "EXT-X-TARGETDURATION":
                findings.require(re.fullmatch(r"\d+", value), "4.4.3.1 TARGETDURATION is a decimal integer", value)
                playlist.target = int(value)
            case "EXT-X-MEDIA-SEQUENCE":
                findings.require(not playlist.segments, "4.4.3.2 MEDIA-SEQUENCE before the first segment", playlist.url)
                playlist.sequence = int(value)
            case "EXT-X-DISCONTINUITY-SEQUENCE":
                early = not playlist.segments and not self._segment.discontinuity
                findings.require(early, "4.4.3.3 DISCONTINUITY-SEQUENCE before segment and DISCONTINUITY", playlist.url)
                playlist.discontinuity_sequence = int(value)
            case "EXT-X-SERVER-CONTROL":
                playlist.control = attributes(value, findings)
            case "EXT-X-PART-INF":
                playlist.part_target = float(attributes(value, findings)["PART-TARGET"])
            case "EXT-X-SKIP":
                playlist.skipped = int(attributes(value, findings)["SKIPPED-SEGMENTS"])
            case "EXT-X-PRELOAD-HINT":
                playlist.hint = attributes(value, findings)
            case "EXT-X-RENDITION-REPORT":
                playlist.reports.append(attributes(value, findings))
            case "EXT-X-ENDLIST":
                playlist.ended = True

    def _of_segment(self, name: str, value: str) -> None:
        segment, findings = self._segment, self._findings
        match name:
            case "EXT-X-MAP":
                self._map = unquoted(attributes(value, findings)["URI"])
                self._playlist.maps += 1
            case "EXT-X-PROGRAM-DATE-TIME":
                segment.date = date_time(value)
            case "EXT-X-DISCONTINUITY":
                segment.discontinuity = True
            case "EXT-X-GAP":
                segment.gap = True
            case "EXTINF":
                findings.require(re.fullmatch(r"\d+(\.\d+)?,.*", value), "4.4.4.1 form of EXTINF", value)
                segment.duration = float(value.partition(",")[0])
            case "EXT-X-PART":
                part = attributes(value, findings)
                segment.parts.append(
                    Part(
                        unquoted(part["URI"]),
                        float(part["DURATION"]),
                        part.get("INDEPENDENT") == "YES",
                        part.get("GAP") == "YES",
                        self._map,
                    )
                )


@dataclass(frozen=True)
class Variant:
    """An EXT-X-STREAM-INF with its address."""

    uri: str
    attributes: dict[str, str]


@dataclass
class Multivariant:
    """A multivariant playlist. groups: addresses of audio renditions by GROUP-ID."""

    variants: list[Variant] = field(default_factory=list)
    groups: dict[str, list[str]] = field(default_factory=dict)


def parse_multivariant(text: str, findings: Findings) -> Multivariant:
    """Reads a multivariant playlist (§4.4.6)."""
    found = Multivariant()
    lines = text.splitlines()
    findings.require(text.count("#EXT-X-VERSION") <= 1, "4.4.1.2 EXT-X-VERSION stands once")
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        tag, _, value = line.partition(":")
        if tag == "#EXT-X-MEDIA":
            media = attributes(value, findings)
            for name in ("TYPE", "GROUP-ID", "NAME"):
                findings.require(name in media, "4.4.6.1 EXT-X-MEDIA has its required attributes", name)
            group = found.groups.setdefault(unquoted(media.get("GROUP-ID", "")), [])
            if "URI" in media:
                group.append(unquoted(media["URI"]))
        elif tag == "#EXT-X-STREAM-INF":
            found.variants.append(Variant(following, attributes(value, findings)))
    for variant in found.variants:
        findings.require("BANDWIDTH" in variant.attributes, "4.4.6.2 BANDWIDTH is required", variant.uri)
        findings.require("CODECS" in variant.attributes, "4.4.6.2 CODECS (should)", variant.uri)
        audio = unquoted(variant.attributes.get("AUDIO", ""))
        findings.require(not audio or audio in found.groups, "4.4.6.2 the AUDIO group exists", variant.uri)
    return found
