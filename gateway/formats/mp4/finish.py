"""Turns a recording in fragments into a movie that players and editors open quickly.

Fragments protect a growing recording: after a crash it is complete up to the last complete fragment. The finished movie
has one index before the media (ISO/IEC 14496-12 §6.2.3 allows it: "fast start").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from gateway.formats.mp4.chapters import Chapter, placed
from gateway.formats.mp4.movie import MovieTrack, chunks, movie_head, read_tracks, shown_range
from gateway.formats.mp4.reader import Run, boxes, need, read_run, read_track_header, u32
from gateway.formats.mp4.tables import Access
from gateway.media.errors import InvalidData

MAX_HEADER: Final = 1 << 20  # bytes of the moov before the fragments
MAX_MOOF: Final = 8 << 20  # bytes; half a million samples

_PIECE: Final = 1 << 20
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


def finish(
    source: BinaryIO, target: BinaryIO, *, created: float = 0.0, chapters: Sequence[Chapter] = (), before: str = ""
) -> Finished:
    """Writes the fragmented movie `source`, perhaps incomplete at its end, as a progressive one to `target`.

    source, target: seekable; `target` is empty.
    created: seconds since 1970. chapters, before: see `placed`; their times are those of the fragments.

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
    begin, stop = shown_range(traks)
    head = movie_head(traks, created, placed(chapters, begin, stop - begin, before))
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
        for track_id, time, run in runs:
            if track_id in traks:
                assert run.data_offset is not None, "`_runs` checks it"
                access = map(_access, run.flags)
                traks[track_id].table.add(
                    time, run.durations, run.sizes, access, run.offsets, position + run.data_offset
                )
        position += size + length


def _runs(moof: bytes, end: int) -> list[tuple[int, int, Run]]:
    """Returns track, decode time and samples of the track runs of one fragment, in the form that `fragment` writes.

    end: end of the mdat, counted from the start of the moof.
    """
    found: list[tuple[int, int, Run]] = []
    top = need(moof, None, b"moof")
    for traf in boxes(moof, top.payload, top.end):
        if traf.kind != b"traf":
            continue
        tfhd, tfdt, trun = (need(moof, traf, kind) for kind in (b"tfhd", b"tfdt", b"trun"))
        header = read_track_header(moof, tfhd, {})
        if header.flags & 0x13 or header.end != tfhd.end:
            raise InvalidData("a tfhd that we do not write")
        if tfdt.end - tfdt.payload != 12 or moof[tfdt.payload] != 1:
            raise InvalidData("a tfdt that we do not write")
        time = int.from_bytes(moof[tfdt.payload + 4 : tfdt.end], "big")
        if time >= 1 << 62:
            raise InvalidData(f"a decode time of {time}")
        head, count = u32(moof, trun, 0), u32(moof, trun, 4)
        if head & 0xFFFFFF & ~0xF01 or not head & 1 or not head & 0x200:
            raise InvalidData("a trun that we do not write")
        if trun.end - trun.payload != 12 + 4 * (head & 0xF00).bit_count() * count:
            raise InvalidData(f"a trun of {count} samples in {trun.end - trun.payload} bytes")
        run = read_run(moof, trun, header.values, count)
        if run.data_offset is None or not len(moof) <= run.data_offset <= run.data_offset + sum(run.sizes) <= end:
            raise InvalidData("samples outside their mdat")
        found.append((header.track_id, time, run))
    return found


def _access(flags: int) -> Access:
    if not flags & _NON_SYNC:
        return Access.SYNC
    return Access.OPEN if flags & _DEPENDS == _ON_NONE else Access.NONE


def _copy(source: BinaryIO, position: int, size: int, target: BinaryIO) -> None:
    source.seek(position)
    while size:
        piece = source.read(min(size, _PIECE))
        if not piece:
            raise OSError("the recording became shorter while it was read")
        target.write(piece)
        size -= len(piece)
