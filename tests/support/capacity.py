"""The tables of docs/capacity.md, and the names of those that are quick to compute."""

from __future__ import annotations

from functools import cache

from tools.capacity.__main__ import PAGE, WRITTEN, code, fingerprint, tables_of
from tools.capacity.tables import TABLES

QUICK = ("figures", "prices", "machine", "protocols", "extras")
SLOW = tuple(name for name in TABLES if name not in QUICK)


def shown() -> dict[str, str]:
    """The tables in the page."""
    return tables_of(PAGE.read_text("utf-8"))


@cache
def as_written() -> bool:
    """Whether tables and code are unchanged since `make capacity-page` wrote the page."""
    return WRITTEN.read_text("utf-8").strip() == fingerprint(PAGE.read_text("utf-8"), code())
