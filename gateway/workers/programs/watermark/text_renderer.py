"""Draws a text once as a transparent picture. No character is interpreted as syntax.

PyAV's FFmpeg has no `drawtext` filter. That filter would also treat `:`, `'`, `%` and `\\` as syntax.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from gateway.workers.programs.watermark import bidi
from gateway.workers.programs.watermark.colors import Rgba
from gateway.workers.programs.watermark.fonts import Font, FontCatalog, choose, is_emoji, language, package_with

MAX_CHARACTERS: Final = 1_024
MAX_FONT_SIZE: Final = 1_000  # pixels
LINE_HEIGHT: Final = 1.36  # of a line in `draw_centered`, in font sizes
_ASCENT: Final = 1.05  # from the top of a line to its baseline, in font sizes
_MAX_MEASURED: Final = 32_768  # pixels
_MAX_LINES: Final = 128
_MAX_MARKS: Final = 8  # maximum combining marks on one character
_TAB: Final = "    "
_LINES: Final = re.compile(r"\r\n|[\n\r\v\f\x85\u2028\u2029]")
_ZWJ: Final = "\u200d"
_FLAG_LETTERS: Final = re.compile("[\U0001f1e6-\U0001f1ff]")  # two of them are a flag
# Joiners change adjacent letters, so they stay. Other format characters are invisible and are removed.
_KEPT_FORMATS: Final = frozenset("\u200b\u200c\u200d\u200e\u200f\u061c\u2060")


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A text to draw. size: of the font, in pixels. left, top: position of its box on the video, in pixels."""

    text: str
    size: int
    color: Rgba
    left: int
    top: int


@dataclass(slots=True)
class _Run:
    """Adjacent characters of one font and direction. x: pen position from the line's start, in pixels.

    scale: factor from the font's pixels to those of the video. rtl: right-to-left. colored: an emoji in its own colors.
    shaped: whether Pillow joins and reorders the letters; only then may it get a direction.
    """

    clusters: list[str]
    font: ImageFont.FreeTypeFont
    scale: float
    rtl: bool
    shaped: bool
    colored: bool
    x: float = 0.0
    width: float = 0.0

    @property
    def text(self) -> str:
        return "".join(self.clusters)

    @property
    def direction(self) -> str | None:
        return ("rtl" if self.rtl else "ltr") if self.shaped else None

    def measure(self) -> float:
        return float(self.font.getlength(self.text, direction=self.direction)) * self.scale

    def extent(self) -> tuple[float, float]:
        """Returns the ascent and descent of the glyphs in pixels, both positive."""
        _, top, _, bottom = self.font.getbbox(self.text, direction=self.direction, anchor="ls")
        return -top * self.scale, bottom * self.scale


def draw(block: TextBlock, width: int, height: int, fonts: FontCatalog) -> tuple[Image.Image, list[str]]:
    """Returns an RGBA picture of the video's size with the text, and warnings for characters without a font.

    The top of the tallest letter is at (left, top), like in ffmpeg's drawtext. Text outside the picture is cut off. The
    memory depends on the sizes of the picture and the font, not on the length of the text.
    """
    picture = Image.new("RGBA", (width, height))
    text, size = block.text[:MAX_CHARACTERS], max(1, min(block.size, MAX_FONT_SIZE))
    language_fonts = fonts.fonts(language(text))
    missing: dict[str, None] = {}
    available_width = width - block.left
    lines: list[list[_Run]] = []
    if available_width > 0 and block.top < height:
        parts = _LINES.split(text)[:_MAX_LINES]
        lines = [_lay_out(part, size, available_width, language_fonts, fonts, missing) for part in parts]
    ascents = [run.extent()[0] for runs in lines for run in runs if run.text.strip()]
    if ascents:
        face, _ = fonts.face(language_fonts[0], size)
        ascent, descent = face.getmetrics()
        mask = Image.new("L", picture.size)
        baseline = block.top + max(ascents)
        for runs in lines:
            for run in runs:
                _draw_run(run, block.left + run.x, baseline, mask, picture)
            baseline += ascent + descent
            if baseline - ascent - descent > height + size:
                break  # below the lower edge
        _paint(picture, mask, block.color)
    return picture, _missing_font_messages(missing)


def measure(line: str, size: int, fonts: FontCatalog) -> float:
    """Returns the width of one line in pixels. size: of the font, in pixels."""
    text = line[:MAX_CHARACTERS]
    runs = _lay_out(text, size, _MAX_MEASURED, fonts.fonts(language(text)), fonts, {})
    return max((run.x + run.width for run in runs), default=0.0)


def draw_centered(lines: Sequence[str], size: int, color: Rgba, width: int, fonts: FontCatalog) -> Image.Image:
    """Returns an RGBA picture with lines below each other, each in the middle of `width` pixels.

    size: of the font, in pixels. A line is LINE_HEIGHT sizes high. Above and below is a margin of half a size.
    """
    height = round(LINE_HEIGHT * size)
    picture = Image.new("RGBA", (width, len(lines) * height + size // 2 * 2))
    mask = Image.new("L", picture.size)
    language_fonts = fonts.fonts(language("".join(lines)))
    baseline = size // 2 + round(_ASCENT * size)
    for line in lines:
        runs = _lay_out(line[:MAX_CHARACTERS], size, width, language_fonts, fonts, {})
        left = (width - max((run.x + run.width for run in runs), default=0.0)) / 2
        for run in runs:
            _draw_run(run, left + run.x, baseline, mask, picture)
        baseline += height
    _paint(picture, mask, color)
    return picture


def _missing_font_messages(missing: dict[str, None]) -> list[str]:
    packages: dict[str, list[str]] = {}
    for character in missing:
        packages.setdefault(package_with(character), []).append(f"U+{ord(character):04X}")
    return [
        f"no font has {', '.join(codes[:5])}{' …' if len(codes) > 5 else ''}: install the package {package}"
        for package, codes in packages.items()
    ]


def clusters(line: str) -> list[str]:
    """Splits a line into characters, each with its marks, joiners and modifiers. Removes control characters."""
    result: list[str] = []
    joined = False
    for c in line.replace("\t", _TAB):
        category = unicodedata.category(c)
        if category in ("Cc", "Cs") or (category == "Cf" and c not in _KEPT_FORMATS):
            continue
        extends = category in ("Mn", "Mc", "Me") or c in (_ZWJ, "\u200c") or joined or "\U0001f3fb" <= c <= "\U0001f3ff"
        flag = _FLAG_LETTERS.fullmatch(c) and result and _FLAG_LETTERS.fullmatch(result[-1])
        if result and (extends or flag):
            if len(result[-1]) <= _MAX_MARKS:
                result[-1] += c
        else:
            result.append(c)
        joined = c == _ZWJ
    return result


def _lay_out(
    text: str,
    size: int,
    available_width: int,
    language_fonts: tuple[Font, ...],
    fonts: FontCatalog,
    missing: dict[str, None],
) -> list[_Run]:
    """Returns the runs of one line with their positions, up to `available_width` pixels."""
    runs: list[_Run] = []
    parts = clusters(text)
    levels = bidi.levels(parts)
    chosen: list[tuple[Font, bool]] = []
    for part in parts:
        font = choose(part, language_fonts)
        if font is None:
            missing[part[0]] = None
        chosen.append((font or language_fonts[0], is_emoji(part)))
    x = 0.0
    order = bidi.visual_order(levels)
    for ((font, emoji), level), indexes in groupby(order, key=lambda index: (chosen[index], levels[index])):
        if x >= available_width:
            break
        rtl = level % 2 == 1
        characters = [parts[index] for index in indexes]
        face, scale = fonts.face(font, size)
        shaped = face.layout_engine == ImageFont.Layout.RAQM
        run = _Run(characters[::-1] if rtl else characters, face, scale, rtl, shaped, font.colored and emoji)
        _trim_to_width(run, available_width - x + size)
        run.x = x
        x += run.width
        runs.append(run)
    return runs


def _trim_to_width(run: _Run, width: float) -> None:
    """Keeps only the visible part of a run, to limit memory."""
    run.width = run.measure()
    if run.width <= width:
        return
    all_clusters = run.clusters

    def keep(count: int) -> float:
        # The left end is visible. In a right-to-left run this is the logical end.
        run.clusters = all_clusters[-count:] if run.rtl else all_clusters[:count]
        return run.measure()

    keep(1 + bisect_left(range(1, len(all_clusters)), width, key=keep))


def _draw_run(run: _Run, x: float, baseline: float, mask: Image.Image, picture: Image.Image) -> None:
    if not run.colored:
        if run.scale == 1.0:  # another scale: a bitmap emoji font for a character that is no emoji
            canvas = ImageDraw.Draw(mask)
            canvas.text((x, baseline), run.text, fill=255, font=run.font, anchor="ls", direction=run.direction)
        return
    left, top, right, bottom = run.font.getbbox(run.text, direction=run.direction, anchor="ls")
    if right <= left or bottom <= top:
        return
    glyphs = Image.new("RGBA", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(glyphs).text(
        (-left, -top), run.text, font=run.font, anchor="ls", direction=run.direction, embedded_color=True
    )
    size = (max(1, round(glyphs.width * run.scale)), max(1, round(glyphs.height * run.scale)))
    if size != glyphs.size:
        glyphs = glyphs.resize(size, Image.Resampling.LANCZOS)
    layer = Image.new("RGBA", picture.size)
    layer.paste(glyphs, (round(x + left * run.scale), round(baseline + top * run.scale)))
    picture.alpha_composite(layer)


def _paint(picture: Image.Image, mask: Image.Image, color: Rgba) -> None:
    """Paints the pixels of the mask with `color`, in front of colored emoji."""
    red, green, blue, opacity = color
    box = mask.getbbox()
    if box is None:
        return
    mask = mask.crop(box)
    if opacity < 255:
        mask = mask.point([round(v * opacity / 255) for v in range(256)])
    layer = Image.new("RGBA", mask.size, (red, green, blue, 0))
    layer.putalpha(mask)
    picture.alpha_composite(layer, dest=box[:2])
