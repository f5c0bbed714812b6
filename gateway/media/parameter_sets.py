"""The syntax that the parameter sets of H.264 and H.265, and their configuration records, have in common."""

from gateway.lib.bit_reader import BitReader
from gateway.media.colors import UNSPECIFIED_SIGNAL, VideoSignal
from gateway.media.errors import InvalidData
from gateway.media.nal import SHORT_START, join_annexb, split_annexb


def bounded(value: int, limit: int, name: str) -> int:
    """Returns `value`. Raises InvalidData if it is greater than `limit`. name: the syntax element, for the error."""
    if value > limit:
        raise InvalidData(f"SPS: {name} is {value}")
    return value


def cropped_size(bits: BitReader, width: int, height: int, unit_x: int, unit_y: int) -> tuple[int, int]:
    """Reads the left, right, top and bottom offset of a cropping window. Returns the size inside it.

    width, height: pixels before cropping.
    unit_x, unit_y: pixels of one horizontal and one vertical offset unit.

    Raises InvalidData if the window is empty.
    """
    left, right, top, bottom = bits.ue(), bits.ue(), bits.ue(), bits.ue()
    width -= (left + right) * unit_x
    height -= (top + bottom) * unit_y
    if width <= 0 or height <= 0:
        raise InvalidData(f"SPS: cropped to {width} x {height}")
    return width, height


def read_video_signal(bits: BitReader) -> VideoSignal:
    """Reads the VUI from `overscan_info_present_flag` to the chroma sample location (Annex E.1 of each standard)."""
    signal = UNSPECIFIED_SIGNAL
    if bits.flag():  # overscan_info_present_flag
        bits.skip(1)
    if bits.flag():  # video_signal_type_present_flag
        bits.skip(3)
        full_range = bits.flag()
        colors = (bits.u(8), bits.u(8), bits.u(8)) if bits.flag() else (2, 2, 2)
        signal = VideoSignal(full_range, *colors)
    if bits.flag():  # chroma_loc_info_present_flag
        bits.ue()
        bits.ue()
    return signal


def read_frame_rate(bits: BitReader, ticks_per_frame: int) -> float | None:
    """Reads `num_units_in_tick` and `time_scale`. Returns frames a second; None if the rate is impossible."""
    units, scale = bits.u(32), bits.u(32)
    rate = scale / (ticks_per_frame * units) if units else 0.0
    return rate if 0 < rate <= 1000 else None


def read_units(config: bytes, position: int, count: int, name: str) -> tuple[tuple[bytes, ...], int]:
    """Reads `count` NAL units with 16-bit lengths. Returns them without empty ones, and the position after them.

    name: of the record and the units, for errors. Raises InvalidData if a unit exceeds the record.
    """
    units: list[bytes] = []
    for n in range(count):
        start = position + 2
        position = start + int.from_bytes(config[position:start], "big")
        if start > len(config) or position > len(config):
            raise InvalidData(f"{name} {n} ends at {position} of {len(config)} bytes")
        if position > start:
            units.append(config[start:position])
    return tuple(units), position


def divided_sets(units: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
    """Returns the units that start codes inside of the units of a record divide; None: there are none.

    Apps of Android copy the bytes of MediaCodec (csd-0) into a record: one set with its start code, or all of them.
    """
    if not any(SHORT_START in unit for unit in units):
        return None
    return tuple(dict.fromkeys(split_annexb(join_annexb(units))))
