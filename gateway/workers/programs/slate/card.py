"""Draws a card: the channel's name, a text, a moving bar and a clock."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import av
from PIL import Image

from gateway.workers.programs.continued_video import ContinuedForm
from gateway.workers.programs.filters import Chain
from gateway.workers.programs.slate.card_layout import FittedText, fit_line, fit_text
from gateway.workers.programs.watermark.colors import Rgba
from gateway.workers.programs.watermark.fonts import FontCatalog
from gateway.workers.programs.watermark.overlay_blender import to_frame
from gateway.workers.programs.watermark.text_renderer import LINE_HEIGHT, draw_centered, measure

# The colors of the console's dark theme.
_BACKGROUND: Final[Rgba] = (11, 19, 24, 255)
_TEXT: Final[Rgba] = (228, 237, 242, 255)
_SECONDARY_TEXT: Final[Rgba] = (155, 175, 187, 255)
_BAR: Final[Rgba] = (34, 49, 59, 255)
_BRIGHT_BAR: Final[Rgba] = (79, 214, 196, 255)

# Fractions of the shorter side of the picture. Sizes: the largest and the smallest font size.
_NAME_SIZES: Final = (0.05, 0.03)
_TEXT_SIZES: Final = (0.11, 0.034)
_CLOCK_SIZE: Final = 0.045
_GAP: Final = 0.045
_BAR_HEIGHT: Final = 0.008
_BAR_WIDTH: Final = 0.4
_MAX_WIDTH: Final = 0.84  # of the picture's width
_MAX_HEIGHT: Final = 0.5  # height of the text, as a fraction of the picture's
_MOTION_RATE: Final = 12  # of the bar, in pictures per second
_BRIGHT_SHARE: Final = 0.3  # fraction of the bar that is bright


@dataclass(frozen=True, slots=True)
class CardTexts:
    """The texts of a card. clock: the time that is shown; "": no clock."""

    name: str
    text: str
    clock: str


class CardPainter:
    """Draws cards of one form. count: number of pictures in a loop."""

    def __init__(self, form: ContinuedForm, count: int, fonts: FontCatalog) -> None:
        self._form = form
        self._count = count
        self._step = max(1, round(form.rate / _MOTION_RATE))
        self._fonts = fonts
        self._bars: list[av.VideoFrame] = []  # the moving bar in each picture
        self._bar_size = (0, 0)

    def draw_pictures(self, texts: CardTexts) -> Iterator[av.VideoFrame | None]:
        """Yields the pictures of one loop; None repeats the previous picture.

        The last picture and the first one fit together, so the loop repeats without a visible jump.
        """
        form = self._form
        width, height = form.display_size
        image, (left, top, bar_width, bar_height) = _draw(texts, width, height, self._fonts)
        if form.width != width:
            scale = form.width / width
            image = image.resize((form.width, form.height), Image.Resampling.LANCZOS)
            left, bar_width = round(left * scale / 2) * 2, _even(bar_width * scale)
        (base,) = Chain(form.scaling(form.width, form.height)).push(to_frame(image))
        self._draw_bars(bar_width, bar_height)
        canvas = _Canvas(base)
        for number in range(self._count):
            if number % self._step:
                yield None
                continue
            frame = canvas.paste(self._bars[number // self._step], left, top)
            form.set_colors(frame)
            yield frame

    def _draw_bars(self, width: int, height: int) -> None:
        if self._bar_size != (width, height):
            self._bar_size = width, height
            chain = Chain(self._form.scaling(width, height))
            phases = (number / self._count for number in range(0, self._count, self._step))
            self._bars = [f for phase in phases for f in chain.push(to_frame(_draw_bar(width, height, phase)))]


def _draw(
    texts: CardTexts, width: int, height: int, fonts: FontCatalog
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Returns the card without its bar, and the box of the bar: left, top, width, height, all even."""
    side = min(width, height)
    inner = round(width * _MAX_WIDTH)

    def measured(line: str, size: int) -> float:
        return measure(line, size, fonts)

    def sizes(parts: tuple[float, float]) -> tuple[int, int]:
        return max(1, round(parts[0] * side)), max(1, round(parts[1] * side))

    name = fit_line(texts.name, sizes(_NAME_SIZES), inner, measured)
    text = fit_text(texts.text, sizes(_TEXT_SIZES), inner, round(height * _MAX_HEIGHT), measured)
    clock_size = max(1, round(_CLOCK_SIZE * side))
    gap = round(_GAP * side)
    bar_width, bar_height = _even(_BAR_WIDTH * side), _even(_BAR_HEIGHT * side)
    name_height, text_height = _height(name) + gap // 3 if name.lines[0] else 0, _height(text)
    clock_height = round(LINE_HEIGHT * clock_size)  # also without a clock, so that nothing moves when it comes
    total = name_height + text_height + gap + bar_height + gap + clock_height
    picture = Image.new("RGBA", (width, height), _BACKGROUND)
    top = max(0, (height - total) // 2)
    _put(picture, name, _SECONDARY_TEXT, top, fonts)
    top += name_height
    _put(picture, text, _TEXT, top, fonts)
    top += text_height + gap
    bar = (width - bar_width) // 4 * 2, top // 2 * 2, bar_width, bar_height
    top += bar_height + gap
    _put(picture, FittedText((texts.clock,), clock_size), _SECONDARY_TEXT, top, fonts)
    return picture, bar


def _height(text: FittedText) -> int:
    return len(text.lines) * round(LINE_HEIGHT * text.size)


def _put(picture: Image.Image, text: FittedText, color: Rgba, top: int, fonts: FontCatalog) -> None:
    lines = draw_centered(text.lines, text.size, color, picture.width, fonts)
    margin = text.size // 2
    cut = max(0, margin - top)
    if cut < lines.height:
        picture.alpha_composite(lines, (0, top - margin + cut), (0, cut, lines.width, lines.height))


def _even(pixels: float) -> int:
    return max(2, round(pixels / 2) * 2)


def _draw_bar(width: int, height: int, phase: float) -> Image.Image:
    """Returns the bar. phase: of its motion, from 0 to 1; the bar looks the same at 0 and 1."""
    begin, length = phase * width, _BRIGHT_SHARE * width
    row = bytearray()
    for x in range(width):
        # The bright part leaves at the right and enters at the left.
        bright = sum(max(0.0, min(x + 1, at + length) - max(x, at)) for at in (begin, begin - width))
        row += bytes(round(a + (b - a) * bright) for a, b in zip(_BAR, _BRIGHT_BAR, strict=True))
    return Image.frombytes("RGBA", (width, height), bytes(row) * height)


class _Canvas:
    """A picture into which smaller pictures are pasted. All positions and sizes are even."""

    def __init__(self, base: av.VideoFrame) -> None:
        self._base = base
        self._sample = (base.format.components[0].bits + 7) // 8  # bytes
        # The rows of new frames may be longer than those of a filter's frames.
        new = av.VideoFrame(base.width, base.height, base.format.name)
        self._planes = [_with_rows(old, plane) for old, plane in zip(base.planes, new.planes, strict=True)]

    def paste(self, strip: av.VideoFrame, left: int, top: int) -> av.VideoFrame:
        """Returns a copy of the picture with `strip` at a position."""
        base = self._base
        frame = av.VideoFrame(base.width, base.height, base.format.name)
        for plane, content, inner in zip(frame.planes, self._planes, strip.planes, strict=True):
            data, pixels = bytearray(content), memoryview(inner)
            length = inner.width * self._sample
            at = top * plane.height // base.height * plane.line_size + left * plane.width // base.width * self._sample
            for n in range(inner.height):
                data[at : at + length] = pixels[n * inner.line_size : n * inner.line_size + length]
                at += plane.line_size
            plane.update(bytes(data))
        return frame


def _with_rows(plane: Any, new: Any) -> bytes:
    """Returns the bytes of a plane with the row length and the size of another one."""
    data, old_length, length = memoryview(plane), plane.line_size, new.line_size
    common, padding = min(old_length, length), bytes(max(0, length - old_length))
    rows = b"".join(bytes(data[at : at + common]) + padding for at in range(0, plane.height * old_length, old_length))
    return rows[: new.buffer_size].ljust(new.buffer_size, b"\0")
