"""Turns a recording in fragments into a movie that players and editors open quickly.

Fragments protect a growing recording: after a crash it is complete up to the last complete fragment. The finished movie
has one index before the media (ISO/IEC 14496-12 §6.2.3 allows it: "fast start").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

from gateway.formats.mp4.movie import MovieTrack, chunks, movie_head, read_tracks
from gateway.formats.mp4.reader import Box, boxes, find
from gateway.formats.mp4.tables import Access
from gateway.media.errors import InvalidData

MAX_HEADER: Final = 1 << 20  # bytes of the moov before the fragments
MAX_MOOF: Final = 8 << 20  # bytes; half a million samples

_PIECE: Final = 1 << 20
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
    head = movie_head(traks, created)
    target.write(head.data)
    for place, size, _ in chunks(traks):
        _copy(source, place, size, target)
    return Finished(head.seconds, len(head.data) + head.media, whole, whole < end)


# ---- reading the unfinished file ----


def _read_header(source: BinaryIO) -> tuple[list[MovieTrack], int]:
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
            return read_tracks(head + body), position
        if head[4:] != b"ftyp":
            raise InvalidData(f"{head[4:]!r} where a movie header should be")


def _read_fragments(source: BinaryIO, position: int, traks: dict[int, MovieTrack]) -> int:
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


def _copy(source: BinaryIO, position: int, size: int, target: BinaryIO) -> None:
    source.seek(position)
    while size:
        piece = source.read(min(size, _PIECE))
        if not piece:
            raise OSError("the recording became shorter while it was read")
        target.write(piece)
        size -= len(piece)
