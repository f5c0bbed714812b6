"""Reads the rows of stores. A row that cannot be read, such as one of a newer version, stops no list."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Never, TypeVar

import structlog

from gateway.lib.bounded_dict import BoundedDict
from gateway.ports.errors import UnreadableRow

log = structlog.get_logger(__name__)

R = TypeVar("R")
T = TypeVar("T")

_UNREADABLE: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_MAX_SHOWN: Final = 100  # characters of a key and of a reason
_named: BoundedDict[tuple[str, str], None] = BoundedDict(1_000)  # rows that the log has named


def read_row(kind: str, key: str, read: Callable[[R], T], row: R) -> T:
    """Returns the record of a row. Raises UnreadableRow.

    kind: what a row is, for messages.
    """
    try:
        return read(row)
    except _UNREADABLE as error:
        text = (
            f"the {kind} {key[:_MAX_SHOWN]} cannot be read: its row in the database is damaged, or of a newer version"
        )
        raise UnreadableRow(f"{text} ({str(error)[:_MAX_SHOWN]})", public=text) from None


def read_rows(kind: str, read: Callable[[R], T], rows: Iterable[tuple[str, R]]) -> list[T]:
    """Returns the records of rows with their keys, without those that cannot be read. The log names these once."""
    return [record for _, record in _read_each(kind, read, rows) if record is not None]


def read_rows_by_key(kind: str, read: Callable[[R], T], rows: Iterable[tuple[str, R]]) -> dict[str, T | None]:
    """Returns the records of rows by their keys; None for those that cannot be read. The log names these once."""
    return dict(_read_each(kind, read, rows))


def _read_each(kind: str, read: Callable[[R], T], rows: Iterable[tuple[str, R]]) -> Iterator[tuple[str, T | None]]:
    for key, row in rows:
        try:
            yield key, read(row)
        except _UNREADABLE as error:
            name_unreadable(kind, key, error)
            yield key, None


def name_unreadable(kind: str, key: str, error: Exception) -> None:
    """Logs once that a row is skipped."""
    if (kind, key) not in _named:
        _named[kind, key] = None
        reason = str(error)[:_MAX_SHOWN] or type(error).__name__
        log.warning("a row of the store is skipped, it cannot be read", kind=kind, key=key[:_MAX_SHOWN], reason=reason)


def read_object(text: str) -> dict[str, Any]:
    """Returns a stored JSON object. Raises ValueError, RecursionError."""
    value = json.loads(text, parse_constant=_refuse)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def _refuse(name: str) -> Never:
    raise ValueError(f"{name} is no JSON value")
