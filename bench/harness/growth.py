"""How a quantity grows: the least-squares line through its samples, and the power of the size that it follows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope of the least-squares line and its standard error, in units of y for each unit of x; nan for under three."""
    if len(points) < 3:
        return math.nan, math.nan
    xs, ys = zip(*points, strict=True)
    slope, intercept = statistics.linear_regression(xs, ys)
    left = sum((y - slope * x - intercept) ** 2 for x, y in points)
    spread = sum((x - statistics.fmean(xs)) ** 2 for x in xs)
    return slope, math.sqrt(left / (len(points) - 2) / spread)


def power(points: Sequence[tuple[float, float]]) -> float:
    """The exponent of the size that a quantity follows, between the two largest sizes: 1 is linear."""
    (x0, y0), (x1, y1) = sorted(points)[-2:]
    return math.log(y1 / y0) / math.log(x1 / x0) if y0 > 0 and y1 > 0 else math.nan
