"""Media that are read ahead and published by the clock: films, recordings and HLS. All times are ticks of 90 kHz."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

import structlog

from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import AccessUnit
from gateway.ports.errors import GatewayError, OutputError

log = structlog.get_logger(__name__)

T = TypeVar("T")

_AHEAD: Final = 2 * VIDEO_CLOCK  # most media that wait in the queue
_AHEAD_BYTES: Final = 16_000_000  # most bytes that wait in the queue
_LATE_SECONDS: Final = 0.5  # if media are later than this, the clock starts again: no burst follows
_MAX_LEAD_SECONDS: Final = 15.0  # servers first send all pictures since a key frame at once
# Media seconds per second of a live server and of one that sends a file, see LeadLimiter. `DateCorrection` follows the
# second one without a new epoch.
_LEAD_RATE, _FILE_RATE = 1.02, 1.0005
_FILE_SECONDS: Final = 60.0  # after which a live server is no longer too far ahead
_SLACK_SECONDS: Final = 0.005  # units that are due within this time are published together


class MediaQueue(Generic[T]):
    """Units in decode order, with tracks and other marks between them.

    `put` waits while 2 s of media or 16 MB are in the queue.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._bytes = 0
        self._last_in: int | None = None  # decode time of the last unit that was put
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._ended = False
        self._error: GatewayError | None = None

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        """Yields the items that wait, the next one first."""
        return iter(self._items)

    async def put(self, item: T) -> None:
        """Adds an item; waits while the queue is full."""
        while self._is_full():
            self._taken.clear()
            await self._taken.wait()
        self.add(item)

    def add(self, item: T) -> None:
        """Adds an item at once, also while the queue is full."""
        if isinstance(item, AccessUnit):
            self._bytes += len(item.payload)
            self._last_in = item.dts
        self._items.append(item)
        self._changed.set()

    def end(self, error: GatewayError | None = None) -> None:
        """Marks the end. error: `get` raises it after the last item."""
        self._ended, self._error = True, error
        self._changed.set()

    def on_crash(self, name: str, error: BaseException) -> None:
        """Ends the queue because the task that fills it has failed, for `Tasks`."""
        log.error("reading ahead failed", task=name, exc_info=error)
        self.end(OutputError(f"internal error: {type(error).__name__}"))

    async def get(self) -> T | None:
        """Returns the next item; None at the end. Raises the error of `end`."""
        while not self._items:
            if self._ended:
                if self._error is not None:
                    raise self._error
                return None
            self._changed.clear()
            await self._changed.wait()
        item = self._items.popleft()
        if isinstance(item, AccessUnit):
            self._bytes -= len(item.payload)
        self._taken.set()
        return item

    def _is_full(self) -> bool:
        first = next((item for item in self._items if isinstance(item, AccessUnit)), None)
        if first is None or self._last_in is None:
            return False
        return self._last_in - first.dts >= _AHEAD or self._bytes >= _AHEAD_BYTES


class MediaClock:
    """Tells when units are due. There is no drift: each time is computed from the start.

    monotonic: the clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._start: tuple[float, int] | None = None  # the clock's time and the decode time of the first unit

    def restart(self) -> None:
        """Starts the clock again: the next unit is due at once."""
        self._start = None

    def delay(self, dts: int) -> float:
        """Returns the seconds until a unit is due; 0: now."""
        now = self._monotonic()
        if self._start is None:
            self._start = (now, dts)
        began, first = self._start
        wait = began + (dts - first) / VIDEO_CLOCK - now
        if wait < -_LATE_SECONDS:
            self._start = (now, dts)
        return wait if wait > _SLACK_SECONDS else 0.0


class LeadLimiter:
    """Slows down a server that sends faster than its media play, such as one that sends a file.

    Media may be 15 s ahead of the clock, and 2 % faster, so that a server whose clock is a little fast is not slowed.
    Media that are too far ahead after a minute are a file: from then on they may be 0.05 % faster.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last: int | None = None  # latest decode time
        self._lead = 0.0  # seconds by which the media are ahead of the clock
        self._at = 0.0  # the clock's time of the last unit
        self._began: float | None = None  # the clock's time of the first unit
        self._rate = _LEAD_RATE

    def begin(self) -> None:
        """Notes that the times of the next unit do not continue those before."""
        self._last = None

    async def wait(self, dts: int) -> None:
        """Waits as long as the media up to `dts` are too far ahead."""
        wait = self.delay(dts)
        if wait > 0:
            await asyncio.sleep(wait)

    def delay(self, dts: int) -> float:
        """Notes a unit; returns the seconds to wait after it. At most 0: none."""
        now = self._monotonic()
        step = min(max(dts - self._last, 0) / VIDEO_CLOCK, _MAX_LEAD_SECONDS) if self._last is not None else 0.0
        self._lead = max(0.0, self._lead - (now - self._at) * self._rate) + step
        self._last, self._at = max(dts, self._last or dts), now
        if self._began is None:
            self._began = now
        if self._lead > _MAX_LEAD_SECONDS and now - self._began > _FILE_SECONDS:
            self._rate = _FILE_RATE
        return self._lead - _MAX_LEAD_SECONDS
