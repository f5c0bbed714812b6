"""The common part of the outputs that write recordings: schedule, bounded subscription, disk errors."""

from __future__ import annotations

import abc
import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.lib.metric_table import DROPPED, RECORDED, MetricSample, by_label
from gateway.live.subscription import End, Subscription
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit

if TYPE_CHECKING:
    from gateway.channels.channel import Channel
    from gateway.live.stream import Stream

log = structlog.get_logger(__name__)

_FINISH: Final = 15.0  # seconds to write open files if the disk is slow
_LONGEST_WAIT: Final = 3600.0  # seconds; then the clock is read again, because somebody may have set it


@dataclass(slots=True)
class RecordingCounts:
    """Counters over all recordings; a source of metrics."""

    dropped: int = 0
    finished: dict[str, int] = field(default_factory=dict)  # by kind

    def samples(self) -> Iterator[MetricSample]:
        yield MetricSample(DROPPED, self.dropped, ("output",))
        yield from by_label(RECORDED, self.finished)


class RecordingOutput(abc.ABC):
    """Base of the recording outputs; implements StreamOutput, StartsWithStream, ReportsStatus and ChannelAware.

    Subclasses take the stream's items and store what they make of them.
    Within the hours of the channel's `recordSchedule` (always, without one) it follows the stream; outside them it
    waits.
    If the disk is too slow, the subscription drops whole GOPs, so that nothing else has to wait.
    Whatever the reason for its end, it stores what it took, within 15 s.
    """

    def __init__(self, stream: Stream, counts: RecordingCounts) -> None:
        self._stream = stream
        self._counts = counts
        self._channel: Channel = stream.channel
        self._subscription: Subscription | None = None
        self._until = float("inf")  # end of the scheduled hours, seconds since the epoch
        self._waits_until: float | None = None  # their next beginning
        self._changed = asyncio.Event()
        self._dropped = 0
        self._failed = False

    # ---- subclasses ----

    @abc.abstractmethod
    def take_tracks(self, tracks: Tracks) -> None:
        """Takes the tracks, first and at each change. Raises OutputUnsupported."""

    @abc.abstractmethod
    def take(self, unit: AccessUnit) -> None:
        """Takes one unit. Raises OutputUnsupported. Hot path."""

    @property
    @abc.abstractmethod
    def due(self) -> bool:
        """Whether there is something to store."""

    @abc.abstractmethod
    async def store(self) -> None:
        """Writes what is ready to the disk. Raises OutputError."""

    @abc.abstractmethod
    async def finish(self, failed: bool) -> None:
        """Ends the recording: stores what is open, unless storing has failed already (failed).

        Also saves what was recorded when the output is switched off.
        """

    @abc.abstractmethod
    def read_channel(self, channel: Channel) -> None:
        """Reads the changed channel."""

    # ---- Output ----

    def begin(self, stream: Stream) -> None:
        """Follows the stream from now on, if the schedule allows it."""
        now = time.time()
        schedule = self._channel.record_schedule
        if schedule is None or schedule.active(now):
            self._subscribe(stream)

    async def run(self, stream: Stream) -> None:
        """Records until the stream has ended."""
        stream.when_ended(lambda _: self._changed.set())  # wakes a wait for the scheduled hours
        while True:
            schedule = self._channel.record_schedule
            now = time.time()
            if self._subscription is None and schedule is not None and not schedule.active(now):
                if await self._wait(stream, schedule.next_change(now)):
                    return
                continue
            self._set_end()
            if await self._follow(stream):
                return

    def channel_changed(self, channel: Channel) -> None:
        self._channel = channel
        self.read_channel(channel)
        self._set_end()
        self._changed.set()

    def report(self) -> dict[str, Any]:
        told: dict[str, Any] = {"dropped": self._dropped + (self._subscription.dropped if self._subscription else 0)}
        if self._waits_until is not None:
            told["waiting"] = self._waits_until if self._waits_until != float("inf") else None
        return told

    # ---- details ----

    def _subscribe(self, stream: Stream) -> None:
        self._subscription = subscription = Subscription(stream)
        stream.attach(subscription)

    def _set_end(self) -> None:
        schedule, now = self._channel.record_schedule, time.time()
        if schedule is None:
            self._until = float("inf")
        else:
            self._until = schedule.next_change(now) if schedule.active(now) else now

    async def _wait(self, stream: Stream, until: float) -> bool:
        """Waits for the scheduled hours or a change of the channel. Returns True if the stream ended."""
        self._waits_until = until
        self._changed.clear()
        try:
            async with asyncio.timeout(min(max(until - time.time(), 0.01), _LONGEST_WAIT)):
                if stream.ended is None:
                    await self._changed.wait()
        except TimeoutError:
            pass  # the scheduled hours begin
        finally:
            self._waits_until = None
        return stream.ended is not None

    async def _follow(self, stream: Stream) -> bool:
        """Takes the stream until it ends or the scheduled hours end. Returns True if the stream ended."""
        if self._subscription is None:
            self._subscribe(stream)
        subscription = self._subscription
        assert subscription is not None
        failed = True
        try:
            async for item in subscription:
                if isinstance(item, AccessUnit):
                    if time.time() >= self._until:
                        failed = False
                        return False
                    self.take(item)
                elif isinstance(item, Tracks):
                    self.take_tracks(item)
                elif isinstance(item, End):
                    break
                if self.due:
                    await self.store()
            failed = False
            return True
        except asyncio.CancelledError:  # the output was switched off: the open files are good
            failed = False
            raise
        finally:
            stream.detach(subscription)
            self._subscription = None
            self._count_dropped(subscription.dropped)
            try:
                async with asyncio.timeout(_FINISH):
                    await self.finish(failed)
            except TimeoutError:
                log.warning("the disk is too slow to finish a recording", stream=stream.name)

    def _count_dropped(self, frames: int) -> None:
        self._dropped += frames
        self._counts.dropped += frames
        if frames:
            log.warning("frames are missing in a recording", stream=self._stream.name, frames=frames)
