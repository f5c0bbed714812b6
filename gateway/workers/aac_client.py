"""Converts the audio of one push to AAC in a worker process. The video does not pass through the worker."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from gateway.media.track import MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.ports.errors import OutputError
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.aac_protocol import AacMessage
from gateway.workers.worker_pool import WorkerDied, WorkerPool, WorkerProcess

log = structlog.get_logger(__name__)

_MODULE: Final = "gateway.workers.programs.aac_worker"
_MAX_UNITS: Final = 1_000  # in the queue to the worker; Opus has 50 a second
_HEALTHY: Final = 5.0  # seconds; if a worker lived longer, its input did not kill it
_DEATHS: Final = 3  # after so many deaths in a row, each within _HEALTHY seconds, the audio counts as unusable
_LAST: Final = 2.0  # seconds that the worker may take to finish
_PAUSE: Final = 1.0  # seconds before the next try when no new worker could be started
_USUAL: Final = 0.1  # seconds of normal delay in decoder and encoder


class AacWorkerFailed(Exception):
    """The audio cannot be decoded, or no worker could be started.

    again: True if a later try may succeed.
    """

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


class AacWorkerClient:
    """Sends the audio of one push to a worker and delivers the AAC units that come back.

    Run `run` as a task. `open` sets the source, `give` queues its units, and `deliver` is called with each AAC unit.
    The queue to the worker is bounded: when it is full, the oldest units are dropped.
    A worker that dies is replaced; the audio then has a gap.
    Units keep the times of the source. The delay is one Opus packet and two AAC frames, about 60 ms.
    """

    def __init__(self, workers: WorkerPool, stream: str, deliver: Callable[[AccessUnit], None]) -> None:
        """stream: name of the stream, for logs."""
        self._workers = workers
        self._stream = stream
        self._deliver = deliver
        self._waiting: deque[AccessUnit | Tracks] = deque()
        self._came = asyncio.Event()  # set when something waits, or when `finish` was called
        self._finished = False
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._source: Tracks | None = None  # the latest source
        self._output: MediaTrack | None = None
        self._epoch = 0
        self._made: Tracks | None = None  # the tracks of the units that come back now
        self._given_ms: int | None = None
        self._made_ms = 0
        self.dropped = 0
        """Number of units that did not reach the worker, or that it could not decode."""

    @property
    def behind(self) -> float:
        """Seconds by which the encoded audio is late, beyond the usual delay of 0.1 s."""
        if self._given_ms is None:
            return 0.0
        return max(0.0, (self._given_ms - self._made_ms) / 1000 - _USUAL)

    async def open(self, track: MediaTrack | None, output: MediaTrack | None) -> None:
        """Changes the source. Units that were given before are still encoded. Waits until a worker has been started.

        track: the source's track, None for no source.
        output: the track that the AAC units get.
        Raises AacWorkerFailed if no worker can be started.
        """
        self._epoch += 1
        self._source = Tracks(None, track, self._epoch)
        self._output = output
        self._given_ms = None
        self._put(self._source)
        if track is not None:
            await asyncio.shield(self._ready)

    def give(self, unit: AccessUnit) -> None:
        """Hot. Queues the next unit of the source."""
        if len(self._waiting) >= _MAX_UNITS:
            self._forget_oldest()
        ms = unit.dts * 1000 // unit.track.timescale
        if self._given_ms is None:
            self._made_ms = ms
        self._given_ms = ms
        self._put(unit)

    def finish(self) -> None:
        """Declares the end of the source; `run` returns when all units are encoded."""
        self._finished = True
        self._came.set()

    async def run(self) -> None:
        """Serves the source until `finish` is called. Raises AacWorkerFailed."""
        try:
            await self._came.wait()
            deaths = 0
            while self._source is not None:  # None: there was no audio at all
                began = time.monotonic()
                try:
                    await self._with_worker()
                    return
                except OutputError as error:
                    died = isinstance(error, WorkerDied)
                    deaths = 1 if time.monotonic() - began > _HEALTHY else deaths + 1
                    if deaths >= _DEATHS or not (died or self._ready.done()):
                        raise AacWorkerFailed(f"the sound cannot be encoded: {error}", again=True) from error
                    log.warning("sound starts again", stream=self._stream, reason=str(error))
                    if not died:
                        await asyncio.sleep(_PAUSE)
        except AacWorkerFailed as error:
            self._give_up(error)
            raise
        finally:
            self._give_up(AacWorkerFailed("the push is over", again=True))

    def _give_up(self, error: AacWorkerFailed) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # marks the exception as retrieved, as perhaps no task waits for it

    async def _with_worker(self) -> None:
        async with self._workers.start(_MODULE, "sound", stream=self._stream) as worker:
            if not self._ready.done():
                self._ready.set_result(None)
            self._made = None
            finished = await worker.exchange(
                self._feed(worker),
                {
                    StreamMessage.UNIT: self._take,
                    StreamMessage.TRACKS: self._take_tracks,
                    StreamMessage.END: lambda body: True,
                    AacMessage.NOTE: self._note,
                },
                _LAST,
            )
            if not finished:
                raise await worker.died()

    async def _feed(self, worker: WorkerProcess) -> None:
        source, waiting = self._source, self._waiting
        if source is not None and source not in waiting:
            await worker.send_item(source)  # a new worker knows nothing
        while True:
            while waiting:
                await worker.send_item(waiting.popleft())
            if self._finished:
                await worker.send_end()
                return
            self._came.clear()
            await self._came.wait()

    def _take(self, body: bytes) -> None:
        unit = wire.decode_unit(body, self._made)
        if self._output is None or self._made is None or self._made.epoch != self._epoch:
            return  # the unit belongs to an earlier source
        unit.track = self._output
        self._made_ms = unit.dts * 1000 // unit.track.timescale
        self._deliver(unit)

    def _take_tracks(self, body: bytes) -> None:
        self._made = wire.decode_tracks(body)

    def _note(self, body: bytes) -> None:
        said = wire.read_json(body)
        unusable, damaged = said.get("unusable"), said.get("damaged")
        if isinstance(unusable, str):
            raise AacWorkerFailed(unusable[:200], again=False)
        if isinstance(damaged, int):
            self.dropped += damaged
            log.info("sound was damaged", stream=self._stream, units=damaged)

    def _put(self, item: AccessUnit | Tracks) -> None:
        self._waiting.append(item)
        self._came.set()

    def _forget_oldest(self) -> None:
        """Drops half of the units at once, so that the next units do not each cause another drop."""
        kept = list(self._waiting)
        over = sum(isinstance(item, AccessUnit) for item in kept) // 2
        self._waiting.clear()
        for item in kept:
            if over and isinstance(item, AccessUnit):
                over -= 1
                self.dropped += 1
            else:
                self._waiting.append(item)
