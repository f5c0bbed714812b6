"""Turns a recording in fragments into a movie that players and editors open quickly.

Fragments protect a growing recording: after a crash it is complete up to the last complete fragment. The finished movie
has one index before the media (ISO/IEC 14496-12 §6.2.3 allows it: "fast start").
"""

from __future__ import annotations

import heapq
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import BinaryIO, Final

from gateway.formats.mp4.box import box, full_box
from gateway.formats.mp4.init import media_header, movie_header, track_header
from gateway.formats.mp4.reader import Box, boxes, find
from gateway.formats.mp4.tables import Access, Table
from gateway.media.errors import InvalidData

FTYP: Final = box(b"ftyp", b"isom", (0x200).to_bytes(4, "big"), b"isomiso2mp41")
MAX_HEADER: Final = 1 << 20  # bytes of the moov before the fragments
MAX_MOOF: Final = 8 << 20  # bytes; half a million samples

_SCALE: Final = 90_000  # ticks a second of the movie
_MAX_NARROW: Final = 3 << 30  # bytes of media up to which offsets fit in 32 bits, even after a large index
_PIECE: Final = 1 << 20
_EPOCH: Final = 2_082_844_800  # seconds from 1904 to 1970
_DURATION, _SIZE, _FLAGS, _CTS = 0x100, 0x200, 0x400, 0x800
_NON_SYNC: Final = 0x0001_0000
_DEPENDS: Final = 0x0300_0000
_ON_NONE: Final = 0x0200_0000


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of finishing a recording.

    seconds: its duration.
    bytes: size of the finished file.
    whole: used bytes of the unfinished file.
    torn: whether unused bytes followed them.
    """

    seconds: float
    bytes: int
    whole: int
    torn: bool


@dataclass(slots=True)
class _Trak:
    """A trak of the unfinished file: the boxes that are copied, and its samples."""

    track_id: int
    timescale: int
    video: bool
    width: int  # as in a tkhd
    height: int
    stsd: bytes
    kept: tuple[bytes, bytes, bytes]  # elng (if any) and hdlr, the media header of its kind, dinf
    table: Table
    language: int  # as in a mdhd
    group: int  # as in a tkhd


def finish(source: BinaryIO, target: BinaryIO, *, created: float = 0.0) -> Finished:
    """Writes the fragmented movie `source`, perhaps incomplete at its end, as a progressive one to `target`.

    source, target: seekable; `target` is empty.
    created: seconds since the epoch.

    All data up to the last complete fragment are used. Times begin at zero; edit lists keep the tracks in sync. Tracks
    without samples are left out. Memory: the sample tables and one piece of the file.
    Raises InvalidData if no sample can be saved; OSError.
    """
    traks, start = _read_header(source)
    whole = _read_fragments(source, start, {t.track_id: t for t in traks})
    end = source.seek(0, 2)
    traks = [t for t in traks if t.table.samples]
    if not traks:
        raise InvalidData("no whole fragment")
    media = sum(sum(t.table.lengths) for t in traks)
    stamp = max(int(created) + _EPOCH, 0) if created else 0
    # The index comes before the media, so its length must be known first. It depends only on `wide`.
    wide = media > _MAX_NARROW
    places = [array("Q", bytes(8 * len(t.table.positions))) for t in traks]
    position = len(FTYP) + len(_moov(traks, places, wide, stamp)[0]) + (16 if wide else 8)
    filled = [0] * len(traks)
    for _, size, n in _chunks(traks):
        places[n][filled[n]] = position
        filled[n] += 1
        position += size
    moov, seconds = _moov(traks, places, wide, stamp)
    target.write(FTYP)
    target.write(moov)
    target.write(struct.pack(">I4sQ", 1, b"mdat", media + 16) if wide else struct.pack(">I4s", media + 8, b"mdat"))
    for place, size, _ in _chunks(traks):
        _copy(source, place, size, target)
    return Finished(seconds, position, whole, whole < end)


# ---- reading the unfinished file ----


def _read_header(source: BinaryIO) -> tuple[list[_Trak], int]:
    """Returns the tracks, and the position of the first fragment."""
    position = 0
    while True:
        source.seek(position)
        head = source.read(8)
        size = int.from_bytes(head[:4], "big")
        if len(head) < 8 or not 8 <= size <= MAX_HEADER:
            raise InvalidData("no movie header")
        body = source.read(size - 8)
        if len(body) < size - 8:
            raise InvalidData("the movie header is cut short")
        position += size
        if head[4:] == b"moov":
            return _traks(head + body), position
        if head[4:] != b"ftyp":
            raise InvalidData(f"{head[4:]!r} where a movie header should be")


def _traks(moov: bytes) -> list[_Trak]:
    root = find(moov, b"moov")
    assert root is not None  # the box that the caller saw
    found = []
    for trak in boxes(moov, root.payload, root.end):
        if trak.kind != b"trak":
            continue

        def inner(*path: bytes, of: Box = trak) -> Box:
            there = find(moov, *path, start=of.payload, end=of.end)
            if there is None:
                raise InvalidData(f"no {path[-1].decode()} in a trak")
            return there

        tkhd, mdhd, hdlr = inner(b"tkhd"), inner(b"mdia", b"mdhd"), inner(b"mdia", b"hdlr")
        video = moov[hdlr.payload + 8 : hdlr.payload + 12] == b"vide"
        header = inner(b"mdia", b"minf", b"vmhd" if video else b"smhd")
        # Not with find(), because the whole box with its header is needed.
        stbl = inner(b"mdia", b"minf", b"stbl")
        stsd = next((b for b in boxes(moov, stbl.payload, stbl.end) if b.kind == b"stsd"), None)
        if stsd is None or tkhd.end - tkhd.payload < 84 or mdhd.end - mdhd.payload < 24 or moov[tkhd.payload]:
            raise InvalidData("a trak that we do not write")
        timescale = int.from_bytes(moov[mdhd.payload + 12 : mdhd.payload + 16], "big")
        if not timescale:
            raise InvalidData("a timescale of 0")
        width, height = struct.unpack_from(">II", moov, tkhd.payload + 76)
        kept = [moov[b.start : b.end] for b in (hdlr, header, inner(b"mdia", b"minf", b"dinf"))]
        if (elng := find(moov, b"mdia", b"elng", start=trak.payload, end=trak.end)) is not None:
            kept[0] = moov[elng.start : elng.end] + kept[0]
        language = int.from_bytes(moov[mdhd.payload + 20 : mdhd.payload + 22], "big")
        group = int.from_bytes(moov[tkhd.payload + 34 : tkhd.payload + 36], "big")
        track_id = int.from_bytes(moov[tkhd.payload + 12 : tkhd.payload + 16], "big")
        found.append(
            _Trak(
                track_id, timescale, video, width, height, moov[stsd.start : stsd.end],
                (kept[0], kept[1], kept[2]), Table(), language, group,
            )
        )  # fmt: skip
    return found


def _read_fragments(source: BinaryIO, position: int, traks: dict[int, _Trak]) -> int:
    """Fills the tables. Returns the end of the last complete fragment; an incomplete or damaged rest is left out."""
    while True:
        source.seek(position)
        head = source.read(8)
        size = int.from_bytes(head[:4], "big")
        if len(head) < 8 or head[4:] != b"moof" or not 8 <= size <= MAX_MOOF:
            return position
        moof = head + source.read(size - 8)
        data = source.read(8)
        length = int.from_bytes(data[:4], "big")
        if len(moof) < size or len(data) < 8 or data[4:] != b"mdat" or length < 8:
            return position
        if source.seek(0, 2) < position + size + length:
            return position
        try:
            runs = _runs(moof, size + length)
        except InvalidData:
            return position
        for track_id, base, durations, sizes, access, offsets, place in runs:
            if track_id in traks:
                traks[track_id].table.add(base, durations, sizes, access, offsets, position + place)
        position += size + length


_Run = tuple[int, int, list[int], list[int], list[Access], list[int], int]


def _runs(moof: bytes, end: int) -> list[_Run]:
    """Returns the track runs of one fragment, in the form that `fragment` writes.

    end: end of the mdat, counted from the start of the moof.

    Each run has: track, decode time, durations, sizes, access, composition offsets, and the position of its samples
    from the start of the moof.
    """
    found: list[_Run] = []
    top = find(moof, b"moof")
    assert top is not None  # the box that the caller saw
    for traf in boxes(moof, top.payload, top.end):
        if traf.kind != b"traf":
            continue
        tfhd = find(moof, b"tfhd", start=traf.payload, end=traf.end)
        tfdt = find(moof, b"tfdt", start=traf.payload, end=traf.end)
        trun = find(moof, b"trun", start=traf.payload, end=traf.end)
        if tfhd is None or tfdt is None or trun is None:
            raise InvalidData("a traf that we do not write")
        flags, track_id, defaults = _tfhd(moof, tfhd)
        if tfdt.end - tfdt.payload != 12 or moof[tfdt.payload] != 1 or flags & 0x01:
            raise InvalidData("a tfdt that we do not write")
        base = int.from_bytes(moof[tfdt.payload + 4 : tfdt.end], "big")
        if base >= 1 << 62:
            raise InvalidData(f"a decode time of {base}")
        if trun.end - trun.payload < 12:
            raise InvalidData("a trun that is cut short")
        head, count, place = struct.unpack_from(">IIi", moof, trun.payload)
        present = [n for n in (_DURATION, _SIZE, _FLAGS, _CTS) if head & n]
        if head & 0xFFFFFF & ~0xF01 or not head & 1 or _SIZE not in present:
            raise InvalidData("a trun that we do not write")
        stride = len(present)
        if trun.end - trun.payload != 12 + 4 * stride * count:
            raise InvalidData(f"a trun of {count} samples in {trun.end - trun.payload} bytes")
        values = struct.unpack_from(f">{stride * count}I", moof, trun.payload + 12)
        fields = {kind: list(values[n::stride]) for n, kind in enumerate(present)}
        sizes = fields[_SIZE]
        if not len(moof) <= place <= place + sum(sizes) <= end:
            raise InvalidData("samples outside their mdat")
        durations = fields.get(_DURATION) or [defaults[0]] * count
        access = [_access(f) for f in fields.get(_FLAGS) or [defaults[1]] * count]
        offsets = [c - (c >> 31 << 32) for c in fields.get(_CTS) or [0] * count]
        found.append((track_id, base, durations, sizes, access, offsets, place))
    return found


def _access(flags: int) -> Access:
    if not flags & _NON_SYNC:
        return Access.SYNC
    return Access.OPEN if flags & _DEPENDS == _ON_NONE else Access.NONE


def _tfhd(moof: bytes, tfhd: Box) -> tuple[int, int, tuple[int, int]]:
    """Returns flags, track id and defaults (duration, flags) of a tfhd."""
    words = struct.unpack_from(f">{(tfhd.end - tfhd.payload) // 4}I", moof, tfhd.payload)
    if len(words) < 2:
        raise InvalidData("a tfhd that is cut short")
    flags = words[0] & 0xFFFFFF
    rest = list(words[2:])
    if flags & 0x13 or len(rest) != (flags >> 3 & 1) + (flags >> 5 & 1):
        raise InvalidData("a tfhd that we do not write")
    duration = rest.pop(0) if flags & 0x08 else 0
    return flags, words[1], (duration, rest.pop(0) if flags & 0x20 else 0)


# ---- writing the finished file ----


def _chunks(traks: list[_Trak]) -> Iterator[tuple[int, int, int]]:
    """Yields (position, bytes, index of the trak) of all chunks, in the order of the unfinished file."""
    return heapq.merge(*[zip(t.table.positions, t.table.lengths, repeat(n)) for n, t in enumerate(traks)])


def _moov(traks: list[_Trak], positions: list[array[int]], wide: bool, created: int) -> tuple[bytes, float]:
    """Returns the index, and the movie's duration in seconds."""
    zero = min(t.table.shown_start / t.timescale for t in traks)
    longest = 0
    boxes_ = []
    for n, trak in enumerate(traks):
        table, scale = trak.table, trak.timescale
        late = round((table.shown_start / scale - zero) * _SCALE)
        shown = (table.shown_end - table.shown_start) * _SCALE // scale
        longest = max(longest, late + shown)
        # If a picture would be shown before it is decoded, all offsets grow, and the edit list corrects it.
        first = table.shown_start - table.decode_start
        lift = max(-first, 0)
        hdlr, header, dinf = trak.kept
        stbl = table.boxes(trak.stsd, positions[n], wide=wide, lift=lift)
        mdia = box(
            b"mdia", media_header(scale, table.duration, created, trak.language), hdlr, box(b"minf", header, dinf, stbl)
        )
        volume = 0 if trak.video else 0x0100
        tkhd = track_header(trak.track_id, late + shown, volume, trak.width, trak.height, created, trak.group)
        boxes_.append(box(b"trak", tkhd, box(b"edts", _edits(late, shown, first + lift)), mdia))
    head = movie_header(_SCALE, longest, max(t.track_id for t in traks) + 1, created)
    return box(b"moov", head, *boxes_), longest / _SCALE


def _edits(late: int, shown: int, first: int) -> bytes:
    """Returns elst (§8.6.6): nothing for `late` ticks of the movie, then the media from media time `first` on."""
    entries = [(late, -1)] if late else []
    entries.append((shown, first))
    wide = any(d >= 1 << 32 or m >= 1 << 31 for d, m in entries)
    form = ">QqI" if wide else ">IiI"
    packed = [struct.pack(form, duration, time, 0x10000) for duration, time in entries]
    return full_box(b"elst", int(wide), 0, len(entries).to_bytes(4, "big"), *packed)


def _copy(source: BinaryIO, position: int, size: int, target: BinaryIO) -> None:
    source.seek(position)
    while size:
        piece = source.read(min(size, _PIECE))
        if not piece:
            raise OSError("the recording became shorter while it was read")
        target.write(piece)
        size -= len(piece)
