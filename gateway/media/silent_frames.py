"""Makes silent frames of an audio track, without an encoder."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from gateway.media import aac, mp3, opus
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


@dataclass(frozen=True, slots=True)
class SilentFrame:
    """A frame of digital silence, which may be repeated. seconds: its exact duration."""

    payload: bytes
    seconds: Fraction


def silent_frame(track: MediaTrack, frame: bytes = b"") -> SilentFrame | None:
    """Returns a silent frame of this track; None if none is known for its codec and configuration.

    Known: AAC (also HE-AAC, whose core is silent) with a channel configuration, Opus with one or two channels, and MP3
    like `frame`, one of the track's.
    """
    try:
        match track.codec:
            case Codec.AAC:
                return _aac_frame(aac.parse_asc(track.config))
            case Codec.OPUS:
                return _opus_frame(opus.parse_head(track.config) if track.config else None)
            case Codec.MP3:
                return _mp3_frame(frame)
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
    bits += f"{_END:03b}"
    size = (len(bits) + 7) // 8
    payload = int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")
    return SilentFrame(payload, Fraction(asc.core_samples, asc.core_rate))


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
