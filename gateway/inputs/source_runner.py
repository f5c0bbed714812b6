"""Runs the source of one input: starts it again after a failure, and tells it when it is on air."""

import asyncio
import time
from typing import Final, Protocol

import structlog

from gateway.channels.channel import Channel
from gateway.inputs.channel_input import ChannelInput
from gateway.inputs.descriptor import InputSource
from gateway.inputs.selection import SwitchReason
from gateway.lib.backoff import Backoff
from gateway.live.publisher import StreamPublisher
from gateway.media.track import AccessUnit, MediaTrack, Tracks
from gateway.ports.errors import INTERNAL_ERROR, OutputError, OutputUnsupported

log = structlog.get_logger(__name__)

_STEADY_SECONDS: Final = 30.0  # a source that ran for this time is started again after the shortest pause
_MAX_ERROR: Final = 300  # characters


class SourceOwner(Protocol):
    """The part of the channel's switcher that its sources need."""

    channel: Channel
    expected_tracks: Tracks | None

    async def until_expected_tracks_change(self, known: Tracks | None) -> None: ...

    def silence(self, track: MediaTrack) -> bytes: ...

    def publish_input(self, entry: ChannelInput, peer: str) -> StreamPublisher: ...

    def input_lost(self, entry: ChannelInput, reason: SwitchReason) -> None: ...


class SourceRunner:
    """Runs a source until it is cancelled. Implements InputContext.

    error: why it does not deliver; None: nothing is wrong.
    """

    def __init__(self, entry: ChannelInput, source: InputSource, owner: SourceOwner) -> None:
        self.error: str | None = None
        self.task: asyncio.Task[object] | None = None
        self._entry = entry
        self._source = source
        self._owner = owner
        self._publishers: list[StreamPublisher] = []
        self._log = log.bind(stream=owner.channel.id, input=entry.spec.name)
        self._working = False  # the source runs; false in the pause after a failure

    @property
    def running(self) -> bool:
        return self.task is not None and not self.task.done()

    @property
    def problem(self) -> str | None:
        """Why it does not deliver, or what is wrong although it delivers."""
        if self.error is None and self.running and self._source.problem:
            return self._source.problem[:_MAX_ERROR]
        return self.error

    @property
    def is_ready(self) -> bool:
        """Whether the source could deliver at once."""
        return self.running and self._working and self._source.is_ready

    @property
    def is_between_items(self) -> bool:
        """Whether the source has no media until the time of its next scheduled item."""
        return self._source.is_between_items

    @property
    def key_frame(self) -> AccessUnit | None:
        """The key frame with which the source would begin on air; None: it has none."""
        return self._source.key_frame if self.running else None

    def stop(self) -> None:
        """Ends the source. It may be started again."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
        self.error = None

    async def run(self) -> None:
        """Runs the source again and again, until it has no more media or cannot work at all."""
        self.error = None
        backoff = Backoff(0.5, 10.0)
        while True:
            started = time.monotonic()
            self._working = True
            try:
                await self._source.run(self)
                return  # it has no more media
            except OutputUnsupported as error:
                self._fail(str(error))
                return
            except OutputError as error:
                self._fail(str(error))
            except Exception as error:
                self._log.error("input failed", exc_info=error)
                self._fail(INTERNAL_ERROR)
            finally:
                self._working = False
                self._close_publishers()
            if time.monotonic() - started > _STEADY_SECONDS:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    def _fail(self, reason: str) -> None:
        self.report(reason)
        self._working = False
        self._close_publishers()
        self._owner.input_lost(self._entry, SwitchReason.FAILED)

    def _close_publishers(self) -> None:
        publishers, self._publishers = self._publishers, []
        for publisher in publishers:
            publisher.close()

    # ---- InputContext ----

    @property
    def channel(self) -> Channel:
        return self._owner.channel

    @property
    def expected_tracks(self) -> Tracks | None:
        return self._owner.expected_tracks

    @property
    def on_air(self) -> bool:
        return self._entry.is_on_air

    async def until_on_air(self) -> None:
        await self._entry.on_air.wait()

    async def until_off_air(self) -> None:
        await self._entry.off_air.wait()

    async def until_expected_tracks_change(self, known: Tracks | None) -> None:
        await self._owner.until_expected_tracks_change(known)

    def silence(self, track: MediaTrack) -> bytes:
        return self._owner.silence(track)

    def report(self, problem: str | None) -> None:
        if problem is not None and self.error is None:
            self._log.warning("input does not deliver", reason=problem)
        self.error = None if problem is None else problem[:_MAX_ERROR]

    def publish(self, peer: str = "") -> StreamPublisher:
        self._publishers = [publisher for publisher in self._publishers if publisher.active]
        publisher = self._owner.publish_input(self._entry, peer)
        self._publishers.append(publisher)
        self.error = None
        return publisher
