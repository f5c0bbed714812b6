"""Computes the visual order of a line that mixes left-to-right and right-to-left scripts.

Implements the Unicode Bidirectional Algorithm (UAX #9) without explicit embeddings. A watermark does not need them:
their control characters were removed from the text. Works on clusters (a character with its marks).
"""

import unicodedata
from collections.abc import Sequence

_STRONG = {"L": "L", "R": "R", "AL": "R"}
_NUMBERS = ("EN", "AN")


def is_rtl(clusters: Sequence[str]) -> bool:
    """Returns whether the line runs from right to left, as its first strong character (UAX #9, P2 and P3)."""
    for cluster in clusters:
        strong = _STRONG.get(unicodedata.bidirectional(cluster[0]))
        if strong:
            return strong == "R"
    return False


def levels(clusters: Sequence[str]) -> list[int]:
    """Returns the embedding level of each cluster. Odd levels run from right to left."""
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
            # W7: a European number after a left-to-right letter counts as left-to-right.
            result[at] = 0 if last == "L" and not rtl else 2
        else:
            end = at
            while end < len(kinds) and kinds[end] == "N":
                end += 1
            after = "L" if end < len(kinds) and kinds[end] == "L" else "R" if end < len(kinds) else None
            if end < len(kinds) and kinds[end] == "EN":
                after = "L" if last == "L" and not rtl else "R"
            # N1, N2: neutrals between two characters of one direction get this direction, else that of the line.
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
    """Returns the indexes of the clusters in order from left to right (UAX #9, L2)."""
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
    """Returns L, R, EN (for every number), or another bidirectional class of UAX #9."""
    kind = unicodedata.bidirectional(cluster[0])
    return _STRONG.get(kind) or ("EN" if kind in _NUMBERS else kind)


def _join_numbers(kinds: list[str]) -> None:
    """Applies W4, W5 and W6 to `kinds` in place.

    A separator between two numbers, and a sign next to a number, count as numbers. Others become neutral (N).
    """
    for at, kind in enumerate(kinds):
        between = 0 < at < len(kinds) - 1 and kinds[at - 1] == "EN" and kinds[at + 1] == "EN"
        if kind in ("ES", "CS"):
            kinds[at] = "EN" if between else "N"
    for at, kind in enumerate(kinds):
        if kind == "ET":
            next_to_number = (at > 0 and kinds[at - 1] == "EN") or (at + 1 < len(kinds) and kinds[at + 1] == "EN")
            kinds[at] = "EN" if next_to_number else "N"
        elif kind not in ("L", "R", "EN", "N"):
            kinds[at] = "N"
