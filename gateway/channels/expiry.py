"""Parses `outdate`, the time until which pushes are accepted, in all formats of clients."""

import math
import re
from datetime import UTC, datetime, timedelta, timezone

from gateway.ports.errors import InvalidField

FIELD = "outdate"
NEVER = "never"  # as clients may send it
NEVER_DATE = "9999-12-31"  # as it is stored; the key is signed with this date
WARNING_SECONDS = 7 * 86_400  # before the date, in which the gateway warns
_NEVER_SECONDS = 253_402_214_400  # NEVER_DATE
_MAX_SECONDS = 253_402_300_799  # 9999-12-31T23:59:59Z; a larger number would be milliseconds and is rejected
_EXPECTED = (
    "expected a date (2030-01-31 or 2030/1/31, 00:00 UTC), a time (2030-01-31T18:00:00Z or +08:00), "
    "seconds since 1970, or never"
)
_DATE = re.compile(
    r"([0-9]{4})([-/])([0-9]{1,2})\2([0-9]{1,2})"
    r"(?:[T ]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,][0-9]{1,9})?)?\s?(Z|z|[+-][0-9]{2}:?[0-9]{2})?)?",
    re.ASCII,
)


def parse_outdate(value: object) -> int:
    """Returns seconds since 1970. A date, or a time without a zone, is in UTC, not in the server's zone.

    Numbers, and texts that contain only digits, are seconds since 1970. "never" is NEVER_DATE.
    Raises InvalidField("outdate", …).
    """
    value = stored_outdate(value)
    seconds = _number(value) if isinstance(value, int | float) else _text(value) if isinstance(value, str) else None
    if seconds is None or not 0 <= seconds <= _MAX_SECONDS:
        raise InvalidField(FIELD, _EXPECTED)
    return seconds


def stored_outdate(value: object) -> object:
    """Returns the value as it is stored: NEVER_DATE for "never", any other value unchanged."""
    return NEVER_DATE if isinstance(value, str) and value.strip() == NEVER else value


def is_never(expires: int) -> bool:
    """Whether this expiry means that the key never expires. expires: seconds since 1970."""
    return expires >= _NEVER_SECONDS


def date_text(seconds: float) -> str:
    """Returns an expiry for sentences: `2030-01-31 18:00 UTC`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _number(value: int | float) -> int | None:
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    return math.floor(value) if math.isfinite(value) else None


def _text(value: str) -> int | None:
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,12}", text, re.ASCII):
        return int(text)
    if len(text) > 40 or not (match := _DATE.fullmatch(text)):
        return None
    year, month, day, hour, minute, second = (int(match[i] or 0) for i in (1, 3, 4, 5, 6, 7))
    try:
        return math.floor(datetime(year, month, day, hour, minute, second, tzinfo=_zone(match[8])).timestamp())
    except (ValueError, OverflowError):  # 30 February, hour 25, a zone beyond a day
        return None


def _zone(text: str | None) -> timezone:
    if text is None or text in "Zz":
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))
