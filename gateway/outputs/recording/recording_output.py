"""Base classes of recording outputs: schedule, bounded subscription, disk errors, cutting into pieces."""

import abc
import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from gateway.channels.channel import Channel
from gateway.lib.metric_table import DROPPED, RECORDED, MetricSample, by_label
from gateway.lib.waiting import wait_at_most
from gateway.live.stream import Stream
from gateway.live.subscription import AdditionalUnit, End, Subscription
from gateway.live.track_changes import IntervalLimiter
from gateway.media.track import AccessUnit, TimedData, Tracks
from gateway.outputs.recording.cutter import MAX_BURST, Cutter, PieceStart, RecordingPiece
from gateway.outputs.recording.mp4_finalizer import Mp4Finalizer
from gateway.outputs.storage.archive import Archive
from gateway.ports.errors import OutputUnsupported

log = structlog.get_logger(__name__)

FLUSH_SECONDS: Final = 0.5  # the next unit of a live stream arrives much sooner
_FINISH_SECONDS: Final = 15.0  # for writing open files if the disk is slow
_MAX_WAIT_SECONDS: Final = 3600.0  # maximum wait; then the clock is read again, because it may have been changed


@dataclass(slots=True)
class RecordingCounts:
    """Counters for all recordings; a source of metrics."""

    dropped: int = 0  # frames
    finished: Counter[str] = field(default_factory=Counter)  # by kind

    def samples(self) -> Iterator[MetricSample]:
        yield MetricSample(DROPPED, self.dropped, ("output",))
        yield from by_label(RECORDED, self.finished)


class RecordingOutput(abc.ABC):
    """Base of the recording outputs; implements StreamOutput, StartsWithStream, ReportsStatus and ChannelAware.

    Subclasses receive the stream's items and store recordings.
    The output records only in the windows of the channel's `recordSchedule`. Without a schedule, it always records.
    If the disk is too slow, the subscription drops whole GOPs and does not block.
    When the output ends for any reason, it stores the received media within 15 s.
    """

    def __init__(self, stream: Stream, archive: Archive, counts: RecordingCounts) -> None:
        self.has_data_to_store = False  # whether `store` has data to write
        self._stream = stream
        self._archive = archive
        self._counts = counts
        self._channel: Channel = stream.channel
        self._subscription: Subscription | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._window_end = float("inf")  # end of the schedule's window, seconds since 1970
        self._next_window: float | None = None  # start of the next window; None: not waiting
        self._changed = asyncio.Event()
        self._dropped = 0
        self._flushes: list[asyncio.Future[None]] = []

    # ---- subclasses ----

    @abc.abstractmethod
    def on_tracks(self, tracks: Tracks) -> None:
        """Receives the tracks, first and at each change. Raises OutputUnsupported."""

    @abc.abstractmethod
    def on_unit(self, unit: AccessUnit) -> None:
        """Receives one unit. Raises OutputUnsupported. Hot path."""

    def on_additional(self, item: AdditionalUnit) -> None:
        """Receives one unit of an additional track. Only for subclasses that subscribe to additional tracks."""
        raise AssertionError(f"{item.name} was not subscribed")

    def on_timed(self, timed: TimedData) -> None:  # noqa: B027
        """Receives script data. Does nothing, because most recordings do not need it."""

    def add_additional_tracks(self, stream: Stream, subscription: Subscription) -> Callable[[], None]:
        """Adds additional tracks to a new subscription. Returns a function that removes them."""
        return lambda: None

    @abc.abstractmethod
    async def store(self) -> None:
        """Writes pending data to the disk. Raises OutputError."""

    @abc.abstractmethod
    async def finish(self, failed: bool) -> None:
        """Ends the recording and stores open files, unless storing has failed (`failed`).

        Also called when the output is switched off, or cannot go on with the stream's tracks.
        """

    @abc.abstractmethod
    def read_channel(self, channel: Channel) -> None:
        """Applies the changed channel."""

    @abc.abstractmethod
    def flush_pieces(self) -> None:
        """Prepares all received media for `store`, even if too few wait to be written."""

    async def flush(self) -> None:
        """Returns when all received media are on disk, so that a clip can contain them. Waits at most FLUSH_SECONDS.

        The output itself writes after its next unit. So errors of the disk end the output as usual.
        """
        if self._subscription is None:
            return
        done = asyncio.get_running_loop().create_future()
        self._flushes.append(done)
        await asyncio.wait([done], timeout=FLUSH_SECONDS)

    # ---- Output ----

    def begin(self, stream: Stream) -> None:
        """Subscribes to the stream, if the schedule allows it."""
        now = time.time()
        schedule = self._channel.record_schedule
        if schedule is None or schedule.active(now):
            self._subscribe(stream)

    async def run(self, stream: Stream) -> None:
        """Records until the stream has ended."""
        stream.when_ended(lambda _: self._changed.set())  # ends the wait for the schedule
        while True:
            schedule = self._channel.record_schedule
            now = time.time()
            if self._subscription is None and schedule is not None and not schedule.active(now):
                if await self._wait(stream, schedule.next_change(now)):
                    return
                continue
            self._set_window_end()
            if await self._record(stream):
                return

    def channel_changed(self, channel: Channel) -> None:
        self._channel = channel
        self.read_channel(channel)
        self._set_window_end()
        self._changed.set()

    def report(self) -> dict[str, Any]:
        status: dict[str, Any] = {"dropped": self._dropped + (self._subscription.dropped if self._subscription else 0)}
        if self._next_window is not None:
            status["waiting"] = self._next_window if self._next_window != float("inf") else None
        return status

    # ---- details ----

    def _subscribe(self, stream: Stream) -> None:
        self._subscription = subscription = Subscription(stream)
        stream.attach(subscription)
        self._unsubscribe = self.add_additional_tracks(stream, subscription)

    def _set_window_end(self) -> None:
        schedule, now = self._channel.record_schedule, time.time()
        if schedule is None:
            self._window_end = float("inf")
        else:
            self._window_end = schedule.next_change(now) if schedule.active(now) else now

    async def _wait(self, stream: Stream, until: float) -> bool:
        """Waits for the schedule or a change of the channel. Returns True if the stream ended."""
        self._next_window = until
        self._changed.clear()
        try:
            if stream.ended is None:
                await wait_at_most(min(max(until - time.time(), 0.01), _MAX_WAIT_SECONDS), self._changed)
        finally:
            self._next_window = None
        return stream.ended is not None

    async def _record(self, stream: Stream) -> bool:
        """Records until the stream or the schedule's window ends. Returns True if the stream ended."""
        if self._subscription is None:
            self._subscribe(stream)
        subscription = self._subscription
        assert subscription is not None
        failed = True
        try:
            async for item in subscription:
                if isinstance(item, AccessUnit):
                    if time.time() >= self._window_end:
                        failed = False
                        return False
                    self.on_unit(item)
                elif isinstance(item, AdditionalUnit):
                    self.on_additional(item)
                elif isinstance(item, TimedData):
                    self.on_timed(item)
                elif isinstance(item, Tracks):
                    self.on_tracks(item)
                elif isinstance(item, End):
                    break
                if self._flushes:
                    await self._flush_now()
                elif self.has_data_to_store:
                    await self.store()
            failed = False
            return True
        except (asyncio.CancelledError, OutputUnsupported):  # switched off, or other tracks: open files are valid
            failed = False
            raise
        finally:
            stream.detach(subscription)
            self._unsubscribe()
            self._subscription = None
            self._count_dropped(subscription.dropped)
            try:
                async with asyncio.timeout(_FINISH_SECONDS):
                    await self.finish(failed)
            except TimeoutError:
                log.warning("the disk is too slow to finish a recording", stream=stream.name)

    async def _flush_now(self) -> None:
        flushes, self._flushes = self._flushes, []
        try:
            self.flush_pieces()
            await self.store()
        finally:
            for done in flushes:
                if not done.done():
                    done.set_result(None)

    def _count_dropped(self, frames: int) -> None:
        self._dropped += frames
        self._counts.dropped += frames
        if frames:
            log.warning("frames were dropped from a recording", stream=self._stream.name, frames=frames)


class SegmentedRecording(RecordingOutput):
    """Base of outputs that record in pieces of the same length, with one cutter for each epoch.

    Subclasses make the pieces and store them. duration_field: the channel's field with the seconds of a piece.
    """

    def __init__(
        self, stream: Stream, archive: Archive, finalizer: Mp4Finalizer, counts: RecordingCounts, duration_field: str
    ) -> None:
        super().__init__(stream, archive, counts)
        self._finalizer = finalizer
        self._duration_field = duration_field
        self._bytes = 0
        self._cutter: Cutter | None = None
        self._piece_limiter = IntervalLimiter(MAX_BURST)
        self._epoch: int | None = None

    # ---- subclasses ----

    @abc.abstractmethod
    def begin_epoch(self, tracks: Tracks) -> None:
        """Receives new tracks or a new timeline. Raises OutputUnsupported."""

    @abc.abstractmethod
    def begin_piece(self, start: PieceStart) -> RecordingPiece:
        """Returns a new piece; called by the cutter."""

    @abc.abstractmethod
    def check_pieces(self) -> None:
        """Sets `has_data_to_store`; called after each unit. Raises OutputUnsupported. Hot path."""

    def piece_seconds(self, channel: Channel) -> float:
        """Returns the wanted duration of a piece."""
        return channel.number(self._duration_field)

    # ---- RecordingOutput ----

    def read_channel(self, channel: Channel) -> None:
        if self._cutter is not None:
            self._cutter.seconds = self.piece_seconds(channel)

    def on_tracks(self, tracks: Tracks) -> None:
        if tracks.epoch == self._epoch:
            return
        self._epoch = tracks.epoch
        self._end_cutter()
        if tracks.video is not None or tracks.audio is not None:
            self.begin_epoch(tracks)
            self._cutter = Cutter(tracks, self.piece_seconds(self._channel), self.begin_piece, self._piece_limiter)

    def on_unit(self, unit: AccessUnit) -> None:
        if self._cutter is not None:
            self._cutter.add(unit)
            self.check_pieces()

    def _end_cutter(self) -> None:
        """Ends the cutter, which writes its held units to the pieces."""
        if self._cutter is not None:
            self._cutter.finish()
            self._count_dropped(self._cutter.dropped)
            self.has_data_to_store = True
        self._cutter = None
