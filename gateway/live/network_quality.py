"""The quality of a WebRTC connection, from the reports of its receiver."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NetworkQuality:
    """The quality of a WebRTC connection.

    round_trip, jitter: seconds; None: not known yet. lost: share of lost packets in the last report, 0 to 1.
    """

    round_trip: float | None
    lost: float
    jitter: float
