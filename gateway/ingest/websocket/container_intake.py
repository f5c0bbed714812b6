"""Sends a MediaRecorder's byte stream to a worker, and publishes the units that the worker returns."""

import asyncio
import time
from dataclasses import asdict
from typing import Final

import structlog

from gateway.ingest.browser_intake import IntakeStats
from gateway.live.publisher import StreamPublisher
from gateway.live.sound_gaps import SoundGaps
from gateway.live.track_changes import KeepsChanging
from gateway.live.unit_intake import AUDIO_INDEX, VIDEO_INDEX, IntakeFailed
from gateway.media.track import Kind, Tracks
from gateway.ports.errors import OutputError
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.settings.models import TranscodeSettings
from gateway.workers.browser_protocol import BrowserPlan, BrowserReport
from gateway.workers.messages import WorkerMessage
from gateway.workers.worker_pool import WorkerDied, WorkerPool, WorkerProcess

log = structlog.get_logger(__name__)

_MODULE: Final = "gateway.workers.programs.browser.browser_worker"
_SPARE: Final = 0.5  # seconds, see ContainerIntake
_CHUNK_BYTES: Final = 1 << 18  # bytes sent to the worker at once
_HANG_SECONDS: Final = 10.0  # after this time without a read, a worker counts as hung
_FINISH_SECONDS: Final = 5.0  # in addition to its backlog, for a worker to finish after the end of the push


class ContainerIntake:
    """One push of a byte stream, an `Intake`.

    Only the worker has the state of the recording. If the worker dies, the push fails, and the page starts again.
    `feed` waits until the worker has read the earlier data. The worker reads faster than real time.
    The worker drops pictures that it cannot encode in time.

    spare: seconds that an encoder may be late before it drops pictures.
    """

    def __init__(
        self, publisher: StreamPublisher, workers: WorkerPool, settings: TranscodeSettings, *, spare: float = _SPARE
    ) -> None:
        self._publisher = publisher
        self._gaps = SoundGaps(publisher.stream.name, publisher.push)
        self._workers = workers
        self._plan = BrowserPlan(settings.preset, settings.threads, spare, settings.backlog)
        self._worker: asyncio.Future[WorkerProcess] = asyncio.get_running_loop().create_future()
        self._finished = asyncio.Event()
        self._ended = False
        self._feeding = asyncio.Lock()  # two calls must not mix their frames, and END must not come between them
        self._tracks: Tracks | None = None
        self._read = publisher.unusable.read
        self._report = BrowserReport()

    # ---- Intake ----

    async def run(self) -> None:
        """Publishes until `finish` was called and the last unit is published. Raises IntakeFailed."""
        stream = self._publisher.stream.name
        try:
            async with self._workers.start(_MODULE, "browser", stream=stream, hang_seconds=_HANG_SECONDS) as worker:
                await worker.send_json(WorkerMessage.SETUP, asdict(self._plan))
                self._worker.set_result(worker)
                finished = await worker.exchange(
                    self._end(worker),
                    {
                        StreamMessage.UNIT: self._publish,
                        StreamMessage.TRACKS: self._announce,
                        StreamMessage.END: lambda body: True,
                        WorkerMessage.NOTE: self._store_report,
                        WorkerMessage.FAILED: self._fail,
                    },
                    _FINISH_SECONDS + self._plan.backlog,
                )
                if not finished:
                    raise await worker.died()
        except OutputError as error:
            raise IntakeFailed(str(error), again=True) from error
        finally:
            self._ended = True
            self._worker.cancel()

    async def feed(self, data: bytes) -> None:
        """Sends the next bytes of the recording to the worker. They may be split anywhere."""
        async with self._feeding:
            if self._ended or self._finished.is_set():
                return
            # Cancelled if no worker can be started. `run` reports the reason.
            await asyncio.wait((self._worker,))
            if self._worker.cancelled():
                return
            worker = self._worker.result()
            try:
                for at in range(0, len(data), _CHUNK_BYTES):
                    await worker.send(WorkerMessage.DATA, data[at : at + _CHUNK_BYTES])
            except WorkerDied:
                return  # `run` reports the reason

    def finish(self) -> None:
        self._finished.set()

    @property
    def stats(self) -> IntakeStats:
        report = self._report
        dropped = report.dropped + report.damaged
        return IntakeStats(self._read[VIDEO_INDEX], dropped, report.behind, report.video, report.audio)

    # ---- the worker ----

    async def _end(self, worker: WorkerProcess) -> None:
        """Sends END to the worker after `finish`."""
        await self._finished.wait()
        async with self._feeding:
            await worker.send_end()

    def _publish(self, body: bytes) -> None:
        unit = wire.decode_unit(body, self._tracks)
        if not self._publisher.active:
            return
        self._read[VIDEO_INDEX if unit.track.kind is Kind.VIDEO else AUDIO_INDEX] += 1
        self._gaps.push(unit, time.monotonic())

    def _announce(self, body: bytes) -> None:
        last, tracks = self._tracks, wire.decode_tracks(body)
        self._tracks = tracks
        if self._publisher.active:
            continuous = last is None or last.epoch == tracks.epoch
            try:
                self._publisher.set_tracks(tracks.video, tracks.audio, dict(tracks.metadata), continuous=continuous)
            except KeepsChanging as error:
                raise IntakeFailed(str(error)) from error
            self._gaps.set_tracks(tracks.video, tracks.audio)

    def _fail(self, body: bytes) -> None:
        raise IntakeFailed(body.decode("utf-8", "replace")[:300])

    def _store_report(self, body: bytes) -> None:
        report = BrowserReport.decode(body)
        last, self._report = self._report, report
        stream, dropped = self._publisher.stream.name, self._publisher.on_air.dropped
        if report.dropped:
            dropped["output"] = report.dropped
        if report.damaged:
            dropped["ingest"] = report.damaged
        if report.unusable_tracks != last.unusable_tracks:
            for line in report.unusable_tracks:
                kind = Kind.VIDEO if line.startswith(Kind.VIDEO) else Kind.AUDIO
                self._publisher.unusable.leave_out(kind, line.removeprefix(f"{kind}: ").partition(" is ")[0])
        if report.dropped and not last.dropped:
            log.warning("pictures of a push are dropped: the encoder is too slow for them", stream=stream)
