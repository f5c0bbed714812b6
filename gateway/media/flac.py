"""FLAC: STREAMINFO and the block size of a frame."""

from dataclasses import dataclass

from gateway.media.errors import InvalidData

MAX_CONFIG = 1 << 16


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
    # The coded number (encoded like UTF-8, §9.1.5) is between the fixed header and the block size.
    first = frame[4]
    size = 1
    while size < 8 and first & (0x80 >> size) and first & 0x80:
        size += 1
    at = 4 + size
    wide = code == 7  # the block size has two bytes; code 6: one byte
    if len(frame) < at + 1 + wide:
        raise InvalidData("FLAC frame header is cut short")
    return int.from_bytes(frame[at : at + 1 + wide], "big") + 1
