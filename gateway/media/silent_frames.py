"""Makes silent frames of an audio track, without an encoder."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from gateway.media import aac, ac3, flac, mp3, opus
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, MediaTrack

# ISO/IEC 14496-3 Table 4.85: the elements of a raw_data_block.
_SCE, _CPE, _LFE, _END = 0, 1, 3, 7
# Table 1.19: the elements of each channel configuration.
_LAYOUTS: Final = {
    1: (_SCE,), 2: (_CPE,), 3: (_SCE, _CPE), 4: (_SCE, _CPE, _SCE), 5: (_SCE, _CPE, _CPE),
    6: (_SCE, _CPE, _CPE, _LFE), 7: (_SCE, _CPE, _CPE, _CPE, _LFE),
}  # fmt: skip
_GENERAL_AUDIO: Final = frozenset((1, 2, 4))  # Main, LC and LTP have the same silent frames
_ICS_INFO: Final = "0" * 11  # one long window, no scale factor bands, no prediction
_CHANNEL: Final = "0" * 8 + _ICS_INFO + "000"  # global_gain, ics_info, no pulses, no noise shaping, no gain control
_PAIR: Final = "1" + _ICS_INFO + "00" + 2 * ("0" * 8 + "000")  # common_window, ics_info, no mid/side
_OPUS_SAMPLES: Final = 960
LIKE_OTHERS: Final = frozenset((Codec.MP3, Codec.AC3))  # codecs whose silent frames have values of the track's own
# Generator polynomials of checksums.
_CRC_8: Final = 0x107  # RFC 9639 §9.1.8
_CRC_16: Final = 0x1_8005  # RFC 9639 §9.3; ETSI TS 102 366 §6.1.8


@dataclass(frozen=True, slots=True)
class SilentFrame:
    """A frame of digital silence, which may be repeated. seconds: its exact duration."""

    payload: bytes
    seconds: Fraction


def silent_frame(track: MediaTrack, frame: bytes = b"") -> SilentFrame | None:
    """Returns a silent frame of this track; None if none is known for its codec and configuration.

    Known: AAC (also HE-AAC, whose core is silent) with a channel configuration, Opus of one or two channels, FLAC, and
    those of LIKE_OTHERS like `frame`, one of the track's.
    """
    try:
        match track.codec:
            case Codec.AAC:
                return _aac_frame(aac.parse_asc(track.config))
            case Codec.OPUS:
                return _opus_frame(opus.parse_head(track.config) if track.config else None)
            case Codec.MP3:
                return _mp3_frame(frame)
            case Codec.AC3:
                return _ac3_frame(frame)
            case Codec.FLAC:
                return _flac_frame(flac.parse_config(track.config))
    except InvalidData:
        pass  # a configuration that decoders refuse too
    return None


def _aac_frame(asc: aac.Asc) -> SilentFrame | None:
    """Writes a `raw_data_block` without spectrum (ISO/IEC 14496-3 §4.4.2)."""
    layout = _LAYOUTS.get(asc.channel_config)
    if layout is None or asc.object_type not in _GENERAL_AUDIO:
        return None
    bits = ""
    tags = dict.fromkeys((_SCE, _CPE, _LFE), 0)
    for element in layout:
        bits += f"{element:03b}{tags[element]:04b}" + (_PAIR if element == _CPE else _CHANNEL)
        tags[element] += 1
    return SilentFrame(_packed(bits + f"{_END:03b}"), Fraction(asc.core_samples, asc.core_rate))


def _opus_frame(head: opus.OpusHead | None) -> SilentFrame | None:
    """Returns a frame of 20 ms in CELT mode with the symbol `silence` (RFC 6716 §3.1, §4.3)."""
    if head is not None and head.family:
        return None
    stereo = head is None or head.channels == 2
    return SilentFrame(bytes((0xFC if stereo else 0xF8, 0xFF, 0xFE)), Fraction(_OPUS_SAMPLES, opus.RATE))


def _mp3_frame(frame: bytes) -> SilentFrame:
    """Returns a frame whose granules have no bits (ISO/IEC 11172-3 §2.4.1.7), with the header of another one."""
    header = mp3.parse_header(frame)
    head = bytes((0xFF, frame[1] | 1, frame[2] & ~2, frame[3]))  # without checksum and padding
    return SilentFrame(head + bytes(mp3.frame_bytes(head) - len(head)), Fraction(header.samples, header.rate))


def _ac3_frame(frame: bytes) -> SilentFrame | None:
    """Returns a syncframe without mantissas (ETSI TS 102 366 §4.3), with the parameters of another one.

    §6.2.4: with all SNR offsets 0, the bit allocation of all channels is 0.
    """
    sound, size = ac3.parse_frame(frame), ac3.frame_bytes(frame, 0)
    if frame[5] >> 3 > 10:
        return None  # E-AC-3
    mode = frame[6] >> 5
    mix = 2 * ((mode & 1 and mode != 1) + bool(mode & 4) + (mode == 2))  # bits of the mix levels
    head = f"{int.from_bytes(frame[4:9]):040b}"
    lfe = int(head[19 + mix])
    channels = sound.channels - lfe
    exponents = "1111" + 6 * "0111110"  # D45: the largest absolute one, and five differences of 0 in two bits each
    bits = head[: 25 + mix] + "000" + ("11111000" if mode == 0 else "") + "00000"
    for is_first in (True, False, False, False, False, False):
        bits += "00" * channels + "0" + ("0" if mode == 0 else "")  # no block switch, dither or dynamic range
        if not is_first:  # it has everything of the first one
            bits += "0" + ("0" if mode == 2 else "") + "00" * channels + "0" * lfe + "0000"
            continue
        bits += "10" + ("10000" if mode == 2 else "") + "11" * channels + "1" * lfe  # neither coupling nor rematrixing
        bits += "000000" * channels + (exponents + "00") * channels + exponents[:18] * lfe
        bits += "1" + "0" * 11 + "1" + "0" * (6 + 7 * (channels + lfe)) + "00"  # bit allocation
    body = _packed(bits).ljust(size - 6, b"\0")
    half = (size // 4 + size // 16) * 2 - 4  # §6.1.8: the first checksum is of 5/8 of the syncframe
    first = _divided(_remainder(body[:half], _CRC_16, 0), 8 * half)
    last = _remainder(body[half:], _CRC_16)
    payload = b"\x0b\x77" + first.to_bytes(2, "big") + body + last.to_bytes(2, "big")
    return SilentFrame(payload, Fraction(sound.samples, sound.rate))


def _flac_frame(info: flac.StreamInfo) -> SilentFrame | None:
    """Returns a frame of constant subframes (RFC 9639 §9). Rate and sample size are those of STREAMINFO."""
    least, samples = (int.from_bytes(info.blocks[at : at + 2]) for at in (4, 6))
    if samples < 16:
        return None
    depth = (int.from_bytes(info.blocks[14:22]) >> 36 & 31) + 1
    head = bytes((0xFF, 0xF8 | (least != samples), 0x70, info.channels - 1 << 4, 0)) + (samples - 1).to_bytes(2, "big")
    data = head + bytes((_remainder(head, _CRC_8),)) + _packed("0" * (8 + depth) * info.channels)
    return SilentFrame(data + _remainder(data, _CRC_16).to_bytes(2, "big"), Fraction(samples, info.rate))


def _packed(bits: str) -> bytes:
    """Returns digits as bytes. The last one is filled with zeros."""
    size = (len(bits) + 7) // 8
    return int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")


def _remainder(data: bytes, polynomial: int, shift: int | None = None) -> int:
    """Returns the checksum of data. shift: zeros after the data; None: as many as the checksum has bits."""
    width = polynomial.bit_length() - 1
    value = int.from_bytes(data) << (width if shift is None else shift)
    for at in range(value.bit_length() - 1, width - 1, -1):
        if value >> at & 1:
            value ^= polynomial << at - width
    return value


def _divided(value: int, count: int) -> int:
    """Returns a remainder of `_CRC_16`, divided `count` times by x."""
    for _ in range(count):
        value = (value ^ _CRC_16 if value & 1 else value) >> 1
    return value
