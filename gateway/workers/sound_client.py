"""Converts the sound of one stream to AAC or Opus in a worker process. The video does not pass through the worker.

Streams share processes, because one takes 38 MB and the sound of a stream 4 % of a core. If a process dies, its streams
continue in processes for fewer streams. So one whose sound ends processes is soon alone. After
the third death in a row `run` fails: see `_MAX_DEATHS`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

import structlog

from gateway.live.unit_intake import IntakeFailed
from gateway.media.track import AccessUnit, MediaTrack, Tracks
from gateway.ports.errors import OutputError
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.messages import WorkerMessage
from gateway.workers.sound_protocol import SoundSetup
from gateway.workers.worker_pool import Handler, WorkerDied, WorkerPool, WorkerProcess

log = structlog.get_logger(__name__)

_MODULE: Final = "gateway.workers.programs.sound_worker"
_PLACES: Final = (16, 4, 1)  # streams in one process, by the number of deaths that a stream has seen
_MAX_UNITS: Final = 1_000  # in the queue to the worker, about 20 s
_EARLY_SECONDS: Final = 5.0  # if a worker lived longer, its input did not cause its death
_MAX_DEATHS: Final = 3  # in a row, all but the first one early: then `run` fails, and a later try may succeed
_FINISH_SECONDS: Final = 5.0  # for the last units of the worker, which may still start
_RETRY_SECONDS: Final = 1.0  # before the next try if no worker could be started
_USUAL_DELAY: Final = 0.1  # seconds in decoder and encoder
_BATCH_UNITS: Final = 5  # units that may wait are sent in batches of this size, about 100 ms
_TO_AAC: Final = SoundSetup()


class SoundWorkerFailed(IntakeFailed):
    """The audio cannot be decoded, no worker could be started, or they died repeatedly.

    again: True if a later try may succeed.
    """


class SoundWorkerClient:
    """Sends the sound of one stream to a worker, and passes the units that it returns to `deliver`.

    Run `run` as a task. `open` or `change` sets the source, and `give` queues its units.
    The queue to the worker is bounded: if it is full, the oldest units are dropped.
    A worker that dies is replaced; the audio then has a gap.
    Units keep the times of the source. The delay is one unit of the source and two of the output, about 60 ms.

    stream: name of the stream, for logs. setup: the codecs.
    """

    def __init__(
        self, workers: WorkerPool, stream: str, deliver: Callable[[AccessUnit], None], setup: SoundSetup = _TO_AAC
    ) -> None:
        self._setup = setup
        self._workers = workers
        self._stream = stream
        self._deliver = deliver
        self._queue: deque[AccessUnit | Tracks] = deque()
        self._changed = asyncio.Event()  # set when the queue has an item, and by `finish`
        self._finished = False
        self._died = 0  # number of workers that died
        self._early_deaths = 0  # in a row, with the death before them
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._source: Tracks | None = None  # the latest source
        self._output: MediaTrack | None = None
        self._epoch = 0
        self._tracks: Tracks | None = None  # of the units that the worker returns now
        self._queued_ms: int | None = None  # time of the last queued unit; None: none since the last change
        self._encoded_ms = 0  # time of the last unit that the worker returned
        self.dropped = 0  # number of units that were dropped from the queue or could not be decoded
        self.started = 0  # number of workers that were used

    @property
    def behind(self) -> float:
        """Delay of the encoded audio in seconds, without the usual delay of 0.1 s."""
        if self._queued_ms is None:
            return 0.0
        return max(0.0, (self._queued_ms - self._encoded_ms) / 1000 - _USUAL_DELAY)

    async def open(self, track: MediaTrack | None, output: MediaTrack | None) -> None:
        """Changes the source like `change`, and waits until a worker has been started.

        Raises SoundWorkerFailed if no worker can be started.
        """
        self.change(track, output)
        if track is not None:
            await asyncio.shield(self._ready)

    def change(self, track: MediaTrack | None, output: MediaTrack | None) -> None:
        """Changes the source. Units in the queue are still encoded.

        track: the source's track; None: no source. output: the track of the units to deliver.
        """
        self._epoch += 1
        self._source = Tracks(None, track, self._epoch)
        self._output = output
        self._queued_ms = None
        self._queue.append(self._source)
        self._changed.set()

    def give(self, unit: AccessUnit, *, at_once: bool = True) -> None:
        """Queues the next unit of the source. Hot path.

        at_once: whether the unit is sent now. Otherwise it waits until five units are queued or another one is sent at
        once.
        """
        if len(self._queue) >= _MAX_UNITS:
            self._drop_oldest()
        ms = unit.dts * 1000 // unit.track.timescale
        if self._queued_ms is None:
            self._encoded_ms = ms
        self._queued_ms = ms
        self._queue.append(unit)
        if at_once or len(self._queue) >= _BATCH_UNITS:
            self._changed.set()

    def finish(self) -> None:
        """Marks the end of the source. `run` returns when all units are encoded."""
        self._finished = True
        self._changed.set()

    async def run(self) -> None:
        """Encodes the source until `finish` is called. Raises SoundWorkerFailed."""
        try:
            await self._changed.wait()
            while self._source is not None:  # None: the push has no audio
                began = time.monotonic()
                try:
                    await self._run_worker()
                    return
                except OutputError as error:
                    died = isinstance(error, WorkerDied)
                    self._died += died
                    self._early_deaths = 1 if time.monotonic() - began > _EARLY_SECONDS else self._early_deaths + 1
                    if self._early_deaths >= _MAX_DEATHS or not (died or self._ready.done()):
                        raise SoundWorkerFailed(f"the sound cannot be encoded: {error}", again=True) from error
                    log.warning("sound starts again", stream=self._stream, reason=str(error))
                    if not died:
                        await asyncio.sleep(_RETRY_SECONDS)
        except SoundWorkerFailed as error:
            self._fail_waiting_open(error)
            raise
        finally:
            self._fail_waiting_open(SoundWorkerFailed("the push is over", again=True))

    def _fail_waiting_open(self, error: SoundWorkerFailed) -> None:
        """Raises the error in an `open` that still waits."""
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # marks the exception as retrieved, because perhaps no task waits for it

    async def _run_worker(self) -> None:
        places = _PLACES[min(self._died, len(_PLACES) - 1)]
        async with self._workers.start_shared(_MODULE, "sound", places, stream=self._stream) as worker:
            if not self._ready.done():
                self._ready.set_result(None)
            self._tracks = None
            self.started += 1
            handlers: dict[int, Handler] = {
                StreamMessage.UNIT: self._on_unit,
                StreamMessage.TRACKS: self._on_tracks,
                StreamMessage.END: lambda body: True,
                WorkerMessage.NOTE: self._on_note,
            }
            if not await worker.exchange(self._send_queue(worker), handlers, _FINISH_SECONDS):
                raise await worker.died()

    async def _send_queue(self, worker: WorkerProcess) -> None:
        source, queue = self._source, self._queue
        await worker.send_json(WorkerMessage.SETUP, asdict(self._setup))
        if source is not None and source not in queue:
            await worker.send_item(source)  # a new worker does not have it
        while source in queue and isinstance(queue[0], AccessUnit):
            queue.popleft()  # of the source before, whose tracks a new worker does not have
            self.dropped += 1
        while True:
            while queue:
                await worker.send_item(queue.popleft())
            if self._finished:
                await worker.send_end()
                return
            self._changed.clear()
            await self._changed.wait()

    def _on_unit(self, body: bytes) -> None:
        unit = wire.decode_unit(body, self._tracks)
        if self._output is None or self._tracks is None or self._tracks.epoch != self._epoch:
            return  # the unit belongs to an earlier source
        unit.track = self._output
        self._encoded_ms = unit.dts * 1000 // unit.track.timescale
        self._deliver(unit)

    def _on_tracks(self, body: bytes) -> None:
        self._tracks = wire.decode_tracks(body)

    def _on_note(self, body: bytes) -> None:
        note = wire.read_json(body)
        unusable, damaged = note.get("unusable"), note.get("damaged")
        if isinstance(unusable, str):
            raise SoundWorkerFailed(unusable[:200], again=False)
        if isinstance(damaged, int):
            self.dropped += max(0, damaged)
            log.info("sound was damaged", stream=self._stream, units=damaged)

    def _drop_oldest(self) -> None:
        """Drops half of the units, so that not every following unit causes another drop."""
        items = list(self._queue)
        excess = sum(isinstance(item, AccessUnit) for item in items) // 2
        self._queue.clear()
        for item in items:
            if excess and isinstance(item, AccessUnit):
                excess -= 1
                self.dropped += 1
            else:
                self._queue.append(item)
