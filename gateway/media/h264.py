"""H.264: the avcC record and the values of a sequence parameter set."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.lib.bit_reader import BitReader
from gateway.media.errors import InvalidData
from gateway.media.nal import unescape
from gateway.media.pixel_aspect import SQUARE, PixelAspect, read_pixel_aspect

SLICES = (1, 2, 5)  # of a picture without partitions, with them (A), of an IDR picture
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
class H264Sps:
    """The values of a sequence parameter set.

    width, height: pixels after cropping.
    frame_rate: frames a second, None if not given.
    aspect: width and height of a pixel, square if not given.
    reorder: how many pictures may be decoded before a picture that is shown before them, None if not given.
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


def parse_avcc(config: bytes) -> Avcc:
    """Reads the record `config`, without box header. Raises InvalidData.

    It ignores the extensions of the high profiles after the picture parameter sets, and a missing PPS count: some
    encoders end there.
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
    """Returns the avcC record of these parameter sets, with lengths of four bytes. Raises InvalidData if they do not
    fit.
    """
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
    """Returns "avc1.64001F" from the avcC record (RFC 6381 §3.3). Raises InvalidData."""
    avcc = parse_avcc(config)
    # Takes them from the SPS, as decoders do: some encoders leave the record's own three bytes at zero.
    profile, compat, level = avcc.profile, avcc.compat, avcc.level
    if avcc.sps and len(avcc.sps[0]) >= 4:
        profile, compat, level = avcc.sps[0][1:4]
    return f"avc1.{profile:02X}{compat:02X}{level:02X}"


def parse_sps(unit: bytes) -> H264Sps:
    """Reads a sequence parameter set NAL unit, header byte first (ITU-T H.264 §7.3.2.1.1, Annex E). Raises
    InvalidData.
    """
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
    # A truncated VUI is common and harmless: only values such as the frame rate are unknown then.
    vui = _vui(bits) if bits.left > 0 and bits.flag() else _Vui()
    reorder = vui.reorder
    if order == 2:
        reorder = 0  # §7.4.2.1.1: "… output order the same as decoding order"
    return H264Sps(profile, compat, level, width, height, vui.frame_rate, not frames_only, reorder, vui.aspect)


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


@dataclass(slots=True)
class _Vui:
    frame_rate: float | None = None
    reorder: int | None = None  # max_num_reorder_frames
    aspect: PixelAspect = SQUARE


def _vui(bits: BitReader) -> _Vui:
    """Reads as much of the VUI as is there (Annex E.1)."""
    found = _Vui()
    try:
        found.aspect = read_pixel_aspect(bits)
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
            found.frame_rate = rate if 0 < rate <= 1000 else None
            bits.skip(1)
        found.reorder = _reorder(bits)
    except InvalidData:
        pass
    return found


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
