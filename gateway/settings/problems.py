"""What is wrong with a configuration, said so that it can be put right: one line for each fault."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SettingsError(Exception):
    """The configuration cannot be used; `problems` holds one printable line for each fault, never a secret's value."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(_printable(line) for line in problems)
        super().__init__("; ".join(self.problems))


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that names the most similar of `known`; nothing where there is none."""
    by_plain = {_plain(k): k for k in known}
    close = difflib.get_close_matches(_plain(name), by_plain, n=1, cutoff=0.0)
    return f"; did you mean {by_plain[close[0]]}?" if close else ""


def _plain(name: str) -> str:
    """Case and separators are what people get wrong most: they count little."""
    return name.lower().replace("__", "_").replace(".", "_").replace("-", "_")


def _printable(line: str) -> str:
    """A value may hold line breaks and what moves a terminal's cursor; a problem is one line."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
