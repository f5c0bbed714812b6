"""Reads playlists of other servers (RFC 8216): variants or segments."""

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.lib.numbers import read_decimal, read_integer
from gateway.media.errors import InvalidData

MAX_BYTES: Final = 4_000_000
MAX_SEGMENTS: Final = 50_000  # a day of segments of 2 s
MAX_VARIANTS: Final = 1_000  # with the renditions of sound
_MAX_LINES: Final = 200_000
_MAX_URI: Final = 4_096
_MAX_ATTRIBUTES: Final = 8_192  # characters
_MAX_INTEGER: Final = 10**18
_MAX_SIDE: Final = 65_535
_MAX_SECONDS: Final = 10**9
_ATTRIBUTE: Final = re.compile(r' *([A-Z0-9-]{1,64})=("[^"]*"|[^",]*)(?:,|$)')


@dataclass(frozen=True, slots=True)
class Range:
    """A byte range of a resource: `size` bytes from `offset`."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Resource:
    """A URI as written in the playlist. range: the bytes to read; None: all."""

    uri: str
    range: Range | None = None


@dataclass(frozen=True, slots=True)
class RemoteSegment:
    """One media segment.

    number: its media sequence number. seconds: its duration. start: its initialization section (EXT-X-MAP), if any.
    discontinuity: whether its media do not continue the previous segment.
    """

    number: int
    seconds: float
    media: Resource
    start: Resource | None
    discontinuity: bool


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """The segments that are available now, without gaps. target: seconds. ended: no segments will follow."""

    target: float
    segments: tuple[RemoteSegment, ...]
    ended: bool


@dataclass(frozen=True, slots=True)
class RemoteVariant:
    """A variant stream. audio: the URI of the default rendition of its audio group; "": it has its own sound."""

    uri: str
    bandwidth: int
    pixels: int
    audio: str


@dataclass(frozen=True, slots=True)
class MultivariantPlaylist:
    """Variants in the order of the playlist."""

    variants: tuple[RemoteVariant, ...]

    @property
    def best(self) -> RemoteVariant:
        """The variant with most pixels, then most bits."""
        return max(self.variants, key=lambda v: (v.pixels, v.bandwidth))


Playlist: TypeAlias = MediaPlaylist | MultivariantPlaylist


def parse_playlist(data: bytes) -> Playlist:
    """Reads a playlist. Raises InvalidData for other text and for encrypted segments.

    The largest one takes half a second: call it in a thread.
    """
    if len(data) > MAX_BYTES:
        raise InvalidData(f"a playlist of more than {MAX_BYTES} bytes")
    if data.count(b"#EXTINF") > MAX_SEGMENTS:
        raise InvalidData(f"a playlist of more than {MAX_SEGMENTS} segments")
    if data.count(b"#EXT-X-STREAM-INF") + data.count(b"#EXT-X-MEDIA:") > MAX_VARIANTS:
        raise InvalidData(f"a playlist of more than {MAX_VARIANTS} variants")
    lines = [line.strip() for line in data.decode("utf-8-sig", "replace").splitlines(keepends=False)]
    if len(lines) > _MAX_LINES or not lines or not lines[0].startswith("#EXTM3U"):
        raise InvalidData("not an HLS playlist")
    lines = [line for line in lines if line]
    if any(line.startswith("#EXT-X-STREAM-INF:") for line in lines):
        return _multivariant(lines)
    return _MediaReader().read(lines)


def _multivariant(lines: list[str]) -> MultivariantPlaylist:
    sounds: dict[str, str] = {}  # by group: the default rendition, else the first
    defaults: set[str] = set()
    for line in lines:
        if line.startswith("#EXT-X-MEDIA:"):
            values = _attributes(line)
            group, uri = values.get("GROUP-ID", ""), values.get("URI", "")
            if values.get("TYPE") != "AUDIO" or group in defaults:
                continue
            if values.get("DEFAULT") == "YES":
                defaults.add(group)
                sounds[group] = uri
            else:
                sounds.setdefault(group, uri)
    variants: list[RemoteVariant] = []
    pending: dict[str, str] | None = None
    for line in lines:
        if line.startswith("#EXT-X-STREAM-INF:"):
            pending = _attributes(line)
        elif not line.startswith("#") and pending is not None:
            width, _, height = pending.get("RESOLUTION", "").partition("x")
            pixels = _size(width, _MAX_SIDE) * _size(height, _MAX_SIDE)
            sound = sounds.get(pending.get("AUDIO", ""), "")
            bandwidth = _size(pending.get("BANDWIDTH", ""), _MAX_INTEGER)
            variants.append(RemoteVariant(_uri(line), bandwidth, pixels, sound))
            pending = None
    if not variants:
        raise InvalidData("the playlist has no variants")
    return MultivariantPlaylist(tuple(variants))


class _MediaReader:
    """The state while the lines of a media playlist are read."""

    def __init__(self) -> None:
        self._target = 0.0
        self._segments: list[RemoteSegment] = []
        self._ended = False
        self._number = 0
        self._seconds: float | None = None
        self._start: Resource | None = None
        self._discontinuity = False
        self._gap = False  # whether the server has no media of the next segment
        self._range: tuple[int, int | None] | None = None  # size and offset of the next segment in its resource
        self._range_end: dict[str, int] = {}  # by URI: the end of its last byte range

    def read(self, lines: list[str]) -> MediaPlaylist:
        for line in lines:
            if line.startswith("#"):
                name, _, value = line.partition(":")
                self._on_tag(name, value)
            elif self._seconds is not None:
                self._on_segment(_uri(line))
        return MediaPlaylist(max(self._target, 0.1), tuple(self._segments), self._ended)

    def _on_tag(self, name: str, value: str) -> None:
        match name:
            case "#EXTINF":
                self._seconds = _number(value.partition(",")[0])
            case "#EXT-X-TARGETDURATION":
                self._target = _number(value)
            case "#EXT-X-MEDIA-SEQUENCE" if not self._segments:  # §4.3.3.2: it precedes the first segment
                self._number = _integer(value)
            case "#EXT-X-DISCONTINUITY":
                self._discontinuity = True
            case "#EXT-X-GAP":
                self._gap = True
            case "#EXT-X-ENDLIST":
                self._ended = True
            case "#EXT-X-KEY":
                if _attributes(value).get("METHOD", "NONE") != "NONE":
                    raise InvalidData("its segments are encrypted")
            case "#EXT-X-MAP":
                values = _attributes(value)
                size, offset = _byte_range(values["BYTERANGE"]) if "BYTERANGE" in values else (0, None)
                byte_range = Range(offset or 0, size) if size else None
                self._start = Resource(_uri(values.get("URI", "")), byte_range)
            case "#EXT-X-BYTERANGE":
                self._range = _byte_range(value)
            case _:
                pass  # tags for other purposes

    def _on_segment(self, uri: str) -> None:
        byte_range = None
        if self._range is not None:
            size, offset = self._range
            # §4.3.2.2: without an offset, the range begins after the previous one of the same resource.
            begin = self._range_end.get(uri, 0) if offset is None else offset
            byte_range, self._range_end[uri] = Range(begin, size), begin + size
        assert self._seconds is not None, "the caller checks it"
        resource = Resource(uri, byte_range)
        if not self._gap:
            segment = RemoteSegment(self._number, self._seconds, resource, self._start, self._discontinuity)
            self._segments.append(segment)
            self._discontinuity = False
        self._number += 1
        self._seconds, self._range, self._gap = None, None, False


def _attributes(line: str) -> dict[str, str]:
    """Returns the attribute list of a tag, or of its value (§4.2). Leaves out other text."""
    name, _, rest = line.partition(":")
    text = (rest if name.startswith("#") else line)[:_MAX_ATTRIBUTES]
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _ATTRIBUTE.match(text, at)
        if match is not None:
            found[match[1]] = match[2].strip('"')
        # Continues after the next comma. A search for the next attribute has quadratic cost.
        at = match.end() if match is not None else text.find(",", at) + 1 or len(text)
    return found


def _byte_range(text: str) -> tuple[int, int | None]:
    size, _, offset = text.strip().partition("@")
    return _integer(size), _integer(offset) if offset else None


def _size(text: str, most: int) -> int:
    """Returns a number of a variant, which is rounded; 0 for other text, because it only serves to choose one."""
    return round(read_decimal(text.strip(), most) or 0)


def _integer(text: str) -> int:
    number = read_integer(text.strip(), _MAX_INTEGER)
    if number is None:
        raise InvalidData(f"a playlist with the number {text[:32]!r}")
    return number


def _number(text: str) -> float:
    number = read_decimal(text.strip(), _MAX_SECONDS)
    if number is None:
        raise InvalidData(f"a playlist with the number {text[:32]!r}")
    return number


def _uri(text: str) -> str:
    if not text or len(text) > _MAX_URI:
        raise InvalidData("a playlist with an empty or very long URI")
    return text
