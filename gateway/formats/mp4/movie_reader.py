"""Reads the samples of a finished movie that Millrace wrote, in a time range."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.formats.mp4.entries import Mp4TrackEntry, read_track
from gateway.formats.mp4.reader import Box, boxes, find, need, u32
from gateway.formats.recording import ForeignCodec
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.random_access import RandomAccess, random_access_of
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack

MAX_MOOV: Final = 64 << 20  # bytes
_MAX_SAMPLES: Final = 6_000_000  # a day of 60 pictures a second
FIRST_SHOWN: Final = VIDEO_CLOCK  # time of the first picture shown: decode times may lie before it
_SOUND_BEFORE: Final = VIDEO_CLOCK  # ticks; this much sound before the first picture is also read
_MAX_SAMPLE: Final = 24 << 20  # bytes


@dataclass(frozen=True, slots=True)
class _Sample:
    """One sample. position, size: of its bytes in the file."""

    position: int
    size: int
    track: MediaTrack
    dts: int
    cts: int
    key: bool


class MovieReader:
    """Returns the units of the first video track and the first audio track, with times in ticks of 90 kHz.

    moov: the box with its header. Raises InvalidData for movies that Millrace does not write.
    `select` comes first and returns a range of bytes. `receive` takes exactly these bytes, cut anywhere.
    """

    def __init__(self, moov: bytes) -> None:
        top = need(moov, None, b"moov")
        mvhd = need(moov, top, b"mvhd")
        movie_scale = u32(moov, mvhd, 20 if moov[mvhd.payload : mvhd.payload + 1] == b"\x01" else 12)
        self._samples: list[_Sample] = []
        self._data = bytearray()
        self._position = 0
        self._next = 0
        tables: dict[Kind, _SampleTable] = {}
        for trak in boxes(moov, top.payload, top.end):
            if trak.kind == b"trak":
                entry = read_track(moov, trak, movie_scale)
                if entry.track.kind not in tables:  # later ones are additional tracks
                    tables[entry.track.kind] = _SampleTable(moov, trak, entry)
        if not tables:
            raise InvalidData("MP4: a recording without tracks")
        self._tables = sorted(tables.values(), key=lambda table: table.track.kind is Kind.AUDIO)

    @property
    def has_video(self) -> bool:
        return self._tables[0].track.kind is Kind.VIDEO

    def select(self, start: float, end: float) -> tuple[int, int]:
        """Selects the samples that are shown from `start` to `end`, in seconds of the movie.

        Also selects the samples that their decoding needs. Returns the positions of the first byte and after the last.
        """
        first, last = int(start * VIDEO_CLOCK) + FIRST_SHOWN, int(end * VIDEO_CLOCK) + FIRST_SHOWN
        found: list[_Sample] = []
        for table in self._tables:
            chosen = list(table.samples(first, last))
            if table.track.kind is Kind.VIDEO and chosen:
                first = min(first, chosen[0].dts + chosen[0].cts)
            found += chosen
            first -= _SOUND_BEFORE
        self._samples = sorted(found, key=lambda sample: sample.position)
        self._position = self._samples[0].position if self._samples else 0
        self._next = 0
        return self._position, max((s.position + s.size for s in self._samples), default=0)

    def receive(self, data: bytes) -> list[AccessUnit]:
        """Returns the units that these bytes complete."""
        self._data += data
        units: list[AccessUnit] = []
        used = 0
        while self._next < len(self._samples):
            sample = self._samples[self._next]
            start = sample.position - self._position
            if start < used:
                raise InvalidData("MP4: samples that overlap")
            if start + sample.size > len(self._data):
                break
            used = start + sample.size
            payload = bytes(self._data[start:used])
            units.append(AccessUnit(sample.track, sample.dts, sample.cts, sample.key, 0.0, payload))
            self._next += 1
        del self._data[:used]
        self._position += used
        return units


class _SampleTable:
    """The sample tables of one trak (ISO/IEC 14496-12 §8.6 and §8.7)."""

    def __init__(self, data: bytes, trak: Box, entry: Mp4TrackEntry) -> None:
        if isinstance(entry.track.coding, ForeignCodec):
            raise InvalidData(f"MP4: a track of {entry.track.coding}")
        self.track = MediaTrack(entry.track.kind, Codec(entry.track.coding), VIDEO_CLOCK, entry.track.config)
        self._scale, self._early = entry.track.timescale, entry.early
        stbl = need(data, trak, b"mdia", b"minf", b"stbl")

        def table(kind: bytes, *, skip: int = 4, optional: bool = False) -> array[int] | None:
            """Returns the 32-bit values of a table after `skip` bytes; None if it does not exist."""
            box = find(data, kind, start=stbl.payload, end=stbl.end)
            if box is None:
                if optional:
                    return None
                raise InvalidData(f"MP4: no {kind.decode()}")
            return _values(data[box.payload + skip : box.end], "I")

        sizes = table(b"stsz")
        assert sizes is not None  # it is not optional
        if len(sizes) < 2 or sizes[1] > _MAX_SAMPLES or (not sizes[0] and len(sizes) != sizes[1] + 2):
            raise InvalidData("MP4: a stsz that we do not write")
        self._count = sizes[1]
        self._sizes = sizes[2:] if not sizes[0] else array("I", [sizes[0]]) * self._count
        if len(self._sizes) and max(self._sizes) > _MAX_SAMPLE:
            raise InvalidData("MP4: a sample that is too large")
        self._durations = _pairs(table(b"stts"))
        self._offsets = _pairs(table(b"ctts", optional=True))
        keys = table(b"stss", optional=True)
        self._keys = None if keys is None else keys[1:]  # numbers of the key frames, from 1; None: all samples
        self._runs = table(b"stsc") or array("I")
        wide = find(data, b"co64", start=stbl.payload, end=stbl.end)
        places = table(b"stco", optional=True) if wide is None else _values(data[wide.payload + 8 : wide.end], "Q")
        if places is None:
            raise InvalidData("MP4: no positions of chunks")
        self._places = places[1:] if wide is None else places

    def samples(self, first: int, last: int) -> Iterator[_Sample]:
        """Yields the samples that are shown from `first` to `last`, in ticks; pictures from the key frame before it."""
        times = self._times()
        begin, end = self._bounds(times, first, last)
        if begin >= end:
            return
        positions = self._positions()
        keys = self._keys
        key_set = frozenset(keys) if keys is not None else None
        scale, early, track = self._scale, self._early, self.track
        offsets = _expanded(self._offsets, self._count)
        for n in range(begin, end):
            dts = (times[n] - early) * VIDEO_CLOCK // scale + FIRST_SHOWN
            shown = (times[n] - early + (offsets[n] if offsets else 0)) * VIDEO_CLOCK // scale + FIRST_SHOWN
            # The first sample of a recording is a key frame, even if stss leaves out recovery points.
            key = n == 0 or key_set is None or n + 1 in key_set
            yield _Sample(positions[n], self._sizes[n], track, dts, shown - dts, key)

    def _bounds(self, times: array[int], first: int, last: int) -> tuple[int, int]:
        """Returns the indexes of the first sample, and after the last one."""

        def index(ticks: int) -> int:
            return bisect_right(times, (ticks - FIRST_SHOWN) * self._scale // VIDEO_CLOCK + self._early)

        end = index(last)
        at = max(index(first) - 1, 0)
        if self._keys is not None:
            # A key frame may be shown later than it is decoded, so the key frame before it is used.
            before = bisect_right(self._keys, at + 1)
            at = self._keys[max(before - 2, 0)] - 1 if before > 1 else 0
        return at, end

    def _times(self) -> array[int]:
        """Returns the decode time of each sample."""
        times, time = array("q"), 0
        for count, duration in self._durations:
            if len(times) + count > self._count:
                raise InvalidData("MP4: stts has more samples than stsz")
            times.extend(range(time, time + count * duration, duration) if duration else [time] * count)
            time += count * duration
        if len(times) != self._count:
            raise InvalidData("MP4: stts has fewer samples than stsz")
        return times

    def _positions(self) -> array[int]:
        """Returns the position of each sample."""
        runs, places = self._runs, self._places
        if len(runs) % 3 != 1:
            raise InvalidData("MP4: a damaged stsc")
        positions, n = array("Q"), 0
        for at in range(1, len(runs), 3):
            first, samples = runs[at], runs[at + 1]
            until = runs[at + 3] if at + 3 < len(runs) else len(places) + 1
            if not 1 <= first < until <= len(places) + 1 or runs[at + 2] != 1:
                raise InvalidData("MP4: a damaged stsc")
            for place in places[first - 1 : until - 1]:
                if n + samples > self._count:
                    raise InvalidData("MP4: stsc has more samples than stsz")
                for size in self._sizes[n : n + samples]:
                    positions.append(place)
                    place += size
                n += samples
        if n != self._count:
            raise InvalidData("MP4: stsc has fewer samples than stsz")
        return positions


def _values(data: bytes, form: str) -> array[int]:
    """Returns big-endian numbers."""
    values = array(form)
    values.frombytes(data[: len(data) // values.itemsize * values.itemsize])
    if struct.pack("=H", 1) != struct.pack(">H", 1):
        values.byteswap()
    return values


def _pairs(values: array[int] | None) -> list[tuple[int, int]]:
    """Returns the pairs after the count of entries."""
    return [] if values is None else list(zip(values[1::2], values[2::2], strict=False))


def _expanded(runs: list[tuple[int, int]], count: int) -> array[int]:
    """Returns the signed value of each sample; empty if there are no runs."""
    found = array("q")
    for times, value in runs:
        if len(found) + times > count:
            raise InvalidData("MP4: ctts has more samples than stsz")
        found.extend([value - (value >> 31 << 32)] * times)
    if found and len(found) != count:
        raise InvalidData("MP4: ctts has fewer samples than stsz")
    return found


def is_start(unit: AccessUnit) -> bool:
    """Whether decoding may start with a picture. A recording does not list recovery points as key frames."""
    return unit.key or random_access_of(unit.track)(unit.payload) is RandomAccess.OPEN
