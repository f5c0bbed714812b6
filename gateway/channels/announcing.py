"""The fields with which a channel tells people of its shows: whom it tells that one begins, and which comes next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.channels import message_target
from gateway.lib.numbers import read_decimal
from gateway.lib.texts import STORABLE, is_storable
from gateway.ports.errors import InvalidField

ANNOUNCE, UPCOMING = "announce", "upcoming"  # the names of the fields
MAX_TARGETS: Final = 20
MAX_TITLE, MAX_TEXT = 256, 2_000  # characters
_MAX_AT: Final = 40  # characters of a time
_MILLISECONDS: Final = 1e11  # larger numbers are milliseconds since 1970, as in JavaScript
_MAX_SECONDS: Final = 32_503_680_000.0  # the year 3000
_EXPECTED_AT: Final = "expected `at`: a time with its zone such as 2030-01-31T18:00:00+01:00, or seconds since 1970"
# A show that starts so long before or after the time of the next show is this show, seconds.
_EARLY, _LATE = 1_800.0, 4 * 3_600.0


@dataclass(frozen=True, slots=True)
class Upcoming:
    """The next show. at: seconds since 1970."""

    title: str
    at: float
    text: str

    def shown(self) -> dict[str, object]:
        """Returns it for pages. at: milliseconds since 1970."""
        return {"title": self.title, "at": round(self.at * 1000), "text": self.text}

    def is_at(self, start: float) -> bool:
        """Whether a show that starts then is this one. start: seconds since 1970."""
        return -_EARLY <= start - self.at <= _LATE


def parse_upcoming(value: Any) -> Upcoming | None:
    """Reads `upcoming`. Returns None for null and {}: there is no next show. Raises ValueError."""
    if value is None or value == {}:
        return None
    if not isinstance(value, Mapping) or not value.keys() <= {"title", "at", "text"}:
        raise ValueError('expected {"title", "at", "text"}')
    title = _text(value, "title", MAX_TITLE)
    if not title.strip():
        raise ValueError("expected a title")
    return Upcoming(title, _moment(value.get("at")), _text(value, "text", MAX_TEXT))


def _text(value: Mapping[str, Any], name: str, most: int) -> str:
    text = value.get(name, "")
    if not isinstance(text, str) or len(text) > most:
        raise ValueError(f"expected `{name}`: text of at most {most} characters")
    if not is_storable(text):
        raise ValueError(f"expected {STORABLE}")
    return text


def _moment(value: Any) -> float:
    """Returns seconds since 1970. Raises ValueError."""
    seconds: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) < 1e15 else None
    elif isinstance(value, str) and len(value) <= _MAX_AT:
        seconds = read_decimal(value.strip(), 1e15)
        if seconds is None:
            try:
                moment = datetime.fromisoformat(value.strip())
                seconds = moment.timestamp() if moment.tzinfo is not None else None
            except (ValueError, OverflowError):
                raise ValueError(_EXPECTED_AT) from None
    if seconds is not None and seconds >= _MILLISECONDS:
        seconds /= 1000
    if seconds is None or not 0 <= seconds < _MAX_SECONDS:
        raise ValueError(_EXPECTED_AT)
    return seconds


def parse_announce(value: Any) -> tuple[str, ...]:
    """Reads `announce`: a list of addresses of targets. Raises ValueError."""
    if not isinstance(value, list) or len(value) > MAX_TARGETS or not all(isinstance(one, str) for one in value):
        raise ValueError(f"expected a list of at most {MAX_TARGETS} addresses")
    for one in value:
        if message_target.MASK in one:
            raise ValueError("a masked address is not allowed: the channel has no stored address")
        message_target.parse(one)
    return tuple(dict.fromkeys(value))


def masked(value: Any) -> Any:
    """Returns `announce` for display: the secrets of each address are masked."""
    return [_masked(one) for one in value] if isinstance(value, Sequence) and not isinstance(value, str) else None


def _masked(address: Any) -> str:
    try:
        return message_target.parse(address).shown
    except (TypeError, ValueError):
        return message_target.MASK  # another program has stored it


def restored(sent: Any, stored: Any) -> Any:
    """Returns a sent list with the stored addresses in the places of masked ones.

    The rest of an address must be equal. Each stored one is used once, in order. Raises InvalidField.
    """
    if not isinstance(sent, list) or not any(isinstance(one, str) and message_target.MASK in one for one in sent):
        return sent
    remaining = list(stored) if isinstance(stored, Sequence) and not isinstance(stored, str) else []
    found = []
    for one in sent:
        if isinstance(one, str) and message_target.MASK in one:
            match = next((address for address in remaining if _masked(address) == one), None)
            if match is None:
                raise InvalidField(ANNOUNCE, "the masked address matches no stored address: enter it whole")
            remaining.remove(match)
            one = match
        found.append(one)
    return found
