"""Parses colors in the syntax of CSS and ffmpeg."""

import re
from typing import Final, TypeAlias

from PIL import ImageColor

Rgba: TypeAlias = tuple[int, int, int, int]

_HEX: Final = re.compile(r"(?:#|0x)?([0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})", re.ASCII)
_ALPHA: Final = re.compile(r"0x([0-9a-f]{1,2})|([0-9]{0,4}(?:\.[0-9]{0,8})?)", re.ASCII)


def parse_color(text: str) -> Rgba:
    """Returns red, green, blue and opacity, each 0 to 255. Raises ValueError.

    Accepts a CSS name, `#rgb`, `#rgba`, `#rrggbb` and `#rrggbbaa`. `0x` may replace `#`; six or eight digits need no
    prefix. `@` and an opacity may follow: 0.0 to 1.0, or `0x00` to `0xff` (ffmpeg's syntax).
    """
    name, at, opacity = text.strip().lower().partition("@")
    red, green, blue, alpha = _parse_name(name) or _parse_digits(name)
    return red, green, blue, _parse_opacity(opacity) if at else alpha


def _parse_name(name: str) -> Rgba | None:
    if name == "transparent":
        return 0, 0, 0, 0
    if name not in ImageColor.colormap:
        return None
    red, green, blue = ImageColor.getrgb(name)[:3]
    return red, green, blue, 255


def _parse_digits(text: str) -> Rgba:
    match = _HEX.fullmatch(text)
    if match is None or (len(match[1]) < 6 and not text.startswith(("#", "0x"))):
        raise ValueError(f"{text[:32]!r} is not a color")
    digits = match[1] if len(match[1]) >= 6 else "".join(d * 2 for d in match[1])
    red, green, blue, alpha = bytes.fromhex(digits.ljust(8, "f"))
    return red, green, blue, alpha


def _parse_opacity(text: str) -> int:
    match = _ALPHA.fullmatch(text)
    if match is None or text in ("", "."):
        raise ValueError(f"{text[:32]!r} is not an opacity")
    if match[1]:
        return int(match[1], 16)
    value = float(match[2])
    if value > 1:
        raise ValueError("an opacity is at most 1.0")
    return round(value * 255)
