"""Speech: the sound of one push made into AAC by a worker, while its pictures go their own, shorter way."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from gateway.hub.errors import OutputTrouble
from gateway.lib.aio import Tasks
from gateway.media.errors import InvalidData
from gateway.media.track import Track, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.wire import Message
from gateway.transcode.launch import Worker, WorkerDied, Workers
from gateway.transcode.speech_link import SpeechMessage

log = structlog.get_logger(__name__)

_MODULE: Final = "gateway.transcode.speech_worker"
_MOST_UNITS: Final = 1_000  # that wait for the worker; Opus has 50 a second
_HEALTHY: Final = 5.0  # a worker that lived so long was not killed by what it was given
_DEATHS: Final = 3  # in a row, each before that, and the sound counts as unusable
_LAST: Final = 2.0  # what the worker may take for the end
_PAUSE: Final = 1.0  # where the worker that died left no room for another
_USUAL: Final = 0.1  # seconds in decoder and encoder that are nobody's fault


class SpeechFailed(Exception):
    """There will be no sound: it cannot be decoded, or no worker is to be had (`again`: it may work later)."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


class Speech:
    """`run` is a task of its own; `open` gives it a source, `give` the source's units, and `deliver` gets AAC units.

    What waits for the worker is bounded in number: the oldest goes. A worker that dies is replaced, and the sound has a
    hole. Times are the source's; the delay is an Opus packet and two AAC frames, about 60 ms.
    """

    def __init__(self, workers: Workers, stream: str, deliver: Callable[[AccessUnit], None]) -> None:
        """stream: for logs."""
        self._workers = workers
        self._stream = stream
        self._deliver = deliver
        self._waiting: deque[AccessUnit | Tracks] = deque()
        self._came = asyncio.Event()  # something waits, or it is over
        self._finished = False
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._source: Tracks | None = None  # what was given last
        self._output: Track | None = None
        self._epoch = 0
        self._made: Tracks | None = None  # what comes back now
        self._given_ms: int | None = None
        self._made_ms = 0
        self.dropped = 0
        """Units that the worker never got, or could not decode."""

    @property
    def behind(self) -> float:
        """Seconds by which it is later than it should be."""
        if self._given_ms is None:
            return 0.0
        return max(0.0, (self._given_ms - self._made_ms) / 1000 - _USUAL)

    async def open(self, track: Track | None, output: Track | None) -> None:
        """Another source, or none: what was given before is still made. Waits until a worker has been started.

        output: the track that what comes back is of. Raises SpeechFailed where no worker can be had.
        """
        self._epoch += 1
        self._source = Tracks(None, track, self._epoch)
        self._output = output
        self._given_ms = None
        self._put(self._source)
        if track is not None:
            await asyncio.shield(self._ready)

    def give(self, unit: AccessUnit) -> None:
        """Hot. The next unit of the source."""
        if len(self._waiting) >= _MOST_UNITS:
            self._forget_oldest()
        ms = unit.dts * 1000 // unit.track.timescale
        if self._given_ms is None:
            self._made_ms = ms
        self._given_ms = ms
        self._put(unit)

    def finish(self) -> None:
        """Nothing more comes; `run` returns when all is made."""
        self._finished = True
        self._came.set()

    async def run(self) -> None:
        """Until `finish`. Raises SpeechFailed."""
        try:
            await self._came.wait()
            deaths = 0
            while self._source is not None:  # else there never was any sound
                began = time.monotonic()
                try:
                    await self._with_worker()
                    return
                except OutputTrouble as error:
                    died = isinstance(error, WorkerDied)
                    deaths = 1 if time.monotonic() - began > _HEALTHY else deaths + 1
                    if deaths >= _DEATHS or not (died or self._ready.done()):
                        raise SpeechFailed(f"the sound cannot be encoded: {error}", again=True) from error
                    log.warning("sound starts again", stream=self._stream, reason=str(error))
                    if not died:
                        await asyncio.sleep(_PAUSE)
        except SpeechFailed as error:
            self._give_up(error)
            raise
        finally:
            self._give_up(SpeechFailed("the push is over", again=True))

    def _give_up(self, error: SpeechFailed) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # seen: perhaps nobody waits

    async def _with_worker(self) -> None:
        async with (
            self._workers.start(_MODULE, "sound", stream=self._stream) as worker,
            Tasks(f"sound of {self._stream}") as tasks,
        ):
            if not self._ready.done():
                self._ready.set_result(None)
            self._made = None
            reading = tasks.start(self._read(worker), "read")
            feeding = tasks.start(self._feed(worker), "feed")
            await asyncio.wait((reading, feeding), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            else:
                feeding.result()
                try:
                    async with asyncio.timeout(_LAST):
                        await reading
                except TimeoutError:
                    log.warning("the last sound was not waited for", stream=self._stream)

    async def _feed(self, worker: Worker) -> None:
        source, waiting = self._source, self._waiting
        if source is not None and source not in waiting:
            await worker.send(Message.TRACKS, wire.encode_tracks(source))  # a new worker knows nothing
        while True:
            while waiting:
                item = waiting.popleft()
                if isinstance(item, Tracks):
                    await worker.send(Message.TRACKS, wire.encode_tracks(item))
                else:
                    await worker.send(Message.UNIT, wire.encode_unit(item))
            if self._finished:
                await worker.send(Message.END, wire.encode_end())
                return
            self._came.clear()
            await self._came.wait()

    async def _read(self, worker: Worker) -> None:
        """What comes back, until the end. Raises WorkerDied, SpeechFailed."""
        while (frame := await worker.receive()) is not None:
            kind, body = frame
            try:
                if kind == Message.UNIT:
                    self._take(body)
                elif kind == Message.TRACKS:
                    self._made = wire.decode_tracks(body)
                elif kind == SpeechMessage.NOTE:
                    self._note(wire.read_json(body))
                elif kind == Message.END:
                    return
                else:
                    raise InvalidData(f"a frame of kind {kind}")
            except InvalidData as error:
                worker.kill(f"it sent {error}")
                raise await worker.died() from error
        raise await worker.died()

    def _take(self, body: bytes) -> None:
        unit = wire.decode_unit(body, self._made)
        if self._output is None or self._made is None or self._made.epoch != self._epoch:
            return  # of a source that was changed meanwhile
        unit.track = self._output
        self._made_ms = unit.dts * 1000 // unit.track.timescale
        self._deliver(unit)

    def _note(self, said: dict[str, object]) -> None:
        unusable, damaged = said.get("unusable"), said.get("damaged")
        if isinstance(unusable, str):
            raise SpeechFailed(unusable[:200], again=False)
        if isinstance(damaged, int):
            self.dropped += damaged
            log.info("sound was damaged", stream=self._stream, units=damaged)

    def _put(self, item: AccessUnit | Tracks) -> None:
        self._waiting.append(item)
        self._came.set()

    def _forget_oldest(self) -> None:
        """Half of the units at once: not again for every one that follows."""
        kept = list(self._waiting)
        over = sum(isinstance(item, AccessUnit) for item in kept) // 2
        self._waiting.clear()
        for item in kept:
            if over and isinstance(item, AccessUnit):
                over -= 1
                self.dropped += 1
            else:
                self._waiting.append(item)
