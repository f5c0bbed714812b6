"""Reads the tracks of a fragmented MP4 that other software wrote."""

import struct
from dataclasses import dataclass
from typing import Final

from gateway.formats.mp4.reader import Box, boxes, find, need, u32
from gateway.formats.recording import RecordedTrack
from gateway.media import vp9
from gateway.media.codecs import checked_config
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.track import Codec, Kind

MAX_TRACKS: Final = 64

_KINDS: Final = {b"vide": Kind.VIDEO, b"soun": Kind.AUDIO}
# sample entry → (codec, its configuration box)
_VIDEO: Final = {
    b"avc1": (Codec.H264, b"avcC"), b"avc3": (Codec.H264, b"avcC"), b"hvc1": (Codec.H265, b"hvcC"),
    b"hev1": (Codec.H265, b"hvcC"), b"av01": (Codec.AV1, b"av1C"), b"vp09": (Codec.VP9, b"vpcC"),
    b"vp08": (Codec.VP8, b"vpcC"),
}  # fmt: skip
_AUDIO: Final = {
    b"mp4a": (Codec.AAC, b"esds"), b"Opus": (Codec.OPUS, b"dOps"), b"fLaC": (Codec.FLAC, b"dfLa"),
    b"ac-3": (Codec.AC3, b"dac3"), b"ec-3": (Codec.EAC3, b"dec3"),
}  # fmt: skip
# ISO/IEC 14496-12 §12.1.3 and §12.2.3: bytes of a sample entry before its boxes; QuickTime audio has more.
_FIELDS: Final = {Kind.VIDEO: 78, Kind.AUDIO: 28}
_MORE_SOUND: Final = {0: 0, 1: 16, 2: 36}  # by version of the sample entry: additional bytes
# ISO/IEC 14496-1 table 5: object types in the decoder configuration of an esds.
_AAC_TYPES: Final = frozenset((0x40, 0x66, 0x67, 0x68))
_MP3_TYPES: Final = frozenset((0x69, 0x6B))


@dataclass(frozen=True, slots=True)
class Mp4TrackEntry:
    """One trak.

    number: its track id in fragments.
    track: the track that it describes.
    early: ticks that the edit list subtracts from the times of its samples.
    """

    number: int
    track: RecordedTrack
    early: int


@dataclass(frozen=True, slots=True)
class FragmentedMovie:
    """The moov box of a fragmented MP4.

    left_out: descriptions of the unusable tracks.
    defaults: by track id, the default duration, size and flags of a sample.
    """

    entries: tuple[Mp4TrackEntry, ...]
    left_out: tuple[str, ...]
    defaults: dict[int, tuple[int, int, int]]


def read_movie(data: bytes) -> FragmentedMovie:
    """Reads a moov box (with its header). Raises InvalidData, also if it announces no fragments."""
    moov = need(data, None, b"moov")
    traks = [box for box in boxes(data, moov.payload, moov.end) if box.kind == b"trak"]
    if len(traks) > MAX_TRACKS:
        raise InvalidData(f"MP4: {len(traks)} tracks")
    mvex = find(data, b"mvex", start=moov.payload, end=moov.end)
    if mvex is None:
        raise InvalidData("an MP4 that is not fragmented cannot be read while it grows")
    mvhd = need(data, moov, b"mvhd")
    movie_scale = u32(data, mvhd, 20 if data[mvhd.payload : mvhd.payload + 1] == b"\x01" else 12)
    defaults: dict[int, tuple[int, int, int]] = {}
    for box in boxes(data, mvex.payload, mvex.end):
        if box.kind == b"trex":
            defaults[u32(data, box, 4)] = (u32(data, box, 12), u32(data, box, 16), u32(data, box, 20))
    entries: list[Mp4TrackEntry] = []
    left_out: list[str] = []
    for trak in traks:
        kind = _KINDS.get(_handler(data, trak))
        if kind is None:
            continue
        try:
            entries.append(_entry(data, trak, kind, movie_scale))
        except InvalidData as error:
            left_out.append(f"{kind}: {error}")
    return FragmentedMovie(tuple(entries), tuple(left_out), defaults)


def read_track(data: bytes, trak: Box, movie_scale: int) -> Mp4TrackEntry:
    """Reads a trak of a moov box. movie_scale: ticks a second of the movie. Raises InvalidData."""
    kind = _KINDS.get(_handler(data, trak))
    if kind is None:
        raise InvalidData("MP4: a track that is neither video nor audio")
    return _entry(data, trak, kind, movie_scale)


def _handler(data: bytes, trak: Box) -> bytes:
    hdlr = need(data, trak, b"mdia", b"hdlr")
    return data[hdlr.payload + 8 : min(hdlr.payload + 12, hdlr.end)]


def _entry(data: bytes, trak: Box, kind: Kind, movie_scale: int) -> Mp4TrackEntry:
    tkhd, mdhd = need(data, trak, b"tkhd"), need(data, trak, b"mdia", b"mdhd")
    # Version 1 begins with 64-bit creation and modification times (§8.3.2, §8.4.2).
    number = u32(data, tkhd, 20 if data[tkhd.payload : tkhd.payload + 1] == b"\x01" else 12)
    timescale = u32(data, mdhd, 20 if data[mdhd.payload : mdhd.payload + 1] == b"\x01" else 12)
    if not timescale:
        raise InvalidData("MP4: a track of 0 ticks a second")
    coding, config = _coding(data, need(data, trak, b"mdia", b"minf", b"stbl", b"stsd"), kind)
    track = RecordedTrack(kind, coding, timescale, config)
    return Mp4TrackEntry(number, track, _edited(data, trak, timescale, movie_scale))


def _coding(data: bytes, stsd: Box, kind: Kind) -> tuple[Codec, bytes]:
    """Returns the codec and the configuration of the first sample entry."""
    entry = next(boxes(data, min(stsd.payload + 8, stsd.end), stsd.end), None)
    if entry is None:
        raise InvalidData("MP4: no sample entry")
    name = entry.kind.decode("ascii", "replace")
    found = (_VIDEO if kind is Kind.VIDEO else _AUDIO).get(entry.kind)
    if found is None:
        raise UnsupportedCodec(f"{name} is a codec that is not known here")
    start = entry.payload + _FIELDS[kind]
    if start > entry.end:
        raise InvalidData(f"MP4: sample entry {name} is cut short")
    if kind is Kind.AUDIO:
        version = int.from_bytes(data[entry.payload + 8 : entry.payload + 10], "big")
        start += _MORE_SOUND.get(version, 0)
    codec, described = found
    config = next((box for box in boxes(data, min(start, entry.end), entry.end) if box.kind == described), None)
    return _config(codec, b"" if config is None else data[config.payload : config.end])


def _config(codec: Codec, payload: bytes) -> tuple[Codec, bytes]:
    """Checks the content of a configuration box. Returns codec and decoder configuration. Raises InvalidData."""
    match codec:
        case Codec.VP9 | Codec.VP8:
            return codec, vp9.parse_vpcc(payload).record if payload else b""
        case Codec.AAC:
            return _of_esds(payload[4:])
        case Codec.AC3 | Codec.EAC3:
            return codec, b""
        case Codec.FLAC:
            payload = payload[4:]  # without version and flags of the box
    return codec, checked_config(codec, payload)


def _of_esds(descriptors: bytes) -> tuple[Codec, bytes]:
    """Reads AAC or MP3 from an ES_Descriptor (ISO/IEC 14496-1 §7.2.6.5)."""
    es = _descriptor(descriptors, 3)
    if len(es) < 3:
        raise InvalidData("MP4: esds is cut short")
    flags = es[2]
    at = 3 + (2 if flags & 0x80 else 0)
    if flags & 0x40:
        at += 1 + int.from_bytes(es[at : at + 1], "big")
    at += 2 if flags & 0x20 else 0
    decoder = _descriptor(es[at:], 4)
    object_type = int.from_bytes(decoder[:1], "big")
    if object_type in _MP3_TYPES:
        return Codec.MP3, b""
    if object_type not in _AAC_TYPES:
        raise UnsupportedCodec(f"mp4a.{object_type:02X} is a codec that is not known here")
    return Codec.AAC, checked_config(Codec.AAC, _descriptor(decoder[13:], 5))


def _descriptor(data: bytes, tag: int) -> bytes:
    """Returns the payload of the first descriptor with this tag.

    Its size is written in at most four bytes of seven bits (ISO/IEC 14496-1 §8.3.3).
    """
    at = 0
    while at + 2 <= len(data):
        found, size = data[at], 0
        at += 1
        for _ in range(4):
            byte = int.from_bytes(data[at : at + 1], "big")
            at += 1
            size = size << 7 | byte & 0x7F
            if not byte & 0x80:
                break
        if found == tag:
            return data[at : at + size]
        at += size
    raise InvalidData(f"MP4: no descriptor {tag} in esds")


def _edited(data: bytes, trak: Box, timescale: int, movie_scale: int) -> int:
    """Returns the ticks that the edit list subtracts from all times (§8.6.6).

    The delays at its beginning and its first edit with media are used; later edits are ignored. Encoders compensate
    their delay with an edit list: without it, audio and video would be some frames apart.
    """
    elst = find(data, b"edts", b"elst", start=trak.payload, end=trak.end)
    if elst is None:
        return 0
    wide = data[elst.payload : elst.payload + 1] == b"\x01"
    form, length = (">Qq", 20) if wide else (">Ii", 12)
    delay = 0
    for n in range(min(u32(data, elst, 4), 16)):
        at = elst.payload + 8 + n * length
        if at + length > elst.end:
            break
        duration, time = struct.unpack_from(form, data, at)
        if time >= 0:
            return int(time) - delay
        delay += int(duration) * timescale // movie_scale if movie_scale else 0
    return -delay
