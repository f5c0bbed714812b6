"""Counts what the publishers of a stream have sent."""

from collections import deque
from collections.abc import Callable

from gateway.live.stream_captions import StreamCaptions
from gateway.live.track_changes import ChangeLimiters
from gateway.media.track import AccessUnit, TimedData


class ReceivedMedia:
    """The media that a stream has received so far, also from earlier publishers. Only its `StreamPublisher` adds to it.

    bytes: of payload. last_dts_ms: the largest decode time. last_push: the time of the last unit, monotonic seconds; 0:
    there was none.
    captions: in the pictures and in timed data. on_script: called with all timed data, before the sinks. `StreamCues`
    sets it once.
    limiters: of the changes of tracks, from the earlier stream with this name.
    was_stopped: the last publisher that left said that it stops.
    """

    __slots__ = (
        *("_samples", "_taken", "bytes", "captions", "last_dts_ms", "last_push", "limiters"),
        *("on_script", "was_stopped"),
    )

    def __init__(self, captions: StreamCaptions, limiters: ChangeLimiters) -> None:
        self.captions, self.limiters = captions, limiters
        self.on_script: Callable[[TimedData], None] | None = None
        self.bytes = self._taken = 0
        self.last_dts_ms = 0
        self.last_push = 0.0
        self.was_stopped = False
        self._samples: deque[tuple[float, int]] = deque(maxlen=6)  # monotonic time, bytes

    def add(self, unit: AccessUnit, now: float) -> None:
        """Counts a unit. Hot path. now: monotonic seconds."""
        self.bytes += len(unit.payload)
        self.last_push = now
        scale = unit.track.timescale
        dts_ms = unit.dts if scale == 1000 else unit.dts * 1000 // scale
        if dts_ms > self.last_dts_ms:
            self.last_dts_ms = dts_ms

    def add_time(self, unit: AccessUnit, now: float) -> None:
        """Notes the time of a unit whose bytes are counted elsewhere. now: monotonic seconds."""
        self.last_push = now
        self.last_dts_ms = max(self.last_dts_ms, unit.dts * 1000 // unit.track.timescale)

    def sample(self, now: float) -> None:
        """Records the number of bytes received so far. The shelf calls it once a second."""
        self._samples.append((now, self.bytes))

    def take_bytes(self) -> int:
        """Returns the bytes since the last call. The hub calls it once a second."""
        new, self._taken = self.bytes - self._taken, self.bytes
        return new

    @property
    def bitrate(self) -> int:
        """Bits of media payload per second, averaged over the last seconds."""
        if len(self._samples) < 2:
            return 0
        (t0, b0), (t1, b1) = self._samples[0], self._samples[-1]
        return round((b1 - b0) * 8 / (t1 - t0)) if t1 > t0 else 0
