"""Opus: the identification header, its ISO-BMFF form, and the duration of a packet."""

import struct
from dataclasses import dataclass, replace

from gateway.media.errors import InvalidData

RATE = 48_000
MAX_CONFIG = 1 << 10

# RFC 6716 §3.1, table 2: frame samples at 48 kHz of each configuration number.
_FRAME = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
_MAX_SAMPLES = 5760  # RFC 6716 §3.4 [R5]: a packet holds at most 120 ms


@dataclass(frozen=True, slots=True)
class OpusHead:
    """The identification header (RFC 7845 §5.1).

    pre_skip: samples at 48 kHz that the decoder drops at the start.
    input_rate: Hz before encoding.
    gain: dB in Q7.8.
    mapping: stream count, coupled count and one byte for each channel; empty for mapping family 0.
    """

    channels: int
    pre_skip: int
    input_rate: int
    gain: int
    family: int
    mapping: bytes


def parse_head(config: bytes) -> OpusHead:
    """Reads an OpusHead with or without its magic, or the payload of a dOps box (which has version 0).

    Raises InvalidData.
    """
    body = config[8:] if config.startswith(b"OpusHead") else config
    if not 11 <= len(body) <= MAX_CONFIG:
        raise InvalidData(f"OpusHead of {len(config)} bytes")
    version, channels = body[0], body[1]
    if version > 15:
        raise InvalidData(f"OpusHead version {version}")
    order = ">" if version == 0 else "<"
    pre_skip, rate, gain, family = struct.unpack_from(order + "HIhB", body, 2)
    mapping = b""
    if family:
        mapping = body[11 : 13 + channels]
        if len(mapping) != 2 + channels:
            raise InvalidData("OpusHead: the channel mapping is cut short")
    if not channels or (family == 0 and channels > 2):
        raise InvalidData(f"OpusHead: {channels} channels in mapping family {family}")
    return OpusHead(channels, pre_skip, rate, gain, family, mapping)


def head_bytes(head: OpusHead) -> bytes:
    """Returns the identification header with its magic, as Ogg, Matroska and Enhanced RTMP carry it."""
    fixed_part = struct.pack("<BBHIhB", 1, head.channels, head.pre_skip, head.input_rate, head.gain, head.family)
    return b"OpusHead" + fixed_part + head.mapping


def without_pre_skip(config: bytes) -> bytes:
    """Returns the identification header without pre-skip, for containers in which times position each sample.

    With a pre-skip, a decoder drops the first samples and shifts all others. Chromium's MP4 has a pre-skip of 80 ms.
    Raises InvalidData.
    """
    return head_bytes(replace(parse_head(config), pre_skip=0))


def dops(head: OpusHead) -> bytes:
    """Returns the payload of the dOps box ("Encapsulation of Opus in ISO Base Media File Format" §4.3.2)."""
    fixed_part = struct.pack(">BBHIhB", 0, head.channels, head.pre_skip, head.input_rate, head.gain, head.family)
    return fixed_part + head.mapping


def packet_samples(packet: bytes) -> int:
    """Returns the samples at 48 kHz in one packet (RFC 6716 §3.1, §3.2).

    Raises InvalidData if it contains no samples or more than 120 ms.
    """
    if not packet:
        raise InvalidData("Opus packet of 0 bytes")
    toc = packet[0]
    code = toc & 3
    if code == 3:
        if len(packet) < 2:
            raise InvalidData("Opus packet without its frame count")
        frames = packet[1] & 0x3F
    else:
        frames = 2 if code else 1
    samples = _FRAME[toc >> 3] * frames
    if not 0 < samples <= _MAX_SAMPLES:
        raise InvalidData(f"Opus packet of {samples} samples")
    return samples


def joined(first: bytes, second: bytes) -> bytes | None:
    """Returns a packet with the frames of two packets; None unless each has one frame, of the same configuration.

    RFC 6716 §3.2.3 (two frames of equal size) and §3.2.4 (two frames of different sizes).
    """
    if not first or not second or first[0] != second[0] or first[0] & 3:
        return None
    size = len(first) - 1
    if size == len(second) - 1:
        return bytes((first[0] | 1,)) + first[1:] + second[1:]
    # RFC 6716 §3.2.1: a size from 252 on takes two bytes: first + 4 * second.
    coded = bytes((size,)) if size < 252 else bytes((252 + (size & 3), (size - 252) >> 2))
    return bytes((first[0] | 2,)) + coded + first[1:] + second[1:]
