"""Bits: how many a second pictures get that are coded anew: as many as they had, within what their size is worth."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from gateway.media.track import Codec

# H.264 as it is encoded live (no B-frames, no lookahead) needs so many times the bits of these for the same picture.
_WORTH: Final = {Codec.VP8: 1.0, Codec.VP9: 1.4, Codec.AV1: 1.6, Codec.H265: 1.5}
_HD_BITS: Final = 2_500_000  # of 1280x720 at 30 frames a second
_HD_PIXELS: Final = 1280 * 720 * 30
_LEAST: Final = 0.25  # of what the size is worth
_WINDOW: Final = 60  # pictures


def most_bits(width: int, height: int, rate: Fraction) -> int:
    """What pictures of this size and so many frames a second are worth: 0.9 Mbit/s for 640x360 at 30 frames a second,
    4.6 for 1920x1080, 7.7 for that at 60."""
    share: float = (float(width * height * rate) / _HD_PIXELS) ** 0.75
    return max(100_000, round(_HD_BITS * share))


class Bits:
    """Measures what comes, picture by picture: one that is shown for long has cost no more than another."""

    def __init__(self, codec: Codec) -> None:
        self._worth = _WORTH.get(codec, 1.0)
        self._pictures = self._bytes = 0
        self._mean: float | None = None  # bytes of a picture

    def came(self, size: int) -> None:
        """A picture of `size` bytes."""
        self._pictures += 1
        self._bytes += size
        if self._pictures >= _WINDOW:
            mean = self._bytes / self._pictures
            self._mean = mean if self._mean is None else (self._mean + mean) / 2
            self._pictures = self._bytes = 0

    def target(self, rate: Fraction, most: int) -> int:
        """Bits a second at `rate` pictures a second, at most `most`; that as long as too little came to tell."""
        if self._mean is None:
            return most
        return round(max(_LEAST * most, min(most, 8 * self._mean * float(rate) * self._worth)))
