"""The weekly recording times of a channel, with a time zone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(
    r"(?:(?P<first>mon|tue|wed|thu|fri|sat|sun)(?:-(?P<last>mon|tue|wed|thu|fri|sat|sun))?\s+|daily\s+)?"
    r"(?P<from>[0-9]{1,2}:[0-9]{2})\s*-\s*(?P<to>[0-9]{1,2}:[0-9]{2})",
    re.ASCII | re.IGNORECASE,
)
_ZONE = re.compile(r"(?P<windows>.*[0-9])\s+(?P<zone>[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2})", re.ASCII)
_MAX_WINDOWS: Final = 50
MAX_LENGTH: Final = 1_000
# Names that Chromium gives (CLDR), and that Debian 13 and Ubuntu 24.04 have in the package tzdata-legacy only.
_RENAMED: Final = {
    "Africa/Asmera": "Africa/Asmara",
    "America/Buenos_Aires": "America/Argentina/Buenos_Aires",
    "America/Catamarca": "America/Argentina/Catamarca",
    "America/Cordoba": "America/Argentina/Cordoba",
    "America/Godthab": "America/Nuuk",
    "America/Indianapolis": "America/Indiana/Indianapolis",
    "America/Jujuy": "America/Argentina/Jujuy",
    "America/Louisville": "America/Kentucky/Louisville",
    "America/Mendoza": "America/Argentina/Mendoza",
    "Asia/Calcutta": "Asia/Kolkata",
    "Asia/Katmandu": "Asia/Kathmandu",
    "Asia/Rangoon": "Asia/Yangon",
    "Asia/Saigon": "Asia/Ho_Chi_Minh",
    "Atlantic/Faeroe": "Atlantic/Faroe",
    "Europe/Kiev": "Europe/Kyiv",
    "Pacific/Enderbury": "Pacific/Kanton",
    "Pacific/Ponape": "Pacific/Pohnpei",
    "Pacific/Truk": "Pacific/Chuuk",
}
EXPECTED: Final = 'windows such as "mon-fri 08:00-18:00, sat 22:00-02:00 Europe/Berlin" (without a zone: UTC)'


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """A window from minute `begin` to minute `end` of these days (0: Monday).

    If `end` is not greater than `begin`, the window ends on the next day.
    """

    days: frozenset[int]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Time windows in a time zone. When daylight saving time begins or ends, they follow local time."""

    windows: tuple[TimeWindow, ...]
    zone: tzinfo

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Parses windows separated by commas, and an optional time zone after the last window.

        A window without days is for every day. Raises ValueError with a description of the expected form.
        """
        zone: tzinfo = UTC
        text = text.strip()
        if len(text) > MAX_LENGTH:
            raise ValueError(f"expected at most {MAX_LENGTH} characters")
        if match := _ZONE.fullmatch(text):
            text = match["windows"]
            zone = time_zone(match["zone"])
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > _MAX_WINDOWS:
            raise ValueError(f"expected at most {_MAX_WINDOWS} windows")
        return cls(tuple(_window(part) for part in parts), zone)

    def active(self, now: float) -> bool:
        """Whether `now` (seconds since 1970) is in a window."""
        return any(begin <= now < end for begin, end in self._spans(now))

    def next_change(self, now: float) -> float:
        """Returns the time at which the next window begins or ends; infinity if the windows cover the whole week."""
        spans = sorted(self._spans(now))
        end: float | None = None
        for begin, until in spans:
            if end is None and begin <= now < until:
                end = until
            elif end is not None and begin <= end < until:
                end = until  # the next window begins before this one ends
        if end is not None:
            # If the end is beyond the examined week, the windows have no gap.
            return end if end < now + 8 * 86_400 else float("inf")
        return min((begin for begin, _ in spans if begin > now), default=float("inf"))

    def _spans(self, now: float) -> Iterator[tuple[float, float]]:
        """Yields the begin and end of each window from yesterday to 8 days after now, in seconds since 1970."""
        today = datetime.fromtimestamp(now, self.zone).date()
        for day_offset in range(-1, 9):
            day = today + timedelta(days=day_offset)
            midnight = datetime.combine(day, time(0), self.zone)
            for window in self.windows:
                if day.weekday() in window.days:
                    last_minute = window.end if window.end > window.begin else window.end + 1440
                    # Local time: adding a timedelta ignores offset changes of the zone; timestamp() applies them.
                    begin, end = (midnight + timedelta(minutes=minute) for minute in (window.begin, last_minute))
                    yield begin.timestamp(), end.timestamp()


def _window(text: str) -> TimeWindow:
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError(f"expected {EXPECTED}")
    days = range(7)
    if match["first"]:
        first = _DAYS.index(match["first"].lower())
        last = _DAYS.index((match["last"] or match["first"]).lower())
        days = range(first, last + 1 if last >= first else last + 8)
    begin, end = _minutes(match["from"]), _minutes(match["to"])
    if begin == 1440 or begin == end:
        raise ValueError(f"expected {EXPECTED}")
    return TimeWindow(frozenset(d % 7 for d in days), begin, end)


def _minutes(text: str) -> int:
    hours, minutes = (int(n) for n in text.split(":"))
    if hours * 60 + minutes > 1440 or minutes > 59:
        raise ValueError(f"expected {EXPECTED}")
    return hours * 60 + minutes


def time_zone(name: str) -> tzinfo:
    """Returns the time zone of this name. Raises ValueError with a description of the expected form."""
    for known in (name, _RENAMED.get(name, name)):
        with suppress(ZoneInfoNotFoundError, ValueError, OSError):
            return ZoneInfo(known)
    if name == "UTC":  # needs no file
        return UTC
    hint = "" if available_timezones() else ": this machine has none (Debian: tzdata)"
    raise ValueError(f"expected a time zone such as Europe/Berlin, not {name}{hint}")
