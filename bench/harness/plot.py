"""A small writer of line charts in SVG: no library, readable in any browser."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, LEGEND = 640, 280, 70, 36, 44, 18
COLOURS = ("#1f5fa8", "#c0392b", "#2e7d32", "#8e44ad", "#b9770e", "#117a8b")


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from low to high."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if (high - low) / (step * m) <= 6)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def chart(title: str, x: str, y: str, lines: Mapping[str, Points], *, dots: bool = False) -> str:
    """One chart as an SVG element; x, y: what the axes show. The axis of y begins at 0. dots: mark each point."""
    points = [p for line in lines.values() for p in line]
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    right = right if right > left else left + 1
    top = max(*(p[1] for p in points), 1e-9) * 1.08
    height = HEIGHT + LEGEND * len(lines)

    def at(px: float, py: float) -> tuple[float, float]:
        across = LEFT + (px - left) / (right - left) * (WIDTH - LEFT - 20)
        return round(across, 1), round(HEIGHT - BOTTOM - py / top * (HEIGHT - BOTTOM - TOP), 1)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif"'
        ' font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
        f'<text x="{WIDTH - 20}" y="{HEIGHT - 8}" text-anchor="end">{escape(x)}</text>',
        f'<text transform="translate(14 {HEIGHT - BOTTOM}) rotate(-90)">{escape(y)}</text>',
    ]
    for tick in _ticks(0, top):
        _, down = at(left, tick)
        out.append(f'<path d="M{LEFT} {down}H{WIDTH - 20}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{down + 4}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(left, right):
        across, _ = at(tick, 0)
        out.append(f'<text x="{across}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    for n, (name, line) in enumerate(lines.items()):
        colour = COLOURS[n % len(COLOURS)]
        placed = [at(*p) for p in line]
        path = "M" + "L".join(f"{a} {b}" for a, b in placed)
        out.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if dots:
            out += [f'<circle cx="{a}" cy="{b}" r="3" fill="{colour}"/>' for a, b in placed]
        down = HEIGHT + LEGEND * n
        out.append(f'<rect x="{LEFT}" y="{down}" width="14" height="4" fill="{colour}"/>')
        out.append(f'<text x="{LEFT + 20}" y="{down + 6}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>"])


def page(file: Path, title: str, parts: Sequence[str]) -> None:
    """Writes charts and tables (HTML) as one page."""
    style = "body{font-family:sans-serif}td,th{padding:2px 10px;text-align:right}td:first-child{text-align:left}"
    file.parent.mkdir(parents=True, exist_ok=True)
    head = f'<!doctype html><meta charset="utf-8"><title>{escape(title)}</title><style>{style}</style>'
    file.write_text("\n".join([head, f"<h1>{escape(title)}</h1>", *parts]) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in HTML."""

    def line(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    return "\n".join(["<table>", line(columns, "th"), *(line(r, "td") for r in rows), "</table>"])
