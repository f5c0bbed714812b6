"""H.264: the avcC record and the values of a sequence parameter set."""

import contextlib
from dataclasses import dataclass, field

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

SLICES = (1, 2, 5)  # coded slice without data partitioning, data partition A, coded slice of an IDR picture
SLICE_IDR = 5
SEI = 6
SPS = 7
PPS = 8
AUD = 9

_I_SLICES = (2, 4, 7, 9)  # slice_type, Table 7-6: I and SI
_SLICE_HEAD = 16  # bytes of a slice, enough for first_mb_in_slice and slice_type

# avcC holds at most 31 SPS and 255 PPS; real records are below 200 bytes.
MAX_CONFIG = 1 << 16

# profile_idc whose SPS carries chroma_format_idc and scaling matrices; ITU-T H.264 §7.3.2.1.1.
_HIGH_PROFILES = frozenset((44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244))

# The profiles and levels (Annex A, Table A-1) that browsers know, by their numbers, and those that replace others.
_USUAL_PROFILES = frozenset((66, 77, *_HIGH_PROFILES))
_USUAL_LEVELS = frozenset((10, 11, 12, 13, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 52, 60, 61, 62))
_MAIN, _LEVEL_4 = 77, 40

# Table A-1: level 6.2 allows 139264 macroblocks, and no side above sqrt(8 * that) macroblocks.
_MAX_MACROBLOCKS = 139_264
_MAX_SIDE = 1056


@dataclass(frozen=True, slots=True)
class Avcc:
    """AVCDecoderConfigurationRecord, ISO/IEC 14496-15 §5.3.3.1. sps and pps are NAL units with their header byte."""

    profile: int
    compat: int
    level: int
    length_size: int
    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]

    @property
    def sets(self) -> tuple[tuple[bytes, ...], ...]:
        return self.sps, self.pps


@dataclass(frozen=True, slots=True)
class SpsCoding:
    """The syntax elements of a sequence parameter set that its slices depend on (ITU-T H.264 §7.3.2.1.1).

    columns, rows: macroblocks of a frame. offset: pixels cropped at the left and at the top.
    frame_number_bits, order_bits: log2_max_frame_num and log2_max_pic_order_cnt_lsb.
    scaling: whether it has scaling matrices. lossless: `qpprime_y_zero_transform_bypass_flag`.
    """

    id: int
    chroma_format: int
    luma_bits: int
    chroma_bits: int
    separate_planes: bool
    lossless: bool
    scaling: bool
    frame_number_bits: int
    order_type: int
    order_bits: int
    reference_frames: int
    columns: int
    rows: int
    frames_only: bool
    offset: tuple[int, int]


@dataclass(frozen=True, slots=True)
class H264Sps:
    """The values of a sequence parameter set.

    width, height: pixels after cropping.
    frame_rate: frames a second; None if not specified.
    aspect: width and height of a pixel; square if not specified.
    reorder: how many pictures may be decoded before a picture that is shown before them; None if not specified.
    signal: the colors. coding: `parse_sps` always sets it.
    """

    profile: int
    compat: int
    level: int
    width: int
    height: int
    frame_rate: float | None
    interlaced: bool = False
    reorder: int | None = field(default=None, compare=False)
    aspect: PixelAspect = SQUARE
    signal: VideoSignal = UNSPECIFIED_SIGNAL
    coding: SpsCoding | None = field(default=None, compare=False)


def parse_avcc(config: bytes) -> Avcc:
    """Reads the record `config`, without box header. Raises InvalidData.

    It ignores the extensions of the high profiles after the picture parameter sets. A missing PPS count is valid,
    because some encoders end the record there. Sets may have start codes, see `divided_sets`.
    """
    if not 6 <= len(config) <= MAX_CONFIG:
        raise InvalidData(f"avcC of {len(config)} bytes")
    if config[0] != 1:
        raise InvalidData(f"avcC version {config[0]}")
    sps, at = read_units(config, 6, config[5] & 0x1F, "avcC: SPS")
    pps, _ = read_units(config, at + 1, config[at] if at < len(config) else 0, "avcC: PPS")
    if (units := divided_sets((*sps, *pps))) is not None:
        sps, pps = (tuple(unit for unit in units if unit[0] & 0x1F == kind) for kind in (SPS, PPS))
    return Avcc(config[1], config[2], config[3], (config[4] & 3) + 1, sps, pps)


def build_avcc(sps: list[bytes], pps: list[bytes]) -> bytes:
    """Returns the avcC record of these parameter sets, for NAL units with four-byte lengths.

    Raises InvalidData if they do not fit.
    """
    if not sps or len(sps[0]) < 4 or len(sps) > 31 or len(pps) > 255 or any(len(u) > 0xFFFF for u in [*sps, *pps]):
        raise InvalidData("these parameter sets cannot form an avcC record")
    first = parse_sps(sps[0])
    record = bytes((1, sps[0][1], sps[0][2], sps[0][3], 0xFF, 0xE0 | len(sps)))
    record += join(sps, 2) + bytes((len(pps),)) + join(pps, 2)
    if first.profile in _HIGH_PROFILES:
        coding = first.coding
        assert coding is not None, "`parse_sps` sets it"
        depths = 0xF8 | coding.luma_bits - 8, 0xF8 | coding.chroma_bits - 8
        record += bytes((0xFC | coding.chroma_format, *depths, 0))
    return record


def codec_string(config: bytes) -> str:
    """Returns "avc1.64001F" from the avcC record (RFC 6381 §3.3). Raises InvalidData."""
    avcc = parse_avcc(config)
    # Read from the SPS, as decoders do: some encoders leave the three bytes of the record at zero.
    profile, compat, level = avcc.profile, avcc.compat, avcc.level
    if avcc.sps and len(avcc.sps[0]) >= 4:
        profile, compat, level = avcc.sps[0][1:4]
    return f"avc1.{profile:02X}{compat:02X}{level:02X}"


def is_intra_slice(unit: bytes | memoryview) -> bool:
    """Whether a slice, with its header byte, is of the type I or SI. Raises InvalidData."""
    bits = BitReader(unescape(bytes(unit[1:_SLICE_HEAD])), what="slice header", error=InvalidData)
    bits.ue()  # §7.3.3: slice_header begins with first_mb_in_slice and slice_type.
    return bits.ue() in _I_SLICES


def usual_sps(unit: bytes) -> bytes:
    """Returns a set whose profile and level browsers know. They refuse other numbers, which no decoder needs.

    Encoders leave the level at 0, write 9 for 1b, or Extended as the profile.
    """
    if len(unit) < 4 or not any(unit[1:3]):  # zeros may have an emulation prevention byte behind them
        return unit
    profile = unit[1] if unit[1] in _USUAL_PROFILES else _MAIN
    level = unit[3] if unit[3] in _USUAL_LEVELS else _LEVEL_4
    return unit[:1] + bytes((profile, unit[2], level)) + unit[4:]


def parse_sps(unit: bytes) -> H264Sps:
    """Reads a sequence parameter set (ITU-T H.264 §7.3.2.1.1, Annex E). unit: NAL unit with its header byte.

    Raises InvalidData.
    """
    if not 4 <= len(unit) <= MAX_CONFIG or unit[0] & 0x1F != SPS:
        raise InvalidData(f"not an SPS: {unit[:4].hex()}, {len(unit)} bytes")
    bits = BitReader(unescape(unit[1:]), what="SPS", error=InvalidData)
    profile, compat, level = bits.u(8), bits.u(8), bits.u(8)
    id = bounded(bits.ue(), 31, "seq_parameter_set_id")
    chroma_format, separate_planes = 1, False
    luma_bits = chroma_bits = 8
    lossless = scaling = False
    if profile in _HIGH_PROFILES:
        chroma_format = bounded(bits.ue(), 3, "chroma_format_idc")
        separate_planes = chroma_format == 3 and bits.flag()
        luma_bits += bounded(bits.ue(), 6, "bit_depth_luma_minus8")
        chroma_bits += bounded(bits.ue(), 6, "bit_depth_chroma_minus8")
        lossless, scaling = bits.flag(), bits.flag()
        if scaling:
            for n in range(12 if chroma_format == 3 else 8):
                if bits.flag():
                    _skip_scaling_list(bits, 16 if n < 6 else 64)
    frame_number_bits = 4 + bounded(bits.ue(), 12, "log2_max_frame_num_minus4")
    order, order_bits = bounded(bits.ue(), 2, "pic_order_cnt_type"), 0
    if order == 0:
        order_bits = 4 + bounded(bits.ue(), 12, "log2_max_pic_order_cnt_lsb_minus4")
    elif order == 1:
        bits.flag()
        bits.se()
        bits.se()
        for _ in range(bounded(bits.ue(), 255, "num_ref_frames_in_pic_order_cnt_cycle")):
            bits.se()
    reference_frames = bits.ue()
    bits.flag()
    columns = bounded(bits.ue(), _MAX_SIDE - 1, "pic_width_in_mbs_minus1") + 1
    rows = bounded(bits.ue(), _MAX_SIDE - 1, "pic_height_in_map_units_minus1") + 1
    frames_only = bits.flag()
    if not frames_only:
        rows *= 2
        bits.flag()
    if columns * rows > _MAX_MACROBLOCKS:
        raise InvalidData(f"SPS: a picture of {columns} x {rows} macroblocks")
    bits.flag()
    width, height = columns * 16, rows * 16
    offset = 0, 0
    if bits.flag():
        # §7.4.2.1.1, equations 7-19 to 7-22: CropUnitX and CropUnitY.
        planar = separate_planes or chroma_format == 0
        unit_x = 1 if planar or chroma_format == 3 else 2
        unit_y = (2 if chroma_format == 1 and not planar else 1) * (1 if frames_only else 2)
        at = bits.position
        left, _, top = bits.ue() * unit_x, bits.ue(), bits.ue() * unit_y
        offset, bits.position = (left, top), at
        width, height = cropped_size(bits, width, height, unit_x, unit_y)
    frame_rate: float | None = None
    reorder: int | None = None  # max_num_reorder_frames
    aspect, signal = SQUARE, UNSPECIFIED_SIGNAL
    # A truncated VUI (Annex E.1) is common and harmless: only its values (frame rate, pixel aspect) are unknown.
    with contextlib.suppress(InvalidData):
        if bits.left > 0 and bits.flag():
            aspect = read_pixel_aspect(bits)
            signal = read_video_signal(bits)
            if bits.flag():  # timing_info_present_flag
                frame_rate = read_frame_rate(bits, ticks_per_frame=2)  # §E.2.1: the ticks are fields
                bits.skip(1)
            reorder = _reorder(bits)
    if order == 2:
        reorder = 0  # §7.4.2.1.1: "… output order the same as decoding order"
    coding = SpsCoding(
        id, chroma_format, luma_bits, chroma_bits, separate_planes, lossless, scaling, frame_number_bits, order,
        order_bits, reference_frames, columns, rows, frames_only, offset,
    )  # fmt: skip
    return H264Sps(profile, compat, level, width, height, frame_rate, not frames_only, reorder, aspect, signal, coding)


def _reorder(bits: BitReader) -> int | None:
    """Reads the rest of the VUI. Returns `max_num_reorder_frames`; None if not specified."""
    hrd = False
    for _ in ("nal", "vcl"):
        if bits.flag():
            hrd = True
            _skip_hrd(bits)
    bits.skip(2 if hrd else 1)  # low_delay_hrd_flag, pic_struct_present_flag
    if not bits.flag():  # bitstream_restriction_flag
        return None
    bits.skip(1)
    for _ in range(4):
        bits.ue()
    # §E.2.1: max_num_reorder_frames is at most MaxDpbFrames, which is at most 16.
    return bounded(bits.ue(), 16, "max_num_reorder_frames")


def _skip_hrd(bits: BitReader) -> None:
    count = bounded(bits.ue(), 31, "cpb_cnt_minus1") + 1
    bits.skip(8)
    for _ in range(count):
        bits.ue()
        bits.ue()
        bits.skip(1)
    bits.skip(20)


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last
