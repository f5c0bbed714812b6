"""H.264: the avcC record and what a sequence parameter set says about the picture."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.lib.bitreader import BitReader
from gateway.media.errors import InvalidData
from gateway.media.nal import unescape

SLICE_IDR = 5
SEI = 6
SPS = 7
PPS = 8
AUD = 9

# avcC holds at most 31 SPS and 255 PPS; real records are below 200 bytes.
MAX_CONFIG = 1 << 16

# profile_idc whose SPS carries chroma_format_idc and scaling matrices; ITU-T H.264 §7.3.2.1.1.
_HIGH_PROFILES = frozenset((44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244))

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


@dataclass(frozen=True, slots=True)
class Sps:
    """What a sequence parameter set says: size after cropping in pixels, frames a second where it tells.

    reorder: how many pictures may be decoded ahead of one that is shown before them, None where it does not tell.
    """

    profile: int
    compat: int
    level: int
    width: int
    height: int
    frame_rate: float | None
    interlaced: bool = False
    reorder: int | None = field(default=None, compare=False)


def parse_avcc(config: bytes) -> Avcc:
    """The record of bytes `config`, without box header. Raises InvalidData.

    Extensions of the high profiles behind the picture parameter sets are ignored, and so is a missing PPS count
    (some encoders end there).
    """
    if not 6 <= len(config) <= MAX_CONFIG:
        raise InvalidData(f"avcC of {len(config)} bytes")
    if config[0] != 1:
        raise InvalidData(f"avcC version {config[0]}")
    at = 6
    sets: list[tuple[bytes, ...]] = []
    count = config[5] & 0x1F
    for name in ("SPS", "PPS"):
        units: list[bytes] = []
        for n in range(count):
            start = at + 2
            at = start + int.from_bytes(config[at:start], "big")
            if start > len(config) or at > len(config):
                raise InvalidData(f"avcC: {name} {n} ends at {at} of {len(config)} bytes")
            if at > start:
                units.append(config[start:at])
        sets.append(tuple(units))
        count = config[at] if at < len(config) else 0
        at += 1
    return Avcc(config[1], config[2], config[3], (config[4] & 3) + 1, sets[0], sets[1])


def build_avcc(sps: list[bytes], pps: list[bytes]) -> bytes:
    """The avcC record of these parameter sets, lengths of four bytes. Raises InvalidData when they do not fit one."""
    if not sps or len(sps[0]) < 4 or len(sps) > 31 or len(pps) > 255 or any(len(u) > 0xFFFF for u in [*sps, *pps]):
        raise InvalidData("these parameter sets make no avcC")
    first = parse_sps(sps[0])
    out = [bytes((1, sps[0][1], sps[0][2], sps[0][3], 0xFF, 0xE0 | len(sps)))]
    out += [len(u).to_bytes(2, "big") + u for u in sps]
    out.append(bytes((len(pps),)))
    out += [len(u).to_bytes(2, "big") + u for u in pps]
    if first.profile in _HIGH_PROFILES:
        chroma, luma_depth, chroma_depth = _chroma(sps[0])
        out.append(bytes((0xFC | chroma, 0xF8 | luma_depth, 0xF8 | chroma_depth, 0)))
    return b"".join(out)


def codec_string(config: bytes) -> str:
    """RFC 6381 §3.3: "avc1.64001F" from the avcC record. Raises InvalidData."""
    avcc = parse_avcc(config)
    # The SPS is what a decoder reads; some encoders leave the record's own three bytes at zero.
    profile, compat, level = avcc.profile, avcc.compat, avcc.level
    if avcc.sps and len(avcc.sps[0]) >= 4:
        profile, compat, level = avcc.sps[0][1:4]
    return f"avc1.{profile:02X}{compat:02X}{level:02X}"


def parse_sps(unit: bytes) -> Sps:
    """A sequence parameter set NAL unit, header byte first; ITU-T H.264 §7.3.2.1.1, Annex E. Raises InvalidData."""
    bits = _open(unit)
    profile, compat, level = bits.u(8), bits.u(8), bits.u(8)
    _bounded(bits.ue(), 31, "seq_parameter_set_id")
    chroma_format, separate_planes = 1, False
    if profile in _HIGH_PROFILES:
        chroma_format = _bounded(bits.ue(), 3, "chroma_format_idc")
        separate_planes = chroma_format == 3 and bits.flag()
        _bounded(bits.ue(), 6, "bit_depth_luma_minus8")
        _bounded(bits.ue(), 6, "bit_depth_chroma_minus8")
        bits.flag()
        if bits.flag():
            for n in range(12 if chroma_format == 3 else 8):
                if bits.flag():
                    _skip_scaling_list(bits, 16 if n < 6 else 64)
    _bounded(bits.ue(), 12, "log2_max_frame_num_minus4")
    order = _bounded(bits.ue(), 2, "pic_order_cnt_type")
    if order == 0:
        _bounded(bits.ue(), 12, "log2_max_pic_order_cnt_lsb_minus4")
    elif order == 1:
        bits.flag()
        bits.se()
        bits.se()
        for _ in range(_bounded(bits.ue(), 255, "num_ref_frames_in_pic_order_cnt_cycle")):
            bits.se()
    bits.ue()
    bits.flag()
    columns = _bounded(bits.ue(), _MAX_SIDE - 1, "pic_width_in_mbs_minus1") + 1
    rows = _bounded(bits.ue(), _MAX_SIDE - 1, "pic_height_in_map_units_minus1") + 1
    frames_only = bits.flag()
    if not frames_only:
        rows *= 2
        bits.flag()
    if columns * rows > _MAX_MACROBLOCKS:
        raise InvalidData(f"SPS: a picture of {columns} x {rows} macroblocks")
    bits.flag()
    width, height = columns * 16, rows * 16
    if bits.flag():
        # §7.4.2.1.1, equations 7-19 to 7-22: CropUnitX and CropUnitY.
        planar = separate_planes or chroma_format == 0
        unit_x = 1 if planar or chroma_format == 3 else 2
        unit_y = (2 if chroma_format == 1 and not planar else 1) * (1 if frames_only else 2)
        left, right, top, bottom = bits.ue(), bits.ue(), bits.ue(), bits.ue()
        width -= (left + right) * unit_x
        height -= (top + bottom) * unit_y
        if width <= 0 or height <= 0:
            raise InvalidData(f"SPS: cropped to {width} x {height}")
    # A VUI cut short is common in the wild and says nothing about the picture: its frame rate is just unknown.
    rate, reorder = _vui(bits) if bits.left > 0 and bits.flag() else (None, None)
    if order == 2:
        reorder = 0  # §7.4.2.1.1: "… output order the same as decoding order"
    return Sps(profile, compat, level, width, height, rate, not frames_only, reorder)


def _open(unit: bytes) -> BitReader:
    if not 4 <= len(unit) <= MAX_CONFIG or unit[0] & 0x1F != SPS:
        raise InvalidData(f"no SPS: {unit[:4].hex()}, {len(unit)} bytes")
    return BitReader(unescape(unit[1:]), what="SPS", error=InvalidData)


def _chroma(unit: bytes) -> tuple[int, int, int]:
    bits = _open(unit)
    bits.skip(24)
    bits.ue()
    chroma = bits.ue()
    if chroma == 3:
        bits.flag()
    return chroma, bits.ue(), bits.ue()


def _vui(bits: BitReader) -> tuple[float | None, int | None]:
    """Frames a second and max_num_reorder_frames, as far as they are there; Annex E.1."""
    rate: float | None = None
    try:
        if bits.flag() and bits.u(8) == 255:  # aspect_ratio_idc Extended_SAR
            bits.skip(32)
        if bits.flag():  # overscan_info_present_flag
            bits.skip(1)
        if bits.flag():  # video_signal_type_present_flag
            bits.skip(4)
            if bits.flag():
                bits.skip(24)
        if bits.flag():  # chroma_loc_info_present_flag
            bits.ue()
            bits.ue()
        if bits.flag():  # timing_info_present_flag
            units, scale = bits.u(32), bits.u(32)
            # §E.2.1: num_units_in_tick counts fields, two of them a frame.
            rate = scale / (2 * units) if units else 0.0
            rate = rate if 0 < rate <= 1000 else None
            bits.skip(1)
        return rate, _reorder(bits)
    except InvalidData:
        return rate, None


def _reorder(bits: BitReader) -> int | None:
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
    return _bounded(bits.ue(), 16, "max_num_reorder_frames")


def _skip_hrd(bits: BitReader) -> None:
    count = _bounded(bits.ue(), 31, "cpb_cnt_minus1") + 1
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


def _bounded(value: int, limit: int, name: str) -> int:
    if value > limit:
        raise InvalidData(f"SPS: {name} is {value}")
    return value
