"""FLAC: STREAMINFO and the headers of frames."""

from dataclasses import dataclass
from typing import Final

from gateway.media.crc import remainder
from gateway.media.errors import InvalidData

MAX_CONFIG = 1 << 16
CRC_8: Final = 0x107  # generator polynomial of a frame's header, RFC 9639 §9.1.8
_WIDE: Final = {6: 1, 7: 2}  # bytes of the block size behind the coded number, by its code, §9.1.6
_RATES: Final = {12: 1, 13: 2, 14: 2}  # the same for the rate, §9.1.7


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """The STREAMINFO block (RFC 9639 §8.2).

    rate: Hz.
    blocks: the metadata blocks as in the ISO-BMFF box dfLa, with the last-block flag set.
    """

    rate: int
    channels: int
    blocks: bytes


def parse_config(config: bytes) -> StreamInfo:
    """Reads metadata blocks, with or without "fLaC" before them, or only the 34 bytes of a STREAMINFO.

    Raises InvalidData.
    """
    body = config[4:] if config.startswith(b"fLaC") else config
    if len(body) == 34:
        body = b"\x80\x00\x00\x22" + body
    if not 38 <= len(body) <= MAX_CONFIG or body[0] & 0x7F or body[1:4] != b"\x00\x00\x22":
        raise InvalidData(f"FLAC configuration of {len(config)} bytes without STREAMINFO")
    packed = int.from_bytes(body[14:22], "big")
    rate, channels = packed >> 44, (packed >> 41 & 7) + 1
    if not rate:
        raise InvalidData("STREAMINFO: 0 Hz")
    # Only STREAMINFO remains: decoders do not need pictures and comments.
    return StreamInfo(rate, channels, b"\x80" + body[1:38])


def frame_samples(frame: bytes) -> int:
    """Returns the samples of each channel in one frame (RFC 9639 §9.1.1). Raises InvalidData."""
    if len(frame) < 5 or frame[0] != 0xFF or frame[1] & 0xFE != 0xF8:
        raise InvalidData(f"not a FLAC frame: {frame[:4].hex()}")
    code = frame[2] >> 4
    if code == 1:
        return 192
    if 2 <= code <= 5:
        return 144 << code
    if code >= 8:
        return 1 << code
    if code == 0:
        raise InvalidData("FLAC frame with the reserved block size")
    at = _behind_number(frame)
    end = at + _WIDE[code]
    if len(frame) < end:
        raise InvalidData("FLAC frame header is cut short")
    return int.from_bytes(frame[at:end], "big") + 1


def begins_frame(data: bytes) -> bool:
    """Whether a frame's header begins the data, by its checksum."""
    if len(data) < 6 or data[0] != 0xFF or data[1] & 0xFE != 0xF8:
        return False
    end = _behind_number(data) + _WIDE.get(data[2] >> 4, 0) + _RATES.get(data[2] & 15, 0)
    return len(data) > end and remainder(data[:end], CRC_8) == data[end]


def _behind_number(frame: bytes) -> int:
    """Returns the position behind the coded number, which is encoded like UTF-8 (§9.1.5)."""
    first, size = frame[4], 1
    while size < 8 and first & (0x80 >> size) and first & 0x80:
        size += 1
    return 4 + size
