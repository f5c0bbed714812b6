"""Reads times and limits in requests."""

import re
from datetime import UTC, datetime
from typing import Any, Final

from gateway.api.answers import BadRequest
from gateway.lib.numbers import read_decimal, read_integer

_MAX_TEXT: Final = 40  # characters of a time
_MILLISECONDS: Final = 1e11  # larger numbers are milliseconds since 1970, as in JavaScript
_MAX_SECONDS: Final = 32_503_680_000.0  # seconds since 1970: the year 3000
# The sign of a zone such as +01:00: a query turns an unencoded "+" into a space.
_PLUS: Final = re.compile(r" (?=[0-9]{2}:?[0-9]{2}$)", re.ASCII)


def read_number(value: Any) -> float | None:
    """Returns a number or the text of one; None for other values."""
    if isinstance(value, str):
        return read_decimal(value.strip(), 1000 * _MILLISECONDS)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1000 * _MILLISECONDS:
        return float(value)
    return None


def read_moment(value: Any, field: str, other: str = "") -> float:
    """Returns seconds since 1970. A time without a zone is UTC. Raises BadRequest.

    other: names another valid form in the error, such as "an id, ".
    """
    number = read_number(value)
    if number is not None:
        number = number / 1000 if number >= _MILLISECONDS else number
        if 0 <= number < _MAX_SECONDS:
            return number
    elif isinstance(value, str) and len(value) <= _MAX_TEXT:
        try:
            moment = datetime.fromisoformat(_PLUS.sub("+", value.strip()))
            return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
    raise BadRequest(f"expected {other}a time such as 2030-01-31T18:00:00Z, or seconds since 1970", field=field)


def page_limit(text: str, most: int) -> int:
    """Returns the limit in a query, 1 to `most`. Raises BadRequest."""
    limit = read_integer(text, most, 1)
    if limit is None:
        raise BadRequest(f"expected a number from 1 to {most}", field="limit")
    return limit
