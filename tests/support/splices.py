"""SCTE-35 sections and cues for tests, written from ANSI/SCTE 35 and independent of the gateway's code."""

from __future__ import annotations

import zlib

from gateway.media.timed_data import AdCue, CueType
from gateway.media.track import TimedData


def mpeg_crc(data: bytes) -> int:
    """The CRC of a section, bit by bit (ISO/IEC 13818-1 Annex A)."""
    crc = 0xFFFF_FFFF
    for byte in data:
        for bit in range(7, -1, -1):
            top = crc >> 31 ^ byte >> bit & 1
            crc = crc << 1 & 0xFFFF_FFFF ^ (0x04C1_1DB7 if top else 0)
    return crc


def section(kind: int, command: bytes, *, adjustment: int = 0, encrypted: bool = False) -> bytes:
    """A `splice_info_section` (§9.6) with one command and no descriptors."""
    flags = (0x80 if encrypted else 0) << 32 | adjustment
    body = b"\0" + flags.to_bytes(5, "big") + b"\0"
    body += (0xFFF << 12 | len(command)).to_bytes(3, "big") + bytes((kind,)) + command + b"\0\0"
    head = b"\xfc" + (0x3000 | len(body) + 4).to_bytes(2, "big") + body
    return head + mpeg_crc(head).to_bytes(4, "big")


def time_signal(pts: int, **options: int) -> bytes:
    return section(6, _time(pts), **options)


def splice_insert(pts: int | None, *, event: int = 7, out: bool = True, component: bool = False, **more: int) -> bytes:
    """pts: None: immediate. component: whether the time is that of a component."""
    flags = (0x80 if out else 0) | (0 if component else 0x40) | (0x10 if pts is None else 0) | 0x0F
    when = b"" if pts is None else _time(pts)
    parts = b"\x01\x05" + when if component else when
    return section(5, event.to_bytes(4, "big") + bytes((0x7F, flags)) + parts + b"\0\1\0\0", **more)


def _time(pts: int) -> bytes:
    return (0xFE << 32 | pts).to_bytes(5, "big")


def pts_of(data: bytes) -> int:
    """The adjusted time of a section that `time_signal` or `splice_insert` made, not of components."""
    at = 14 if data[13] == 6 else 20
    mask = (1 << 33) - 1
    return (int.from_bytes(data[at : at + 5], "big") & mask) + (int.from_bytes(data[4:9], "big") & mask) & mask


def cue(
    kind: CueType, at: int, *, id: str = "b1", seconds: float | None = None, dts: int | None = None, data: bytes = b""
) -> TimedData:
    """Script data of a cue at `at`, which arrives at `dts`; milliseconds."""
    content = data or splice_insert(zlib.crc32(id.encode()), out=kind is CueType.OUT)
    return TimedData(at if dts is None else dts, AdCue(kind, id, at, seconds, content))
