"""The quality of a WebRTC connection, as the reports of its receiver tell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NetworkQuality:
    """The quality of a WebRTC connection.

    round_trip, jitter: seconds; None: not known yet. lost: share of the packets, of the last report.
    """

    round_trip: float | None
    lost: float
    jitter: float
