"""Finds digital silence in coded sound, without decoding it."""

from contextlib import suppress

from gateway.lib.bit_reader import BitReader
from gateway.media import aac, mp3
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, MediaTrack

_MAX_ELEMENTS = 64  # of one AAC frame; 48 channels and some fillers are legal
_SHORT_WINDOWS = 2  # ISO/IEC 14496-3 Table 4.129: EIGHT_SHORT_SEQUENCE
# ISO/IEC 14496-3 Table 4.85: the elements of a raw_data_block.
_SCE, _CPE, _LFE, _DSE, _FIL, _END = 0, 1, 3, 4, 6, 7


def is_silent(track: MediaTrack, frame: bytes) -> bool:
    """Whether every sample of a coded frame is certainly 0. False if that is unknown, also for damaged frames.

    Known: AAC (LC, Main and HE), MP3, and Opus in CELT mode. It is unknown for other codecs.
    """
    with suppress(InvalidData):
        match track.codec:
            case Codec.AAC:
                return _is_silent_aac(track.config, frame)
            case Codec.OPUS:
                return _is_silent_opus(frame)
            case Codec.MP3:
                return _is_silent_mp3(frame)
    return False


# ---- AAC, ISO/IEC 14496-3 §4.4.2 ----


def _is_silent_aac(config: bytes, frame: bytes) -> bool:
    if aac.parse_asc(config).object_type not in (1, 2):
        return False
    bits = BitReader(frame, what="AAC frame", error=InvalidData)
    channels = 0
    for _ in range(_MAX_ELEMENTS):
        element = bits.u(3)
        if element == _END:
            return channels > 0
        if element == _FIL:
            count = bits.u(4)
            bits.skip(8 * (count + bits.u(8) - 1 if count == 15 else count))
            continue
        bits.skip(4)  # element_instance_tag
        if element in (_SCE, _LFE):
            channels += 1
            if not _is_silent_channel(bits, None):
                return False
        elif element == _CPE:
            channels += 2
            if not _is_silent_pair(bits):
                return False
        elif element == _DSE:
            align, count = bits.flag(), bits.u(8)
            count += bits.u(8) if count == 255 else 0
            if align:
                bits.align()
            bits.skip(8 * count)
        else:
            return False  # a coupling channel or a program configuration
    return False


def _is_silent_pair(bits: BitReader) -> bool:
    groups = None
    if bits.flag():  # common_window
        groups = _Groups(bits)
        if bits.u(2) == 1:  # ms_mask_present
            bits.skip(groups.count * groups.bands)
    return _is_silent_channel(bits, groups) and _is_silent_channel(bits, groups)


class _Groups:
    """Reads the part of `ics_info` that `section_data` needs.

    count: window groups. bands: scale factor bands of each group.
    """

    __slots__ = ("bands", "count", "is_short")

    def __init__(self, bits: BitReader) -> None:
        bits.skip(1)
        self.is_short = bits.u(2) == _SHORT_WINDOWS
        bits.skip(1)
        if self.is_short:
            self.bands = bits.u(4)
            self.count = 8 - bits.u(7).bit_count()  # a set bit: the window belongs to the previous group
        else:
            self.bands, self.count = bits.u(6), 1
            if bits.flag():
                raise InvalidData("AAC prediction is not read")


def _is_silent_channel(bits: BitReader, groups: _Groups | None) -> bool:
    """Whether an `individual_channel_stream` is silent. Reads it up to its first sound."""
    bits.skip(8)  # global_gain
    if groups is None:
        groups = _Groups(bits)
    width = 3 if groups.is_short else 5
    escape = (1 << width) - 1
    for _ in range(groups.count):
        band = 0
        while band < groups.bands:
            if bits.u(4):  # sect_cb; 0 is ZERO_HCB: the spectrum of these bands is 0 and not sent
                return False
            start, length = band, escape
            while length == escape and band <= groups.bands:
                length = bits.u(width)
                band += length
            if not start < band <= groups.bands:
                raise InvalidData("an AAC section without bands, or beyond them")
    # A silent channel has no pulses, no noise shaping and no gain control, and then no spectral data.
    return bits.u(3) == 0


# ---- Opus, RFC 6716 ----


def _is_silent_opus(packet: bytes) -> bool:
    if len(packet) < 3 or packet[0] & 3 or packet[0] >> 3 < 16:  # one frame, in CELT mode
        return False
    # §4.3: the first symbol, silence, has the probability 1 / 32,768. It is coded as 15 set bits.
    return packet[1] == 0xFF and packet[2] >= 0xFE


# ---- MP3, ISO/IEC 11172-3 §2.4.1.7 and 13818-3 §2.4.1.7 ----


def _is_silent_mp3(frame: bytes) -> bool:
    header = mp3.parse_header(frame)
    bits = BitReader(frame[:48], what="MP3 frame", error=InvalidData)
    bits.skip(32 if frame[1] & 1 else 48)  # protection_bit 0: a checksum follows
    two_granules, channels = header.samples == 1152, header.channels
    if two_granules:
        bits.skip(9 + (5 if channels == 1 else 3) + 4 * channels)
    else:
        bits.skip(8 + (1 if channels == 1 else 2))
    for _ in range(channels * (2 if two_granules else 1)):
        if bits.u(12):  # part2_3_length: bits of scale factors and spectrum
            return False
        bits.skip(47 if two_granules else 51)
    return True
