"""Which way text runs: the visual order of a line in which left-to-right and right-to-left scripts are mixed.

The Unicode Bidirectional Algorithm (UAX #9) without explicit embeddings, which a caption has no use for: their control
characters are left out of the text beforehand. Works on clusters (a character with its marks), never inside them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_STRONG = {"L": "L", "R": "R", "AL": "R"}
_NUMBERS = ("EN", "AN")


def is_rtl(clusters: Sequence[str]) -> bool:
    """Whether the line as a whole runs from right to left: its first strong character decides (UAX #9, P2 and P3)."""
    for cluster in clusters:
        strong = _STRONG.get(unicodedata.bidirectional(cluster[0]))
        if strong:
            return strong == "R"
    return False


def levels(clusters: Sequence[str]) -> list[int]:
    """The embedding level of each cluster: odd ones run from right to left."""
    rtl = is_rtl(clusters)
    base = int(rtl)
    kinds = [_kind(c) for c in clusters]
    _join_numbers(kinds)
    result = [base] * len(clusters)
    last = "R" if rtl else "L"
    at = 0
    while at < len(kinds):
        kind = kinds[at]
        if kind == "L":
            result[at] = 2 * base  # I1, I2: an even level, above an odd base
            last = "L"
        elif kind == "R":
            result[at] = 1
            last = "R"
        elif kind == "EN":
            # W7: European numbers behind a left-to-right letter behave as one.
            result[at] = 0 if last == "L" and not rtl else 2
        else:
            end = at
            while end < len(kinds) and kinds[end] == "N":
                end += 1
            after = "L" if end < len(kinds) and kinds[end] == "L" else "R" if end < len(kinds) else None
            if end < len(kinds) and kinds[end] == "EN":
                after = "L" if last == "L" and not rtl else "R"
            # N1, N2: between two of one direction neutrals take it, else that of the line.
            if last == after == "R":
                level = 1
            elif last == after == "L":
                level = 2 * base
            else:
                level = base
            result[at:end] = [level] * (end - at)
            at = end
            continue
        at += 1
    return result


def visual_order(levels: Sequence[int]) -> list[int]:
    """The positions of the clusters from left to right (UAX #9, L2)."""
    order = list(range(len(levels)))
    for level in range(max(levels, default=0), 0, -1):
        at = 0
        while at < len(order):
            if levels[order[at]] < level:
                at += 1
                continue
            end = at
            while end < len(order) and levels[order[end]] >= level:
                end += 1
            order[at:end] = reversed(order[at:end])
            at = end
    return order


def _kind(cluster: str) -> str:
    kind = unicodedata.bidirectional(cluster[0])
    return _STRONG.get(kind) or ("EN" if kind in _NUMBERS else kind)


def _join_numbers(kinds: list[str]) -> None:
    """W4, W5 and W6: a separator between two numbers, and signs beside one, belong to it; the rest is neutral."""
    for at, kind in enumerate(kinds):
        between = 0 < at < len(kinds) - 1 and kinds[at - 1] == "EN" and kinds[at + 1] == "EN"
        if kind in ("ES", "CS"):
            kinds[at] = "EN" if between else "N"
    for at, kind in enumerate(kinds):
        if kind == "ET":
            beside = (at > 0 and kinds[at - 1] == "EN") or (at + 1 < len(kinds) and kinds[at + 1] == "EN")
            kinds[at] = "EN" if beside else "N"
        elif kind not in ("L", "R", "EN", "N"):
            kinds[at] = "N"
