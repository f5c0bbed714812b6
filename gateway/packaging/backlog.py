"""Bounds how many bytes may wait for one viewer, and for all viewers of a process together."""

from __future__ import annotations

import sys
from typing import Final

# A viewer may be this many seconds of the stream behind, plus one key frame. A link with 1.3 times the stream's bitrate
# needs about one key frame; the seconds cover scenes with a higher bitrate. More would be lost at the stream's end,
# where the remaining bytes have 5 s to be sent.
SECONDS: Final = 3.0
_DECAY: Final = 0.9  # per measurement, applied to the peaks so far: a large GOP still counts for some measurements
_MEASURE_MS: Final = 500  # minimum media time between two measurements: a stream may consist of key frames alone


TIGHT_SECONDS: Final = 5.0  # seconds; the stall limit while at most a quarter of the shared memory is left


class PeakRate:
    """Measures a stream's highest recent bitrate and its largest recent key frame, in bytes as they are sent.

    The feed adds to `bytes` once a batch and calls `key_frame` once a GOP.
    """

    __slots__ = ("_key", "_rate", "_since", "bytes")

    def __init__(self) -> None:
        self.bytes = 0  # since the last measurement
        self._since: int | None = None  # decode time of the last measurement, milliseconds
        self._rate = 0.0  # bytes a second
        self._key = 0.0

    def key_frame(self, size: int, dts_ms: int) -> None:
        """Notes that a key frame of `size` bytes is about to be sent, at decode time `dts_ms` (milliseconds)."""
        self._key = max(size, self._key * _DECAY)
        if self._since is None:
            self._since, self.bytes = dts_ms, 0
            return
        elapsed = dts_ms - self._since
        if elapsed >= _MEASURE_MS:
            self._rate = max(self.bytes * 1000 / elapsed, self._rate * _DECAY)
        if elapsed >= _MEASURE_MS or elapsed < 0:
            self._since, self.bytes = dts_ms, 0

    def backlog(self, dts_ms: int) -> int:
        """Returns how many bytes may wait for one viewer at decode time `dts_ms`; 0 before the first key frame."""
        if self._since is None:
            return 0
        # The rate of a GOP that has just begun is unknown: its bytes are divided by at least one second.
        now = self.bytes * 1000 / max(dts_ms - self._since, 1000)
        return round(self._key + SECONDS * max(now, self._rate))


class Backlogs:
    """Counts the bytes that wait for all viewers of a process, and bounds them.

    Each viewer may hold as much as is left (a dynamic threshold: Choudhury and Hahne, "Dynamic Queue Length Thresholds
    for Shared-Memory Packet Switches", 1998). So one viewer can have half of all, and each of a thousand stalled
    viewers a thousandth.
    When nothing is left, viewers that take everything at once are not affected. While at most a quarter is left,
    viewers that take nothing are cut after TIGHT_SECONDS.
    Bytes that several viewers share count once for each of them, so real memory stays below the bound. Counter:
    `bytes`.
    """

    __slots__ = ("bytes", "most")

    def __init__(self, most: int) -> None:
        """most: bound in bytes; 0 for no bound."""
        self.most = most or sys.maxsize
        self.bytes = 0

    def stall(self, seconds: float) -> float:
        """Returns the seconds after which a late viewer that takes nothing is cut; 0: never.

        seconds: the configured limit, shortened to TIGHT_SECONDS when memory is short.
        """
        if self.bytes * 4 < self.most * 3:
            return seconds
        return min(seconds, TIGHT_SECONDS) if seconds else TIGHT_SECONDS

    @property
    def left(self) -> int:
        """How many bytes one more viewer may hold."""
        return self.most - self.bytes


class Burst:
    """The first bytes of viewers that joined at the same moment. They share this object, and its bytes count once."""

    __slots__ = ("data", "users")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.users = 0  # viewers whose connection has not taken all of it
