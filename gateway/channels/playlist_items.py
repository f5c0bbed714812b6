"""The items of a playlist: keys of the store, some with the time of day at which they begin (`news.mp4@20:00`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gateway.channels.names import is_object_key

_TIMED: Final = re.compile(r"(?P<key>.*)@(?P<time>[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?)", re.ASCII | re.DOTALL)
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class PlaylistItem:
    """An item of a playlist input.

    key: of a film or a folder. begins: seconds since midnight; None: it has no time.
    """

    key: str
    begins: int | None = None

    @classmethod
    def parse(cls, text: str) -> PlaylistItem:
        """Reads `key`, `key@HH:MM` or `key@HH:MM:SS`. Raises ValueError with the reason."""
        match = _TIMED.fullmatch(text)
        key = text if match is None else match["key"]
        if not is_object_key(key.removesuffix("/")):
            raise ValueError(f"{text[:64]!r} is no key of the store")
        if match is None:
            return cls(key)
        hours, minutes, seconds = (int(n) for n in f"{match['time']}:0".split(":")[:3])
        begins = (hours * 60 + minutes) * 60 + seconds
        if minutes > 59 or seconds > 59 or begins >= _DAY:
            raise ValueError(f"{match['time']} is no time of day: 00:00 to 23:59:59")
        return cls(key, begins)
