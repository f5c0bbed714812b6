"""AAC: the AudioSpecificConfig and ADTS headers."""

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from gateway.lib.bit_reader import BitReader
from gateway.media.errors import InvalidData, UnsupportedCodec

# ISO/IEC 14496-3 Table 1.18
RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)

# ISO/IEC 14496-3 Table 1.19; 0: a program_config_element contains the channels.
_CHANNELS = (0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 24, 8, 0)

MAX_CONFIG = 1 << 12  # bytes
_MAX_FRAMES = 64  # of one message: more than a second of sound

_EXPLICIT_RATE = 15  # samplingFrequencyIndex before a rate in 24 bits

# Audio object types.
_LC, _SBR, _PS, _LD, _ELD = 2, 5, 29, 23, 39
# Object types whose configuration is a GASpecificConfig.
_GENERAL_AUDIO = frozenset((1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, _LD))
# ADTS has two bits for the object type: Main, LC, SSR, LTP (ISO/IEC 14496-3 Table 1.A.8).
_ADTS_TYPES = frozenset((1, 2, 3, 4))


@dataclass(frozen=True, slots=True)
class Asc:
    """AudioSpecificConfig, ISO/IEC 14496-3 §1.6.2.1.

    object_type: of the core coder (2 is AAC LC).
    core_rate, rate: Hz of the core coder, and Hz after SBR.
    channel_config: the written value; 0 if a `program_config_element` contains the channels.
    core_samples: samples of the core coder in one frame.
    sbr, ps: whether they are signalled explicitly, at the start or by the sync extension.
    """

    object_type: int
    core_rate: int
    rate: int
    channels: int
    channel_config: int
    core_samples: int
    sbr: bool
    ps: bool

    @property
    def samples_per_frame(self) -> int:
        """The samples of one frame at `rate`."""
        return self.core_samples * self.rate // self.core_rate


@lru_cache(maxsize=64)
def parse_asc(config: bytes) -> Asc:
    """Reads the AudioSpecificConfig `config`. Raises InvalidData."""
    if not 2 <= len(config) <= MAX_CONFIG:
        raise InvalidData(f"AudioSpecificConfig of {len(config)} bytes")
    return read_asc(BitReader(config, what="AudioSpecificConfig", error=InvalidData), to_end=True)


def read_asc(bits: BitReader, *, to_end: bool) -> Asc:
    """Reads an AudioSpecificConfig at the reader's position. Raises InvalidData.

    to_end: whether it fills the rest of the bits, so that the backward compatible extension may follow.
    """
    object_type = _object_type(bits)
    core_rate = rate = _rate(bits)
    channel_config = bits.u(4)
    sbr = ps = False
    if object_type in (_SBR, _PS):
        sbr, ps = True, object_type == _PS
        rate = _rate(bits)
        object_type = _object_type(bits)
        if object_type == 22:
            bits.skip(4)
    channels = _CHANNELS[channel_config]
    samples = 1024
    if object_type in _GENERAL_AUDIO:
        short = bits.flag()
        samples = (480 if short else 512) if object_type == _LD else 960 if short else 1024
        if bits.flag():  # dependsOnCoreCoder
            bits.skip(14)
        extension = bits.flag()
        if channel_config == 0:
            channels = _program_channels(bits)
        if object_type in (6, 20):
            bits.skip(3)
        if extension:
            bits.skip({22: 16}.get(object_type, 3 if object_type in (17, 19, 20, _LD) else 0))
            bits.skip(1)
        # §1.6.6.1: the backward compatible extension, if at least 16 bits are left.
        if (
            to_end
            and not sbr
            and bits.left >= 16
            and bits.u(11) == 0x2B7
            and _object_type(bits) == _SBR
            and bits.flag()
        ):
            sbr = True
            rate = _rate(bits)
            ps = bits.left >= 12 and bits.u(11) == 0x548 and bits.flag()
    elif object_type == _ELD:
        samples = 480 if bits.flag() else 512
    if not channels:
        raise InvalidData(f"AudioSpecificConfig: channel configuration {channel_config}")
    if rate % core_rate or rate // core_rate > 2:
        # §4.6.18.2.6: SBR doubles the rate or does not change it.
        raise InvalidData(f"AudioSpecificConfig: SBR from {core_rate} to {rate} Hz")
    return Asc(object_type, core_rate, rate, 2 if ps and channels == 1 else channels, channel_config, samples, sbr, ps)


def lc_config(rate: int, channels: int) -> bytes:
    """Returns the AudioSpecificConfig of AAC LC at a rate of the table, with up to 7 channels. Raises InvalidData."""
    if rate not in RATES or not 0 < channels < 8:
        raise InvalidData(f"AAC LC of {rate} Hz and {channels} channels")
    return (_LC << 11 | RATES.index(rate) << 7 | channels << 3).to_bytes(2, "big")


def is_unusual(config: bytes) -> bool:
    """Whether browsers refuse AAC of this configuration.

    They take LC and HE, frames of 1,024 samples, a layout with a number up to 7, and a rate with an index.
    """
    with suppress(InvalidData):  # what is damaged cannot be converted either
        asc = parse_asc(config)
        has_index = (config[0] & 7) << 1 | config[1] >> 7 != _EXPLICIT_RATE
        is_usual = asc.object_type == _LC and asc.core_samples == 1024 and has_index
        return not is_usual or not 0 < asc.channel_config < 8
    return False


def codec_string(config: bytes) -> str:
    """Returns the codecs parameter (RFC 6381 §3.3): "mp4a.40.2", .5 with SBR, .29 with PS. Raises InvalidData."""
    asc = parse_asc(config)
    return f"mp4a.40.{_PS if asc.ps else _SBR if asc.sbr else asc.object_type}"


def adts_config(frame: bytes) -> bytes:
    """Returns the AudioSpecificConfig in the ADTS header before a frame; empty if it has none."""
    try:
        return parse_adts(frame)[0]
    except InvalidData:
        return b""


def raw_frames(data: bytes) -> list[bytes]:
    """Returns the raw frames of AAC, without the ADTS headers that may be before them.

    Data that ADTS frames do not fill exactly are one raw frame. Raises InvalidData for more than 64 ADTS frames.
    """
    frames, at = list[bytes](), 0
    try:
        while at < len(data) and len(frames) <= _MAX_FRAMES:
            _, header, size = parse_adts(data[at : at + 7])
            frames.append(data[at + header : at + size])
            at += size
    except InvalidData:
        return [data]
    if len(frames) > _MAX_FRAMES:
        raise InvalidData(f"more than {_MAX_FRAMES} frames of AAC in one message")
    return frames if at == len(data) else [data]


def split_adts(frame: bytes) -> tuple[bytes, int]:
    """Returns the AudioSpecificConfig of a frame with an ADTS header, and the size of that header.

    Raises InvalidData.
    """
    if len(frame) < 8 or frame[0] != 0xFF or frame[1] & 0xF6 != 0xF0:
        raise InvalidData("an AAC frame without ADTS header")
    profile, index, channels = frame[2] >> 6, frame[2] >> 2 & 15, (frame[2] & 1) << 2 | frame[3] >> 6
    config = ((profile + 1) << 11 | index << 7 | channels << 3).to_bytes(2, "big")
    parse_asc(config)
    return config, 7 if frame[1] & 1 else 9  # protection_absent 0: a checksum follows


class Adts:
    """Writes ADTS headers (ISO/IEC 14496-3 §1.A.2.2.1) for the frames of one AudioSpecificConfig.

    Raises UnsupportedCodec if ADTS cannot carry the configuration. ADTS carries the object types Main, LC, SSR and LTP,
    the rates of its table, and the channel configurations that three bits can express.
    """

    __slots__ = ("_fixed",)

    def __init__(self, asc: Asc) -> None:
        if asc.object_type not in _ADTS_TYPES or asc.core_samples != 1024:
            raise UnsupportedCodec(f"ADTS cannot carry AAC object type {asc.object_type}, {asc.core_samples} samples")
        if asc.core_rate not in RATES:
            raise UnsupportedCodec(f"ADTS cannot carry AAC at {asc.core_rate} Hz")
        # A header cannot contain a program_config_element, but the usual layouts have a channel configuration number.
        channels = asc.channel_config or (_CHANNELS.index(asc.channels) if asc.channels in _CHANNELS else 8)
        if channels > 7:
            raise UnsupportedCodec(f"ADTS cannot carry AAC of {asc.channels} channels, configuration {channels}")
        # syncword, ID 0 (MPEG-4), layer 0, protection_absent 1; profile, rate, private 0, channels; the length in 13
        # bits follows; adts_buffer_fullness 0x7FF (variable rate), one raw data block.
        profile, index = asc.object_type - 1, RATES.index(asc.core_rate)
        self._fixed = 0xFFF1 << 40 | (profile << 14 | index << 10 | channels << 6) << 24 | 0x7FF << 2

    def make_header(self, size: int) -> bytes:
        """Returns the seven bytes before a raw frame of `size` bytes. Raises InvalidData if `size` exceeds 8184."""
        if size > 8184:
            raise InvalidData(f"ADTS cannot carry an AAC frame of {size} bytes")
        return (self._fixed | (size + 7) << 13).to_bytes(7, "big")


def parse_adts(header: bytes) -> tuple[bytes, int, int]:
    """Reads the ADTS header of one raw data block, with or without checksum (ISO/IEC 14496-3 §1.A.2.2).

    Returns an AudioSpecificConfig, the bytes of the header, and the bytes of header and frame. SBR is not signalled in
    it. Raises InvalidData; UnsupportedCodec for several blocks or channels without a number.
    """
    value = int.from_bytes(header[:7], "big")
    index, channels = value >> 34 & 15, value >> 30 & 7
    size, frame = 7 if value >> 40 & 1 else 9, value >> 13 & 0x1FFF
    if len(header) < 7 or value >> 40 & 0xFFF6 not in (0xFFF0, 0xFFF8) or index >= len(RATES) or frame <= size:
        raise InvalidData(f"not an ADTS header: {header[:7].hex()}")
    if value & 3 or not channels:
        raise UnsupportedCodec("ADTS of several blocks" if value & 3 else "ADTS with its own channel layout")
    config = ((value >> 38 & 3) + 1) << 11 | index << 7 | channels << 3
    return config.to_bytes(2, "big"), size, frame


def _object_type(bits: BitReader) -> int:
    kind = bits.u(5)
    return 32 + bits.u(6) if kind == 31 else kind


def _rate(bits: BitReader) -> int:
    index = bits.u(4)
    if index == _EXPLICIT_RATE:
        rate = bits.u(24)
        if not 1000 <= rate <= 384_000:
            raise InvalidData(f"AudioSpecificConfig: {rate} Hz")
        return rate
    if index >= len(RATES):
        raise InvalidData(f"AudioSpecificConfig: samplingFrequencyIndex {index}")
    return RATES[index]


def _program_channels(bits: BitReader) -> int:
    """Reads a `program_config_element` (ISO/IEC 14496-3 §4.4.1.1). Returns the number of its channels."""
    bits.skip(10)
    front, side, back, lfe = bits.u(4), bits.u(4), bits.u(4), bits.u(2)
    data, coupling = bits.u(3), bits.u(4)
    for size in (4, 4, 3):  # mono, stereo and matrix mixdown
        if bits.flag():
            bits.skip(size)
    channels = lfe
    for _ in range(front + side + back):
        channels += 2 if bits.flag() else 1
        bits.skip(4)
    bits.skip(4 * lfe + 4 * data + 5 * coupling)
    bits.align()
    bits.skip(8 * bits.u(8))
    return channels
