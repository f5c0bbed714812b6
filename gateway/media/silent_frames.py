"""Makes silent frames of an audio track, without an encoder."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from gateway.lib.bit_reader import BitReader
from gateway.media import aac, ac3, flac, mp3, opus
from gateway.media.crc import remainder
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
LIKE_OTHERS: Final = frozenset((Codec.MP3, Codec.AC3, Codec.EAC3))  # their silent frames have values of the track's own
_EXPONENTS: Final = "1111" + 6 * "0111110"  # D45: the largest one, and differences of 0 in two bits each
_CRC_16: Final = 0x1_8005  # generator polynomial, RFC 9639 §9.3; ETSI TS 102 366 §6.1.8


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
            case Codec.AC3 | Codec.EAC3:
                return _dolby_frame(frame)
            case Codec.FLAC:
                return _flac_frame(flac.parse_config(track.config))
    except InvalidData:
        pass  # a configuration that decoders refuse too
    return None


def can_be_silent(track: MediaTrack) -> bool:
    """Returns whether `silent_frame` knows one, at least with a frame of the track."""
    return track.codec in LIKE_OTHERS or silent_frame(track) is not None


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


def _dolby_frame(frame: bytes) -> SilentFrame | None:
    """Returns syncframes without mantissas, with the parameters of those of another frame.

    ETSI TS 102 366 §6.2.4: with all SNR offsets 0, the bit allocation of all channels is 0.
    """
    sound, end = ac3.parse_frame(frame), ac3.frame_bytes(frame, 0)
    silent: list[bytes] = []
    at = 0
    while at < end:
        head = frame[at : at + 16]
        size = ac3.syncframe_bytes(head)
        made = (_eac3_syncframe if head[5] >> 3 > 10 else _ac3_syncframe)(head, size)
        if len(made) != size:
            return None
        silent.append(made)
        at += size
    return SilentFrame(b"".join(silent), Fraction(sound.samples, sound.rate))


def _ac3_syncframe(head: bytes, size: int) -> bytes:
    """Writes a syncframe of AC-3 (§4.3)."""
    mode = head[6] >> 5
    mix = 2 * ((mode & 1 and mode != 1) + bool(mode & 4) + (mode == 2))  # bits of the mix levels
    digits = f"{int.from_bytes(head[4:9]):040b}"
    lfe = int(digits[19 + mix])
    channels = ac3.parse_frame(head).channels - lfe
    bits = digits[: 25 + mix] + "000" + ("11111000" if mode == 0 else "") + "00000"
    for is_first in (True, False, False, False, False, False):
        bits += "00" * channels + "0" + ("0" if mode == 0 else "")  # no block switch, dither or dynamic range
        if not is_first:  # it has everything of the first one
            bits += "0" + ("0" if mode == 2 else "") + "00" * channels + "0" * lfe + "0000"
            continue
        bits += "10" + ("10000" if mode == 2 else "") + "11" * channels + "1" * lfe  # neither coupling nor rematrixing
        bits += "000000" * channels + (_EXPONENTS + "00") * channels + _EXPONENTS[:18] * lfe
        bits += "1" + "0" * 11 + "1" + "0" * (6 + 7 * (channels + lfe)) + "00"  # bit allocation
    body = _packed(bits).ljust(size - 6, b"\0")
    half = (size // 4 + size // 16) * 2 - 4  # §6.1.8: the first checksum is of 5/8 of the syncframe
    first = _divided(remainder(body[:half], _CRC_16), 8 * half + 16)
    last = remainder(body[half:], _CRC_16)
    return b"\x0b\x77" + first.to_bytes(2, "big") + body + last.to_bytes(2, "big")


def _eac3_syncframe(head: bytes, size: int) -> bytes:
    """Writes a syncframe of E-AC-3 (§E.1.2), without mixing and informational metadata and without extensions."""
    sound, mode, lfe = ac3.parse_frame(head), head[4] >> 1 & 7, head[4] & 1
    channels, blocks = sound.channels - lfe, sound.samples // 256
    is_dependent = head[2] >> 6 == ac3.DEPENDENT
    # Other types become independent ones: what was converted from AC-3 has fields of its own.
    bits = ("01" if is_dependent else "00") + f"{int.from_bytes(head[2:8]):048b}"[2:34] + "0"
    bits += "111110" if mode == 0 else ""
    bits += _channel_map(head, mode) if is_dependent else ""
    bits += "00" + ("0" if blocks < 6 and not is_dependent else "") + "0"
    # audfrm: exponents by block, SNR offsets by frame, and dither flags, because dither is noise
    bits += ("10" if blocks == 6 else "") + "0000100000" + ("0" * blocks if mode > 1 else "")
    bits += "11" * channels + "00" * channels * (blocks - 1) + ("1" + "0" * (blocks - 1)) * lfe
    if not is_dependent:
        bits += "00000" * channels if blocks == 6 else "0"  # exponents for a converter to AC-3
    bits += "0" * 10 + ("0" if blocks > 1 else "")
    for block in range(blocks):
        bits += "0" * channels + ("00" if mode == 0 else "0") + "0"  # no dither, dynamic range or spectral extension
        if mode == 2:
            bits += "0" if block else "0000"  # no rematrixing
        if not block:
            bits += "000000" * channels + (_EXPONENTS + "00") * channels + _EXPONENTS[:18] * lfe
        bits += "" if is_dependent else "0"
    body = _packed(bits + "00").ljust(size - 4, b"\0")
    return b"\x0b\x77" + body + remainder(body, _CRC_16).to_bytes(2, "big")


def _channel_map(head: bytes, mode: int) -> str:
    """Returns the places of the channels of a dependent substream, as it says them itself."""
    bits = BitReader(head, what="E-AC-3 syncframe", error=InvalidData)
    bits.skip(45)
    for _ in range(2 if mode == 0 else 1):
        bits.skip(5)  # dialnorm
        if bits.flag():
            bits.skip(8)  # compr
    return f"1{bits.u(16):016b}" if bits.flag() else "0"


def _flac_frame(info: flac.StreamInfo) -> SilentFrame | None:
    """Returns a frame of constant subframes (RFC 9639 §9). Rate and sample size are those of STREAMINFO."""
    least, samples = (int.from_bytes(info.blocks[at : at + 2]) for at in (4, 6))
    if samples < 16:
        return None
    depth = (int.from_bytes(info.blocks[14:22]) >> 36 & 31) + 1
    head = bytes((0xFF, 0xF8 | (least != samples), 0x70, info.channels - 1 << 4, 0)) + (samples - 1).to_bytes(2, "big")
    data = head + bytes((remainder(head, flac.CRC_8),)) + _packed("0" * (8 + depth) * info.channels)
    return SilentFrame(data + remainder(data, _CRC_16).to_bytes(2, "big"), Fraction(samples, info.rate))


def _packed(bits: str) -> bytes:
    """Returns digits as bytes. The last one is filled with zeros."""
    size = (len(bits) + 7) // 8
    return int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")


def _divided(value: int, count: int) -> int:
    """Returns a remainder of `_CRC_16`, divided `count` times by x."""
    for _ in range(count):
        value = (value ^ _CRC_16 if value & 1 else value) >> 1
    return value
