"""Stills: the pictures of all streams, made by a few shared workers that come when needed and go when idle.

A lane is a worker and the queue in front of it. Requests that belong together (looks at one stream) take one lane, the
others the shortest. `run` of each lane starts its worker at a request, and again after it died or did not answer.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from weakref import WeakKeyDictionary

import structlog

from gateway.hub.errors import OutputTrouble
from gateway.hub.stream import Stream
from gateway.lib.aio import Tasks
from gateway.media.errors import InvalidData
from gateway.media.track import Kind, Track
from gateway.media.unit import AccessUnit
from gateway.settings.models import Snapshot
from gateway.transcode.launch import Worker, WorkerDied, Workers
from gateway.transcode.still import Answer, Ask, Doing, Look, StillMessage

log = structlog.get_logger(__name__)

MODULE: Final = "gateway.transcode.still_worker"
_MOST_LANES: Final = 4
_MOST_WAITING: Final = 32  # requests in front of one worker
_MOST_BYTES: Final = 64_000_000  # … and of what they carry
_PATIENCE: Final = 10.0  # seconds for one answer
_IDLE: Final = 30.0  # seconds after which a worker without requests ends
_VIDEO: Final = Kind.VIDEO


class NoStill(OutputTrouble):
    """A picture could not be made now; one line."""


@dataclass(slots=True)
class _Request:
    ask: Ask
    size: int
    done: asyncio.Future[bytes]


class Stills:
    """Use as `async with Stills(workers, settings) as stills`: leaving ends the workers.

    Bounded: where 32 requests (or 64 MB) wait in front of every worker, more are refused with NoStill.
    """

    def __init__(self, workers: Workers, settings: Snapshot) -> None:
        self._quality = settings.quality
        self._numbers = itertools.count(1)
        self._lanes = [_Lane(workers) for _ in range(min(_MOST_LANES, os.cpu_count() or 1))]
        self._tasks = Tasks("stills", _crashed)
        self._latest: WeakKeyDictionary[Stream, tuple[int, asyncio.Future[bytes]]] = WeakKeyDictionary()
        self._good: WeakKeyDictionary[Stream, bytes] = WeakKeyDictionary()

    async def __aenter__(self) -> Self:
        for lane in self._lanes:
            self._tasks.start(lane.run(), "lane")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._tasks.close()

    async def picture(self, units: Sequence[AccessUnit]) -> bytes:
        """The last picture of these units, the first of which is a key frame, as JPEG. Raises NoStill."""
        if not units:
            raise NoStill("there is no picture yet")
        lane = min(self._lanes, key=lambda lane: lane.waiting)
        ask = Ask(next(self._numbers), Doing.PICTURE, quality=self._quality, track=units[0].track, units=units)
        return await lane.ask(ask)

    async def latest(self, stream: Stream) -> bytes:
        """The stream's latest key frame as JPEG, as viewers see it. Raises NoStill.

        Made once for each key frame, however many ask; while there is none (a very long group of pictures) or it fails,
        the last good one.
        """
        key = next((u for u in stream.gop.units() if u.track.kind is _VIDEO and u.key), None)
        if key is None:
            if stream in self._good:
                return self._good[stream]
            raise NoStill("there is no picture yet")
        known = self._latest.get(stream)
        if known is None or known[0] != key.dts or (known[1].done() and known[1].exception() is not None):
            made = self._tasks.start(self._make(stream, key), stream.name)
            known = key.dts, made
            self._latest[stream] = known
        # One who goes away does not take the picture from the others.
        return await asyncio.shield(known[1])

    def session(self) -> Session:
        """For looking at one stream again and again."""
        return Session(next(self._numbers), min(self._lanes, key=lambda lane: lane.sessions), self._quality)

    async def _make(self, stream: Stream, key: AccessUnit) -> bytes:
        try:
            picture = await self.picture([key])
        except NoStill:
            if stream in self._good:
                return self._good[stream]
            raise
        self._good[stream] = picture
        return picture


class Session:
    """One stream, looked at again and again by the worker of one lane. `close` when done."""

    def __init__(self, number: int, lane: _Lane, quality: int) -> None:
        self._number = number
        self._lane = lane
        self._quality = quality
        self._asked = 0
        lane.sessions += 1

    async def look(self, track: Track, units: Sequence[AccessUnit], fresh: bool, difference: int) -> Look:
        """How much the last picture of `units` differs from that of the last look. Raises NoStill.

        fresh: the units begin with a key frame; else they follow those of the last look. difference: 0 to 255.
        """
        ask = self._ask(Doing.LOOK, fresh=fresh, difference=difference, track=track, units=units)
        try:
            return Look.decode(await self._lane.ask(ask))
        except InvalidData as error:
            raise NoStill(str(error)) from None

    async def shot(self) -> bytes:
        """The picture of the last look as JPEG. Raises NoStill."""
        return await self._lane.ask(self._ask(Doing.SHOT, quality=self._quality))

    def close(self) -> None:
        """The worker forgets the stream. Idempotent."""
        if self._number:
            self._lane.sessions -= 1
            self._lane.forget(self._ask(Doing.FORGET))
            self._number = 0

    def _ask(self, doing: Doing, **fields: object) -> Ask:
        self._asked += 1
        return Ask(self._asked, doing, session=self._number, **fields)  # type: ignore[arg-type]


class _Lane:
    """A queue of requests, and the worker that answers them while there are any."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._requests: deque[_Request] = deque()
        self._forgotten: list[Ask] = []
        self._bytes = 0
        self._came = asyncio.Event()
        self._running = False
        self.sessions = 0

    @property
    def waiting(self) -> int:
        return len(self._requests)

    async def ask(self, ask: Ask) -> bytes:
        """The answer's body. Raises NoStill."""
        size = sum(len(u.payload) for u in ask.units)
        if len(self._requests) >= _MOST_WAITING or self._bytes + size > _MOST_BYTES:
            raise NoStill("too many pictures are asked for")
        request = _Request(ask, size, asyncio.get_running_loop().create_future())
        self._requests.append(request)
        self._bytes += size
        self._came.set()
        return await request.done

    def forget(self, ask: Ask) -> None:
        """Tells a running worker; one that is gone has forgotten."""
        if self._running:
            self._forgotten.append(ask)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._came.wait()
                try:
                    async with self._workers.start(MODULE, "still") as worker:
                        self._running = True
                        await self._serve(worker)
                except WorkerDied:
                    continue  # the one request that it died of has been refused; a new worker takes the others
                except OutputTrouble as error:
                    self._refuse(str(error))
                finally:
                    self._running = False
                    self._forgotten.clear()
        finally:
            self._refuse("shutting down")

    async def _serve(self, worker: Worker) -> None:
        """Answers until nothing was asked for a while. Raises WorkerDied."""
        while True:
            while self._requests:
                await self._answer(worker)
            self._came.clear()
            try:
                async with asyncio.timeout(_IDLE):
                    await self._came.wait()
            except TimeoutError:
                return

    async def _answer(self, worker: Worker) -> None:
        """Answers the next request. Raises WorkerDied where that is the worker's end."""
        request = self._requests.popleft()
        self._bytes -= request.size
        if request.done.done():  # who asked has gone
            return
        try:
            forgotten, self._forgotten = self._forgotten, []
            for ask in (*forgotten, request.ask):
                await worker.send(StillMessage.ASK, ask.encode())
            async with asyncio.timeout(_PATIENCE):
                message = await worker.receive()
            if message is None:
                raise await worker.died()
            answer = Answer.decode(message[1])
            if answer.number != request.ask.number:
                raise InvalidData("an answer to what was not asked")
        except BaseException as error:
            if not request.done.done():
                request.done.set_exception(NoStill(_reason(error)))
            if isinstance(error, TimeoutError | InvalidData):
                worker.kill()
                raise WorkerDied(_reason(error)) from None
            raise
        if request.done.done():
            return
        if answer.good:
            request.done.set_result(answer.body)
        else:
            request.done.set_exception(NoStill(answer.body.decode("utf-8", "replace")[:300]))

    def _refuse(self, reason: str) -> None:
        requests, self._requests = self._requests, deque()
        self._bytes = 0
        self._came.clear()
        for request in requests:
            if not request.done.done():
                request.done.set_exception(NoStill(reason))


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no picture was made within {_PATIENCE:.0f} s"
    return str(error) or ("shutting down" if isinstance(error, asyncio.CancelledError) else type(error).__name__)


def _crashed(name: str, error: BaseException) -> None:
    if not isinstance(error, NoStill):
        log.error("the making of pictures failed", task=name, exc_info=error)
