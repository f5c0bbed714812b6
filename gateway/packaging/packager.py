"""The common base of all packagers. It receives a stream's units, and stops for codecs that it cannot carry."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from gateway.lib.gate import Gate, Waiters
from gateway.live.next_numbers import NextNumbers
from gateway.live.pushed_tracks import MediaBudget
from gateway.live.sink import EndReason, SinkNeeds
from gateway.live.stream import Stream
from gateway.live.stream_captions import StreamCaptions
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, TimedData, Tracks
from gateway.packaging.caption_pieces import CaptionCutter
from gateway.packaging.segment_window import ListLength
from gateway.packaging.timed_events import EventReader, TimedEvent
from gateway.ports.errors import OutputUnsupported

log = structlog.get_logger(__name__)

_BATCH = 32  # units that may wait to be packaged, about 0.4 s of video and audio
_QUIET_BATCHES = 16  # batches without a waiting client, about 7 s; then the publisher may be read in batches too


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """The wanted segments of a stream.

    seconds, size: the channel's `hls_time` and `hls_list_size`.
    part: wanted seconds of a part; only for CMAF.
    budget: the memory that the stream shares with others; None: it has only its own limits.
    length: shared with the streams of its ladder; None: it shares none.
    captions: of the stream.
    continues: whether the first numbers are exactly those after the numbers of another node.
    cue_tags: the setting `hls.cue_tags`.
    """

    seconds: float
    size: int
    part: float = 0.0
    budget: MediaBudget | None = None
    length: ListLength | None = None
    captions: StreamCaptions = field(default_factory=lambda: StreamCaptions(tuple))
    continues: bool = False
    cue_tags: bool = False


class Packager:
    """An Output and a Sink. Subclasses package tracks and units, and complete the open segment in `finish`.

    Units are packaged immediately only while a client waits for the result (`waiters`). Otherwise they are packaged in
    batches, which costs a third, and before each read: readers call `catch_up` first. If no client has waited for some
    time, the publisher may be read in batches too (`Fanout.is_awaited`).

    refused: the reason why this stream cannot be packaged, as a text for players; None while it can.
    ready: whether playlists exist.
    cache: responses that servers made from the current state; emptied when the state changes.
    broken: number of units that could not be read.
    forced_cuts: number of segments that began without a key frame: the GOP was longer than the Target Duration, or the
    segment had too many bytes.
    ended: whether the stream has ended.
    moved: whether another node continues the ended stream, or may do so. Then playlists do not say that they end.
    stopped: whether this packager has stopped for any reason; then nothing changes any more.

    name: of the stream. output: name of the output. Both are for logs. captions: of the stream.
    """

    def __init__(self, name: str, output: str, captions: StreamCaptions) -> None:
        self._name = name
        self._output = output
        self.cache: dict[object, object] = {}
        self.broken = 0
        self.forced_cuts = 0
        self.refused: str | None = None
        self.ready = False
        self.ended = False
        self.moved = False
        self.stopped = False
        self.on_stopped: Callable[[], None] = lambda: None
        self.on_numbered: Callable[[], None] = lambda: None  # called when `next_numbers` may have changed
        self.waiters = Waiters(self.catch_up)
        self.changed = Gate(self.waiters)  # opens when playlists exist, and whenever they change
        self._backlog: list[AccessUnit] = []
        self._quiet_batches = _QUIET_BATCHES  # batches since a client waited last
        self._failed = False
        self._events = EventReader()
        self._next_numbers: NextNumbers | None = None  # of the stream
        self.captions = captions
        self._cutter = CaptionCutter(captions)
        self._end: asyncio.Future[None] | None = None

    @property
    def over(self) -> bool:
        """Whether no new media will arrive."""
        return self.ended or self.stopped

    def begin(self, stream: Stream) -> None:
        """Attaches to the stream immediately, so that no GOP is missed before the task of `run` starts."""
        self._end = asyncio.get_running_loop().create_future()
        self._next_numbers = stream.playback.next_numbers
        stream.attach(self, SinkNeeds(is_urgent=lambda: self._quiet_batches < _QUIET_BATCHES))

    async def run(self, stream: Stream) -> None:
        """Runs until the stream has ended. Raises OutputUnsupported for tracks that this format cannot carry."""
        if self._end is None:
            self.begin(stream)
        assert self._end is not None
        try:
            await self._end
        finally:
            stream.detach(self)
            self.stopped = True
            self.release()
            self.on_stopped()

    def catch_up(self) -> None:
        """Packages the waiting units. An error stops the packager; the caller does not receive it. Hot path."""
        if not self._backlog:
            return
        units, self._backlog = self._backlog, []
        try:
            for unit in units:
                self.take(unit)
        except Exception as error:
            self.on_failed(error)

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        self.catch_up()
        self.take_tracks(tracks)

    def on_unit(self, unit: AccessUnit) -> None:
        """Queues a unit; packages the queue if a client waits or the batch is full. Hot path."""
        if self._failed:
            return
        backlog = self._backlog
        backlog.append(unit)
        if self.waiters.count:
            self._quiet_batches = 0
            self.catch_up()
        elif len(backlog) >= _BATCH:
            self._quiet_batches += 1
            self.catch_up()

    def on_timed(self, timed: TimedData) -> None:
        """Packages cues and timed metadata. Segments contain no other timed data."""
        event = self._events.read(timed)
        if event is not None:
            self.catch_up()  # the units before it
            if not self._failed:
                self.take_event(event)

    def on_end(self, reason: EndReason) -> None:
        self.catch_up()
        self.ended = True
        may_go_on = self._next_numbers is not None and self._next_numbers.may_go_on
        self.moved = reason is EndReason.MOVED or (reason is EndReason.SHUTDOWN and may_go_on)
        self.finish()
        self._settle(None)

    def on_failed(self, error: Exception) -> None:
        self._failed = True
        if isinstance(error, InvalidData):
            # Subclasses drop each broken unit. An error here concerns the configuration, so it is permanent.
            self.refused = str(error)
            self.cache.clear()
            error = OutputUnsupported(str(error))
        self._settle(error)

    # ---- for subclasses ----

    @property
    def numbers(self) -> Any:
        """The numbers for the next packager of the stream."""
        raise NotImplementedError

    @property
    def next_numbers(self) -> tuple[int, ...]:
        """The numbers with which a packager on another node continues if this node dies now (`NextNumbers`)."""
        raise NotImplementedError

    def take_tracks(self, tracks: Tracks) -> None:
        raise NotImplementedError

    def take(self, unit: AccessUnit) -> None:
        raise NotImplementedError

    def take_event(self, event: TimedEvent) -> None:
        """Packages a cue or metadata. Formats without them do nothing."""

    def finish(self) -> None:
        """Completes the open segment. No more units will arrive."""
        raise NotImplementedError

    def release(self) -> None:
        """Wakes all waiting clients, because the output stops, at the stream's end or before."""
        raise NotImplementedError

    def note_forced_cut(self, target: int | None) -> None:
        """Counts and logs a segment that had to begin without a key frame. target: Target Duration, seconds."""
        self.forced_cuts += 1
        if _is_power_of_two(self.forced_cuts):
            log.warning("segment cut without a key frame", stream=self._name, output=self._output,
                        times=self.forced_cuts, target=target)  # fmt: skip

    def note_broken(self, error: InvalidData) -> None:
        """Counts and logs a unit that could not be read."""
        self.broken += 1
        if _is_power_of_two(self.broken):
            log.info("unit dropped", stream=self._name, output=self._output, reason=str(error), times=self.broken)

    def _settle(self, error: Exception | None) -> None:
        end = self._end
        if end is not None and not end.done():
            if error is None:
                end.set_result(None)
            else:
                end.set_exception(error)


def _is_power_of_two(count: int) -> bool:
    """Whether `count` is 1, 2, 4, 8 …: so logs grow only with its logarithm."""
    return count & (count - 1) == 0
