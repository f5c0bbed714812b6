"""Reads fragmented MP4 of the gateway: the tracks of an init segment, and media bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.formats.mp4.reader import Box, TrackFragment, boxes, find, need, u32
from gateway.media.errors import InvalidData

_VISUAL, _SOUND = 78, 28  # bytes of a sample entry before its boxes


@dataclass(frozen=True, slots=True)
class InitTrack:
    """One trak box.

    entry: type of the sample entry, for example "avc1". config: payload of the box that describes the codec.
    """

    track_id: int
    timescale: int
    handler: bytes
    entry: bytes
    width: int
    height: int
    channels: int
    sample_rate: int
    config_box: bytes
    config: bytes


def parse_init(data: bytes) -> list[InitTrack]:
    """Returns the tracks of an init segment. Raises InvalidData."""
    moov = find(data, b"moov")
    if moov is None:
        raise InvalidData("no moov")
    return [_track(data, trak) for trak in boxes(data, moov.payload, moov.end) if trak.kind == b"trak"]


def mdat(data: bytes) -> bytes:
    """Returns the media bytes of a segment or part: the payloads of its mdat boxes. Raises InvalidData."""
    return b"".join([data[b.payload : b.end] for b in boxes(data) if b.kind == b"mdat"])


def shown_times(fragments: Iterable[TrackFragment]) -> list[int]:
    """Returns the presentation times of fragments in ticks, in order, counted from the first one."""
    times: list[int] = []
    for fragment in fragments:
        at = fragment.base_decode_time
        for sample in fragment.samples:
            times.append(at + sample.cts)
            at += sample.duration
    return [time - min(times) for time in sorted(times)]


def _track(data: bytes, trak: Box) -> InitTrack:
    tkhd = need(data, trak, b"tkhd")
    mdhd = need(data, trak, b"mdia", b"mdhd")
    hdlr = need(data, trak, b"mdia", b"hdlr")
    stsd = need(data, trak, b"mdia", b"minf", b"stbl", b"stsd")
    # Version 1 has 64-bit creation and modification times in front (§8.3.2, §8.4.2).
    track_id = u32(data, tkhd, 20 if data[tkhd.payload : tkhd.payload + 1] == b"\x01" else 12)
    timescale = u32(data, mdhd, 20 if data[mdhd.payload : mdhd.payload + 1] == b"\x01" else 12)
    handler = data[hdlr.payload + 8 : min(hdlr.payload + 12, hdlr.end)]
    entry = next(boxes(data, min(stsd.payload + 8, stsd.end), stsd.end), None)
    if entry is None:
        raise InvalidData("stsd without an entry")
    video = handler == b"vide"
    children = entry.payload + (_VISUAL if video else _SOUND)
    if children > entry.end:
        raise InvalidData(f"sample entry {entry.kind!r} is cut short")
    width = height = channels = rate = 0
    if video:
        width, height = struct.unpack_from(">HH", data, entry.payload + 24)
    elif handler == b"soun":
        channels = int.from_bytes(data[entry.payload + 16 : entry.payload + 18], "big")
        rate = int.from_bytes(data[entry.payload + 24 : entry.payload + 26], "big")
    inner = next(boxes(data, children, entry.end), None)
    return InitTrack(
        track_id, timescale, handler, entry.kind, width, height, channels, rate,
        inner.kind if inner else b"", data[inner.payload : inner.end] if inner else b"",
    )  # fmt: skip
