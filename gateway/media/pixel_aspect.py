"""Pixel aspect ratio: width and height of a pixel in any unit, for anamorphic video."""

from __future__ import annotations

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
_MOST: Final = 8  # a larger ratio counts as an encoder error, and pixels as square
_NEAR: Final = Fraction(1, 100)  # sizes rounded to whole pixels are off by less


def read_pixel_aspect(bits: BitReader) -> PixelAspect:
    """Reads a VUI from aspect_ratio_info_present_flag, its first bit, to the end of the ratio (Annex E.1 of both)."""
    if not bits.flag():
        return SQUARE
    kind = bits.u(8)
    if kind == _EXTENDED:
        return usable(bits.u(16), bits.u(16))
    return _TABLE[kind - 1] if 0 < kind <= len(_TABLE) else SQUARE


def of_sizes(size: tuple[int, int], shown: tuple[int, int]) -> PixelAspect:
    """Returns the pixel aspect of pictures of `size` pixels that are shown in size `shown`."""
    wide, high = shown[0] * size[1], shown[1] * size[0]
    found = usable(wide, high)
    return SQUARE if abs(Fraction(*found) - 1) < _NEAR else found


def usable(wide: int, high: int) -> PixelAspect:
    """Returns the ratio in lowest terms; square for an impossible one."""
    if not wide or not high or not Fraction(1, _MOST) <= Fraction(wide, high) <= _MOST:
        return SQUARE
    ratio = Fraction(wide, high)
    return ratio.numerator, ratio.denominator
