"""Writes the index of a progressive movie: ftyp, moov and the header of mdat. The media follow ("fast start")."""

from __future__ import annotations

import heapq
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

from gateway.formats.mp4.box import box, full_box
from gateway.formats.mp4.chapters import Chapter, chapter_box
from gateway.formats.mp4.init import TrackInit, media_header, movie_header, movie_init, track_header
from gateway.formats.mp4.reader import boxes, find, need, u32
from gateway.formats.mp4.tables import Table
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData

FTYP: Final = box(b"ftyp", b"isom", (0x200).to_bytes(4, "big"), b"isomiso2mp41")

_MAX_NARROW: Final = 3 << 30  # bytes of media up to which offsets fit in 32 bits, even after a large index
_FROM_1904_TO_1970: Final = 2_082_844_800  # seconds


@dataclass(slots=True)
class MovieTrack:
    """One track of a movie: the boxes that are copied, and its samples."""

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


@dataclass(frozen=True, slots=True)
class MovieHead:
    """The bytes of a movie before its media. media: bytes of the media that follow."""

    data: bytes
    media: int
    seconds: float


def new_track(init: TrackInit) -> MovieTrack:
    """Returns a track without samples. Raises like `movie_init`."""
    data = movie_init([init])
    moov = next(b for b in boxes(data) if b.kind == b"moov")
    return read_tracks(data[moov.start : moov.end])[0]


def add_description(track: MovieTrack, init: TrackInit) -> None:
    """Adds a sample description, for samples with other parameters. Raises like `movie_init`."""
    head, count = track.stsd[16:], int.from_bytes(track.stsd[12:16], "big")
    track.stsd = full_box(b"stsd", 0, 0, (count + 1).to_bytes(4, "big"), head, new_track(init).stsd[16:])


def movie_head(tracks: list[MovieTrack], created: float = 0.0, chapters: Sequence[Chapter] = ()) -> MovieHead:
    """Returns the head of a movie. Its media are the chunks of all tracks, without gaps, in the order of `chunks`.

    tracks: with samples. created: seconds since 1970; 0: unknown. chapters: of the movie, with times from its start on.
    """
    media = sum(sum(t.table.lengths) for t in tracks)
    stamp = max(int(created) + _FROM_1904_TO_1970, 0) if created else 0
    # The index comes before the media, so its length must be known first. It depends only on `wide`.
    wide = media > _MAX_NARROW
    places = [array("Q", bytes(8 * len(t.table.positions))) for t in tracks]
    position = len(FTYP) + len(_moov(tracks, places, wide, stamp, chapters)[0]) + (16 if wide else 8)
    filled = [0] * len(tracks)
    for _, size, n in chunks(tracks):
        places[n][filled[n]] = position
        filled[n] += 1
        position += size
    moov, seconds = _moov(tracks, places, wide, stamp, chapters)
    mdat = struct.pack(">I4sQ", 1, b"mdat", media + 16) if wide else struct.pack(">I4s", media + 8, b"mdat")
    return MovieHead(FTYP + moov + mdat, media, seconds)


def chunks(traks: Sequence[MovieTrack]) -> Iterator[tuple[int, int, int]]:
    """Yields (position, bytes, index of the trak) of all chunks, in the order of the unfinished file."""
    return heapq.merge(*[zip(t.table.positions, t.table.lengths, repeat(n)) for n, t in enumerate(traks)])


def shown_range(tracks: Sequence[MovieTrack]) -> tuple[float, float]:
    """Returns when a movie begins and ends on the clock of its samples, in seconds."""
    starts, ends = zip(
        *((t.table.shown_start / t.timescale, t.table.shown_end / t.timescale) for t in tracks), strict=True
    )
    return min(starts), max(ends)


def _moov(
    traks: Sequence[MovieTrack],
    positions: list[array[int]],
    wide: bool,
    created: int,
    chapters: Sequence[Chapter],
) -> tuple[bytes, float]:
    """Returns the index, and the movie's duration in seconds."""
    zero, _ = shown_range(traks)
    longest = 0
    boxes_ = []
    for n, trak in enumerate(traks):
        table, scale = trak.table, trak.timescale
        late = round((table.shown_start / scale - zero) * VIDEO_CLOCK)
        shown = (table.shown_end - table.shown_start) * VIDEO_CLOCK // scale
        longest = max(longest, late + shown)
        # If a picture would be shown before it is decoded, all offsets grow, and the edit list corrects it.
        first = table.shown_start - table.decode_start
        lift = max(-first, 0)
        hdlr, header, dinf = trak.kept
        stbl = table.write_boxes(trak.stsd, positions[n], wide=wide, lift=lift)
        mdhd = media_header(scale, table.duration, created, trak.language)
        mdia = box(b"mdia", mdhd, hdlr, box(b"minf", header, dinf, stbl))
        volume = 0x0100 if header[4:8] == b"smhd" else 0
        tkhd = track_header(trak.track_id, late + shown, volume, trak.width, trak.height, created, trak.group)
        boxes_.append(box(b"trak", tkhd, box(b"edts", _edits(late, shown, first + lift)), mdia))
    head = movie_header(VIDEO_CLOCK, longest, max(t.track_id for t in traks) + 1, created)
    return box(b"moov", head, *boxes_, chapter_box(chapters)), longest / VIDEO_CLOCK


def _edits(late: int, shown: int, first: int) -> bytes:
    """Returns elst (§8.6.6): nothing for `late` ticks of the movie, then the media from media time `first` on."""
    entries = [(late, -1)] if late else []
    entries.append((shown, first))
    wide = any(d >= 1 << 32 or m >= 1 << 31 for d, m in entries)
    form = ">QqI" if wide else ">IiI"
    packed = [struct.pack(form, duration, time, 0x10000) for duration, time in entries]
    return full_box(b"elst", int(wide), 0, len(entries).to_bytes(4, "big"), *packed)


def read_tracks(moov: bytes) -> list[MovieTrack]:
    """Returns the tracks of a moov that Millrace wrote, without samples. Raises InvalidData."""
    root = need(moov, None, b"moov")
    found = []
    for trak in boxes(moov, root.payload, root.end):
        if trak.kind != b"trak":
            continue
        tkhd, mdhd, hdlr = (need(moov, trak, *path) for path in ((b"tkhd",), (b"mdia", b"mdhd"), (b"mdia", b"hdlr")))
        video = moov[hdlr.payload + 8 : hdlr.payload + 12] == b"vide"
        minf = need(moov, trak, b"mdia", b"minf")
        header, dinf = need(moov, minf, b"vmhd" if video else b"smhd"), need(moov, minf, b"dinf")
        stsd = need(moov, minf, b"stbl", b"stsd")
        if tkhd.end - tkhd.payload < 84 or mdhd.end - mdhd.payload < 24 or moov[tkhd.payload]:
            raise InvalidData("a trak that we do not write")
        timescale = u32(moov, mdhd, 12)
        if not timescale:
            raise InvalidData("a timescale of 0")
        kept = [moov[b.start : b.end] for b in (hdlr, header, dinf)]
        if (elng := find(moov, b"mdia", b"elng", start=trak.payload, end=trak.end)) is not None:
            kept[0] = moov[elng.start : elng.end] + kept[0]
        found.append(
            MovieTrack(
                u32(moov, tkhd, 12), timescale, video, u32(moov, tkhd, 76), u32(moov, tkhd, 80),
                moov[stsd.start : stsd.end], (kept[0], kept[1], kept[2]), Table(), u32(moov, mdhd, 20) >> 16,
                u32(moov, tkhd, 32) & 0xFFFF,
            )
        )  # fmt: skip
    return found
