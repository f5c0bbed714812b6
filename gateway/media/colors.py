"""The colors of pictures: primaries, transfer and matrix, and the light of HDR."""

from dataclasses import dataclass, field
from typing import Final, TypeAlias

_UNSPECIFIED: Final = 2
_RANGES: Final = {16: "PQ", 18: "HLG"}  # by transfer characteristics, ITU-T H.273 table 3

Chromaticity: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class VideoSignal:
    """The colors of a stream, by the numbers of ISO/IEC 23091-2. 2: not specified."""

    full_range: bool = False
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    matrix: int = _UNSPECIFIED

    @property
    def range(self) -> str:
        """VIDEO-RANGE of HLS (RFC 8216bis §4.4.6.2): "PQ", "HLG" or "SDR"."""
        return _RANGES.get(self.transfer, "SDR")


UNSPECIFIED_SIGNAL: Final = VideoSignal()


@dataclass(frozen=True, slots=True)
class Colors:
    """The signal, and what is known about the light of HDR pictures.

    mastering: of the display of the master, as in the box `mdcv` and in SEI messages; b"" if unknown.
    light: the most light of a picture and of a pixel, as in the box `clli` and in SEI messages; b"" if unknown.
    depth: bits of a sample that a publisher declares; 0: none.
    """

    signal: VideoSignal = UNSPECIFIED_SIGNAL
    mastering: bytes = b""
    light: bytes = b""
    depth: int = field(default=0, compare=False)

    def or_else(self, other: "Colors") -> "Colors":
        """Returns these colors, and those of `other` where they say nothing."""
        mine, theirs = self.signal, other.signal
        numbers = ((mine.primaries, theirs.primaries), (mine.transfer, theirs.transfer), (mine.matrix, theirs.matrix))
        chosen = (their if own == _UNSPECIFIED else own for own, their in numbers)
        return Colors(
            VideoSignal(mine.full_range, *chosen), self.mastering or other.mastering, self.light or other.light
        )


NO_COLORS: Final = Colors()


def mastering_display(primaries: list[Chromaticity], white: Chromaticity, most: float, least: float) -> bytes:
    """Returns the content of `mdcv` (ISO/IEC 14496-12 §12.1.8). primaries: red, green, blue. most, least: cd/m²."""
    red, green, blue = primaries
    points = [round(min(max(value, 0.0), 1.0) * 50_000) for point in (green, blue, red, white) for value in point]
    lights = [round(min(max(value, 0.0), 400_000.0) * 10_000) for value in (most, least)]
    return b"".join([value.to_bytes(2, "big") for value in points] + [value.to_bytes(4, "big") for value in lights])
