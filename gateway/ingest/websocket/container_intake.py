"""Sends a MediaRecorder's byte stream to a worker, and publishes what the worker makes of it."""

from __future__ import annotations

import asyncio
import time
from typing import Final, cast

import structlog

from gateway.ingest.browser_intake import IntakeFailed, IntakeStats, Treatment
from gateway.live.publisher import StreamPublisher
from gateway.live.track_changes import KeepsChanging
from gateway.media.track import Kind, Tracks
from gateway.ports.errors import OutputError
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.settings.models import TranscodeSettings
from gateway.workers.browser_protocol import BrowserMessage, BrowserPlan, BrowserReport
from gateway.workers.worker_pool import WorkerDied, WorkerPool, WorkerProcess

log = structlog.get_logger(__name__)

_MODULE: Final = "gateway.workers.programs.browser.browser_worker"
_SPARE: Final = 0.5
_PIECE: Final = 1 << 18  # bytes given to the worker at once
_STUCK: Final = 10.0  # seconds; a worker that reads nothing for this long is hung
_LAST: Final = 5.0  # seconds, besides its backlog, for a worker to finish after the end of the push


class ContainerIntake:
    """One push of a byte stream, an `Intake`.

    The worker holds the recording's state: if it dies, the push fails, and the page begins again.
    `feed` waits until the worker has read the earlier data, which it does at full speed.
    The worker drops what it cannot encode in time.
    """

    def __init__(
        self, publisher: StreamPublisher, workers: WorkerPool, settings: TranscodeSettings, *, spare: float = _SPARE
    ) -> None:
        """spare: seconds that an encoder may be late before it leaves pictures out."""
        self._publisher = publisher
        self._workers = workers
        self._plan = BrowserPlan(settings.preset, settings.threads, spare, settings.backlog)
        self._worker: asyncio.Future[WorkerProcess] = asyncio.get_running_loop().create_future()
        self._ending = asyncio.Event()
        self._over = False
        self._feeding = asyncio.Lock()  # frames of two calls must not mix, and END must not come between them
        self._tracks: Tracks | None = None
        self._frames = 0
        self._note = BrowserReport()

    # ---- Intake ----

    async def run(self) -> None:
        """Works until `finish` was called and the last unit is published. Raises IntakeFailed."""
        name = self._publisher.stream.name
        try:
            async with self._workers.start(_MODULE, "browser", stream=name, stuck=_STUCK) as worker:
                await worker.send_json(BrowserMessage.PLAN, self._plan.to_json())
                self._worker.set_result(worker)
                finished = await worker.exchange(
                    self._end(worker),
                    {
                        StreamMessage.UNIT: self._publish,
                        StreamMessage.TRACKS: self._announce,
                        StreamMessage.END: lambda body: True,
                        BrowserMessage.REPORT: self._take_note,
                        BrowserMessage.FAILED: self._fail,
                    },
                    _LAST + self._plan.backlog,
                )
                if not finished:
                    raise await worker.died()
        except OutputError as error:
            raise IntakeFailed(str(error), again=True) from error
        finally:
            self._over = True
            self._worker.cancel()

    async def feed(self, data: bytes) -> None:
        """Takes the next bytes of the recording, split anywhere."""
        async with self._feeding:
            if self._over or self._ending.is_set():
                return
            # Cancelled if no worker will start any more: `run` reports why.
            await asyncio.wait((self._worker,))
            if self._worker.cancelled():
                return
            worker = self._worker.result()
            try:
                for at in range(0, len(data), _PIECE):
                    await worker.send(BrowserMessage.DATA, data[at : at + _PIECE])
            except WorkerDied:
                return  # `run` reports why

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

    async def _end(self, worker: WorkerProcess) -> None:
        """Sends END to the worker after `finish`."""
        await self._ending.wait()
        async with self._feeding:
            await worker.send_end()

    def _publish(self, body: bytes) -> None:
        unit = wire.decode_unit(body, self._tracks)
        if not self._publisher.active:
            return
        if unit.track.kind is Kind.VIDEO:
            self._frames += 1
        self._publisher.push(unit, time.monotonic())

    def _announce(self, body: bytes) -> None:
        before, tracks = self._tracks, wire.decode_tracks(body)
        self._tracks = tracks
        if self._publisher.active:
            continuous = before is None or before.epoch == tracks.epoch
            try:
                self._publisher.set_tracks(tracks.video, tracks.audio, dict(tracks.metadata), continuous=continuous)
            except KeepsChanging as error:
                raise IntakeFailed(str(error)) from error

    def _fail(self, body: bytes) -> None:
        raise IntakeFailed(str(wire.read_json(body).get("reason"))[:300])

    def _take_note(self, body: bytes) -> None:
        note = BrowserReport.from_json(wire.read_json(body))
        before, self._note = self._note, note
        name, lost = self._publisher.stream.name, self._publisher.dropped
        if note.dropped:
            lost["output"] = note.dropped
        if note.damaged:
            lost["ingest"] = note.damaged
        if note.unusable_tracks != before.unusable_tracks:
            for line in note.unusable_tracks:
                log.warning("not carried", stream=name, what=line)
        if note.dropped and not before.dropped:
            log.warning("pictures of a push are dropped: the encoder is too slow for them", stream=name)
