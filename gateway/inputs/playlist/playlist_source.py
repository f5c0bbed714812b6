"""PlaylistSource: plays films and recordings of the object store in order, in a loop or once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import replace
from typing import Final

import structlog

from gateway.channels.inputs import InputSpec
from gateway.inputs.demux_client import DemuxClient, DemuxedSource
from gateway.inputs.descriptor import InputContext
from gateway.inputs.paced_media import MediaClock, MediaQueue
from gateway.inputs.playlist.stored_film import open_film
from gateway.inputs.splicer import Splicer
from gateway.lib.tasks import Tasks
from gateway.live.publisher import StreamPublisher
from gateway.media.errors import InvalidData
from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit
from gateway.ports.errors import GatewayError, NoSuchObject, OutputError
from gateway.ports.stores import ObjectStore
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

_SILENT_SECONDS: Final = 30.0  # an item of which nothing can be read for this long is broken
_MAX_GOP_BYTES: Final = 16_000_000  # of the pictures since the last key frame, which are repeated after a pause
_STEP: Final = 33  # ms from the last frame before a pause to the first one after it


class PlaylistSource:
    """Plays the items of one input. One worker stays open and has the next seconds of media ready.

    Off air it stops, and goes on at the last key frame when it is on air again. With `always`, it goes on by the clock,
    like a television channel.
    problem: the last item that could not be played, and why; "": none.
    """

    def __init__(self, workers: WorkerPool, objects: ObjectStore, spec: InputSpec) -> None:
        self._workers = workers
        self._objects = objects
        self._spec = spec
        self._index = 0  # of the item that is read
        self._queue: MediaQueue | None = None
        self.problem = ""

    @property
    def is_ready(self) -> bool:
        """Whether media are in memory."""
        return self._queue is not None and len(self._queue) > 0

    async def run(self, context: InputContext) -> None:
        """Plays until it is cancelled, or once. Raises OutputError if no item can be played, or the worker dies."""
        queue = MediaQueue()
        async with (
            DemuxClient.started(self._workers, context.channel.id) as demuxer,
            Tasks("playlist", queue.on_crash) as tasks,
        ):
            self._queue = queue
            reader = _ItemReader(self, demuxer, queue)
            tasks.start(reader.run(), "read")
            try:
                await _Player(queue, context, always=self._spec.always).run()
            finally:
                self._queue = None

    # ---- for the reader ----

    async def open(self, demuxer: DemuxClient) -> DemuxedSource:
        """Opens the current item. Raises GatewayError."""
        film = await open_film(self._objects, self._spec.items[self._index])
        return await demuxer.open(film.reader, size=film.size, format=film.format)

    @property
    def item(self) -> str:
        """The key of the current item."""
        return self._spec.items[self._index]

    @property
    def count(self) -> int:
        return len(self._spec.items)

    def advance(self) -> bool:
        """Goes to the next item. Returns whether there is one."""
        self._index = (self._index + 1) % len(self._spec.items)
        return self._spec.loop or self._index > 0


class _ItemReader:
    """Reads item after item into the queue. Times go on from item to item; equal tracks are not announced again."""

    def __init__(self, source: PlaylistSource, demuxer: DemuxClient, queue: MediaQueue) -> None:
        self._source = source
        self._demuxer = demuxer
        self._queue = queue
        self._splicer = Splicer(_SILENT_SECONDS)

    async def run(self) -> None:
        """Reads to the end. The queue gets the error if no item can be played."""
        failures = 0
        while True:
            problem, count = await self._read_item()
            failures = 0 if count else failures + 1
            if problem is None and self._source.problem.startswith(f"{self._source.item}: "):
                self._source.problem = ""  # it can be played again
            if problem is not None:
                text = self._report(problem)
                if isinstance(problem, OutputError) and self._demuxer.ended:
                    self._source.advance()  # it may have been the item that ended the worker
                    self._queue.end(OutputError(text))
                    return
                if failures >= self._source.count:
                    self._source.advance()
                    self._queue.end(OutputError(f"no item can be played; {text}"))
                    return
            if not self._source.advance():
                self._queue.end()
                return

    def _report(self, problem: GatewayError) -> str:
        key = self._source.item
        reason = "it does not exist" if isinstance(problem, NoSuchObject) else str(problem)
        text = self._source.problem = f"{key}: {reason}"
        log.warning("an item of the playlist cannot be played", item=key, reason=reason)
        return text

    async def _read_item(self) -> tuple[GatewayError | None, int]:
        """Reads the current item to its end. Returns what was wrong with it, and the number of its units."""
        count = 0
        film: DemuxedSource | None = None
        try:
            film = await self._source.open(self._demuxer)
            async for item in self._splicer.play((film,)):
                count += isinstance(item, AccessUnit)
                await self._queue.put(item)
        except GatewayError as error:
            return error, count
        finally:
            if film is not None and not self._demuxer.ended:
                await film.close()
        return (None if count else OutputError("it has no media")), count


class _Player:
    """Publishes the queue by the clock while the input is on air, or always."""

    def __init__(self, queue: MediaQueue, context: InputContext, *, always: bool) -> None:
        self._queue = queue
        self._context = context
        self._always = always
        self._clock = MediaClock()
        self._tracks: Tracks | None = None
        self._publisher: StreamPublisher | None = None
        self._shift = 0  # milliseconds that pauses added
        self._last = 0  # time of the last unit that was published
        self._gop: list[AccessUnit] = []  # since the last key frame
        self._gop_bytes = 0
        self._again: deque[AccessUnit] = deque()  # to be repeated after a pause
        self._key_due = False

    async def run(self) -> None:
        """Plays to the end of the queue. Raises its error."""
        try:
            while True:
                if not self._always and not self._context.on_air:
                    await self._pause()
                item = self._again.popleft() if self._again else await self._queue.get()
                if item is None:
                    return
                if isinstance(item, Tracks):
                    self._tracks = item
                    self._announce()
                    continue
                await self._play(item)
        finally:
            self._close()

    async def _play(self, unit: AccessUnit) -> None:
        if self._key_due:
            if self._has_video and not (unit.key and unit.track.kind is Kind.VIDEO):
                return  # it does not wait for the clock, so that the next key frame comes at once
            self._key_due = False
            self._shift = self._last + _STEP - unit.dts if self._last else 0
        wait = self._clock.delay(unit.dts + self._shift)
        if wait:
            await asyncio.sleep(wait)
        self._remember(unit)
        self._publish(unit)

    def _publish(self, unit: AccessUnit) -> None:
        if self._publisher is None:
            self._publisher = self._context.publish()
            self._announce()
        at = unit.dts + self._shift
        self._last = max(self._last, at)
        self._publisher.push(replace(unit, dts=at, wall=time.time()), time.monotonic())

    async def _pause(self) -> None:
        """Waits until the input is on air, then repeats the pictures since the last key frame."""
        self._close()
        await self._context.until_on_air()
        self._clock.restart()
        self._again.extendleft(reversed(self._gop))
        self._gop, self._gop_bytes = [], 0
        self._key_due = True

    def _remember(self, unit: AccessUnit) -> None:
        if unit.key and (unit.track.kind is Kind.VIDEO or not self._has_video):
            self._gop, self._gop_bytes = [], 0
        elif not self._gop:
            return  # the group was too large: after a pause, the next one begins
        self._gop.append(unit)
        self._gop_bytes += len(unit.payload)
        if self._gop_bytes > _MAX_GOP_BYTES or self._always:
            self._gop, self._gop_bytes = [], 0

    @property
    def _has_video(self) -> bool:
        return self._tracks is not None and self._tracks.video is not None

    def _announce(self) -> None:
        if self._publisher is not None and self._tracks is not None:
            try:
                self._publisher.set_tracks(self._tracks.video, self._tracks.audio, {})
            except InvalidData as error:
                raise OutputError(str(error)) from error

    def _close(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()
