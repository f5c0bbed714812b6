"""Reads numbers from text of other programs, within bounds.

Python's `int` raises for more than 4,300 digits. It also accepts signs, spaces, underscores and digits of all scripts.
"""

import re
from typing import Final

_MAX_DIGITS: Final = 20  # digits, including leading zeros, which HTTP allows
_DECIMAL: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{0,15})?", re.ASCII)


def read_integer(text: str, most: int, least: int = 0) -> int | None:
    """Returns the number from `least` to `most` that the text has in ASCII digits; None for any other text."""
    if len(text) > _MAX_DIGITS or not text.isascii() or not text.isdecimal():
        return None
    number = int(text)
    return number if least <= number <= most else None


def read_decimal(text: str, most: float) -> float | None:
    """Returns a number up to `most` such as 7 or 7.25, with at most 15 digits on each side; None for other text."""
    number = float(text) if _DECIMAL.fullmatch(text) else None
    return number if number is not None and number <= most else None
