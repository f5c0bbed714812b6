"""Chooses the bitrate of pictures that are encoded again: about that of the source, limited by the picture size."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from gateway.media.track import Codec

# For the same quality, live H.264 (no B-frames, no lookahead) needs so many times the bits of these codecs.
_WORTH: Final = {Codec.VP8: 1.0, Codec.VP9: 1.4, Codec.AV1: 1.6, Codec.H265: 1.5}
_HD_BITS: Final = 2_500_000  # for 1280x720 at 30 frames per second
_HD_PIXELS: Final = 1280 * 720 * 30
_LEAST: Final = 0.25  # lower limit, as a share of `max_bitrate`
_WINDOW: Final = 60  # pictures


def max_bitrate(width: int, height: int, rate: Fraction) -> int:
    """Returns the highest useful bitrate for this size and frame rate, in bits per second.

    Examples: 0.9 Mbit/s for 640x360 at 30 frames per second, 4.6 for 1920x1080 at 30, 7.7 for 1920x1080 at 60.
    """
    share: float = (float(width * height * rate) / _HD_PIXELS) ** 0.75
    return max(100_000, round(_HD_BITS * share))


class BitrateEstimator:
    """Measures the mean bytes per picture. It ignores durations: a picture that is shown longer needs no more bytes."""

    def __init__(self, codec: Codec) -> None:
        self._worth = _WORTH.get(codec, 1.0)
        self._pictures = self._bytes = 0
        self._mean: float | None = None  # bytes of a picture

    def came(self, size: int) -> None:
        """Counts a picture of `size` bytes."""
        self._pictures += 1
        self._bytes += size
        if self._pictures >= _WINDOW:
            mean = self._bytes / self._pictures
            self._mean = mean if self._mean is None else (self._mean + mean) / 2
            self._pictures = self._bytes = 0

    def target(self, rate: Fraction, most: int) -> int:
        """Returns the bits per second for `rate` pictures per second, at most `most`.

        Returns `most` until 60 pictures have been counted.
        """
        if self._mean is None:
            return most
        return round(max(_LEAST * most, min(most, 8 * self._mean * float(rate) * self._worth)))
