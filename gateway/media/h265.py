"""H.265: the hvcC record and the values of a sequence parameter set."""

import contextlib
from dataclasses import dataclass
from typing import TypeAlias

from gateway.lib.bit_reader import BitReader
from gateway.media.colors import UNSPECIFIED_SIGNAL, VideoSignal
from gateway.media.errors import InvalidData
from gateway.media.nal import join, unescape
from gateway.media.parameter_sets import (
    bounded,
    cropped_size,
    divided_sets,
    read_frame_rate,
    read_units,
    read_video_signal,
)
from gateway.media.pixel_aspect import SQUARE, PixelAspect, read_pixel_aspect

VPS = 32
SPS = 33
PPS = 34
AUD = 35
SEI = 39  # before the slices

MAX_CONFIG = 1 << 16
_MAX_SIDE = 1 << 15  # Table A.6: level 6.2 allows sqrt(8 * 35651584) = 16888; level 8.5 has no limit
_MAX_SUB_LAYERS = 7
_MAX_SHORT_TERM_SETS = 64
_MAX_PICTURES = 16

# Picture order distances to the reference pictures before and after this one, nearest first.
_Deltas: TypeAlias = tuple[list[int], list[int]]


@dataclass(frozen=True, slots=True)
class Hvcc:
    """HEVCDecoderConfigurationRecord, ISO/IEC 14496-15 §8.3.3.1. vps, sps, pps are NAL units with their header.

    compat: 32 `general_profile_compatibility` flags, flag 0 as the highest bit.
    constraints: six bytes.
    frame_rate: avgFrameRate in frames a second, None if unspecified.
    sei: units of supplemental information for all pictures.
    """

    profile_space: int
    tier: int
    profile: int
    compat: int
    constraints: bytes
    level: int
    length_size: int
    frame_rate: float | None
    vps: tuple[bytes, ...]
    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]
    sei: tuple[bytes, ...] = ()

    @property
    def sets(self) -> tuple[tuple[bytes, ...], ...]:
        return self.vps, self.sps, self.pps


@dataclass(frozen=True, slots=True)
class H265Sps:
    """The values of a sequence parameter set.

    width, height: pixels inside the conformance window.
    frame_rate: frames a second; None if not specified.
    aspect: width and height of a pixel; square if not specified.
    signal: the colors.
    chroma_format: `chroma_format_idc`; 1 is 4:2:0.
    luma_bits, chroma_bits: of a sample.
    reorder: how many pictures may be decoded before a picture that is shown before them; 0 if not specified.
    """

    profile: int
    level: int
    width: int
    height: int
    frame_rate: float | None
    aspect: PixelAspect = SQUARE
    signal: VideoSignal = UNSPECIFIED_SIGNAL
    chroma_format: int = 1
    luma_bits: int = 8
    chroma_bits: int = 8
    reorder: int = 0


def nal_type(unit: bytes) -> int:
    """Returns the `nal_unit_type` of a non-empty NAL unit (ITU-T H.265 §7.3.1.2)."""
    return unit[0] >> 1 & 0x3F


def parse_hvcc(config: bytes) -> Hvcc:
    """Reads the record `config`, without box header. Raises InvalidData."""
    if not 23 <= len(config) <= MAX_CONFIG:
        raise InvalidData(f"hvcC of {len(config)} bytes")
    # ISO/IEC 14496-15 requires version 1; writers before its publication used 0.
    if config[0] > 1:
        raise InvalidData(f"hvcC version {config[0]}")
    sets: dict[int, tuple[bytes, ...]] = {VPS: (), SPS: (), PPS: (), SEI: ()}
    at = 23
    for _ in range(config[22]):
        if at + 3 > len(config):
            raise InvalidData(f"hvcC: an array starts at {at} of {len(config)} bytes")
        kind = config[at] & 0x3F
        count = int.from_bytes(config[at + 1 : at + 3], "big")
        units, at = read_units(config, at + 3, count, f"hvcC: type {kind}, NAL unit")
        if kind in sets:
            sets[kind] += units
    if (found := divided_sets(tuple(unit for kind in sets for unit in sets[kind]))) is not None:
        sets = {kind: tuple(unit for unit in found if nal_type(unit) == kind) for kind in sets}
    rate = int.from_bytes(config[19:21], "big") / 256  # "in units of frames/(256 seconds)"
    return Hvcc(
        profile_space=config[1] >> 6, tier=config[1] >> 5 & 1, profile=config[1] & 0x1F, level=config[12],
        compat=int.from_bytes(config[2:6], "big"), constraints=config[6:12], length_size=(config[21] & 3) + 1,
        frame_rate=rate or None, vps=sets[VPS], sps=sets[SPS], pps=sets[PPS], sei=sets[SEI],
    )  # fmt: skip


def build_hvcc(vps: list[bytes], sps: list[bytes], pps: list[bytes]) -> bytes:
    """Returns the hvcC record of these parameter sets, for NAL units with four-byte lengths.

    Raises InvalidData if the parameter sets do not fit.
    """
    sets = ((VPS, vps), (SPS, sps), (PPS, pps))
    if not sps or any(not 2 < len(u) <= 0xFFFF or nal_type(u) != kind for kind, units in sets for u in units):
        raise InvalidData("these parameter sets cannot form an hvcC record")
    bits = unescape(sps[0])
    if len(bits) < 15:
        raise InvalidData(f"SPS of {len(bits)} bytes")
    # H.265 §7.3.2.2.1: after two header bytes and one byte of ids come the 12 bytes of profile_tier_level that the
    # record repeats: profile, compatibility flags, constraint flags, level.
    out = [b"\x01", bits[3:15]]
    # min_spatial_segmentation_idc 0, parallelismType 0 (unknown), chroma format, bit depths, avgFrameRate 0
    # (unspecified), numTemporalLayers, temporalIdNested, lengthSizeMinusOne 3; each with its reserved bits set.
    values = parse_sps(sps[0])
    depths = bytes((0xFC | values.chroma_format, 0xF8 | values.luma_bits - 8, 0xF8 | values.chroma_bits - 8))
    layers, nested = (bits[2] >> 1 & 7) + 1, bits[2] & 1
    out.append(b"\xf0\x00\xfc" + depths + b"\x00\x00" + bytes((layers << 3 | nested << 2 | 3, 3)))
    for kind, units in sets:
        # array_completeness 1: the samples contain no parameter sets, as hvc1 requires.
        out.append(bytes((0x80 | kind,)) + len(units).to_bytes(2, "big"))
        out.append(join(units, 2))
    return b"".join(out)


def codec_string(config: bytes) -> str:
    """Returns "hvc1.1.6.L93.B0" from the hvcC record (ISO/IEC 14496-15 §E.3). Raises InvalidData."""
    hvcc = parse_hvcc(config)
    space = ("", "A", "B", "C")[hvcc.profile_space]
    # "the 32 bits of general_profile_compatibility_flags, but in reverse bit order", leading zeros omitted
    compat = int(f"{hvcc.compat:032b}"[::-1], 2)
    # "each of the 6 bytes of the constraint flags …, trailing bytes that are zero may be omitted"
    constraints = "".join(f".{b:X}" for b in hvcc.constraints.rstrip(b"\x00"))
    return f"hvc1.{space}{hvcc.profile}.{compat:X}.{'H' if hvcc.tier else 'L'}{hvcc.level}{constraints}"


def parse_sps(unit: bytes) -> H265Sps:
    """Reads a sequence parameter set (ITU-T H.265 §7.3.2.2, Annex E). unit: NAL unit with its header bytes.

    A set may end after its picture size: then it has no frame rate. Raises InvalidData.
    """
    if not 6 <= len(unit) <= MAX_CONFIG or nal_type(unit) != SPS:
        raise InvalidData(f"not an SPS: {unit[:4].hex()}, {len(unit)} bytes")
    bits = BitReader(unescape(unit[2:]), what="SPS", error=InvalidData)
    bits.skip(4)
    sub_layers = bounded(bits.u(3), _MAX_SUB_LAYERS - 1, "sps_max_sub_layers_minus1")
    bits.flag()
    profile, level = _profile_tier_level(bits, sub_layers)
    bounded(bits.ue(), 15, "sps_seq_parameter_set_id")
    chroma_format = bounded(bits.ue(), 3, "chroma_format_idc")
    separate_planes = chroma_format == 3 and bits.flag()
    width, height = bits.ue(), bits.ue()
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise InvalidData(f"SPS: a picture of {width} x {height}")
    if bits.flag():
        # Table 6-1: SubWidthC and SubHeightC scale the conformance window.
        unit_x = 2 if chroma_format in (1, 2) and not separate_planes else 1
        unit_y = 2 if chroma_format == 1 and not separate_planes else 1
        width, height = cropped_size(bits, width, height, unit_x, unit_y)
    rate, aspect, signal, luma_bits, chroma_bits, reorder = None, SQUARE, UNSPECIFIED_SIGNAL, 8, 8, 0
    with contextlib.suppress(InvalidData):
        luma_bits, chroma_bits = 8 + bounded(bits.ue(), 8, "luma"), 8 + bounded(bits.ue(), 8, "chroma")  # …_minus8
        order_bits = bounded(bits.ue(), 12, "log2_max_pic_order_cnt_lsb_minus4") + 4
        for _ in range(sub_layers + 1 if bits.flag() else 1):
            bits.ue()
            reorder = bounded(bits.ue(), _MAX_PICTURES, "sps_max_num_reorder_pics")
            bits.ue()
        if _skip_to_vui(bits, order_bits):
            aspect = read_pixel_aspect(bits)
            signal, rate = _signal_and_rate(bits)
    return H265Sps(profile, level, width, height, rate, aspect, signal, chroma_format, luma_bits, chroma_bits, reorder)


def _profile_tier_level(bits: BitReader, sub_layers: int) -> tuple[int, int]:
    """Reads `profile_tier_level` (§7.3.3); returns (`general_profile_idc`, `general_level_idc`)."""
    bits.skip(3)
    profile = bits.u(5)
    bits.skip(32 + 48)
    level = bits.u(8)
    present = [(bits.flag(), bits.flag()) for _ in range(sub_layers)]
    if sub_layers:
        bits.skip(2 * (8 - sub_layers))
    for has_profile, has_level in present:
        bits.skip(88 * has_profile + 8 * has_level)
    return profile, level


def _skip_to_vui(bits: BitReader, order_bits: int) -> bool:
    """Skips from the block sizes to `vui_parameters`. Returns whether they are present."""
    for _ in range(6):
        bits.ue()
    if bits.flag() and bits.flag():  # scaling_list_enabled_flag, sps_scaling_list_data_present_flag
        _skip_scaling_lists(bits)
    bits.skip(2)
    if bits.flag():  # pcm_enabled_flag
        bits.skip(8)
        bits.ue()
        bits.ue()
        bits.flag()
    sets = bounded(bits.ue(), _MAX_SHORT_TERM_SETS, "num_short_term_ref_pic_sets")
    deltas: _Deltas = ([], [])
    for n in range(sets):
        deltas = _short_term_set(bits, n, deltas)
    if bits.flag():  # long_term_ref_pics_present_flag
        for _ in range(bounded(bits.ue(), 32, "num_long_term_ref_pics_sps")):
            bits.skip(order_bits + 1)
    bits.skip(2)
    return bits.flag()  # vui_parameters_present_flag


def _signal_and_rate(bits: BitReader) -> tuple[VideoSignal, float | None]:
    """Reads `overscan_info_present_flag` to `vui_timing_info`. Returns the colors and the frame rate, if specified."""
    signal = read_video_signal(bits)
    bits.skip(3)
    if bits.flag():  # default_display_window_flag
        for _ in range(4):
            bits.ue()
    return signal, read_frame_rate(bits, ticks_per_frame=1) if bits.flag() else None  # timing_info_present_flag


def _skip_scaling_lists(bits: BitReader) -> None:
    """Skips `scaling_list_data` (§7.3.4)."""
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not bits.flag():
                bits.ue()
                continue
            if size > 1:
                bits.se()
            for _ in range(min(64, 1 << (4 + (size << 1)))):
                bits.se()


def _short_term_set(bits: BitReader, index: int, previous: _Deltas) -> _Deltas:
    """Reads one `st_ref_pic_set` (§7.3.7, §7.4.8). Returns its distances: the next set may be predicted from them."""
    before, after = previous
    if index and bits.flag():
        sign = bits.flag()
        step = bits.ue() + 1
        if sign:
            step = -step
        # used_by_curr_pic_flag; if it is 0, use_delta_flag follows
        used = [bits.flag() or bits.flag() for _ in range(len(before) + len(after) + 1)]
        shifted = [d + step for d in (*before, *after)] + [step]
        distances = [d for d, is_used in zip(shifted, used, strict=True) if is_used and d]
        return _sorted_deltas([d for d in distances if d < 0], [d for d in distances if d > 0])
    negative = bounded(bits.ue(), _MAX_PICTURES, "num_negative_pics")
    positive = bounded(bits.ue(), _MAX_PICTURES, "num_positive_pics")
    before, after = [], []
    for distances, count, sign_of in ((before, negative, -1), (after, positive, 1)):
        at = 0
        for _ in range(count):
            at += sign_of * (bits.ue() + 1)
            bits.flag()
            distances.append(at)
    return _sorted_deltas(before, after)


def _sorted_deltas(before: list[int], after: list[int]) -> _Deltas:
    bounded(len(before) + len(after), _MAX_PICTURES, "NumDeltaPocs")
    # Equations 7-61 and 7-62 keep both lists in the order of their distance.
    return sorted(before, reverse=True), sorted(after)
