"""Counts what the publishers of a stream have sent."""

from collections import deque
from collections.abc import Callable

from gateway.channels.inputs import MAIN, InputKind
from gateway.live.stream_captions import StreamCaptions
from gateway.media.track import AccessUnit, TimedData


class ReceivedMedia:
    """The media that a stream has received so far, also from earlier publishers. Only its publisher adds to it.

    bytes: of payload. last_dts_ms: the largest decode time. last_push: the time of the last unit, monotonic seconds; 0:
    there was none. input, kind: name and kind of the channel's input that is on air.
    lost_since: since when the first input delivers nothing, although it should; another one replaces it. Monotonic
    seconds; None: nothing is lost. least_kbps: the bit rate that it does not reach; 0: it delivers nothing.
    captions: in the pictures and in timed data. on_script: called with all timed data, before the sinks.
    was_stopped: the last publisher that left said that it stops.
    kbps, max_kbps: the bit rate of the push with all its tracks, and its limit; both 0: it has none.
    over_since: since when the bit rate is a tenth above the limit, monotonic seconds; None: it is not.
    """

    __slots__ = (
        "_samples",
        "_taken",
        "bytes",
        "captions",
        "input",
        "kbps",
        "kind",
        "last_dts_ms",
        "last_push",
        "least_kbps",
        "lost_since",
        "max_kbps",
        "on_script",
        "over_since",
        "was_stopped",
    )

    def __init__(self, captions: StreamCaptions) -> None:
        self.captions = captions
        self.on_script: Callable[[TimedData], None] | None = None
        self.bytes = self._taken = 0
        self.last_dts_ms = 0
        self.last_push = 0.0
        self.input, self.kind = MAIN, InputKind.PUSH
        self.lost_since: float | None = None
        self.least_kbps = 0
        self.was_stopped = False
        self.kbps = self.max_kbps = 0.0
        self.over_since: float | None = None
        self._samples: deque[tuple[float, int]] = deque(maxlen=6)  # monotonic time, bytes

    def add(self, unit: AccessUnit, now: float) -> None:
        """Counts a unit. Hot path. now: monotonic seconds."""
        self.bytes += len(unit.payload)
        self.last_push = now
        scale = unit.track.timescale
        dts_ms = unit.dts if scale == 1000 else unit.dts * 1000 // scale
        if dts_ms > self.last_dts_ms:
            self.last_dts_ms = dts_ms

    def take_script(self, timed: TimedData) -> None:
        """Reads timed data, such as captions and cues."""
        self.captions.take(timed)
        if self.on_script is not None:
            self.on_script(timed)

    def add_time(self, unit: AccessUnit, now: float) -> None:
        """Notes the time of a unit whose bytes are counted elsewhere. now: monotonic seconds."""
        self.last_push = now
        self.last_dts_ms = max(self.last_dts_ms, unit.dts * 1000 // unit.track.timescale)

    def sample(self, now: float) -> None:
        """Records the number of bytes received so far. The hub calls it once a second."""
        self._samples.append((now, self.bytes))

    def take_bytes(self) -> int:
        """Returns the bytes since the last call. Those of a slate are left out: nobody has sent them."""
        new, self._taken = self.bytes - self._taken, self.bytes
        return 0 if self.kind is InputKind.SLATE else new

    @property
    def bitrate(self) -> int:
        """Bits of media payload per second, averaged over the last seconds."""
        if len(self._samples) < 2:
            return 0
        (t0, b0), (t1, b1) = self._samples[0], self._samples[-1]
        return round((b1 - b0) * 8 / (t1 - t0)) if t1 > t0 else 0
