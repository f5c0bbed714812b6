"""Parses JSON of other processes and nodes. Limits its numbers, so that counters and clocks can use them."""

import json
from typing import Any, Final

# RFC 8259 §6: integers in this range "are interoperable in the sense that implementations will agree exactly".
MAX_NUMBER: Final = 2**53 - 1
_MAX_DIGITS: Final = 20  # digits of an integer; a longer one is read as a float


def loads(text: str | bytes) -> Any:
    """Returns the value of a JSON text. Numbers are between -MAX_NUMBER and MAX_NUMBER; NaN becomes 0.

    Raises ValueError, also for a text that is nested too deeply.
    """
    try:
        return json.loads(text, parse_int=_integer, parse_float=_real, parse_constant=_real)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _integer(digits: str) -> int:
    number = int(digits) if len(digits) <= _MAX_DIGITS else float(digits)
    return int(max(-MAX_NUMBER, min(number, MAX_NUMBER)))


def _real(text: str) -> float:
    value = float(text)
    return float(max(-MAX_NUMBER, min(value, MAX_NUMBER))) if value == value else 0.0  # NaN differs from itself
