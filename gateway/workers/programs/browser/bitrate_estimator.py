"""Determines the bitrate of transcoded pictures: about that of the source, limited by picture size and frame rate."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from gateway.media.track import Codec

# For equal quality, live H.264 (no B-frames, no lookahead) needs the bits of these codecs times this factor.
_BIT_FACTORS: Final = {Codec.VP8: 1.0, Codec.VP9: 1.4, Codec.AV1: 1.6, Codec.H265: 1.5}
_HD_BITS: Final = 2_500_000  # for 1280x720 at 30 frames per second
_HD_PIXELS: Final = 1280 * 720 * 30
_MIN_FRACTION: Final = 0.25  # of `maximum`; the lower limit
_WINDOW_PICTURES: Final = 60


def max_bitrate(width: int, height: int, rate: Fraction) -> int:
    """Returns the highest useful bitrate for this size and frame rate, in bits per second.

    Examples: 0.9 Mbit/s for 640x360 at 30 frames per second, 4.6 for 1920x1080 at 30, 7.7 for 1920x1080 at 60.
    """
    factor: float = (float(width * height * rate) / _HD_PIXELS) ** 0.75
    return max(100_000, round(_HD_BITS * factor))


class BitrateEstimator:
    """Measures the mean bytes of a picture. Durations are ignored: a picture that is shown longer needs equal bytes."""

    def __init__(self, codec: Codec) -> None:
        self._bit_factor = _BIT_FACTORS.get(codec, 1.0)
        self._pictures = self._bytes = 0
        self._mean: float | None = None  # bytes of a picture

    def add(self, size: int) -> None:
        """Counts a picture of `size` bytes."""
        self._pictures += 1
        self._bytes += size
        if self._pictures >= _WINDOW_PICTURES:
            mean = self._bytes / self._pictures
            self._mean = mean if self._mean is None else (self._mean + mean) / 2
            self._pictures = self._bytes = 0

    def target(self, rate: Fraction, maximum: int) -> int:
        """Returns the bits per second for `rate` pictures per second, at most `maximum`.

        It is `maximum` until 60 pictures have been counted.
        """
        if self._mean is None:
            return maximum
        return round(max(_MIN_FRACTION * maximum, min(maximum, 8 * self._mean * float(rate) * self._bit_factor)))
