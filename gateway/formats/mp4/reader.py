"""Reads fragmented MP4: its boxes, within limits, and the samples of fragments."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gateway.formats.mp4.fragment import Mp4Sample
from gateway.media.errors import InvalidData

MAX_BOXES = 65_536  # in one level of one buffer
MAX_SAMPLES = 65_536  # in one buffer: a few bytes can claim a long run of empty samples

_NON_SYNC = 0x0001_0000
# Bytes between the header of a box and its children.
_CHILDREN = {b"stsd": 8, b"dref": 8}


@dataclass(frozen=True, slots=True)
class Box:
    """One box of a buffer: its type, and the positions of its header, its payload and its end."""

    kind: bytes
    start: int
    payload: int
    end: int


@dataclass(slots=True)
class TrackFragment:
    """One traf with its samples. base_decode_time: ticks."""

    track_id: int
    base_decode_time: int
    samples: list[Mp4Sample]


@dataclass(frozen=True, slots=True)
class TrackHeader:
    """The tfhd of a traf (§8.8.7). values: default duration, size and flags of a sample.

    base: position in the file from which `Run.data_offset` counts; None: the start of the moof.
    end: position after the last field that was read.
    """

    flags: int
    track_id: int
    base: int | None
    values: tuple[int, int, int]
    end: int


@dataclass(frozen=True, slots=True)
class Run:
    """The samples of a trun (§8.8.8): one list for each value.

    data_offset: position of the first sample, counted from `TrackHeader.base`; None: the end of the previous run.
    """

    data_offset: int | None
    durations: Sequence[int]
    sizes: Sequence[int]
    flags: Sequence[int]
    offsets: Sequence[int]


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yields the boxes between `start` and `end`, in order. Raises InvalidData for an impossible size."""
    at = start
    end = len(data) if end is None else end
    count = 0
    while at < end:
        if at + 8 > end:
            raise InvalidData(f"{end - at} bytes at {at} are not a box")
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        payload = at + 8
        if size == 1:
            payload = at + 16
            size = int.from_bytes(data[at + 8 : payload], "big")
        elif size == 0:  # §4.2: "if size is 0, … its contents extend to the end of the file"
            size = end - at
        if size < payload - at or size > end - at:
            raise InvalidData(f"box {kind!r} at {at}: {size} bytes, {end - at} available")
        count += 1
        if count > MAX_BOXES:
            raise InvalidData(f"more than {MAX_BOXES} boxes")
        yield Box(kind, at, payload, at + size)
        at += size


def find(data: bytes, *path: bytes, start: int = 0, end: int | None = None) -> Box | None:
    """Returns the first box at `path` (outer types first); None if it does not exist. Raises InvalidData."""
    found: Box | None = None
    for kind in path:
        found = next((b for b in boxes(data, start, end) if b.kind == kind), None)
        if found is None:
            return None
        start, end = found.payload + _CHILDREN.get(kind, 0), found.end
    return found


Defaults: TypeAlias = dict[int, tuple[int, int, int]]


def parse_fragments(
    data: bytes, *, defaults: Defaults | None = None, origin: int = 0, max_samples: int = MAX_SAMPLES
) -> list[TrackFragment]:
    """Returns the fragments of a segment or part, in order, with their samples.

    defaults: by track id, the trex values (duration, size, flags).
    origin: position of `data` in its file, for writers with offsets from the start of the file.
    max_samples: limit of the number of samples. The limit of their bytes is the size of `data`.

    Raises InvalidData.
    """
    fragments: list[TrackFragment] = []
    left = len(data)  # bytes that samples may still have: several runs may refer to the same bytes
    for moof in boxes(data):
        if moof.kind != b"moof":
            continue
        for child in boxes(data, moof.payload, moof.end):
            if child.kind == b"traf":
                fragment = _traf(data, moof, child, defaults or {}, origin, (max_samples, left))
                fragments.append(fragment)
                max_samples -= len(fragment.samples)
                left -= sum([len(sample.payload) for sample in fragment.samples])
    return fragments


def _traf(data: bytes, moof: Box, traf: Box, defaults: Defaults, origin: int, limits: tuple[int, int]) -> TrackFragment:
    """Reads a traf. limits: of the number and the bytes of its samples."""
    header = read_track_header(data, need(data, traf, b"tfhd"), defaults)
    base = moof.start if header.base is None else header.base - origin
    time = 0
    tfdt = find(data, b"tfdt", start=traf.payload, end=traf.end)
    if tfdt is not None:
        time = u32(data, tfdt, 4)
        if u32(data, tfdt, 0) >> 24:
            time = time << 32 | u32(data, tfdt, 8)
    samples: list[Mp4Sample] = []
    position, (most, left) = base, limits
    for child in boxes(data, traf.payload, traf.end):
        if child.kind != b"trun":
            continue
        run = read_run(data, child, header.values, most - len(samples))
        position = position if run.data_offset is None else base + run.data_offset
        for duration, size, flags, cts in zip(run.durations, run.sizes, run.flags, run.offsets, strict=True):
            left -= size
            if not 0 <= position <= position + size <= len(data) or left < 0:
                raise InvalidData(f"sample {len(samples)} of {size} bytes at {position} of {len(data)}")
            samples.append(Mp4Sample(duration, cts, not flags & _NON_SYNC, data[position : position + size]))
            position += size
    return TrackFragment(header.track_id, time, samples)


def read_track_header(data: bytes, tfhd: Box, defaults: Defaults) -> TrackHeader:
    """Reads a tfhd. defaults: by track id, the values of trex. Raises InvalidData."""
    flags, track_id = u32(data, tfhd, 0) & 0xFFFFFF, u32(data, tfhd, 4)
    at, base = 8, None
    if flags & 0x1:
        base = u32(data, tfhd, at) << 32 | u32(data, tfhd, at + 4)
        at += 8
    at += 4 if flags & 0x2 else 0
    values = list(defaults.get(track_id, (0, 0, 0)))
    for n, bit in enumerate((0x8, 0x10, 0x20)):
        if flags & bit:
            values[n] = u32(data, tfhd, at)
            at += 4
    return TrackHeader(flags, track_id, base, (values[0], values[1], values[2]), tfhd.payload + at)


def read_run(data: bytes, trun: Box, defaults: tuple[int, int, int], most: int) -> Run:
    """Reads a trun. defaults: duration, size and flags. most: samples that it may have. Raises InvalidData."""
    head, count = u32(data, trun, 0), u32(data, trun, 4)
    at = 8
    data_offset: int | None = None
    first_flags: int | None = None
    if head & 0x1:
        data_offset = _signed(u32(data, trun, at))
        at += 4
    if head & 0x4:
        first_flags = u32(data, trun, at)
        at += 4
    present = [bit for bit in (0x100, 0x200, 0x400, 0x800) if head & bit]
    width = len(present)
    if count > most or 4 * count * width > trun.end - trun.payload - at:
        raise InvalidData(f"trun of {count} samples in {trun.end - trun.payload} bytes")
    values = struct.unpack_from(f">{count * width}I", data, trun.payload + at)
    columns = {bit: values[n::width] for n, bit in enumerate(present)}
    duration, size, flags = ([value] * count for value in defaults)
    if first_flags is not None and count:
        flags[0] = first_flags
    offsets = columns.get(0x800) or [0] * count
    return Run(
        data_offset, columns.get(0x100) or duration, columns.get(0x200) or size, columns.get(0x400) or flags,
        [_signed(offset) for offset in offsets] if head >> 24 else offsets,
    )  # fmt: skip


def _signed(value: int) -> int:
    return value - (value >> 31 << 32)


def need(data: bytes, parent: Box | None, *path: bytes) -> Box:
    """Returns the first box at `path` in `parent` (None: in the data). Raises InvalidData if it does not exist."""
    start, end = (0, None) if parent is None else (parent.payload, parent.end)
    found = find(data, *path, start=start, end=end)
    if found is None:
        raise InvalidData(f"MP4: no {b'/'.join(path).decode()}{f' in {parent.kind!r}' if parent else ''}")
    return found


def u32(data: bytes, box: Box, offset: int) -> int:
    """Returns the 32-bit number at `offset` of a box's payload. Raises InvalidData."""
    at = box.payload + offset
    if at + 4 > box.end:
        raise InvalidData(f"MP4: box {box.kind!r} at {box.start} is cut short")
    return int.from_bytes(data[at : at + 4], "big")
