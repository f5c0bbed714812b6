"""Reads the elements and the track entries of Matroska and WebM."""

import struct
from dataclasses import dataclass
from typing import Final

from gateway.formats.mkv import ebml
from gateway.formats.recording import ForeignCodec, RecordedTrack
from gateway.media.codecs import checked_config
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.track import Codec, Kind

MAX_CHILDREN: Final = 1024  # of one master element
MAX_TRACKS: Final = 64

CONTENT_ENCODINGS: Final = b"\x6d\x80"
CODEC_DELAY: Final = b"\x56\xaa"
BIT_DEPTH: Final = b"\x62\x64"

_KINDS: Final = {1: Kind.VIDEO, 2: Kind.AUDIO}  # RFC 9559 §5.1.4.1.3
_VIDEO: Final = {
    "V_MPEG4/ISO/AVC": Codec.H264, "V_MPEGH/ISO/HEVC": Codec.H265, "V_VP8": Codec.VP8, "V_VP9": Codec.VP9,
    "V_AV1": Codec.AV1,
}  # fmt: skip
_AUDIO: Final[dict[str, Codec | ForeignCodec]] = {
    "A_OPUS": Codec.OPUS, "A_AAC": Codec.AAC, "A_MPEG/L3": Codec.MP3, "A_FLAC": Codec.FLAC, "A_AC3": Codec.AC3,
    "A_EAC3": Codec.EAC3, "A_VORBIS": ForeignCodec.VORBIS,
}  # fmt: skip
# The private data of other codecs (VP9) are hints that their decoders do not need.
_CONFIGURED: Final = frozenset((Codec.H264, Codec.H265, Codec.AV1, Codec.AAC, Codec.OPUS, Codec.FLAC))
_PCM: Final = {
    ("A_PCM/INT/LIT", 16): ForeignCodec.PCM_S16, ("A_PCM/INT/LIT", 24): ForeignCodec.PCM_S24,
    ("A_PCM/INT/LIT", 32): ForeignCodec.PCM_S32, ("A_PCM/FLOAT/IEEE", 32): ForeignCodec.PCM_F32,
    ("A_PCM/FLOAT/IEEE", 64): ForeignCodec.PCM_F64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MkvTrackEntry:
    """One TrackEntry.

    number: its track number in blocks.
    delay: nanoseconds to subtract from the times of its blocks (CodecDelay).
    """

    number: int
    track: RecordedTrack
    delay: int


def children(body: bytes | memoryview) -> list[tuple[bytes, bytes]]:
    """Returns the elements of a complete master element as (id, body). Raises InvalidData if they do not fill it."""
    body = bytes(body)
    found: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(body):
        head = element_head(body, at)
        if head is None or head.size is None or head.body + head.size > len(body):
            raise InvalidData("Matroska: an element exceeds its parent")
        at = head.body + head.size
        found.append((head.id, body[head.body : at]))
        if len(found) > MAX_CHILDREN:
            raise InvalidData(f"Matroska: more than {MAX_CHILDREN} elements in one")
    return found


@dataclass(frozen=True, slots=True)
class ElementHead:
    """The id and size of an element.

    size: bytes of the body; None if unknown.
    body: position of the body.
    """

    id: bytes
    size: int | None
    body: int


def element_head(data: bytes | bytearray, at: int) -> ElementHead | None:
    """Reads the head of the element at `at` (RFC 8794 §5 and §6).

    Returns None if more bytes are needed. Raises InvalidData.
    """
    if at >= len(data):
        return None
    width = 9 - data[at].bit_length()
    if width > 4:
        raise InvalidData(f"Matroska: {data[at]:#04x} is not the start of an element")
    middle = at + width
    if middle >= len(data):
        return None
    length = 9 - data[middle].bit_length()
    if length > 8:
        raise InvalidData("Matroska: a size of more than eight bytes")
    end = middle + length
    if end > len(data):
        return None
    mask = (1 << 7 * length) - 1
    size = int.from_bytes(data[middle:end], "big") & mask
    # §6.2: "all VINT_DATA bits set to 1" means an unknown size.
    return ElementHead(bytes(data[at:middle]), None if size == mask else size, end)


def uint(body: bytes, name: str) -> int:
    """Returns an unsigned integer. Raises InvalidData."""
    if len(body) > 8:
        raise InvalidData(f"Matroska: {name} of {len(body)} bytes")
    return int.from_bytes(body, "big")


def read_entries(tracks: bytes, scale: int) -> tuple[list[MkvTrackEntry], list[str]]:
    """Returns the usable tracks of a Tracks element, and descriptions of the unusable ones. Raises InvalidData.

    scale: nanoseconds of one tick of the segment, its TimestampScale.
    """
    bodies = [body for id, body in children(tracks) if id == ebml.TRACK_ENTRY]
    if len(bodies) > MAX_TRACKS:
        raise InvalidData(f"Matroska: {len(bodies)} tracks")
    # Finer ticks than milliseconds are rounded to microseconds, coarser ones are whole milliseconds.
    timescale = 1000 if scale % 1_000_000 == 0 else 1_000_000
    entries: list[MkvTrackEntry] = []
    left_out: list[str] = []
    for body in bodies:
        fields = dict(reversed(children(body)))  # the first one of repeated elements is used
        number = uint(fields.get(ebml.TRACK_NUMBER, b""), "TrackNumber")
        kind = _KINDS.get(uint(fields.get(ebml.TRACK_TYPE, b""), "TrackType"))
        if kind is None:
            continue
        try:
            track = _track(kind, fields, timescale)
        except InvalidData as error:
            left_out.append(f"{kind}: {error}")
            continue
        entries.append(MkvTrackEntry(number, track, uint(fields.get(CODEC_DELAY, b""), "CodecDelay")))
    return entries, left_out


def _track(kind: Kind, fields: dict[bytes, bytes], timescale: int) -> RecordedTrack:
    name = fields.get(ebml.CODEC_ID, b"")[:64].rstrip(b"\x00").decode("ascii", "replace")
    if CONTENT_ENCODINGS in fields:
        raise UnsupportedCodec(f"{name} is compressed or encrypted by its container")
    private = fields.get(ebml.CODEC_PRIVATE, b"")
    rate, channels, depth = _sound(fields.get(ebml.AUDIO, b"")) if kind is Kind.AUDIO else (0, 0, 0)
    coding: Codec | ForeignCodec | None
    coding = _VIDEO.get(name) if kind is Kind.VIDEO else _AUDIO.get(name) or _PCM.get((name, depth))
    if coding is None:
        raise UnsupportedCodec(f"{name} is a codec that is not known here")
    config = _config(coding, private)
    if isinstance(coding, ForeignCodec) and not (8000 <= rate <= 192_000 and 1 <= channels <= 8):
        raise UnsupportedCodec(f"{name} of {rate} Hz and {channels} channels")
    return RecordedTrack(kind, coding, timescale, config, kind is Kind.AUDIO, rate, channels)


def _sound(audio: bytes) -> tuple[int, int, int]:
    fields = dict(reversed(children(audio)))
    channels = uint(fields.get(ebml.CHANNELS, b"\x01"), "Channels")
    depth = uint(fields.get(BIT_DEPTH, b""), "BitDepth")
    return round(_float(fields.get(ebml.SAMPLING_FREQUENCY, struct.pack(">f", 8000.0)))), channels, depth


def _float(body: bytes) -> float:
    value = 0.0
    if len(body) in (4, 8):
        (value,) = struct.unpack(">f" if len(body) == 4 else ">d", body)
    return value if 0 <= value < 1e9 else 0.0  # NaN and impossible rates


def _config(coding: Codec | ForeignCodec, private: bytes) -> bytes:
    """Checks CodecPrivate. Returns the decoder configuration. Raises InvalidData."""
    if isinstance(coding, ForeignCodec):
        if coding is not ForeignCodec.VORBIS:
            return b""
        if not 3 < len(private) <= 1 << 16 or private[0] != 2:
            raise InvalidData(f"Vorbis headers of {len(private)} bytes")
        return private
    # Chromium writes none for H.264, because its parameter sets are in the key frames. AAC and FLAC need one.
    if coding not in _CONFIGURED or (not private and coding not in (Codec.AAC, Codec.FLAC)):
        return b""
    return checked_config(coding, private)
