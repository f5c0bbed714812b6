"""AV1: the av1C record, the sequence header, and samples without temporal delimiters."""

import contextlib
from dataclasses import dataclass, replace

from gateway.lib.bit_reader import BitReader
from gateway.media.colors import UNSPECIFIED_SIGNAL, VideoSignal
from gateway.media.errors import InvalidData

SEQUENCE_HEADER = 1
TEMPORAL_DELIMITER = 2
METADATA = 5
TILE_LIST = 8
PADDING = 15

MAX_CONFIG = 1 << 16  # bytes
MAX_OBUS = 4096  # of one temporal unit

# AV1-ISOBMFF §2.4: "The OBUs of type OBU_TEMPORAL_DELIMITER, OBU_PADDING, or OBU_REDUNDANT_FRAME_HEADER SHOULD NOT be
# used". OBU_TILE_LIST must not be used. Redundant frame headers stay: decoders skip these copies (AV1 §6.8.1).
_NOT_IN_SAMPLES = frozenset((TEMPORAL_DELIMITER, TILE_LIST, PADDING))


@dataclass(frozen=True, slots=True)
class Av1c:
    """AV1CodecConfigurationRecord, AV1-ISOBMFF §2.3.3. obus: the configuration OBUs, usually one sequence header."""

    profile: int
    level: int
    tier: int
    bit_depth: int
    obus: bytes


@dataclass(frozen=True, slots=True)
class SequenceHeader:
    """The values of a sequence header.

    width, height: of the largest frame, pixels.
    frame_rate: frames a second; None if the frames are not equally spaced.
    signal: the colors.
    """

    profile: int
    level: int
    tier: int
    width: int
    height: int
    frame_rate: float | None
    signal: VideoSignal = UNSPECIFIED_SIGNAL


def parse_av1c(config: bytes) -> Av1c:
    """Reads the record `config`, without box header. Raises InvalidData."""
    if not 4 <= len(config) <= MAX_CONFIG:
        raise InvalidData(f"av1C of {len(config)} bytes")
    if config[0] != 0x81:
        raise InvalidData(f"av1C: marker and version are {config[0]:#x}")
    high, twelve = config[2] >> 6 & 1, config[2] >> 5 & 1
    depth = 12 if high and twelve else 10 if high else 8
    return Av1c(config[1] >> 5, config[1] & 0x1F, config[2] >> 7, depth, config[4:])


def codec_string(config: bytes) -> str:
    """Returns the codecs parameter (AV1-ISOBMFF §5) from the av1C record, without its optional fields: "av01.0.04M.08".

    Raises InvalidData.
    """
    av1c = parse_av1c(config)
    return f"av01.{av1c.profile}.{av1c.level:02}{'H' if av1c.tier else 'M'}.{av1c.bit_depth:02}"


def obus(data: bytes) -> list[tuple[int, int, int, int]]:
    """Returns (type, start, payload start, end) of each OBU in `data` (AV1 §5.3). Raises InvalidData.

    An OBU without a size extends to the end of the data. Only the last OBU of a sample may have this form.
    """
    found: list[tuple[int, int, int, int]] = []
    at, end = 0, len(data)
    while at < end:
        start = at
        header = data[at]
        if header & 0x80:
            raise InvalidData(f"OBU at {at}: the forbidden bit is set")
        at += 2 if header & 4 else 1
        if header & 2:
            size, at = read_leb128(data, at)
        else:
            size = end - at
        if size < 0 or size > end - at:
            raise InvalidData(f"OBU at {start}: {size} bytes expected, {end - at} available")
        found.append((header >> 3 & 0xF, start, at, at + size))
        if len(found) > MAX_OBUS:
            raise InvalidData(f"a temporal unit of more than {MAX_OBUS} OBUs")
        at += size
    return found


def sample(payload: bytes) -> bytes:
    """Returns a temporal unit as ISO-BMFF stores it: without temporal delimiters, padding and tile lists.

    Returns `payload` itself if nothing has to be removed. Raises InvalidData.
    """
    parts = obus(payload)
    if not any(kind in _NOT_IN_SAMPLES for kind, _, _, _ in parts):
        return payload
    return b"".join([payload[start:end] for kind, start, _, end in parts if kind not in _NOT_IN_SAMPLES])


def sequence_header(data: bytes) -> SequenceHeader | None:
    """Returns the first sequence header among the OBUs of `data` (configOBUs or a key frame). Raises InvalidData."""
    for kind, _, start, end in obus(data):
        if kind == SEQUENCE_HEADER:
            return parse_sequence_header(data[start:end])
    return None


def parse_sequence_header(payload: bytes) -> SequenceHeader:
    """Reads a `sequence_header_obu` without its OBU header (AV1 §5.5).

    It may end after its picture size: then it has no colors. Raises InvalidData.
    """
    bits = BitReader(payload, what="AV1 sequence header", error=InvalidData)
    header, reduced = _read_to_size(bits)
    with contextlib.suppress(InvalidData):
        _skip_tools(bits, reduced)
        header = replace(header, signal=_colors(bits, header.profile)[1])
    return header


def build_av1c(obu: bytes) -> bytes:
    """Returns the av1C record for a sequence header OBU with its size field. Raises InvalidData."""
    kind, start, begin, end = obus(obu)[0] if obu else (0, 0, 0, 0)
    if kind != SEQUENCE_HEADER:
        raise InvalidData("not a sequence header")
    bits = BitReader(obu[begin:end], what="AV1 sequence header", error=InvalidData)
    header, reduced = _read_to_size(bits)
    _skip_tools(bits, reduced)
    colors, _ = _colors(bits, header.profile)
    return bytes((0x81, header.profile << 5 | header.level, header.tier << 7 | colors, 0)) + obu[start:end]


def record_in(unit: bytes) -> bytes:
    """Returns the av1C record of a temporal unit; empty: it has no sequence header. Raises InvalidData."""
    for kind, start, _, end in obus(unit):
        if kind == SEQUENCE_HEADER:
            return build_av1c(unit[start:end])
    return b""


def _skip_tools(bits: BitReader, reduced: bool) -> None:
    """Skips what is between the size and `color_config` (AV1 §5.5.1)."""
    if not reduced and bits.flag():  # frame_id_numbers_present_flag
        bits.skip(7)
    bits.skip(3)
    if not reduced:
        bits.skip(4)
        order_hint = bits.flag()
        if order_hint:
            bits.skip(2)
        screen_content = 2 if bits.flag() else bits.u(1)  # seq_force_screen_content_tools
        if screen_content and not bits.flag():  # seq_choose_integer_mv
            bits.skip(1)
        if order_hint:
            bits.skip(3)
    bits.skip(3)


def _colors(bits: BitReader, profile: int) -> tuple[int, VideoSignal]:
    """Reads `color_config` (AV1 §5.5.2). Returns the seven low bits of the third byte of av1C, and the colors."""
    high = bits.flag()
    twelve = high and profile == 2 and bits.flag()
    mono = profile != 1 and bits.flag()
    description = (bits.u(8), bits.u(8), bits.u(8)) if bits.flag() else (2, 2, 2)
    x = y = True
    position = 0
    full_range = description == (1, 13, 0) and not mono  # sRGB
    if full_range:
        x = y = False
    else:
        full_range = bits.flag()
        if mono:
            pass
        elif profile == 1:
            x = y = False
        elif profile == 2:
            x = bits.flag() if twelve else True
            y = x and bool(twelve) and bits.flag()
        if x and y and not mono:
            position = bits.u(2)
    return high << 6 | twelve << 5 | mono << 4 | x << 3 | y << 2 | position, VideoSignal(full_range, *description)


def _read_to_size(bits: BitReader) -> tuple[SequenceHeader, bool]:
    """Reads a sequence header up to the picture size. Returns the header, and `reduced_still_picture_header`."""
    profile = bits.u(3)
    bits.flag()
    tier, rate = 0, None
    reduced = bits.flag()
    if reduced:
        level = bits.u(5)
    else:
        decoder_model = 0
        model_info = False
        if bits.flag():  # timing_info_present_flag
            units, scale = bits.u(32), bits.u(32)
            if bits.flag():  # equal_picture_interval
                ticks = bits.ue() + 1  # uvlc() is ue(v) for all values below 2^32 - 1
                if units and 0 < scale / (units * ticks) <= 1000:
                    rate = scale / (units * ticks)
            model_info = bits.flag()
            if model_info:
                decoder_model = bits.u(5) + 1
                bits.skip(32 + 5 + 5)
        initial_delay = bits.flag()
        level = 0
        for n in range(bits.u(5) + 1):
            bits.skip(12)
            level_here = bits.u(5)
            tier_here = bits.u(1) if level_here > 7 else 0
            if n == 0:
                level, tier = level_here, tier_here
            if model_info and bits.flag():
                bits.skip(2 * decoder_model + 1)
            if initial_delay and bits.flag():
                bits.skip(4)
    width_bits, height_bits = bits.u(4) + 1, bits.u(4) + 1
    return SequenceHeader(profile, level, tier, bits.u(width_bits) + 1, bits.u(height_bits) + 1, rate), reduced


def read_leb128(data: bytes, at: int) -> tuple[int, int]:
    """Reads a leb128 number (AV1 §4.10.5); returns (value, position after it). Raises InvalidData."""
    value = 0
    for n in range(8):
        if at + n >= len(data):
            break
        byte = data[at + n]
        value |= (byte & 0x7F) << (7 * n)
        if not byte & 0x80:
            return value, at + n + 1
    raise InvalidData(f"OBU size at {at} does not end")


def leb128(number: int) -> bytes:
    """Returns a leb128 number in as few bytes as possible (AV1 §4.10.5)."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
