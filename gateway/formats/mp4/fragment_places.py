"""Finds the fragments of a growing recording that Millrace wrote, without reading their media."""

from collections.abc import Callable, Iterator
from typing import Final

from gateway.formats.mp4.entries import read_movie
from gateway.formats.mp4.stream import MAX_FRAGMENT, MAX_HEADER
from gateway.media.errors import InvalidData

_HEAD: Final = 256  # bytes of a moof in which the time of its first track is


def fragment_places(read: Callable[[int, int], bytes]) -> Iterator[tuple[int, float]]:
    """Yields the position of each fragment, and the decode time of its first track, seconds.

    read(size, position): returns bytes of the file, fewer at its end. Costs two reads for each fragment.
    Raises InvalidData for other files.
    """
    at = 0
    scales: dict[int, int] = {}
    while len(head := read(_HEAD, at)) >= 16:
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if not 8 <= size <= MAX_FRAGMENT or (kind == b"moov" and size > MAX_HEADER):
            raise InvalidData(f"MP4: box {kind!r} of {size} bytes")
        if kind == b"moov":
            entries = read_movie(read(size, at)).entries
            scales = {entry.number: entry.track.timescale for entry in entries}
        elif kind == b"moof":
            track, time = _beginning(head)
            if track not in scales:
                raise InvalidData(f"MP4: a fragment of an unknown track {track}")
            yield at, time / scales[track]
        at += size


def _beginning(moof: bytes) -> tuple[int, int]:
    """Returns the id of the first track and its decode time in ticks (ISO/IEC 14496-12 §8.8)."""
    traf = 8 + int.from_bytes(moof[8:12], "big")
    tfhd = traf + 8
    tfdt = tfhd + int.from_bytes(moof[tfhd : tfhd + 4], "big")
    kinds = moof[12:16], moof[traf + 4 : tfhd], moof[tfhd + 4 : tfhd + 8], moof[tfdt + 4 : tfdt + 8]
    end = tfdt + (20 if moof[tfdt + 8 : tfdt + 9] == b"\x01" else 16)
    if kinds != (b"mfhd", b"traf", b"tfhd", b"tfdt") or end > len(moof):
        raise InvalidData("MP4: a fragment that we do not write")
    return int.from_bytes(moof[tfhd + 12 : tfhd + 16], "big"), int.from_bytes(moof[tfdt + 12 : end], "big")
