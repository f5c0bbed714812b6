"""Makes JPEG pictures of all streams in a few shared workers, which start on demand and end if idle.

Each queue has one worker. All comparisons of one stream use the same queue; other requests use the shortest queue.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Final, Self
from weakref import WeakKeyDictionary

import structlog

from gateway.lib.control_group import cores
from gateway.lib.tasks import Tasks
from gateway.live.stream import Stream
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.ports.errors import OutputError
from gateway.protocols import wire
from gateway.settings.models import SnapshotSettings
from gateway.workers.jpeg_protocol import JpegAction, JpegMessage, JpegReply, JpegRequest, PictureDifference
from gateway.workers.worker_pool import WorkerDied, WorkerPool, WorkerProcess

log = structlog.get_logger(__name__)

MODULE: Final = "gateway.workers.programs.jpeg_worker"
_MAX_WORKERS: Final = 4
_MAX_QUEUED: Final = 32  # requests in the queue of one worker
_MAX_QUEUED_BYTES: Final = 64_000_000  # bytes of units in these requests
_MAX_UNITS: Final = 20_000  # of one request
_TIMEOUT: Final = 10.0  # seconds for one reply
_IDLE_SECONDS: Final = 30.0  # a worker without requests ends after this time
_VIDEO: Final = Kind.VIDEO


class JpegUnavailable(OutputError):
    """A picture could not be made now. The message is one line."""


class PictureRefused(JpegUnavailable):
    """The worker could not make a picture of these bytes. The message is one line."""


@dataclass(slots=True)
class _QueuedRequest:
    request: JpegRequest
    units: Sequence[AccessUnit]
    file: bytes
    size: int  # bytes of its units and its file
    result: asyncio.Future[JpegReply]


class JpegService:
    """Makes JPEG pictures. Use as `async with JpegService(workers, settings) as jpegs`; the exit stops the workers.

    A request raises JpegUnavailable if its queue has 32 requests or 64 MB.
    """

    def __init__(self, workers: WorkerPool, settings: SnapshotSettings) -> None:
        self._quality = settings.quality
        self._numbers = itertools.count(1)
        self._queues = [_WorkerQueue(workers) for _ in range(min(_MAX_WORKERS, cores()))]
        self._tasks = Tasks("jpeg", _crashed)
        # The decode time of the latest key frame, and its JPEG.
        self._latest: WeakKeyDictionary[Stream, tuple[int, asyncio.Future[bytes]]] = WeakKeyDictionary()
        self._last_pictures: WeakKeyDictionary[Stream, bytes] = WeakKeyDictionary()

    async def __aenter__(self) -> Self:
        for queue in self._queues:
            self._tasks.keep(queue.run, "queue")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._tasks.close()

    async def make_picture(self, units: Sequence[AccessUnit], stream: Stream | None = None, longest: int = 0) -> bytes:
        """Returns the last picture of these units as JPEG. Raises JpegUnavailable.

        units: the first one has to be a key frame. stream: its health gets the decoded picture.
        longest: maximum pixels of the longer side; a larger picture is scaled down. 0: no maximum.
        """
        if not units:
            raise JpegUnavailable("there is no picture yet")
        queue = min(self._queues, key=lambda queue: queue.length)
        request = JpegRequest(JpegAction.PICTURE, quality=self._quality, longest=longest)
        reply = await queue.ask(request, units)
        _report(reply, units, stream)
        return reply.body

    def start_picture(self, units: Sequence[AccessUnit], longest: int) -> asyncio.Task[bytes]:
        """Starts `make_picture` as a task for several callers. Each caller has to shield the task."""
        return self._tasks.start(self.make_picture(units, longest=longest), "preview")

    async def make_latest(self, stream: Stream) -> bytes:
        """Returns the latest key frame of the stream as JPEG, with overlays. Raises JpegUnavailable.

        Each key frame is encoded once for all callers. If no key frame is available (a very long group of pictures),
        or if encoding fails, returns the previous picture.
        """
        key = next((u for u in stream.gop.units() if u.track.kind is _VIDEO and u.key), None)
        if key is None:
            if stream in self._last_pictures:
                return self._last_pictures[stream]
            raise JpegUnavailable("there is no picture yet")
        latest = self._latest.get(stream)
        if latest is None or latest[0] != key.dts or (latest[1].done() and latest[1].exception() is not None):
            latest = key.dts, self._tasks.start(self._encode(stream, key), stream.name)
            self._latest[stream] = latest
        # Shielded: a caller that is cancelled must not cancel the picture of the other callers.
        return await asyncio.shield(latest[1])

    async def convert(self, file: bytes, longest: int, alpha: bool) -> bytes:
        """Returns a picture file as JPEG, with `alpha` as WebP, and without its metadata.

        longest: see `make_picture`. Raises PictureRefused for a file that is no picture, JpegUnavailable.
        """
        queue = min(self._queues, key=lambda queue: queue.length)
        request = JpegRequest(JpegAction.CONVERT, quality=self._quality, longest=longest, alpha=alpha)
        return (await queue.ask(request, file=file)).body

    def open_session(self, stream: Stream | None = None) -> JpegSession:
        """Returns a session for comparisons of one stream. stream: its health gets the decoded pictures."""
        queue = min(self._queues, key=lambda queue: queue.sessions)
        return JpegSession(next(self._numbers), queue, self._quality, stream)

    async def _encode(self, stream: Stream, key: AccessUnit) -> bytes:
        try:
            picture = await self.make_picture([key], stream)
        except JpegUnavailable:
            if stream in self._last_pictures:
                return self._last_pictures[stream]
            raise
        self._last_pictures[stream] = picture
        return picture


class JpegSession:
    """Comparisons of one stream in one worker. Call `close` at the end."""

    def __init__(self, number: int, queue: _WorkerQueue, quality: int, stream: Stream | None) -> None:
        self._number = number
        self._queue = queue
        self._quality = quality
        self._stream = stream
        queue.sessions += 1

    async def compare(self, units: Sequence[AccessUnit], fresh: bool, difference: int) -> PictureDifference:
        """Compares the last picture of `units` with that of the previous call. Raises JpegUnavailable.

        fresh: True if the units begin with a key frame. Otherwise they follow the units of the previous call.
        difference: a pixel counts as changed if its brightness differs by more than this, 0 to 255.
        """
        request = JpegRequest(JpegAction.COMPARE, self._number, fresh=fresh, difference=difference)
        reply = await self._queue.ask(request, units)
        _report(reply, units, self._stream)
        try:
            return wire.decode_record(PictureDifference, reply.body)
        except InvalidData as error:
            raise JpegUnavailable(str(error)) from None

    async def last_picture(self) -> bytes:
        """Returns the picture of the last comparison as JPEG. Raises JpegUnavailable."""
        request = JpegRequest(JpegAction.LAST_PICTURE, self._number, quality=self._quality)
        return (await self._queue.ask(request)).body

    def close(self) -> None:
        """Ends the session; the worker frees its data. Idempotent."""
        if self._number:
            self._queue.sessions -= 1
            self._queue.close_session(JpegRequest(JpegAction.CLOSE, self._number))
            self._number = 0


class _WorkerQueue:
    """A queue of requests, and the worker that answers them."""

    def __init__(self, workers: WorkerPool) -> None:
        self._workers = workers
        self._requests: deque[_QueuedRequest] = deque()
        self._closed_sessions: list[JpegRequest] = []
        self._bytes = 0
        self._numbers = itertools.count(1)
        self._request_added = asyncio.Event()
        self._running = False
        self.sessions = 0

    @property
    def length(self) -> int:
        return len(self._requests)

    async def ask(self, request: JpegRequest, units: Sequence[AccessUnit] = (), file: bytes = b"") -> JpegReply:
        """Queues a request about these units, or this file, and returns its reply. Raises JpegUnavailable."""
        size = sum(len(u.payload) for u in units) + len(file)
        if len(self._requests) >= _MAX_QUEUED or self._bytes + size > _MAX_QUEUED_BYTES:
            raise JpegUnavailable("too many picture requests")
        if len(units) > _MAX_UNITS:
            raise JpegUnavailable("the request is too long")
        request = replace(request, number=next(self._numbers))
        queued = _QueuedRequest(request, units, file, size, asyncio.get_running_loop().create_future())
        self._requests.append(queued)
        self._bytes += size
        self._request_added.set()
        return await queued.result

    def close_session(self, request: JpegRequest) -> None:
        """Queues a CLOSE request if the worker runs. A new worker has no sessions."""
        if self._running:
            self._closed_sessions.append(request)

    async def run(self) -> None:
        """Answers requests until cancelled. Starts a worker on demand, and again after a crash or a time-out."""
        try:
            while True:
                await self._request_added.wait()
                try:
                    async with self._workers.start(MODULE, "still") as worker:
                        self._running = True
                        await self._serve(worker)
                except WorkerDied:
                    continue  # the failed request has been answered; a new worker handles the others
                except OutputError as error:
                    self._refuse(str(error))
                finally:
                    self._running = False
                    self._closed_sessions.clear()
        finally:
            self._refuse("shutting down")

    async def _serve(self, worker: WorkerProcess) -> None:
        """Answers requests until there is none for _IDLE_SECONDS. Raises WorkerDied."""
        while True:
            while self._requests:
                await self._answer(worker)
            self._request_added.clear()
            try:
                async with asyncio.timeout(_IDLE_SECONDS):
                    await self._request_added.wait()
            except TimeoutError:
                return

    async def _answer(self, worker: WorkerProcess) -> None:
        """Answers the next request. Raises WorkerDied if the worker ends or has to be killed."""
        queued = self._requests.popleft()
        self._bytes -= queued.size
        if queued.result.done():  # the caller was cancelled
            return
        try:
            closed_sessions, self._closed_sessions = self._closed_sessions, []
            for request in closed_sessions:
                await worker.send_json(JpegMessage.REQUEST, asdict(request))
            if queued.units:
                await worker.send_item(Tracks(queued.units[-1].track, None))
            for unit in queued.units:
                await worker.send_item(unit)
            if queued.file:
                await worker.send(JpegMessage.FILE, queued.file)
            await worker.send_json(JpegMessage.REQUEST, asdict(queued.request))
            async with asyncio.timeout(_TIMEOUT):
                frame = await worker.receive()
            if frame is None:
                raise await worker.died()
            reply = JpegReply.decode(frame[1])
            if reply.number != queued.request.number:
                raise InvalidData("the reply has an unexpected number")
        except BaseException as error:
            if not queued.result.done():
                queued.result.set_exception(JpegUnavailable(_reason(error)))
            if isinstance(error, TimeoutError | InvalidData):
                worker.kill()
                raise WorkerDied(_reason(error)) from None
            raise
        if queued.result.done():
            return
        if reply.ok:
            queued.result.set_result(reply)
        else:
            queued.result.set_exception(PictureRefused(reply.body.decode("utf-8", "replace")[:300]))

    def _refuse(self, reason: str) -> None:
        requests, self._requests = self._requests, deque()
        self._bytes = 0
        self._request_added.clear()
        for queued in requests:
            if not queued.result.done():
                queued.result.set_exception(JpegUnavailable(reason))


def _report(reply: JpegReply, units: Sequence[AccessUnit], stream: Stream | None) -> None:
    """Gives the overview of the decoded picture to the health of the stream."""
    if stream is not None and stream.health is not None:
        stream.health.add_picture(reply.overview, units[-1].wall)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no picture within {_TIMEOUT:.0f} s"
    return str(error) or ("shutting down" if isinstance(error, asyncio.CancelledError) else type(error).__name__)


def _crashed(name: str, error: BaseException) -> None:
    if not isinstance(error, JpegUnavailable):
        log.error("JPEG encoding failed", task=name, exc_info=error)
