"""A small gray copy of a decoded picture, to detect black and equal pictures."""

from __future__ import annotations

WIDTH, HEIGHT = 64, 36  # pixels
SIZE = WIDTH * HEIGHT
_BLACK = 32  # brightness, 0 to 255; video black is 16, and the noise of an encoder is below 8
_BLACK_SHARE = 0.98  # of the pixels: a small logo or clock does not make a black picture bright
_EQUAL = 2  # difference of a pixel that an encoder makes from equal pictures


class PictureOverview:
    """A small gray copy of a picture.

    pixels: SIZE bytes, line by line. at: monotonic seconds.
    """

    __slots__ = ("at", "is_black", "pixels")

    def __init__(self, pixels: bytes, at: float) -> None:
        self.pixels = pixels
        self.at = at
        self.is_black = sorted(pixels)[int(len(pixels) * _BLACK_SHARE)] < _BLACK if pixels else False

    def equals(self, other: PictureOverview) -> bool:
        """Whether all pixels are equal, except for the noise of an encoder."""
        if len(self.pixels) != len(other.pixels):
            return False
        return all(-_EQUAL <= a - b <= _EQUAL for a, b in zip(self.pixels, other.pixels, strict=True))
