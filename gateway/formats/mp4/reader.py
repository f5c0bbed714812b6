"""Reads fragmented MP4: its boxes, within limits, and the samples of fragments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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

    sequence_number: int
    track_id: int
    base_decode_time: int
    samples: list[Mp4Sample]


@dataclass(slots=True)
class _Budget:
    """The samples and bytes that the fragments of a buffer may still have. Several runs may refer to equal bytes."""

    samples: int
    bytes: int


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


def parse_fragments(
    data: bytes,
    *,
    defaults: dict[int, tuple[int, int, int]] | None = None,
    origin: int = 0,
    max_samples: int = MAX_SAMPLES,
) -> list[TrackFragment]:
    """Returns the fragments of a segment or part, in order, with their samples.

    defaults: by track id, the trex values (duration, size, flags).
    origin: position of `data` in its file, for writers with offsets from the start of the file.
    max_samples: limit of the number of samples. The limit of their bytes is the size of `data`.

    Raises InvalidData.
    """
    fragments: list[TrackFragment] = []
    budget = _Budget(max_samples, len(data))
    for moof in boxes(data):
        if moof.kind != b"moof":
            continue
        sequence = 0
        for child in boxes(data, moof.payload, moof.end):
            if child.kind == b"mfhd":
                sequence = u32(data, child, 4)
            elif child.kind == b"traf":
                fragments.append(_traf(data, moof, child, sequence, defaults or {}, budget, origin))
    return fragments


def _traf(
    data: bytes,
    moof: Box,
    traf: Box,
    sequence: int,
    defaults: dict[int, tuple[int, int, int]],
    budget: _Budget,
    origin: int,
) -> TrackFragment:
    tfhd = need(data, traf, b"tfhd")
    flags = u32(data, tfhd, 0) & 0xFFFFFF
    track_id = u32(data, tfhd, 4)
    base = moof.start
    at = 8
    if flags & 0x1:
        base = (u32(data, tfhd, at) << 32 | u32(data, tfhd, at + 4)) - origin
        at += 8
    at += 4 if flags & 0x2 else 0
    values = list(defaults.get(track_id, (0, 0, 0)))
    for n, bit in enumerate((0x8, 0x10, 0x20)):
        if flags & bit:
            values[n] = u32(data, tfhd, at)
            at += 4
    time = 0
    tfdt = find(data, b"tfdt", start=traf.payload, end=traf.end)
    if tfdt is not None:
        time = u32(data, tfdt, 4)
        if u32(data, tfdt, 0) >> 24:
            time = time << 32 | u32(data, tfdt, 8)
    samples: list[Mp4Sample] = []
    position: int | None = None
    for child in boxes(data, traf.payload, traf.end):
        if child.kind == b"trun":
            position = _trun(data, child, base, base if position is None else position, values, samples, budget)
    return TrackFragment(sequence, track_id, time, samples)


def _trun(
    data: bytes, trun: Box, base: int, position: int, values: list[int], samples: list[Mp4Sample], budget: _Budget
) -> int:
    """Appends the samples of one track run that start at `position`. Returns the position after them."""
    head, count = u32(data, trun, 0), u32(data, trun, 4)
    at = 8
    first_flags: int | None = None
    if head & 0x1:
        offset = u32(data, trun, at)
        position = base + offset - (offset >> 31 << 32)
        at += 4
    if head & 0x4:
        first_flags = u32(data, trun, at)
        at += 4
    present = [bool(head & bit) for bit in (0x100, 0x200, 0x400, 0x800)]
    stride = 4 * sum(present)
    budget.samples -= count
    if count * stride > trun.end - trun.payload - at or budget.samples < 0:
        raise InvalidData(f"trun of {count} samples in {trun.end - trun.payload} bytes")
    for n in range(count):
        duration, size, flags = values
        cts = 0
        if present[0]:
            duration = u32(data, trun, at)
            at += 4
        if present[1]:
            size = u32(data, trun, at)
            at += 4
        if present[2]:
            flags = u32(data, trun, at)
            at += 4
        elif n == 0 and first_flags is not None:
            flags = first_flags
        if present[3]:
            cts = u32(data, trun, at)
            cts -= cts >> 31 << 32 if head >> 24 else 0
            at += 4
        budget.bytes -= size
        if not 0 <= position <= position + size <= len(data) or budget.bytes < 0:
            raise InvalidData(f"sample {n} of {size} bytes at {position} of {len(data)}")
        samples.append(Mp4Sample(duration, cts, not flags & _NON_SYNC, data[position : position + size]))
        position += size
    return position


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
