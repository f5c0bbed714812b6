"""Breaks the texts of a card into lines, and chooses their font sizes."""

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.workers.programs.watermark.text_renderer import LINE_HEIGHT, clusters

_SHRINK: Final = 0.92  # factor between two font sizes that are tried
_ELLIPSIS: Final = "…"
_CJK: Final = "\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_PARTS: Final = re.compile(rf"\s+|[{_CJK}]|[^\s{_CJK}]+")  # a line may end before or after a CJK character
_BALANCE_STEPS: Final = 6

Measure: TypeAlias = Callable[[str, int], float]  # the width of a line with a font size, in pixels


@dataclass(frozen=True, slots=True)
class FittedText:
    """A text in lines, with its font size in pixels."""

    lines: tuple[str, ...]
    size: int


def fit_text(text: str, sizes: tuple[int, int], width: int, height: int, measure: Measure) -> FittedText:
    """Returns a text in few lines of about the same width.

    sizes: largest and smallest font size. width, height: of the whole text, in pixels. At the smallest size, the end of
    a text that is too long is replaced by an ellipsis.
    """
    size = largest = max(1, sizes[0])
    smallest = max(1, min(sizes))
    while True:
        possible = max(1, int(height / (LINE_HEIGHT * size)))
        lines = _wrap(text, width, size, measure)
        # Large letters in many lines look worse than smaller ones in few.
        if len(lines) <= min(possible, 2 if size > 0.6 * largest else possible):
            return FittedText(_balance(text, lines, width, size, measure), size)
        if size <= smallest:
            last = _shorten(lines[possible - 1] + _ELLIPSIS, width, size, measure)
            return FittedText((*lines[: possible - 1], last), size)
        size = max(smallest, int(size * _SHRINK))


def fit_line(text: str, sizes: tuple[int, int], width: int, measure: Measure) -> FittedText:
    """Returns a text in one line: first smaller, then cut with an ellipsis. Arguments: see `fit_text`."""
    line = " ".join(text.split())
    size = max(1, sizes[0])
    while measure(line, size) > width and size > sizes[1]:
        size = max(sizes[1], int(size * _SHRINK))
    return FittedText(
        (line if measure(line, size) <= width else _shorten(line + _ELLIPSIS, width, size, measure),), size
    )


def _wrap(text: str, width: float, size: int, measure: Measure) -> list[str]:
    """Returns the lines of a text, at least one. Line breaks in the text stay."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for part in _PARTS.findall(paragraph.strip()):
            if line and measure((line + part).rstrip(), size) > width:
                lines.append(line.rstrip())
                line = ""
            for piece in _pieces(part, width, size, measure) if not line else (part,):
                if line and measure(line + piece, size) > width:
                    lines.append(line)
                    line = ""
                line = (line + piece).lstrip()
        lines.append(line.rstrip())
    return lines


def _pieces(part: str, width: float, size: int, measure: Measure) -> list[str]:
    """Returns a word in pieces that each fit a line."""
    if measure(part, size) <= width:
        return [part]
    pieces = [""]
    for cluster in clusters(part):
        if pieces[-1] and measure(pieces[-1] + cluster, size) > width:
            pieces.append("")
        pieces[-1] += cluster
    return pieces


def _balance(text: str, lines: list[str], width: float, size: int, measure: Measure) -> tuple[str, ...]:
    """Returns the text in the same number of lines, with about equal widths."""
    narrow, wide = 0.5 * width, float(width)
    for _ in range(_BALANCE_STEPS if len(lines) > 1 else 0):
        middle = (narrow + wide) / 2
        candidate = _wrap(text, middle, size, measure)
        if len(candidate) <= len(lines):
            wide, lines = middle, candidate
        else:
            narrow = middle
    return tuple(lines)


def _shorten(line: str, width: float, size: int, measure: Measure) -> str:
    """Returns the longest beginning of a line that fits with an ellipsis. line: ends with an ellipsis."""
    parts = clusters(line.removesuffix(_ELLIPSIS))

    def beginning(count: int) -> str:
        return "".join(parts[:count]).rstrip() + _ELLIPSIS

    fitting = bisect_right(range(1, len(parts) + 1), width, key=lambda count: measure(beginning(count), size))
    return beginning(fitting)
