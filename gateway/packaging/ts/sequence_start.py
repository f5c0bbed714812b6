"""Chooses the Media Sequence Number with which a live TS playlist begins.

Players read 31 bits (MediaMTX's gohlslib), so milliseconds since the epoch are too large. Seconds fit. Segments of at
least a second never count faster than the clock. So a later start, after a restart or on another node, never has a
lower number.
"""

from __future__ import annotations

from typing import Final

_ORIGIN: Final = 1_577_836_800  # 2020-01-01, seconds since the epoch: 31 bits last until 2088
# Seconds by which the clocks of two nodes may differ when one continues a stream that the other packaged.
CLOCKS_APART: Final = 60


def sequence_start(now: float) -> int:
    """Returns the first number of a playlist that begins at `now`, in seconds since the epoch."""
    return max(1, int(now) - _ORIGIN)
