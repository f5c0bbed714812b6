"""Re-encodes a stream that Kinesis would not accept, in a worker process."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import Final

import structlog

from gateway.lib.tasks import Tasks
from gateway.live.subscription import End, Item
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit, Timed
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
    Raises OutputError if no worker can be started or workers die repeatedly.
    A caller that stops early must close the generator.
    """
    epoch = 0
    ended = False

    async def feed(worker: WorkerProcess) -> None:
        nonlocal tracks, ended
        if tracks is not None:
            await worker.send_item(tracks)
        async for item in items:
            if isinstance(item, End):
                ended = True
                await worker.send_end()
                return
            if isinstance(item, Tracks):
                tracks = item  # the worker's successor gets them first
            if not isinstance(item, Timed):
                await worker.send_item(item)

    while True:
        began = time.monotonic()
        async with workers.start(_MODULE, "kvs", stream=stream) as worker:
            async with Tasks("rekey") as tasks:
                task = tasks.start(feed(worker), "feed")
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
                epoch += _EPOCHS
                if ended:
                    return
                if task.done() and not isinstance(task.exception(), WorkerDied):
                    task.result()
            error = await worker.died()
        if time.monotonic() - began < _HEALTHY:
            raise error
        failed(str(error))
        log.warning("a kinesis stream's worker died, another follows", stream=stream, reason=str(error))
