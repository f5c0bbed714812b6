"""Writes a calendar with one event, RFC 5545."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_LINE: Final = 75  # octets of a line without its break, §3.1
_ESCAPED: Final = re.compile(r"[\\;,]")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # no text may have them, §3.1


@dataclass(frozen=True, slots=True)
class CalendarEvent:
    """An event. uid: identifies it for ever. start, written: seconds since 1970. minutes: its duration. url: ASCII."""

    uid: str
    title: str
    text: str
    start: float
    minutes: int
    url: str
    written: float


def write_calendar(event: CalendarEvent) -> bytes:
    """Returns the calendar as UTF-8 with the line breaks of §3.1."""
    lines = [
        *("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Millrace//Shows//EN", "BEGIN:VEVENT"),
        f"UID:{escaped(event.uid)}",
        f"DTSTAMP:{_time(event.written)}",
        f"DTSTART:{_time(event.start)}",
        f"DURATION:PT{event.minutes}M",
        f"SUMMARY:{escaped(event.title)}",
        *([f"DESCRIPTION:{escaped(event.text)}"] if event.text else []),
        *([f"URL:{_CONTROL.sub('', event.url)}"] if event.url else []),
        *("END:VEVENT", "END:VCALENDAR"),
    ]
    return b"".join(folded(line) for line in lines)


def escaped(text: str) -> str:
    """Returns a text as a value, §3.3.11. Control characters are left out."""
    text = _CONTROL.sub("", re.sub(r"\r\n?|[\x85\u2028\u2029]", "\n", text))
    return _ESCAPED.sub(r"\\\g<0>", text).replace("\n", "\\n")


def folded(line: str) -> bytes:
    """Returns a line as UTF-8 in pieces of at most 75 octets, each with its break. No character is divided."""
    pieces, size = [bytearray()], 0
    for character in line:
        encoded = character.encode("utf-8", "replace")
        if size + len(encoded) > _LINE:
            pieces.append(bytearray(b" "))
            size = 1
        pieces[-1] += encoded
        size += len(encoded)
    return b"".join(bytes(piece) + b"\r\n" for piece in pieces)


def _time(seconds: float) -> str:
    """Returns a time in UTC, §3.3.5."""
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y%m%dT%H%M%SZ}"
