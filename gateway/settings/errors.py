"""The error of an unusable configuration, with one line for each problem."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SettingsError(Exception):
    """The configuration cannot be used.

    problems: one printable line for each problem, never with the value of a secret.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(_printable(line) for line in problems)
        super().__init__("; ".join(self.problems))


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean …?" with the most similar name of `known`; "" if `known` is empty."""
    by_plain = {_plain(k): k for k in known}
    close = difflib.get_close_matches(_plain(name), by_plain, n=1, cutoff=0.0)
    return f"; did you mean {by_plain[close[0]]}?" if close else ""


def _plain(name: str) -> str:
    """Returns the name without differences of case and separators, which are the most frequent mistakes."""
    return name.lower().replace("__", "_").replace(".", "_").replace("-", "_")


def _printable(line: str) -> str:
    """Escapes line breaks and terminal control characters of values, so that a problem is one line."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
