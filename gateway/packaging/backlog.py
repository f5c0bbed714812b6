"""Limits the bytes that wait for one viewer."""

from typing import Final

# A viewer may be this many seconds of the stream behind, plus one key frame. A link with 1.3 times the stream's bitrate
# needs about one key frame. The seconds are for scenes with a higher bitrate. A longer backlog would be lost at the
# stream's end, because the remaining bytes must be sent within 5 s.
SECONDS: Final = 3.0
_PEAK_DECAY: Final = 0.9  # factor for earlier peaks at each measurement, so a large GOP counts for several
_MIN_INTERVAL_MS: Final = 500  # minimum media time between two measurements, because all frames may be key frames


class PeakRate:
    """Measures a stream's highest recent bitrate and its largest recent key frame, in sent bytes.

    The feed adds to `bytes` for each batch and calls `note_key_frame` for each GOP.
    """

    __slots__ = ("_measured_at", "_peak_key_frame", "_peak_rate", "bytes")

    def __init__(self) -> None:
        self.bytes = 0  # since the last measurement
        self._measured_at: int | None = None  # decode time of the last measurement, milliseconds
        self._peak_rate = 0.0  # bytes a second
        self._peak_key_frame = 0.0  # bytes

    def note_key_frame(self, size: int, dts_ms: int) -> None:
        """Notes a key frame of `size` bytes that will be sent next. dts_ms: its decode time, milliseconds."""
        self._peak_key_frame = max(size, self._peak_key_frame * _PEAK_DECAY)
        if self._measured_at is None:
            self._measured_at, self.bytes = dts_ms, 0
            return
        elapsed = dts_ms - self._measured_at
        if elapsed >= _MIN_INTERVAL_MS:
            self._peak_rate = max(self.bytes * 1000 / elapsed, self._peak_rate * _PEAK_DECAY)
        if elapsed >= _MIN_INTERVAL_MS or elapsed < 0:
            self._measured_at, self.bytes = dts_ms, 0

    def backlog(self, dts_ms: int, seconds: float = SECONDS) -> int:
        """Returns the number of bytes that may wait for one viewer at decode time `dts_ms` (milliseconds).

        Returns 0 before the first key frame. seconds: see SECONDS.
        """
        if self._measured_at is None:
            return 0
        # At the beginning of a GOP its rate is unknown: its bytes are divided by at least one second.
        current_rate = self.bytes * 1000 / max(dts_ms - self._measured_at, 1000)
        return round(self._peak_key_frame + seconds * max(current_rate, self._peak_rate))


class Burst:
    """The first bytes of viewers that joined at one moment. They share this object, and its bytes are counted once."""

    __slots__ = ("data", "users")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.users = 0  # viewers that have not read all of it
