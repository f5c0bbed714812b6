"""ContainerIntake: a MediaRecorder's byte stream goes to a worker, and what that makes of it to the publisher."""

from __future__ import annotations

import asyncio
import time
from typing import Final, cast

import structlog

from gateway.hub.errors import OutputTrouble
from gateway.hub.publisher import Publisher
from gateway.lib.aio import Tasks
from gateway.media.errors import InvalidData
from gateway.media.track import Kind, Tracks
from gateway.protocols import wire
from gateway.protocols.wire import Message
from gateway.settings.models import Transcode
from gateway.sources.browser import IntakeFailed, IntakeStats, Treatment
from gateway.transcode.browser import BrowserMessage, BrowserPlan, Note
from gateway.transcode.launch import Worker, WorkerDied, Workers

log = structlog.get_logger(__name__)

_MODULE: Final = "gateway.transcode.browser_worker"
_SPARE: Final = 0.5
_PIECE: Final = 1 << 18  # bytes given to the worker at once
_STUCK: Final = 10.0  # a worker that takes nothing for so long will never again
_LAST: Final = 5.0  # seconds, beside its backlog, that a worker may take for what is inside when the push is over


class ContainerIntake:
    """One push of a byte stream, an `Intake`.

    The recording's state is in its worker: with that the push fails, and the page begins again. `feed` waits while the
    worker has not read what came before, which it does at full speed: whatever it cannot encode in time it drops.
    """

    def __init__(self, publisher: Publisher, workers: Workers, settings: Transcode, *, spare: float = _SPARE) -> None:
        """spare: seconds that an encoder may be late before it leaves pictures out."""
        self._publisher = publisher
        self._workers = workers
        self._plan = BrowserPlan(settings.preset, settings.threads, spare, settings.backlog)
        self._worker: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._ending = asyncio.Event()
        self._over = False
        self._feeding = asyncio.Lock()  # frames of two calls must not mix, nor an END come between
        self._sending_since: float | None = None
        self._tracks: Tracks | None = None
        self._frames = 0
        self._note = Note()

    # ---- Intake ----

    async def run(self) -> None:
        """Until `finish` and the last unit is published. Raises IntakeFailed."""
        name = self._publisher.stream.name
        try:
            async with (
                self._workers.start(_MODULE, "browser", stream=name) as worker,
                Tasks(f"browser push of {name}") as tasks,
            ):
                await worker.send(BrowserMessage.PLAN, wire.write_json(self._plan.to_json()))
                self._worker.set_result(worker)
                await self._attend(worker, tasks)
        except OutputTrouble as error:
            raise IntakeFailed(str(error), again=True) from error
        finally:
            self._over = True
            self._worker.cancel()

    async def feed(self, data: bytes) -> None:
        """The next bytes of the recording, cut anywhere."""
        async with self._feeding:
            if self._over or self._ending.is_set():
                return
            # Cancelled where no worker will come any more: `run` says why.
            await asyncio.wait((self._worker,))
            if self._worker.cancelled():
                return
            worker = self._worker.result()
            try:
                for at in range(0, len(data), _PIECE):
                    await self._send(worker, BrowserMessage.DATA, data[at : at + _PIECE])
            except WorkerDied:
                return  # `run` says why in a moment

    def finish(self) -> None:
        self._ending.set()

    @property
    def stats(self) -> IntakeStats:
        note = self._note
        return IntakeStats(
            frames=self._frames,
            dropped=note.dropped + note.damaged,
            behind=note.behind,
            video=cast("Treatment | None", note.video),
            audio=cast("Treatment | None", note.audio),
        )

    # ---- the worker ----

    async def _attend(self, worker: Worker, tasks: Tasks) -> None:
        reading = tasks.start(self._read(worker), "read")
        tasks.start(self._watch(worker), "watch")
        ending = tasks.start(self._end(worker), "end")
        await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            try:
                async with asyncio.timeout(_LAST + self._plan.backlog):
                    await asyncio.shield(reading)
            except TimeoutError:
                log.warning("the last pictures of a push were not waited for", stream=self._publisher.stream.name)
                return
        if not reading.result():
            raise await worker.died()

    async def _end(self, worker: Worker) -> None:
        """Once nothing more comes, tells the worker."""
        await self._ending.wait()
        async with self._feeding:
            await self._send(worker, Message.END, wire.encode_end())

    async def _send(self, worker: Worker, kind: int, body: bytes) -> None:
        self._sending_since = time.monotonic()
        await worker.send(kind, body)
        self._sending_since = None

    async def _watch(self, worker: Worker) -> None:
        """Ends a worker that hangs."""
        while True:
            await asyncio.sleep(1)
            if self._sending_since is not None and time.monotonic() - self._sending_since > _STUCK:
                worker.kill(f"it took nothing for {_STUCK:.0f} s")
                return

    async def _read(self, worker: Worker) -> bool:
        """Publishes what the worker makes; whether it came to its end. Raises IntakeFailed."""
        while (received := await worker.receive()) is not None:
            kind, body = received
            try:
                if kind == Message.UNIT:
                    self._publish(body)
                elif kind == Message.TRACKS:
                    self._announce(wire.decode_tracks(body))
                elif kind == BrowserMessage.NOTE:
                    self._take_note(Note.from_json(wire.read_json(body)))
                elif kind == BrowserMessage.FAILED:
                    raise IntakeFailed(str(wire.read_json(body).get("reason"))[:300])
                elif kind == Message.END:
                    return True
            except InvalidData as error:
                worker.kill(f"it sends nonsense: {error}")
                return False
        return False

    def _publish(self, body: bytes) -> None:
        unit = wire.decode_unit(body, self._tracks)
        if not self._publisher.active:
            return
        if unit.track.kind is Kind.VIDEO:
            self._frames += 1
        self._publisher.push(unit, time.monotonic())

    def _announce(self, tracks: Tracks) -> None:
        before, self._tracks = self._tracks, tracks
        if self._publisher.active:
            continuous = before is None or before.epoch == tracks.epoch
            self._publisher.set_tracks(tracks.video, tracks.audio, dict(tracks.metadata), continuous=continuous)

    def _take_note(self, note: Note) -> None:
        before, self._note = self._note, note
        name, lost = self._publisher.stream.name, self._publisher.dropped
        if note.dropped:
            lost["output"] = note.dropped
        if note.damaged:
            lost["ingest"] = note.damaged
        if note.left_out != before.left_out:
            for line in note.left_out:
                log.warning("not carried", stream=name, what=line)
        if note.dropped and not before.dropped:
            log.warning("pictures of a push are dropped: the encoder is too slow for them", stream=name)
