"""The compact sample tables of a finished movie: position, duration and presentation time of each sample."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from enum import Enum
from itertools import chain

from gateway.formats.mp4.box import box, full_box


class Runs:
    """A list of values as runs of equal values, as in stts, ctts and stsc."""

    __slots__ = ("counts", "values")

    def __init__(self) -> None:
        self.counts = array("Q")
        self.values = array("q")

    def add(self, value: int, count: int = 1) -> None:
        if self.values and self.values[-1] == value:
            self.counts[-1] += count
        else:
            self.values.append(value)
            self.counts.append(count)

    def write_table(self) -> bytes:
        """Returns `entry_count`, then `sample_count` and value of each run. Negative values are in two's complement."""
        runs = chain.from_iterable(zip(self.counts, self.values, strict=True))
        return _u32(n & 0xFFFF_FFFF for n in (len(self.values), *runs))


class Access(Enum):
    """Whether decoding can start with a sample.

    SYNC: a sync sample.
    OPEN: decoding can start, but the leading pictures are lost.
    """

    NONE = 0
    SYNC = 1
    OPEN = 2


class Table:
    """The samples of one track, added chunk by chunk in decode order. Times are in ticks of the track.

    A sample needs four bytes of memory. It needs 16 more if its composition offset differs from that of the previous
    sample, 16 more if its duration does, and four more if it is a sync sample.
    decode_start, shown_start: decode and presentation time of the first sample.
    shown_end: end of the last picture shown.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.decode_start = 0
        self.shown_start = 0
        self.shown_end = 0
        self.positions = array("Q")  # position of each chunk in the file
        self.lengths = array("Q")  # bytes of each chunk
        self._last = 0  # decode time of the last sample
        self._last_duration = 0
        self._durations = Runs()  # without the last sample
        self._offsets = Runs()
        self._sizes = array("I")
        self._keys = array("I")
        self._opens = Runs()  # 1 for a sample with Access.OPEN, otherwise 0
        # Of each chunk: the number of samples in the lower 32 bits, the index of their description in the upper ones.
        self._chunk_samples = Runs()

    def add(
        self,
        base: int,
        durations: Iterable[int],
        sizes: Iterable[int],
        access: Iterable[Access],
        offsets: Iterable[int],
        position: int,
        description: int = 1,
    ) -> None:
        """Adds a chunk: consecutive samples at file position `position`, the first decoded at `base`.

        description: index of their sample description, from 1.

        If a chunk does not begin at the end of the previous one, the previous last sample lasts until then. It lasts
        at least one tick, because decode times must grow.
        """
        time = base
        count = total = 0
        for duration, size, kind, offset in zip(durations, sizes, access, offsets, strict=True):
            if self.samples:
                time = max(time, self._last + 1)
                self._durations.add(time - self._last)
            else:
                self.decode_start, self.shown_start = time, time + offset
                self.shown_end = time
            self.samples += 1
            if kind is Access.SYNC:
                self._keys.append(self.samples)
            self._opens.add(kind is Access.OPEN)
            self._sizes.append(size)
            self._offsets.add(offset)
            self._last, self._last_duration = time, duration
            self.shown_end = max(self.shown_end, time + offset + duration)
            time += duration
            count += 1
            total += size
        if count:
            self.positions.append(position)
            self.lengths.append(total)
            self._chunk_samples.add(count | description << 32)

    @property
    def duration(self) -> int:
        """Ticks from the first sample's decode time to the end of the last."""
        return self._last + self._last_duration - self.decode_start if self.samples else 0

    def write_boxes(self, stsd: bytes, positions: Iterable[int], *, wide: bool, lift: int = 0) -> bytes:
        """Returns stbl (ISO/IEC 14496-12 §8.5).

        stsd: the box with the sample entry, copied unchanged.
        positions: of the chunks in the finished file.
        wide: uses 64-bit positions.
        lift: ticks added to every composition offset.
        """
        durations = Runs()
        durations.counts, durations.values = self._durations.counts[:], self._durations.values[:]
        if self.samples:
            durations.add(self._last_duration)
        parts = [stsd, full_box(b"stts", 0, 0, durations.write_table())]
        if any(v + lift for v in self._offsets.values):
            lifted = Runs()
            lifted.counts = self._offsets.counts
            lifted.values = array("q", (v + lift for v in self._offsets.values))
            # §8.6.1.3: every reader supports version 0, but it cannot contain negative offsets.
            parts.append(full_box(b"ctts", int(min(lifted.values) < 0), 0, lifted.write_table()))
        if len(self._keys) < self.samples:
            parts.append(full_box(b"stss", 0, 0, _u32((len(self._keys),)), _u32(self._keys)))
        if any(self._opens.values):
            # §10.4: the group of open random access points, without their numbers of leading samples. Players that
            # seek need it, because stss does not list these samples.
            parts.append(full_box(b"sgpd", 1, 0, b"rap ", _u32((1, 1)), b"\0"))
            parts.append(full_box(b"sbgp", 0, 0, b"rap ", self._opens.write_table()))
        parts.append(full_box(b"stsc", 0, 0, self._write_chunk_table()))
        size = self._sizes[0] if self.samples and self._sizes.count(self._sizes[0]) == self.samples else 0
        parts.append(full_box(b"stsz", 0, 0, _u32((size, self.samples)), b"" if size else _u32(self._sizes)))
        places = array("Q" if wide else "I", positions)
        parts.append(full_box(b"co64" if wide else b"stco", 0, 0, _u32((len(places),)), _big_endian(places)))
        return box(b"stbl", *parts)

    def _write_chunk_table(self) -> bytes:
        """Returns the stsc entries (§8.7.4): the first chunk of each run of chunks, and the samples in each of them."""
        entries = array("I")
        first = 1
        for count, samples in zip(self._chunk_samples.counts, self._chunk_samples.values, strict=True):
            entries.extend((first, samples & 0xFFFF_FFFF, samples >> 32))
            first += count
        return _u32((len(self._chunk_samples.values),)) + _big_endian(entries)


def _u32(values: Iterable[int]) -> bytes:
    return _big_endian(values[:] if isinstance(values, array) else array("I", values))


def _big_endian(values: array[int]) -> bytes:
    """Returns big-endian bytes. Swaps `values` in place, so they cannot be used afterwards.

    The items of array("I") and array("Q") have 4 and 8 bytes on all supported platforms.
    """
    if sys.byteorder == "little":
        values.byteswap()
    return values.tobytes()
