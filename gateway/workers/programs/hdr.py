"""Converts HDR to SDR: computes the color table for libav's haldclut filter, which needs no file: workers write none.

Converts PQ (SMPTE ST 2084) and HLG (ARIB STD-B67), both in BT.2020, to BT.709. The steps: compute the light, compress
the range above diffuse white, convert the colors to the smaller gamut, and encode the signal again.
"""

import math
from array import array
from enum import StrEnum
from functools import cache
from itertools import product
from typing import Final

import av

from gateway.media.colors import VideoSignal

SIZE: Final = 36  # points on each axis, a square; the filter interpolates between them
_SIDE: Final = 216  # pixels of the picture that has the table: SIZE³ = _SIDE²
_WHITE_CODE: Final = 4095  # of 12 bits

_WHITE: Final = 203.0  # cd/m² of diffuse white in HDR, ITU-R BT.2408
_PEAK: Final = 1000.0  # cd/m², the usual peak of HDR mastering; brighter light becomes white
_KNEE: Final = 0.75  # fraction of diffuse white; light below it is not changed

# ITU-R BT.2087: linear BT.2020 to linear BT.709.
_TO_709: Final = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))


class Transfer(StrEnum):
    """The transfer function of an HDR picture, by the names of `VideoSignal.range`."""

    PQ = "PQ"
    HLG = "HLG"


def to_sdr(transfer: int, full_range: bool) -> tuple[tuple[str, ...], av.VideoFrame | None]:
    """Returns the filters that convert pictures of BT.2020 to BT.709, and their table. Both are empty for SDR.

    transfer: by ITU-T H.273.
    """
    light = VideoSignal(transfer=transfer).range
    if light == "SDR":
        return (), None
    steps = (
        f"scale=in_color_matrix=bt2020:in_range={'full' if full_range else 'limited'}",
        "format=gbrp12le",
        "haldclut=interp=tetrahedral",
        "scale=out_color_matrix=bt709:out_range=limited",
        "format=yuv420p",
        "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=limited",
    )
    return steps, _picture(Transfer(light))


@cache
def _picture(transfer: Transfer) -> av.VideoFrame:
    """Returns the table as a picture."""
    frame = av.VideoFrame(_SIDE, _SIDE, "gbrp12le")
    red, green, blue = zip(*table(transfer), strict=True)
    for plane, values in zip(frame.planes, (green, blue, red), strict=True):
        codes = array("H", [round(value * _WHITE_CODE) for value in values])
        lines = [codes[at : at + _SIDE].tobytes() for at in range(0, len(codes), _SIDE)]
        plane.update(b"".join([line.ljust(plane.line_size, b"\0") for line in lines]))
    frame.pts = 0
    return frame


def table(transfer: Transfer) -> list[tuple[float, float, float]]:
    """Returns red, green and blue of SDR, for each point of the table. Red changes fastest, as the filter requires."""
    steps = [n / (SIZE - 1) for n in range(SIZE)]
    light = [_pq(s) for s in steps] if transfer is Transfer.PQ else [_hlg(s) for s in steps]
    found = []
    for blue, green, red in product(light, repeat=3):
        display = _scene_to_display(red, green, blue) if transfer is Transfer.HLG else (red, green, blue)
        found.append(_to_sdr(*display))
    return found


def _pq(signal: float) -> float:
    """ST 2084 EOTF. Returns light relative to diffuse white."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = signal ** (1 / m2)
    return 10_000.0 * float((max(power - c1, 0.0) / (c2 - c3 * power)) ** (1 / m1)) / _WHITE


def _hlg(signal: float) -> float:
    """BT.2100 HLG inverse OETF. Returns scene light, 0 to 1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return signal * signal / 3 if signal <= 0.5 else float((math.exp((signal - c) / a) + b) / 12)


def _scene_to_display(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """BT.2100 HLG OOTF with a system gamma of 1.2, for a screen with peak _PEAK. Returns light relative to white."""
    luminance = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    gain = _PEAK / _WHITE * float(luminance**0.2)
    return red * gain, green * gain, blue * gain


def _to_sdr(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """Converts display light relative to diffuse white to BT.709 signals."""
    brightest = max(red, green, blue)
    if brightest > 0:  # one factor for all three keeps the hue
        factor = _compress(brightest) / brightest
        red, green, blue = red * factor, green * factor, blue * factor
    r, g, b = (row[0] * red + row[1] * green + row[2] * blue for row in _TO_709)
    return _signal(r), _signal(g), _signal(b)


def _signal(light: float) -> float:
    """Inverse of the BT.1886 EOTF, which BT.709 screens use."""
    return float(min(1.0, max(0.0, light)) ** (1 / 2.4))


def _compress(light: float) -> float:
    """Compresses light above the knee, so that _PEAK becomes 1. The slope at the knee is 1."""
    if light <= _KNEE:
        return light
    output_range, input_range = 1 - _KNEE, _PEAK / _WHITE - _KNEE
    above = min(light - _KNEE, input_range)
    # Reinhard's curve, extended so that `input_range` becomes `output_range`.
    bend = input_range * output_range / (input_range - output_range)
    return _KNEE + above * bend / (above + bend)
