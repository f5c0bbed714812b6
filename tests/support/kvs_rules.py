"""Rules of Kinesis Video Streams for a PutMedia body with their error ids, and stricter rules of ours.

Sources: the documentation of PutMedia, its limits page, and the producer SDKs. Rules without a documented number (too
short fragments, too many fragments) have only a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.media import aac, h264, h265, nal
from gateway.media.errors import InvalidData
from tests.support import ebml
from tests.support.ebml import EbmlReader, Element, End, NotEbml, Start

SIZE, DURATION, ORDER, MKV, PRODUCER_TIME, METADATA, TRACK, MISSING, TRACKS = (
    4001, 4002, 4004, 4006, 4007, 4009, 4010, 4011, 4012,
)  # fmt: skip
TOO_SHORT, TOO_FAST = "MIN_FRAGMENT_DURATION_REACHED", "CLIENT_LIMIT_EXCEEDED"
CODECS = {"V_MPEG4/ISO/AVC", "V_MPEGH/ISO/HEVC", "A_AAC", "A_MS/ACM"}
MAX_BYTES, MAX_MS, LEAST_MS, MAX_TRACKS = 50_000_000, 20_000, 1_000, 3
MAX_TAGS, MAX_TAG_NAME, MAX_TAG_VALUE = 10, 128, 256
MAX_FRAGMENTS_A_SECOND, MAX_BYTES_A_SECOND = 5, 12_500_000
_ALLOWED = {ebml.INFO, ebml.TRACKS, ebml.TAGS, ebml.CUES, ebml.SEEK_HEAD, ebml.VOID, ebml.CRC32}
_UNWANTED = {ebml.SEEK_HEAD: "SeekHead", ebml.VOID: "Void", ebml.CRC32: "CRC-32", ebml.CUES: "Cues"}


class Broken(Exception):
    """A rule was broken. id: the service's error id, or 0 if only the name is known."""

    def __init__(self, error: int | str, why: str) -> None:
        super().__init__(why)
        self.id = error if isinstance(error, int) else 0
        self.code = error if isinstance(error, str) else ""


@dataclass(frozen=True)
class Frame:
    track: int
    time: int
    key: bool
    payload: bytes


@dataclass(frozen=True)
class TrackEntry:
    number: int
    type: int
    codec: str
    private: bytes

    @property
    def is_video(self) -> bool:
        return self.type == 1


@dataclass
class Fragment:
    """One cluster. raw: its bytes as received; header: all bytes before the connection's first cluster."""

    header: bytes
    time: int
    raw: bytearray
    frames: list[Frame] = field(default_factory=list)
    tags: int = 0
    pictured: bool = False
    _latest: int | None = None

    @property
    def latest(self) -> int:
        """The greatest time of its frames."""
        return self.time if self._latest is None else self._latest

    def add(self, frame: Frame) -> None:
        self.frames.append(frame)
        self._latest = frame.time if self._latest is None else max(self._latest, frame.time)


@dataclass(frozen=True)
class Begun:
    fragment: Fragment


@dataclass(frozen=True)
class Whole:
    fragment: Fragment


class Judge:
    """Checks the body of one connection.

    strict: also our own rules (an IDR picture first, readable configurations, no unneeded elements). start: reference
    of RELATIVE times, milliseconds. now: seconds; 0, here and in `receive`, ignores time.
    """

    def __init__(self, *, strict: bool = True, start: int = 0, now: float = 0.0) -> None:
        self._strict = strict
        self._start = start
        self._now = now
        self._reader = EbmlReader()
        self._header = bytearray()
        self._tracks: dict[int, TrackEntry] = {}
        self._scale = 1_000_000
        self._seen: set[int] = set()  # of EBML, Segment and Tracks
        self._fragment: Fragment | None = None
        self._timed = False
        self._in_cluster = False
        self._segment_over = False
        self._previous: Fragment | None = None
        self._begun: list[float] = []
        self._came: list[tuple[float, int]] = []
        self.current: int | None = None  # time of the fragment that is at fault, or under way

    def receive(self, data: bytes, now: float) -> Iterator[Begun | Whole]:
        """Yields the fragments that these bytes begin and complete. Raises `Broken`."""
        self._now = now
        self._came = [(t, n) for t, n in self._came if t > now - 1] + [(now, len(data))]
        if now and sum(n for _, n in self._came) > MAX_BYTES_A_SECOND:
            raise Broken(TOO_FAST, "more than 12.5 MB in a second")
        try:
            for event in self._reader.receive(data):
                yield from self._event(event)
        except NotEbml as error:
            raise Broken(MKV, str(error)) from None

    def finish(self) -> Iterator[Begun | Whole]:
        """Ends the body. Raises `Broken`."""
        try:
            for event in self._reader.finish():
                yield from self._event(event)
        except NotEbml as error:
            raise Broken(MKV, str(error)) from None

    # ---- structure ----

    def _event(self, event: ebml.Event) -> Iterator[Begun | Whole]:
        if self._segment_over:
            raise Broken(MKV, "something follows the Segment")
        match event:
            case Start(ebml.SEGMENT):
                self._once(ebml.SEGMENT, "Segment", after=ebml.EBML)
                # The size is written as unknown, as it was received.
                self._header += b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"
            case Start(ebml.CLUSTER):
                if ebml.TRACKS not in self._seen:
                    raise Broken(MKV, "a Cluster before Tracks")
                self._timed = False
                self._in_cluster = True
            case End(ebml.CLUSTER):
                self._in_cluster = False
                yield from self._whole()
            case End():
                self._segment_over = True
            case Element() if self._in_cluster:
                yield from self._in_fragment(event)
            case Element():
                self._in_segment(event)

    def _once(self, id: int, name: str, after: int | None = None) -> None:
        if id in self._seen:
            raise Broken(MKV, f"a second {name}")
        if after is not None and after not in self._seen:
            raise Broken(MKV, f"{name} comes too early")
        self._seen.add(id)

    def _in_segment(self, element: Element) -> None:
        if element.id == ebml.EBML:
            self._once(ebml.EBML, "EBML header")
            if self._header:
                raise Broken(MKV, "an EBML header in the middle")
            fields = dict(ebml.children(element.body))
            if fields.get(ebml.DOC_TYPE, b"").rstrip(b"\0") not in (b"matroska", b"webm"):
                raise Broken(MKV, f"DocType {fields.get(ebml.DOC_TYPE)!r}")
        elif ebml.SEGMENT not in self._seen:
            raise Broken(MKV, f"element {element.id:#x} before the Segment")
        elif self._strict and element.id in _UNWANTED:
            raise Broken(MKV, f"{_UNWANTED[element.id]} is not needed")
        elif element.id not in _ALLOWED:
            raise Broken(MKV, f"element {element.id:#x} in a Segment")
        elif element.id == ebml.INFO:
            self._scale = ebml.number(dict(ebml.children(element.body)).get(ebml.TIMESTAMP_SCALE, b"\x0f\x42\x40"))
            if not 100 <= self._scale <= 1_000_000_000:
                raise Broken(MKV, f"a timestamp scale of {self._scale} ns")
        elif element.id == ebml.TRACKS:
            self._once(ebml.TRACKS, "Tracks", after=ebml.SEGMENT)
            self._read_tracks(element.body)
        elif element.id == ebml.TAGS:
            self._read_tags(element.body)
        if self._previous is None and self._fragment is None:
            self._header += element.raw

    def _read_tracks(self, body: bytes) -> None:
        entries = [dict(ebml.children(inner)) for id, inner in ebml.children(body) if id == ebml.TRACK_ENTRY]
        if not entries:
            raise Broken(MKV, "no track")
        if len(entries) > MAX_TRACKS:
            raise Broken(TRACKS, f"{len(entries)} tracks")
        for fields in entries:
            entry = TrackEntry(
                ebml.number(fields.get(ebml.TRACK_NUMBER, b"")),
                ebml.number(fields.get(ebml.TRACK_TYPE, b"")),
                fields.get(ebml.CODEC_ID, b"").rstrip(b"\0").decode("ascii", "replace"),
                fields.get(ebml.CODEC_PRIVATE, b""),
            )
            if not entry.number or entry.number in self._tracks:
                raise Broken(MKV, f"track number {entry.number}")
            if entry.codec not in CODECS:
                raise Broken(MKV, f"codec {entry.codec!r}")
            if len(entry.private) > 1 << 20:
                raise Broken(MKV, "a CodecPrivate of more than 1 MiB")
            if self._strict:
                _check_private(entry)
            self._tracks[entry.number] = entry

    def _read_tags(self, body: bytes) -> None:
        count = self._fragment.tags if self._fragment is not None else 0
        for id, tag in ebml.children(body):
            for inner, simple in ebml.children(tag) if id == ebml.TAG else []:
                if inner != ebml.SIMPLE_TAG:
                    continue
                fields = dict(ebml.children(simple))
                name, value = fields.get(ebml.TAG_NAME, b""), fields.get(ebml.TAG_STRING, b"")
                count += 1
                long = len(name) > MAX_TAG_NAME or len(value) > MAX_TAG_VALUE
                if count > MAX_TAGS or long or name.startswith(b"AWS"):
                    raise Broken(METADATA, f"tag {count} {name[:20]!r}")
        if self._fragment is not None:
            self._fragment.tags = count

    # ---- fragments ----

    def _in_fragment(self, element: Element) -> Iterator[Begun]:
        if not self._timed:
            if element.id != ebml.TIMESTAMP:
                raise Broken(MKV, "a Cluster that does not begin with its Timestamp")
            self._timed = True
            yield self._begin(self._start + ebml.number(element.body) * self._scale // 1_000_000, element.raw)
            return
        fragment = self._fragment
        assert fragment is not None
        if self._strict and element.id in _UNWANTED:
            raise Broken(MKV, f"{_UNWANTED[element.id]} is not needed")
        fragment.raw += element.raw
        if len(fragment.raw) > MAX_BYTES:
            raise Broken(SIZE, f"{len(fragment.raw)} bytes")
        if element.id == ebml.SIMPLE_BLOCK:
            self._frame(fragment, element.body, None)
        elif element.id == ebml.BLOCK_GROUP:
            fields = ebml.children(element.body)
            block = dict(fields).get(ebml.BLOCK)
            if block is None:
                raise Broken(MKV, "a BlockGroup without Block")
            self._frame(fragment, block, all(id != ebml.REFERENCE_BLOCK for id, _ in fields))
        elif element.id not in (ebml.POSITION, ebml.PREV_SIZE, ebml.VOID, ebml.CRC32):
            raise Broken(MKV, f"element {element.id:#x} in a Cluster")

    def _begin(self, time: int, raw: bytes) -> Begun:
        self.current = time
        previous = self._previous
        if previous is not None:
            if time <= previous.time:
                raise Broken(ORDER, f"a fragment at {time} after one at {previous.time}")
            if time - previous.time < LEAST_MS:
                self.current = previous.time
                raise Broken(TOO_SHORT, f"a fragment of {time - previous.time} ms")
        if self._now and time > (self._now + 86_400) * 1000:
            raise Broken(PRODUCER_TIME, f"{time} is tomorrow")
        self._begun = [t for t in self._begun if t > self._now - 1] + [self._now]
        if self._now and len(self._begun) > MAX_FRAGMENTS_A_SECOND:
            raise Broken(TOO_FAST, f"{len(self._begun)} fragments in a second")
        head = b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff"
        self._fragment = Fragment(bytes(self._header), time, bytearray(head + raw))
        return Begun(self._fragment)

    def _frame(self, fragment: Fragment, body: bytes, key: bool | None) -> None:
        at = ebml.vint(body, 0, marker=False, most=8)
        if at is None or len(body) < at[1] + 3:
            raise Broken(MKV, "a block without head")
        number, end = at
        offset = int.from_bytes(body[end : end + 2], "big", signed=True)
        flags = body[end + 2]
        if flags & 0x06:
            raise Broken(MKV, "lacing")
        track = self._tracks.get(number)
        if track is None:
            raise Broken(TRACK, f"a block of track {number}")
        frame = Frame(
            number,
            fragment.time + offset * self._scale // 1_000_000,
            bool(flags & 0x80) if key is None else key,
            body[end + 3 :],
        )
        if self._previous is not None and frame.time <= self._previous.latest:
            raise Broken(ORDER, f"a frame at {frame.time} after one at {self._previous.latest} of the fragment before")
        if frame.time - fragment.time >= MAX_MS:
            raise Broken(DURATION, f"a frame {frame.time - fragment.time} ms behind its fragment's beginning")
        if track.is_video and not fragment.pictured:
            fragment.pictured = True
            if self._strict and not (frame.key and is_idr(track, frame.payload)):
                raise Broken(MKV, "a fragment whose first picture is no IDR")
        fragment.add(frame)

    def _whole(self) -> Iterator[Whole]:
        fragment, self._fragment = self._fragment, None
        if fragment is None:
            raise Broken(MKV, "a Cluster without Timestamp")
        missing = self._tracks.keys() - {f.track for f in fragment.frames}
        if missing:
            raise Broken(MISSING, f"no frame of track {sorted(missing)}")
        self._previous = fragment
        yield Whole(fragment)


def is_idr(track: TrackEntry, payload: bytes) -> bool:
    """Whether the sample contains an IDR picture. Codecs other than H.264 and H.265 are not judged."""
    try:
        if track.codec == "V_MPEG4/ISO/AVC":
            length = h264.parse_avcc(track.private).length_size
            return any(u[0] & 0x1F == 5 for u in nal.split(payload, length))
        if track.codec == "V_MPEGH/ISO/HEVC":
            length = h265.parse_hvcc(track.private).length_size
            return any(h265.nal_type(u) in (19, 20) for u in nal.split(payload, length))
    except InvalidData:
        return False
    return True


def _check_private(entry: TrackEntry) -> None:
    try:
        if entry.codec == "V_MPEG4/ISO/AVC":
            if not (avcc := h264.parse_avcc(entry.private)).sps or not avcc.pps:
                raise Broken(MKV, "an avcC without parameter sets")
        elif entry.codec == "V_MPEGH/ISO/HEVC":
            if not h265.parse_hvcc(entry.private).sps:
                raise Broken(MKV, "an hvcC without parameter sets")
        elif entry.codec == "A_AAC":
            aac.parse_asc(entry.private)
    except InvalidData as error:
        raise Broken(MKV, f"CodecPrivate of track {entry.number}: {error}") from None
