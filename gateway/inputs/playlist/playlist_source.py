"""PlaylistSource: plays films and recordings of the object store in order, in a loop, once, or by the time of day."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, TypeAlias

import structlog

from gateway.channels.inputs import InputSpec
from gateway.inputs.demux_client import DemuxClient, DemuxedSource, Item, LeftOut
from gateway.inputs.descriptor import InputContext, InputSource
from gateway.inputs.paced_media import MediaClock, MediaQueue
from gateway.inputs.playlist.order import DayOrder, NextItem, order_of
from gateway.inputs.playlist.stored_film import open_film
from gateway.inputs.splicer import Splicer
from gateway.inputs.unit_output import UnitOutput
from gateway.lib.tasks import Tasks
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.ports.errors import GatewayError, NoSuchObject, OutputError
from gateway.ports.stores import ObjectStore
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

_SILENT_SECONDS: Final = 30.0  # an item without a unit for this long is broken
_MAX_GOP_BYTES: Final = 16_000_000  # of the pictures since the last key frame, which are repeated after a pause
_STEP: Final = VIDEO_CLOCK // 30  # from the last frame before a pause to the first one after it
_OPEN_SECONDS: Final = 5.0  # an item is opened this long before its time
_MAX_LATE: Final = 5.0  # seconds; after a longer pause of the reader, the order begins with what is due now
_STILL_SECONDS: Final = 0.5  # a shorter wait for the next time is no interruption


@dataclass(frozen=True, slots=True)
class ItemTime:
    """The wall-clock time of the next units. begin: None: they follow the previous ones. until: when they end."""

    begin: float | None
    until: float


QueueItem: TypeAlias = Item | ItemTime


class PlaylistSource(InputSource):
    """Plays the items of one input. One worker stays open and has the next seconds of media ready.

    Off air it stops, and goes on at the last key frame when it is on air again. With `always` or with times of the day,
    it goes on by the clock, like a television channel.
    problem: the last item that could not be played, with the reason; "": none.

    clock: seconds since 1970.
    """

    def __init__(
        self, workers: WorkerPool, objects: ObjectStore, spec: InputSpec, clock: Callable[[], float] = time.time
    ) -> None:
        self._workers = workers
        self._objects = objects
        self._spec = spec
        self._clock = clock
        self._order = order_of(spec)
        self._by_day = isinstance(self._order, DayOrder)
        self._player: _Player | None = None
        self.problem: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether media are in memory. Scheduled items are not published before their time."""
        return self._player is not None and not self._by_day and len(self._player.queue) > 0

    @property
    def is_between_items(self) -> bool:
        """Whether nothing plays until the time of the next item."""
        return self._player is not None and self._player.is_between_items

    @property
    def key_frame(self) -> AccessUnit | None:
        """The key frame at which it would go on."""
        waiting = () if self._player is None else self._player.waiting()
        return next((u for u in waiting if isinstance(u, AccessUnit) and u.key and u.track.kind is Kind.VIDEO), None)

    async def run(self, context: InputContext) -> None:
        """Plays until it is cancelled, or once. Raises OutputError if no item can be played, or the worker dies."""
        queue = MediaQueue[QueueItem]()
        async with (
            DemuxClient.started(self._workers, context.channel) as demuxer,
            Tasks("playlist", queue.on_crash) as tasks,
        ):
            always = self._spec.always or self._by_day
            self._player = _Player(queue, context, self._clock, always=always)
            tasks.start(self._read(demuxer, queue), "read")
            try:
                await self._player.run()
            finally:
                self._player = None

    async def _read(self, demuxer: DemuxClient, queue: MediaQueue[QueueItem]) -> None:
        """Reads to the end. The queue gets the error if no item can be played."""
        reader = _ItemReader(self._objects, demuxer, queue, self._note)
        position = self._clock()  # when the next item begins
        while True:
            now = self._clock()
            position = now if position < now - _MAX_LATE else position
            item = self._order.next(position)
            if item is None:
                queue.end()
                return
            if item.key is None:
                await queue.put(ItemTime(item.until, math.inf))
                await asyncio.sleep(item.until - _OPEN_SECONDS - self._clock())
                position = item.until
                continue
            if self._by_day:
                await queue.put(ItemTime(item.begin, item.until))
            problem, seconds = await reader.read(item, position)
            position = min(position + seconds, item.until)
            missing = isinstance(problem, NoSuchObject)
            reason = reader.problem if problem is None else "it does not exist" if missing else str(problem)
            text = self._note(item.key, reason)
            usable = self._order.report(played=problem is None or seconds > 0)
            if problem is not None and demuxer.ended:
                queue.end(OutputError(text))  # the next item is another one: this one may have ended the worker
                return
            if not usable:
                queue.end(OutputError(f"no item can be played; {text}"))
                return

    def _note(self, key: str, reason: str) -> str:
        """Keeps what is wrong with an item, for the API; returns it. reason: "": nothing is."""
        if not reason:
            self.problem = "" if self.problem.startswith(f"{key}: ") else self.problem
        elif self.problem != f"{key}: {reason}":
            self.problem = f"{key}: {reason}"
            log.warning("an item of the playlist cannot be played as it is", item=key, reason=reason)
        return self.problem


class _ItemReader:
    """Reads item after item into the queue. Times go on from item to item. The same tracks are not announced again.

    note: called with the key of an item and with what of it cannot be played.
    problem: that of the last item; "": nothing.
    """

    def __init__(
        self,
        objects: ObjectStore,
        demuxer: DemuxClient,
        queue: MediaQueue[QueueItem],
        note: Callable[[str, str], object],
    ) -> None:
        self.problem = ""
        self._note = note
        self._objects = objects
        self._demuxer = demuxer
        self._queue = queue
        self._splicer = Splicer(_SILENT_SECONDS)

    async def read(self, next_item: NextItem, begin: float) -> tuple[GatewayError | None, float]:
        """Reads an item to its end or to the time of the next one. Returns what was wrong with it, and its seconds.

        begin: when it begins.
        """
        assert next_item.key is not None, "the caller checks it"
        first = last = 0
        count, self.problem = 0, ""
        source: DemuxedSource | None = None
        try:
            film = await open_film(self._objects, next_item.key, next_item.offset)
            if film is None:
                return None, 0.0
            source = await self._demuxer.open(film.reader, size=film.size, format=film.format, start=film.start)
            async with aclosing(self._splicer.play((source,))) as items:
                async for item in items:
                    if isinstance(item, AccessUnit):
                        first, last = first if count else item.dts, item.dts
                        if source.problem != self.problem:
                            self.problem = source.problem
                            self._note(next_item.key, self.problem)
                        if begin + (last - first) / VIDEO_CLOCK >= next_item.until:
                            break
                        count += 1
                    await self._queue.put(item)
        except GatewayError as error:
            return error, (last - first) / VIDEO_CLOCK
        finally:
            if source is not None and not self._demuxer.ended:
                await source.close()
        over = count or next_item.offset  # it may have ended before its offset
        return (None if over else OutputError("it has no media")), (last - first) / VIDEO_CLOCK


class _Player:
    """Publishes the queue by the clock while the input is on air, or always."""

    def __init__(
        self, queue: MediaQueue[QueueItem], context: InputContext, wall: Callable[[], float], *, always: bool
    ) -> None:
        self.is_between_items = False  # it waits for the next time, without media
        self.queue = queue
        self._context = context
        self._output = UnitOutput(context)
        self._wall = wall
        self._always = always
        self._clock = MediaClock()
        self._tracks: Tracks | None = None
        self._shift = 0  # ticks from an item's times to the published times
        self._last = 0  # time of the last unit that was published
        self._gop: list[AccessUnit] = []  # since the last key frame
        self._gop_bytes = 0
        self._again: deque[AccessUnit] = deque()  # to be repeated after a pause
        self._key_due = False
        self._waited = 0  # ticks that the player has waited for the next time
        self._until = math.inf  # wall-clock time at which the item ends

    def waiting(self) -> Iterator[QueueItem]:
        """Yields the media that would follow on air."""
        return chain(self._again, self._gop, self.queue)

    async def run(self) -> None:
        """Plays to the end of the queue. Raises its error."""
        try:
            while True:
                if not self._always and not self._context.on_air:
                    await self._pause()
                item = self._again.popleft() if self._again else await self.queue.get()
                if item is None:
                    return
                if isinstance(item, LeftOut):
                    self._output.announce(item)
                elif isinstance(item, Tracks):
                    self._tracks = item
                    if self._output.begun:
                        self._output.announce(item)
                elif isinstance(item, ItemTime):
                    await self._begin(item)
                elif self._wall() < self._until:  # media that are late are cut too
                    await self._play(item)
        finally:
            self._output.close()

    async def _begin(self, item: ItemTime) -> None:
        """Waits for the time of an item. Without media until then, the input is off."""
        self._until = item.until
        if item.begin is None:
            return
        began = self._wall()
        self.is_between_items = item.begin - began > _STILL_SECONDS
        if self.is_between_items:
            self._output.close()
        await asyncio.sleep(item.begin - began)
        self.is_between_items = False
        self._waited += round((self._wall() - began) * VIDEO_CLOCK)
        self._clock.restart()
        self._key_due = True

    async def _play(self, unit: AccessUnit) -> None:
        if self._key_due:
            if self._has_video and not (unit.key and unit.track.kind is Kind.VIDEO):
                return  # it does not wait for the clock, so that the next key frame comes at once
            self._key_due = False
            self._shift = self._last + _STEP + self._waited - unit.dts if self._last else 0
            self._waited = 0
        wait = self._clock.delay(unit.dts + self._shift)
        if wait:
            await asyncio.sleep(wait)
        self._remember(unit)
        self._publish(unit)

    def _publish(self, unit: AccessUnit) -> None:
        if not self._output.begun:
            assert self._tracks is not None, "the tracks come first"
            self._output.announce(self._tracks)
        at = unit.dts + self._shift
        self._last = max(self._last, at)
        self._output.push(replace(unit, dts=at))

    async def _pause(self) -> None:
        """Waits until the input is on air, then repeats the pictures since the last key frame."""
        self._output.close()
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
