"""Reads ISO base media files (ISO/IEC 14496-12) as far as the rules need it; nothing of the gateway is used."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

TFHD_BASE_OFFSET, TFHD_DESCRIPTION, TFHD_DURATION, TFHD_SIZE, TFHD_FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20
TFHD_DEFAULT_BASE_IS_MOOF = 0x20000
TRUN_OFFSET, TRUN_FIRST_FLAGS, TRUN_DURATION, TRUN_SIZE, TRUN_FLAGS, TRUN_CTS = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800
SAMPLE_IS_NON_SYNC = 0x10000


class Malformed(Exception):
    """The bytes are no sequence of boxes."""


@dataclass(frozen=True)
class Header:
    """An initialisation segment. handler: vide or soun; duration, flags: defaults of trex."""

    timescale: int
    handler: str
    duration: int
    flags: int
    boxes: bytes


@dataclass
class Fragment:
    """One moof. start: tfdt; durations, flags, offsets (composition time): of each sample, in the track's timescale."""

    start: int = 0
    durations: list[int] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    base_is_moof: bool = True

    @property
    def duration(self) -> int:
        return sum(self.durations)

    @property
    def first_is_sync(self) -> bool:
        return bool(self.flags) and not self.flags[0] & SAMPLE_IS_NON_SYNC

    @property
    def has_sync(self) -> bool:
        return any(not flags & SAMPLE_IS_NON_SYNC for flags in self.flags)

    @property
    def earliest_presentation(self) -> int:
        times, at = [], self.start
        for duration, offset in zip(self.durations, self.offsets, strict=True):
            times.append(at + offset)
            at += duration
        return min(times, default=self.start)


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[str, int, int]]:
    """Type, first and last position of the content of each box. Raises Malformed at a size that does not fit."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= end:
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        elif size == 0:
            size = end - start
        if size < head or start + size > end:
            raise Malformed(f"box {name!r} of {size} bytes at {start} of {end}")
        yield name.decode("latin-1"), start + head, start + size
        start += size
    if start != end:
        raise Malformed(f"{end - start} bytes after the last box")


def find(data: bytes, path: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Content of every box at a path such as `moov/trak/mdia`."""
    first, _, rest = path.partition("/")
    for name, begin, stop in boxes(data, start, end):
        if name == first:
            if rest:
                yield from find(data, rest, begin, stop)
            else:
                yield begin, stop


def read_header(data: bytes) -> Header:
    """Reads an initialisation segment of one track. Raises Malformed where a box is missing."""
    try:
        mdhd = next(find(data, "moov/trak/mdia/mdhd"))[0]
        hdlr = next(find(data, "moov/trak/mdia/hdlr"))[0]
        trex = next(find(data, "moov/mvex/trex"))[0]
    except StopIteration:
        raise Malformed("an initialisation segment without mdhd, hdlr or trex") from None
    timescale = struct.unpack_from(">I", data, mdhd + (20 if data[mdhd] else 12))[0]
    _, _, duration, _, flags = struct.unpack_from(">5I", data, trex + 4)
    return Header(timescale, data[hdlr + 8 : hdlr + 12].decode("latin-1"), duration, flags, data)


def top_level(data: bytes) -> list[str]:
    """Types of the top-level boxes."""
    return [name for name, _, _ in boxes(data)]


def read_fragments(data: bytes, header: Header) -> list[Fragment]:
    """Reads every moof of a segment, part or chunk."""
    return [
        _fragment(data, start, end, header)
        for name, moof, stop in boxes(data)
        if name == "moof"
        for start, end in find(data, "traf", moof, stop)
    ]


def _fragment(data: bytes, start: int, end: int, header: Header) -> Fragment:
    found = Fragment()
    duration, flags = header.duration, header.flags
    for name, at, _ in boxes(data, start, end):
        if name == "tfhd":
            duration, flags, found.base_is_moof = _track_defaults(data, at, duration, flags)
        elif name == "tfdt":
            found.start = struct.unpack_from(">Q" if data[at] else ">I", data, at + 4)[0]
        elif name == "trun":
            _read_run(data, at, duration, flags, found)
    return found


def _track_defaults(data: bytes, at: int, duration: int, flags: int) -> tuple[int, int, bool]:
    bits = struct.unpack_from(">I", data, at)[0] & 0xFFFFFF
    position = at + 8 + (8 if bits & TFHD_BASE_OFFSET else 0) + (4 if bits & TFHD_DESCRIPTION else 0)
    if bits & TFHD_DURATION:
        duration = struct.unpack_from(">I", data, position)[0]
        position += 4
    if bits & TFHD_SIZE:
        position += 4
    if bits & TFHD_FLAGS:
        flags = struct.unpack_from(">I", data, position)[0]
    return duration, flags, bool(bits & TFHD_DEFAULT_BASE_IS_MOOF)


def _read_run(data: bytes, at: int, duration: int, flags: int, found: Fragment) -> None:
    version = data[at]
    bits = struct.unpack_from(">I", data, at)[0] & 0xFFFFFF
    count = struct.unpack_from(">I", data, at + 4)[0]
    position = at + 8 + (4 if bits & TRUN_OFFSET else 0)
    first_flags = None
    if bits & TRUN_FIRST_FLAGS:
        first_flags = struct.unpack_from(">I", data, position)[0]
        position += 4

    def field_of(bit: int, default: int, form: str = ">I") -> int:
        nonlocal position
        if not bits & bit:
            return default
        position += 4
        return int(struct.unpack_from(form, data, position - 4)[0])

    for index in range(count):
        found.durations.append(field_of(TRUN_DURATION, duration))
        field_of(TRUN_SIZE, 0)
        own = field_of(TRUN_FLAGS, flags)
        found.flags.append(first_flags if index == 0 and first_flags is not None else own)
        found.offsets.append(field_of(TRUN_CTS, 0, ">i" if version else ">I"))
