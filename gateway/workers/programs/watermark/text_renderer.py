"""Draws a text once as a picture with transparency. Every character is literal.

PyAV's FFmpeg has no `drawtext` filter. That filter would also treat `:`, `'`, `%` and `\\` as syntax.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from gateway.workers.programs.watermark import bidi
from gateway.workers.programs.watermark.colors import Rgba
from gateway.workers.programs.watermark.fonts import Font, FontCatalog, choose, is_emoji, language, package_with

LONGEST: Final = 1_024  # characters
LARGEST: Final = 1_000  # pixels of a font
_MAX_LINES: Final = 128
_MAX_MARKS: Final = 8  # on one character; more could be stacked without limit
_TAB: Final = "    "
_LINES: Final = re.compile(r"\r\n|[\n\r\v\f\x85\u2028\u2029]")
_ZWJ: Final = "\u200d"
# Joiners change the letters beside them, so they stay. Other format characters are invisible and are removed.
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
    """Neighboring characters of one font and direction. x: pen position from the line's start, in pixels."""

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
        """Returns how far the glyphs reach above and below the baseline, in pixels, both positive."""
        _, top, _, bottom = self.font.getbbox(self.text, direction=self.direction, anchor="ls")
        return -top * self.scale, bottom * self.scale


@dataclass(slots=True)
class _Line:
    runs: list[_Run] = field(default_factory=list)


def draw(words: TextBlock, width: int, height: int, book: FontCatalog) -> tuple[Image.Image, list[str]]:
    """Returns a transparent RGBA picture of the video's size with the text, and notes on characters without a font.

    The top of the tallest letter is at (left, top), as in ffmpeg's drawtext. Text beyond the picture is cut off. The
    memory depends on the sizes of the picture and the font, not on the length of the text.
    """
    picture = Image.new("RGBA", (width, height))
    text, size = words.text[:LONGEST], max(1, min(words.size, LARGEST))
    fonts = book.fonts(language(text))
    missing: dict[str, None] = {}
    room = width - words.left
    lines: list[_Line] = []
    if room > 0 and words.top < height:
        parts = _LINES.split(text)[:_MAX_LINES]
        lines = [_lay_out(part, size, room, fonts, book, missing) for part in parts]
    ascents = [run.extent()[0] for line in lines for run in line.runs if run.text.strip()]
    if ascents:
        face, _ = book.face(fonts[0], size)
        ascent, descent = face.getmetrics()
        ink = Image.new("L", picture.size)
        baseline = words.top + max(ascents)
        for line in lines:
            for run in line.runs:
                _draw_run(run, words.left + run.x, baseline, ink, picture)
            baseline += ascent + descent
            if baseline - ascent - descent > height + size:
                break  # beyond the lower edge
        _paint(picture, ink, words.color)
    return picture, _notes(missing)


def _notes(missing: dict[str, None]) -> list[str]:
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
        flag = (
            bool(result)
            and "\U0001f1e6" <= c <= "\U0001f1ff"
            and len(result[-1]) == 1
            and "\U0001f1e6" <= result[-1] <= "\U0001f1ff"
        )
        if result and (extends or flag):
            if len(result[-1]) <= _MAX_MARKS:
                result[-1] += c
        else:
            result.append(c)
        joined = c == _ZWJ
    return result


def _lay_out(
    text: str, size: int, room: int, fonts: tuple[Font, ...], book: FontCatalog, missing: dict[str, None]
) -> _Line:
    """Returns the runs of one line with their positions, up to `room` pixels."""
    line = _Line()
    parts = clusters(text)
    levels = bidi.levels(parts)
    chosen: list[tuple[Font, bool]] = []
    for part in parts:
        font = choose(part, fonts)
        if font is None:
            missing[part[0]] = None
        chosen.append((font or fonts[0], is_emoji(part)))
    x = 0.0
    order = bidi.visual_order(levels)
    at = 0
    while at < len(order) and x < room:
        first = order[at]
        end = at + 1
        while end < len(order) and chosen[order[end]] == chosen[first] and levels[order[end]] == levels[first]:
            end += 1
        rtl = levels[first] % 2 == 1
        places = order[at:end]
        font, emoji = chosen[first]
        face, scale = book.face(font, size)
        run = _Run(
            [parts[p] for p in (reversed(places) if rtl else places)],
            face,
            scale,
            rtl,
            face.layout_engine == ImageFont.Layout.RAQM,
            font.colored and emoji,
        )
        _fit(run, room - x + size)
        run.x = x
        x += run.width
        line.runs.append(run)
        at = end
    return line


def _fit(run: _Run, room: float) -> None:
    """Keeps only the visible part of a run, because glyphs far beyond the edge would waste memory."""
    run.width = run.measure()
    if run.width <= room:
        return
    everything, low, high = run.clusters, 1, len(run.clusters)
    while low < high:
        middle = (low + high) // 2
        # The left end is visible. In a right-to-left run this is the logical end.
        run.clusters = everything[-middle:] if run.rtl else everything[:middle]
        if run.measure() < room:
            low = middle + 1
        else:
            high = middle
    run.clusters = everything[-low:] if run.rtl else everything[:low]


def _draw_run(run: _Run, x: float, baseline: float, ink: Image.Image, picture: Image.Image) -> None:
    if not run.colored:
        if run.scale != 1.0:
            return  # a bitmap emoji font, but the character is no emoji: nothing to draw
        ImageDraw.Draw(ink).text((x, baseline), run.text, fill=255, font=run.font, anchor="ls", direction=run.direction)
        return
    left, top, right, bottom = run.font.getbbox(run.text, direction=run.direction, anchor="ls")
    if right <= left or bottom <= top:
        return
    stamp = Image.new("RGBA", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(stamp).text(
        (-left, -top), run.text, font=run.font, anchor="ls", direction=run.direction, embedded_color=True
    )
    shape = (max(1, round(stamp.width * run.scale)), max(1, round(stamp.height * run.scale)))
    if shape != stamp.size:
        stamp = stamp.resize(shape, Image.Resampling.LANCZOS)
    place = (round(x + left * run.scale), round(baseline + top * run.scale))
    layer = Image.new("RGBA", picture.size)
    layer.paste(stamp, place)
    picture.alpha_composite(layer)


def _paint(picture: Image.Image, ink: Image.Image, color: Rgba) -> None:
    """Draws `color` on the picture where the mask `ink` is set, above colored emoji."""
    red, green, blue, opacity = color
    box = ink.getbbox()
    if box is None:
        return
    mask = ink.crop(box)
    if opacity < 255:
        mask = mask.point([round(v * opacity / 255) for v in range(256)])
    layer = Image.new("RGBA", mask.size, (red, green, blue, 0))
    layer.putalpha(mask)
    picture.alpha_composite(layer, dest=box[:2])
