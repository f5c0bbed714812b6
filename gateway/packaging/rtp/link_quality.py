"""Decides from a viewer's reports whether its link carries its pictures."""

from typing import Final

_BAD_LOSS: Final = 0.12  # share of the packets; lower losses are repaired
_GOOD_LOSS: Final = 0.04
_BAD_DELAY: Final = 0.4  # seconds of round trip beyond the shortest one: a queue before a slow link
_BAD_REPORTS: Final = 3  # reports in a row; one comes about each second
_SETTLE_SECONDS: Final = 5.0  # after a change; reports still describe the earlier pictures
# Seconds of good reports before larger pictures are tried. It doubles after each failure.
_FIRST_TRIAL, _LAST_TRIAL = 15.0, 240.0


class LinkQuality:
    """Asks for smaller pictures after losses or delay, and for larger ones after good reports. Times are seconds."""

    __slots__ = ("_bad", "_good_since", "_shortest", "_trial", "_tried_at", "_until")

    def __init__(self) -> None:
        self._bad = 0  # reports in a row
        self._good_since: float | None = None
        self._shortest = float("inf")  # round trip
        self._trial = _FIRST_TRIAL  # seconds of good reports before larger pictures are tried
        self._tried_at = float("-inf")  # when larger pictures began
        self._until = float("-inf")  # reports before this time are ignored

    def report(self, lost: float, round_trip: float | None, now: float) -> int:
        """Takes a report. Returns -1 for smaller pictures, 1 for larger ones, else 0. lost: share of lost packets."""
        delay = 0.0
        if round_trip is not None:
            self._shortest = min(self._shortest, round_trip)
            delay = round_trip - self._shortest
        if now < self._until:
            return 0
        if lost > _BAD_LOSS or delay > _BAD_DELAY:
            self._bad += 1
            self._good_since = None
            if self._bad < _BAD_REPORTS:
                return 0
            if now - self._tried_at < 2 * _FIRST_TRIAL:
                self._trial = min(_LAST_TRIAL, 2 * self._trial)
            self._change(now)
            return -1
        self._bad = 0
        if lost > _GOOD_LOSS:
            self._good_since = None
        elif self._good_since is None:
            self._good_since = now
        elif now - self._good_since >= self._trial:
            self._tried_at = now
            self._change(now)
            return 1
        return 0

    def _change(self, now: float) -> None:
        """Begins the time after a change, in which reports are ignored."""
        self._bad, self._good_since, self._until = 0, None, now + _SETTLE_SECONDS
