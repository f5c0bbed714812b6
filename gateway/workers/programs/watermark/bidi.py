"""Computes the visual order of a line that mixes left-to-right and right-to-left scripts.

Implements a part of the Unicode Bidirectional Algorithm (UAX #9): P2, P3, W4 to W7, N1, N2, I1, I2 and L2. It works on
clusters (a character with its marks), so it needs no W1.

There are no embeddings or isolates, because `text_renderer.clusters` removes their control characters. Not supported:

- N0: brackets are ordinary neutrals.
- W2: a European number after an Arabic letter stays a European number.
- X9: an invisible character, such as U+200B, is a neutral instead of nothing.
"""

import unicodedata
from collections.abc import Sequence
from itertools import groupby, pairwise

_STRONG = {"L": "L", "R": "R", "AL": "R"}
_SEPARATED = (("EN", "ES"), ("EN", "CS"), ("AN", "CS"))  # W4: numbers with their separators


def is_rtl(clusters: Sequence[str]) -> bool:
    """Returns whether the line runs from right to left, as its first strong character (UAX #9, P2 and P3)."""
    for cluster in clusters:
        strong = _STRONG.get(unicodedata.bidirectional(cluster[0]))
        if strong:
            return strong == "R"
    return False


def levels(clusters: Sequence[str]) -> list[int]:
    """Returns the embedding level of each cluster. Odd levels run from right to left."""
    base = int(is_rtl(clusters))
    own = "LR"[base]
    kinds = [_kind(c) for c in clusters]
    _resolve_numbers(kinds, own)
    result: list[int] = []
    before = own
    runs = [(kind, len(list(run))) for kind, run in groupby(kinds)]
    for (kind, length), (following, _) in zip(runs, [*runs[1:], (own, 0)], strict=False):
        if kind == "N":
            # N1, N2: neutrals between two characters of one direction get this direction, else that of the line.
            kind = before if before == _direction(following) else own
        # I1, I2: letters of the other direction are one level above the line, numbers always have level 2.
        result += [{"L": 2 * base, "R": 1}.get(kind, 2)] * length
        before = _direction(kind)
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
    """Returns L, R (also for Arabic letters, AL), or another bidirectional class of UAX #9."""
    kind = unicodedata.bidirectional(cluster[0])
    return _STRONG.get(kind, kind)


def _direction(kind: str) -> str:
    """Returns L or R. Neutrals see numbers as right-to-left characters (N1)."""
    return "L" if kind == "L" else "R"


def _resolve_numbers(kinds: list[str], last: str) -> None:
    """Applies W4 to W7 to `kinds` in place. last: the direction of the line, L or R.

    W4: one separator between two numbers of a kind counts as a number: ES (+ -) for European numbers (EN), CS (. , : /)
    for Arabic-Indic ones (AN) too. W5: terminators (ET, such as % $ #) next to a European number count as numbers.
    W6: all other characters that are neither numbers nor letters become neutral (N).
    """
    for at in range(1, len(kinds) - 1):
        number = kinds[at - 1]
        if (number, kinds[at]) in _SEPARATED and kinds[at + 1] == number:
            kinds[at] = number
    for step in (1, -1):  # W5: all terminators after a number, then all before one
        for before, at in pairwise(range(len(kinds))[::step]):
            if kinds[at] == "ET" and kinds[before] == "EN":
                kinds[at] = "EN"
    for at, kind in enumerate(kinds):
        if kind in ("L", "R"):
            last = kind
        elif kind == "EN":
            kinds[at] = "L" if last == "L" else "EN"  # W7: a European number after a left-to-right letter
        elif kind != "AN":
            kinds[at] = "N"
