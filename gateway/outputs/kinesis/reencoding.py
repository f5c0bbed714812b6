"""Re-encodes a stream that Kinesis would not accept, in a worker process."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import Final

import structlog

from gateway.lib.tasks import Tasks
from gateway.live.subscription import End, Item
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.worker_pool import WorkerDied, WorkerPool, WorkerProcess

log = structlog.get_logger(__name__)

_MODULE: Final = "gateway.workers.programs.keyframe_reencoder"
_HEALTHY: Final = 5.0  # seconds; a worker that lived this long is replaced at once
_EPOCHS: Final = 1000  # reserved for one worker, so that its successor's epochs never continue its own


async def reencoded(
    items: AsyncIterable[Item], tracks: Tracks | None, workers: WorkerPool, stream: str, failed: Callable[[str], None]
) -> AsyncGenerator[Tracks | AccessUnit, None]:
    """Yields the stream with a key frame every two seconds and AAC sound, until its end.

    items: can be iterated again, and then continue. tracks: those that were read from them before.
    If a worker falls behind, items are left unread and their subscription drops some.
    A worker that dies is replaced, and begins at the next key frame; `failed` gets the reason.
    Raises OutputTrouble if no worker can be started or workers die repeatedly.
    A caller that stops early must close the generator.
    """
    epoch = 0
    while True:
        began = time.monotonic()
        async with workers.start(_MODULE, "kvs", stream=stream) as worker:
            feeding = _Feeding(items, worker, tracks)
            async with Tasks("rekey") as tasks:
                task = tasks.start(feeding.run(), "feed")
                given: Tracks | None = None
                while (received := await worker.receive()) is not None:
                    kind, body = received
                    if kind == StreamMessage.TRACKS:
                        given = wire.decode_tracks(body)
                        yield Tracks(given.video, given.audio, epoch + given.epoch, given.metadata)
                    elif kind == StreamMessage.UNIT:
                        yield wire.decode_unit(body, given)
                    elif kind == StreamMessage.END:
                        break
                tracks, epoch = feeding.tracks, epoch + _EPOCHS
                if feeding.ended:
                    return
                if task.done() and not isinstance(task.exception(), WorkerDied):
                    task.result()
            error = await worker.died()
        if time.monotonic() - began < _HEALTHY:
            raise error
        failed(str(error))
        log.warning("a kinesis stream's worker died, another follows", stream=stream, reason=str(error))


class _Feeding:
    """Sends items to a worker. tracks: the last ones, for the worker's successor."""

    def __init__(self, items: AsyncIterable[Item], worker: WorkerProcess, tracks: Tracks | None) -> None:
        self._items = items
        self._worker = worker
        self.tracks = tracks
        self.ended = False

    async def run(self) -> None:
        """Sends items until the stream ends. Raises WorkerDied."""
        if self.tracks is not None:
            await self._worker.send(StreamMessage.TRACKS, wire.encode_tracks(self.tracks))
        async for item in self._items:
            match item:
                case AccessUnit():
                    await self._worker.send(StreamMessage.UNIT, wire.encode_unit(item))
                case Tracks():
                    self.tracks = item
                    await self._worker.send(StreamMessage.TRACKS, wire.encode_tracks(item))
                case End():
                    self.ended = True
                    await self._worker.send(StreamMessage.END, wire.encode_end())
                    return
                case _:
                    pass
