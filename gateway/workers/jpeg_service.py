"""Makes JPEG pictures of all streams in a few shared workers, which start on demand and end when idle.

A lane is a worker and the queue of its requests. All looks at one stream use the same lane; other requests use the
lane with the shortest queue. `run` of each lane starts its worker at a request, and again after it died or did not
answer.
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

from gateway.lib.tasks import Tasks
from gateway.live.stream import Stream
from gateway.media.errors import InvalidData
from gateway.media.track import Kind, MediaTrack
from gateway.media.unit import AccessUnit
from gateway.ports.errors import OutputError
from gateway.settings.models import SnapshotSettings
from gateway.workers.jpeg_protocol import JpegAction, JpegMessage, JpegReply, JpegRequest, PictureDifference
from gateway.workers.worker_pool import WorkerDied, WorkerPool, WorkerProcess

log = structlog.get_logger(__name__)

MODULE: Final = "gateway.workers.programs.jpeg_worker"
_MAX_LANES: Final = 4
_MAX_WAITING: Final = 32  # requests in the queue of one worker
_MAX_BYTES: Final = 64_000_000  # bytes of units in these requests
_TIMEOUT: Final = 10.0  # seconds for one answer
_IDLE: Final = 30.0  # seconds after which a worker without requests ends
_VIDEO: Final = Kind.VIDEO


class JpegUnavailable(OutputError):
    """A picture could not be made now. The message is one line."""


@dataclass(slots=True)
class _Request:
    ask: JpegRequest
    size: int
    done: asyncio.Future[bytes]


class JpegService:
    """Makes JPEG pictures. Use as `async with JpegService(workers, settings) as jpegs`: leaving ends the workers.

    If 32 requests or 64 MB wait in the chosen lane, a new request raises JpegUnavailable.
    """

    def __init__(self, workers: WorkerPool, settings: SnapshotSettings) -> None:
        self._quality = settings.quality
        self._numbers = itertools.count(1)
        self._lanes = [_Lane(workers) for _ in range(min(_MAX_LANES, os.cpu_count() or 1))]
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
        """Returns the last picture of these units as JPEG. Raises JpegUnavailable.

        units: the first one has to be a key frame.
        """
        if not units:
            raise JpegUnavailable("there is no picture yet")
        lane = min(self._lanes, key=lambda lane: lane.waiting)
        ask = JpegRequest(
            next(self._numbers), JpegAction.PICTURE, quality=self._quality, track=units[0].track, units=units
        )
        return await lane.ask(ask)

    async def latest(self, stream: Stream) -> bytes:
        """Returns the stream's latest key frame as JPEG, as viewers see it. Raises JpegUnavailable.

        Each key frame is encoded once for all callers. Returns the last good picture if there is no key frame now (a
        very long group of pictures) or if the encoding fails.
        """
        key = next((u for u in stream.gop.units() if u.track.kind is _VIDEO and u.key), None)
        if key is None:
            if stream in self._good:
                return self._good[stream]
            raise JpegUnavailable("there is no picture yet")
        known = self._latest.get(stream)
        if known is None or known[0] != key.dts or (known[1].done() and known[1].exception() is not None):
            made = self._tasks.start(self._make(stream, key), stream.name)
            known = key.dts, made
            self._latest[stream] = known
        # Shielded: a caller that is cancelled must not cancel the picture of the other callers.
        return await asyncio.shield(known[1])

    def session(self) -> JpegSession:
        """Returns a session, for repeated looks at one stream."""
        return JpegSession(next(self._numbers), min(self._lanes, key=lambda lane: lane.sessions), self._quality)

    async def _make(self, stream: Stream, key: AccessUnit) -> bytes:
        try:
            picture = await self.picture([key])
        except JpegUnavailable:
            if stream in self._good:
                return self._good[stream]
            raise
        self._good[stream] = picture
        return picture


class JpegSession:
    """Repeated looks at one stream, by the worker of one lane. Call `close` when done."""

    def __init__(self, number: int, lane: _Lane, quality: int) -> None:
        self._number = number
        self._lane = lane
        self._quality = quality
        self._asked = 0
        lane.sessions += 1

    async def look(
        self, track: MediaTrack, units: Sequence[AccessUnit], fresh: bool, difference: int
    ) -> PictureDifference:
        """Compares the last picture of `units` with that of the last look. Raises JpegUnavailable.

        fresh: True if the units begin with a key frame; else they follow the units of the last look.
        difference: a pixel counts as changed if its brightness differs by more than this, 0 to 255.
        """
        ask = self._ask(JpegAction.LOOK, fresh=fresh, difference=difference, track=track, units=units)
        try:
            return PictureDifference.decode(await self._lane.ask(ask))
        except InvalidData as error:
            raise JpegUnavailable(str(error)) from None

    async def shot(self) -> bytes:
        """Returns the picture of the last look as JPEG. Raises JpegUnavailable."""
        return await self._lane.ask(self._ask(JpegAction.SHOT, quality=self._quality))

    def close(self) -> None:
        """Ends the session; the worker forgets the stream. Idempotent."""
        if self._number:
            self._lane.sessions -= 1
            self._lane.forget(self._ask(JpegAction.FORGET))
            self._number = 0

    def _ask(self, doing: JpegAction, **fields: object) -> JpegRequest:
        self._asked += 1
        return JpegRequest(self._asked, doing, session=self._number, **fields)  # type: ignore[arg-type]


class _Lane:
    """A queue of requests, and the worker that answers them."""

    def __init__(self, workers: WorkerPool) -> None:
        self._workers = workers
        self._requests: deque[_Request] = deque()
        self._forgotten: list[JpegRequest] = []
        self._bytes = 0
        self._came = asyncio.Event()
        self._running = False
        self.sessions = 0

    @property
    def waiting(self) -> int:
        return len(self._requests)

    async def ask(self, ask: JpegRequest) -> bytes:
        """Queues a request and returns the body of its reply. Raises JpegUnavailable."""
        size = sum(len(u.payload) for u in ask.units)
        if len(self._requests) >= _MAX_WAITING or self._bytes + size > _MAX_BYTES:
            raise JpegUnavailable("too many pictures are asked for")
        request = _Request(ask, size, asyncio.get_running_loop().create_future())
        self._requests.append(request)
        self._bytes += size
        self._came.set()
        return await request.done

    def forget(self, ask: JpegRequest) -> None:
        """Queues a FORGET request if the worker runs. A new worker knows no sessions anyway."""
        if self._running:
            self._forgotten.append(ask)

    async def run(self) -> None:
        """Serves requests until cancelled."""
        try:
            while True:
                await self._came.wait()
                try:
                    async with self._workers.start(MODULE, "still") as worker:
                        self._running = True
                        await self._serve(worker)
                except WorkerDied:
                    continue  # the request that killed the worker has been refused; a new worker takes the others
                except OutputError as error:
                    self._refuse(str(error))
                finally:
                    self._running = False
                    self._forgotten.clear()
        finally:
            self._refuse("shutting down")

    async def _serve(self, worker: WorkerProcess) -> None:
        """Answers requests until none came for _IDLE seconds. Raises WorkerDied."""
        while True:
            while self._requests:
                await self._answer(worker)
            self._came.clear()
            try:
                async with asyncio.timeout(_IDLE):
                    await self._came.wait()
            except TimeoutError:
                return

    async def _answer(self, worker: WorkerProcess) -> None:
        """Answers the next request. Raises WorkerDied if the worker ends or has to be killed."""
        request = self._requests.popleft()
        self._bytes -= request.size
        if request.done.done():  # the caller was cancelled
            return
        try:
            forgotten, self._forgotten = self._forgotten, []
            for ask in (*forgotten, request.ask):
                await worker.send(JpegMessage.ASK, ask.encode())
            async with asyncio.timeout(_TIMEOUT):
                message = await worker.receive()
            if message is None:
                raise await worker.died()
            answer = JpegReply.decode(message[1])
            if answer.number != request.ask.number:
                raise InvalidData("an answer to what was not asked")
        except BaseException as error:
            if not request.done.done():
                request.done.set_exception(JpegUnavailable(_reason(error)))
            if isinstance(error, TimeoutError | InvalidData):
                worker.kill()
                raise WorkerDied(_reason(error)) from None
            raise
        if request.done.done():
            return
        if answer.good:
            request.done.set_result(answer.body)
        else:
            request.done.set_exception(JpegUnavailable(answer.body.decode("utf-8", "replace")[:300]))

    def _refuse(self, reason: str) -> None:
        requests, self._requests = self._requests, deque()
        self._bytes = 0
        self._came.clear()
        for request in requests:
            if not request.done.done():
                request.done.set_exception(JpegUnavailable(reason))


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no picture was made within {_TIMEOUT:.0f} s"
    return str(error) or ("shutting down" if isinstance(error, asyncio.CancelledError) else type(error).__name__)


def _crashed(name: str, error: BaseException) -> None:
    if not isinstance(error, JpegUnavailable):
        log.error("the making of pictures failed", task=name, exc_info=error)
