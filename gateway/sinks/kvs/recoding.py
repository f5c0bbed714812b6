"""Recoding: a stream that Kinesis would not take, through a worker that encodes it anew."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import Final

import structlog

from gateway.hub.subscription import End, Item
from gateway.lib.aio import Tasks
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.wire import Message
from gateway.transcode.launch import Worker, WorkerDied, Workers

log = structlog.get_logger(__name__)

_MODULE: Final = "gateway.transcode.rekey"
_HEALTHY: Final = 5.0  # seconds; a worker that lived so long is replaced at once
_EPOCHS: Final = 1000  # of one worker: what its successor makes never continues what it made


async def recoded(
    items: AsyncIterable[Item], tracks: Tracks | None, workers: Workers, stream: str, failed: Callable[[str], None]
) -> AsyncGenerator[Tracks | AccessUnit, None]:
    """The items with pictures that have a key frame each two seconds, and sound as AAC, until the stream's end.

    items: can be iterated again, and then go on. tracks: of items that were taken from them before.
    A worker that falls behind leaves the items where they are: their subscription drops. One that dies is replaced, and
    begins at the next key frame; `failed` is told why. Raises OutputTrouble where no worker can be had or they die one
    after the other. To be closed by whoever stops in the middle.
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
                    if kind == Message.TRACKS:
                        given = wire.decode_tracks(body)
                        yield Tracks(given.video, given.audio, epoch + given.epoch, given.metadata)
                    elif kind == Message.UNIT:
                        yield wire.decode_unit(body, given)
                    elif kind == Message.END:
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
    """Gives a worker what comes. tracks: the last that were given, for the worker's successor."""

    def __init__(self, items: AsyncIterable[Item], worker: Worker, tracks: Tracks | None) -> None:
        self._items = items
        self._worker = worker
        self.tracks = tracks
        self.ended = False

    async def run(self) -> None:
        """Until the stream ends. Raises WorkerDied."""
        if self.tracks is not None:
            await self._worker.send(Message.TRACKS, wire.encode_tracks(self.tracks))
        async for item in self._items:
            match item:
                case AccessUnit():
                    await self._worker.send(Message.UNIT, wire.encode_unit(item))
                case Tracks():
                    self.tracks = item
                    await self._worker.send(Message.TRACKS, wire.encode_tracks(item))
                case End():
                    self.ended = True
                    await self._worker.send(Message.END, wire.encode_end())
                    return
                case _:
                    pass
