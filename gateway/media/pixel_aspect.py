"""Pixel aspect ratio: width and height of a pixel in any unit, for anamorphic video."""

from fractions import Fraction
from typing import Final, TypeAlias

from gateway.lib.bit_reader import BitReader

PixelAspect: TypeAlias = tuple[int, int]

SQUARE: Final[PixelAspect] = (1, 1)

# Table E-1 of ITU-T H.264 and of H.265: aspect_ratio_idc 1 to 16.
_TABLE: Final[tuple[PixelAspect, ...]] = (
    (1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11),
    (80, 33), (18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1),
)  # fmt: skip
_EXTENDED: Final = 255
_MAX_RATIO: Final = 8  # a larger ratio is an encoder error: then pixels are assumed to be square
_TOLERANCE: Final = Fraction(1, 100)  # sizes rounded to whole pixels differ by less


def read_pixel_aspect(bits: BitReader) -> PixelAspect:
    """Reads a VUI from its first bit, `aspect_ratio_info_present_flag`, to the end of the ratio (Annex E.1)."""
    if not bits.flag():
        return SQUARE
    kind = bits.u(8)
    if kind == _EXTENDED:
        return usable(bits.u(16), bits.u(16))
    return _TABLE[kind - 1] if 0 < kind <= len(_TABLE) else SQUARE


def of_sizes(size: tuple[int, int], render_size: tuple[int, int]) -> PixelAspect:
    """Returns the pixel aspect ratio of pictures with `size` pixels that are displayed as `render_size`."""
    return _rounded(usable(render_size[0] * size[1], render_size[1] * size[0]))


def _rounded(aspect: PixelAspect) -> PixelAspect:
    """Returns the ratio; square if it only corrects a size in whole pixels, such as 426x240 of 640x360."""
    return SQUARE if abs(Fraction(*aspect) - 1) < _TOLERANCE else aspect


def displayed(size: tuple[int, int], aspect: PixelAspect) -> tuple[int, int]:
    """Returns the size of pictures in square pixels, with their height."""
    aspect = _rounded(aspect)
    return max(1, round(Fraction(size[0] * aspect[0], aspect[1]))), size[1]


def usable(width: int, height: int) -> PixelAspect:
    """Returns the ratio in lowest terms; square if it is impossible."""
    if not width or not height or not Fraction(1, _MAX_RATIO) <= Fraction(width, height) <= _MAX_RATIO:
        return SQUARE
    return Fraction(width, height).as_integer_ratio()
