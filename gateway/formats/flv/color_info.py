"""Reads and writes `colorInfo`, with which Enhanced RTMP describes the colors of a video track."""

import struct
from typing import Final

from gateway.formats import amf0
from gateway.media.colors import NO_COLORS, Colors, VideoSignal, mastering_display
from gateway.media.errors import InvalidData
from gateway.media.track import AmfValue

_NAME: Final = "colorInfo"
_NUMBERS: Final = ("colorPrimaries", "transferCharacteristics", "matrixCoefficients")
_POINTS: Final = ("red", "green", "blue", "whitePoint")
_MAX_BODY: Final = 4_096  # bytes of metadata that are read; encoders write 400


def read_color_info(body: bytes) -> Colors | None:
    """Returns the colors in the metadata of a video body, after its FourCC; None if they say nothing about colors.

    An empty `colorInfo` means the colors of the pictures. Damaged metadata say nothing, because the pictures are whole.
    """
    position, end = 0, min(len(body), _MAX_BODY)
    try:
        while position < end:
            name, position = amf0.read(body[:end], position)
            value, position = amf0.read(body[:end], position)
            if name == _NAME:
                return _colors(value if isinstance(value, dict) else {})
    except InvalidData:
        return None
    return None


def color_info(colors: Colors) -> bytes:
    """Returns the metadata with these colors; empty if nothing is declared."""
    signal, mastering, light = colors.signal, colors.mastering, colors.light
    if colors == NO_COLORS and not colors.depth:
        return b""
    numbers = zip(_NUMBERS, (signal.primaries, signal.transfer, signal.matrix), strict=True)
    config: dict[str, AmfValue] = {"bitDepth": float(colors.depth)} if colors.depth else {}
    info: dict[str, AmfValue] = {"colorConfig": config | {name: float(number) for name, number in numbers}}
    if light:
        most, mean = struct.unpack(">2H", light)
        info["hdrCll"] = {"maxFall": float(mean), "maxCLL": float(most)}
    if mastering:
        *points, brightest, darkest = struct.unpack(">8H2I", mastering)
        green, blue, red, white = zip(points[::2], points[1::2], strict=True)
        values: dict[str, AmfValue] = {
            f"{name}{axis}": value / 50_000
            for name, point in zip(_POINTS, (red, green, blue, white), strict=True)
            for axis, value in zip("XY", point, strict=True)
        }
        info["hdrMdcv"] = values | {"maxLuminance": brightest / 10_000, "minLuminance": darkest / 10_000}
    return amf0.encode(_NAME, info)


def _colors(info: dict[str, AmfValue]) -> Colors:
    config, display, light = (_fields(info.get(name)) for name in ("colorConfig", "hdrMdcv", "hdrCll"))
    primaries, transfer, matrix = (number if (number := round(config.get(n, 2))) < 256 else 2 for n in _NUMBERS)
    matrix = matrix or 2  # 0 is RGB: ffmpeg 9 says it of pictures that were RGB before they were coded
    points = [(display.get(f"{name}X", 0.0), display.get(f"{name}Y", 0.0)) for name in _POINTS]
    most = display.get("maxLuminance", 0.0)
    return Colors(
        VideoSignal(False, primaries, transfer, matrix),
        mastering_display(points[:3], points[3], most, display.get("minLuminance", 0.0)) if most else b"",
        b"".join([round(min(light.get(n, 0), 0xFFFF)).to_bytes(2, "big") for n in ("maxCLL", "maxFall")]) * bool(light),
        depth if (depth := round(config.get("bitDepth", 0))) in (8, 10, 12) else 0,
    )


def _fields(value: AmfValue) -> dict[str, float]:
    """Returns the fields of an object that are numbers which colors can have."""
    fields = value.items() if isinstance(value, dict) else ()
    return {name: float(v) for name, v in fields if isinstance(v, float) and 0 <= v < 1 << 32}
