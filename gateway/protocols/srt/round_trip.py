"""RoundTrip: the estimate of the time to the peer and back (§4.10), and of the drift between the two clocks (§4.7)."""

import statistics
from typing import Final

_FIRST: Final = 0.1  # seconds before the first measurement, as in libsrt
_FIRST_VARIANCE: Final = 0.05
_SAMPLES: Final = 500  # of the drift, before the time base is moved: five seconds of acknowledgements
_LONGEST: Final = 60.0  # seconds; a longer measurement is not believed


class RoundTrip:
    """The smoothed round-trip time and its variance, in seconds."""

    __slots__ = ("is_measured", "seconds", "variance")

    def __init__(self) -> None:
        self.seconds = _FIRST
        self.variance = _FIRST_VARIANCE
        self.is_measured = False

    def add(self, seconds: float) -> None:
        """Takes a measurement."""
        if not 0 <= seconds < _LONGEST:
            return
        if not self.is_measured:
            self.is_measured = True
            self.seconds, self.variance = seconds, seconds / 2
            return
        self.variance += (abs(seconds - self.seconds) - self.variance) / 4
        self.seconds += (seconds - self.seconds) / 8

    def adopt(self, seconds: float, variance: float) -> None:
        """Takes the estimate that the peer has told. Only a sender needs it, because it measures nothing itself."""
        if 0 < seconds < _LONGEST:
            self.seconds, self.variance, self.is_measured = seconds, min(variance, _LONGEST), True

    @property
    def resend_after(self) -> float:
        """Seconds that must pass before a packet is repeated once more, as in libsrt."""
        return max(self.seconds / 2, self.seconds - 4 * self.variance)

    @property
    def repeat_after(self) -> float:
        """Seconds after which an answer counts as lost."""
        return self.seconds + 4 * self.variance


class Drift:
    """Measures how the clock of the peer departs from ours.

    A round trip that became longer looks like a clock that became slower, so half of its growth is subtracted.
    """

    __slots__ = ("_first_round_trip", "_samples")

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._first_round_trip: float | None = None

    def add(self, late: float, round_trip: float) -> float:
        """Takes a sample. Returns seconds by which the time base must move now; mostly 0.

        late: seconds from the expected to the real arrival of a control packet. round_trip: of this packet, seconds.
        """
        if self._first_round_trip is None:
            self._first_round_trip = round_trip
        self._samples.append(late - (round_trip - self._first_round_trip) / 2)
        if len(self._samples) < _SAMPLES:
            return 0.0
        # The median, because single packets may be very late.
        moved = statistics.median(self._samples)
        self._samples.clear()
        return moved
