"""NackList: the missing packets of one source, and when to ask for each of them again (RFC 4585 §6.2.1)."""

from dataclasses import dataclass
from typing import Final

MAX_MISSING: Final = 512
MAX_ASKED: Final = 256  # in one call. If no two numbers are neighbours, the NACK has 1,036 bytes.

_REORDER_WAIT: Final = 0.01  # seconds before the first request, because packets overtake each other
_MAX_TRIES: Final = 10
_SHORTEST_REPEAT: Final = 0.02  # seconds between two requests for one packet
# Round trips until the second request, and between later requests. Later requests do not wait for the answer, because
# a duplicate packet costs less than a frozen picture.
_FIRST_REPEAT, _FURTHER_REPEATS = 1.1, 0.55
_UNKNOWN_ROUND_TRIP: Final = 0.1  # seconds
_LONGEST_ROUND_TRIP: Final = 2.0  # seconds; longer measurements count as this
# Seconds from the first sign of a loss until the packet is given up. A longer wait would freeze the picture.
_SHORTEST_PATIENCE, _LONGEST_PATIENCE = 0.25, 1.0
_PATIENCE_WITHOUT_NACK: Final = 0.06  # for packets that overtake each other


@dataclass(slots=True)
class _Missing:
    """A missing packet. All times are in seconds.

    noticed: when a later packet came. asked: last request. tries: requests so far.
    """

    noticed: float
    asked: float = 0.0
    tries: int = 0


class NackList:
    """Missing packets in ascending order. The caller adds at most MAX_MISSING. Times are seconds.

    nack: whether the sender answers requests. If not, the list only waits for packets.
    """

    __slots__ = ("_missing", "_nack", "_round_trip", "repaired")

    def __init__(self, *, nack: bool) -> None:
        self._nack = nack
        self._missing: dict[int, _Missing] = {}
        self._round_trip: float | None = None
        self.repaired = 0  # packets that came after a request

    def __len__(self) -> int:
        return len(self._missing)

    @property
    def round_trip(self) -> float:
        """Seconds from a request to its packet; 0.1 before it is measured."""
        return _UNKNOWN_ROUND_TRIP if self._round_trip is None else self._round_trip

    @property
    def patience(self) -> float:
        """Seconds until a missing packet is given up."""
        if not self._nack:
            return _PATIENCE_WITHOUT_NACK
        return min(_LONGEST_PATIENCE, max(_SHORTEST_PATIENCE, 6 * self.round_trip + 0.1))

    def measured(self, round_trip: float) -> None:
        """Takes a measured round trip."""
        value = min(_LONGEST_ROUND_TRIP, max(0.0, round_trip))
        self._round_trip = value if self._round_trip is None else self._round_trip + (value - self._round_trip) / 8

    def add(self, first: int, end: int, now: float) -> None:
        """Adds the numbers from `first` to before `end`, which are higher than all others."""
        assert len(self._missing) + end - first <= MAX_MISSING, "the jitter buffer gives up larger gaps"
        for number in range(first, end):
            self._missing[number] = _Missing(now)

    def arrived(self, number: int, now: float) -> None:
        """Removes a packet that came."""
        missing = self._missing.pop(number)
        if missing.tries:
            self.repaired += 1
            if missing.tries == 1:  # after several requests, it is unknown which was answered
                self.measured(now - missing.asked)

    def give_up(self, number: int) -> bool:
        """Removes a packet that is no longer waited for. Returns whether it was missing."""
        return self._missing.pop(number, None) is not None

    def expired(self, now: float) -> bool:
        """Whether the packet with the lowest number has been missing for too long."""
        for missing in self._missing.values():
            return now - missing.noticed >= self.patience
        return False

    def due(self, now: float) -> list[int]:
        """Returns the numbers to ask for now, at most MAX_ASKED, and notes the requests.

        Later calls repeat a number until its packet arrives, at most _MAX_TRIES times.
        """
        if not self._nack or not self._missing:
            return []
        round_trip = self.round_trip
        first = max(_SHORTEST_REPEAT, _FIRST_REPEAT * round_trip)
        further = max(_SHORTEST_REPEAT, _FURTHER_REPEATS * round_trip)
        due: list[int] = []
        for number, missing in self._missing.items():
            tries = missing.tries
            since = now - (missing.asked if tries else missing.noticed)
            wait = _REORDER_WAIT if not tries else first if tries == 1 else further
            if since >= wait and tries < _MAX_TRIES:
                missing.tries = tries + 1
                missing.asked = now
                due.append(number)
                if len(due) == MAX_ASKED:
                    break
        return due
