"""VP9 and VP8: the vpcC record and the size in a key frame."""

from dataclasses import dataclass
from typing import TypeAlias

from gateway.lib.bit_reader import BitReader
from gateway.media.errors import InvalidData
from gateway.media.pixel_aspect import SQUARE, PixelAspect, of_sizes

MAX_CONFIG = 1 << 12

# VP9 levels by their largest picture in pixels ("MaxLumaPictureSize").
_LEVELS = (
    (36_864, 10), (73_728, 11), (122_880, 20), (245_760, 21), (552_960, 30), (983_040, 31), (2_228_224, 40),
    (8_912_896, 50), (35_651_584, 60),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vpcc:
    """VPCodecConfigurationRecord of "VP Codec ISO Media File Format Binding", without the box's version and flags."""

    profile: int
    level: int
    bit_depth: int
    subsampling: int
    full_range: bool
    record: bytes


def parse_vpcc(config: bytes) -> Vpcc:
    """Reads the record `config`. Raises InvalidData.

    In FLV, four bytes (version 1, flags) may precede it. Both forms are read; `record` does not contain these bytes.
    """
    if not 6 <= len(config) <= MAX_CONFIG:
        raise InvalidData(f"vpcC of {len(config)} bytes")
    # A record alone never begins with these bytes: they would mean profile 1, level 0 and depth 0.
    record = config[4:] if config[:4] == b"\x01\x00\x00\x00" else config
    if len(record) < 8:
        record = record.ljust(8, b"\x00")
    depth = record[2] >> 4
    if record[0] > 3 or depth not in (8, 10, 12):
        raise InvalidData(f"vpcC: profile {record[0]}, depth {depth}")
    return Vpcc(record[0], record[1], depth, record[2] >> 1 & 7, bool(record[2] & 1), record)


def vpcc_of(frame: bytes) -> Vpcc:
    """Returns the record for this VP9 key frame, for a track without configuration. Raises InvalidData."""
    header = _key_frame(frame)
    if header is None:
        raise InvalidData("VP9: neither configuration nor key frame")
    profile, depth, subsampling, full_range, (width, height), _ = header
    level = next((level for max_pixels, level in _LEVELS if width * height <= max_pixels), 62)
    # The decoder finds the colour values itself: 2 is "unspecified" in all three fields.
    record = bytes((profile, level, depth << 4 | subsampling << 1 | full_range, 2, 2, 2, 0, 0))
    return Vpcc(profile, level, depth, subsampling, full_range, record)


def codec_string(vpcc: Vpcc, *, vp8: bool = False) -> str:
    """Returns the "Codecs Parameter String" of the binding: "vp09.00.31.08", or "vp08…"."""
    # Level 0 is "undefined", but players need a level: 1.0 is the lowest.
    return f"vp0{8 if vp8 else 9}.{vpcc.profile:02}.{vpcc.level or 10:02}.{vpcc.bit_depth:02}"


def frame_size(payload: bytes) -> tuple[int, int] | None:
    """Returns width and height of a VP9 key frame; None for any other frame. Raises InvalidData."""
    header = _key_frame(payload)
    return header and header[4]


def pixel_aspect(payload: bytes) -> PixelAspect:
    """Returns the pixel aspect ratio of a VP9 key frame, from its render size; square for other frames.

    Raises InvalidData.
    """
    header = _key_frame(payload)
    return of_sizes(header[4], header[5]) if header is not None else SQUARE


_Size: TypeAlias = tuple[int, int]


def _key_frame(payload: bytes) -> tuple[int, int, int, bool, _Size, _Size] | None:
    """Reads a VP9 key frame (VP9 §6.2). Returns None for other frames.

    Returns (profile, depth, chroma subsampling of vpcC, full range, size, render size). The render size is the size if
    the frame header does not contain it.
    """
    bits = BitReader(payload[:32], what="VP9 frame header", error=InvalidData)
    if bits.u(2) != 2:
        raise InvalidData("VP9 frame header: wrong frame_marker")
    profile = bits.u(1) | bits.u(1) << 1
    if profile == 3:
        bits.flag()
    if bits.flag() or bits.flag():  # show_existing_frame, frame_type
        return None
    bits.skip(2)
    if bits.u(24) != 0x498342:
        raise InvalidData("VP9 frame header: wrong frame_sync_code")
    depth = (12 if bits.flag() else 10) if profile >= 2 else 8
    subsampling, full_range = 1, True
    if bits.u(3) != 7:  # color_space other than CS_RGB
        full_range = bits.flag()
        if profile & 1:
            x, y = bits.flag(), bits.flag()
            bits.flag()
            subsampling = 1 if x and y else 2 if x else 3
    else:
        subsampling = 3
        bits.skip(profile & 1)
    size = render_size = bits.u(16) + 1, bits.u(16) + 1
    if bits.left >= 33 and bits.flag():  # render_and_frame_size_different
        render_size = bits.u(16) + 1, bits.u(16) + 1
    return profile, depth, subsampling, full_range, size, render_size


def vp8_frame_size(payload: bytes) -> tuple[int, int] | None:
    """Returns width and height of a VP8 key frame; None for any other frame (RFC 6386 §9.1). Raises InvalidData."""
    if not payload:
        raise InvalidData("VP8 frame of 0 bytes")
    if payload[0] & 1:
        return None
    if len(payload) < 10 or payload[3:6] != b"\x9d\x01\x2a":
        raise InvalidData("VP8 key frame without its start code")
    return int.from_bytes(payload[6:8], "little") & 0x3FFF, int.from_bytes(payload[8:10], "little") & 0x3FFF
