"""The output `watermark`: a worker draws on the original stream's pictures, and viewers get the result.

The steps, all on the event loop:
1. `begin`: if no unit has arrived yet, the override is engaged at once, so that all pictures have the watermark. If the
watermark is switched on later, viewers see the original until the worker has caught up. Then the override is engaged at
the next key frame. Viewers of a stream without video get its sound at once; if video is added, the override is engaged.
2. The sink puts tracks and pictures into `_queue`, and all items into `_writer` while the override is engaged.
3. `_send_queue` sends the queue to the worker, its pictures come to `_on_coded_picture`. A dead worker is replaced,
from the last key frame on. Viewers continue after the last picture that they saw.
4. When the watermark is switched off, viewers get the worker's pictures up to the next key frame, then the original.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from gateway.channels.channel import Channel
from gateway.lib.backoff import Backoff
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.lib.waiting import wait_at_most
from gateway.live.output import FINISH_SECONDS
from gateway.live.sink import EndReason, SinkNeeds
from gateway.live.stream import PictureOverride, Stream
from gateway.live.subscription import Subscription
from gateway.media.track import AccessUnit, AmfValue, Kind, MediaTrack, TimedData, Tracks
from gateway.outputs.dropped_units import DroppedUnits
from gateway.outputs.watermark.override_writer import OverrideWriter, milliseconds
from gateway.outputs.watermark.picture_fetcher import PictureFetcher
from gateway.outputs.watermark.watermark_assets import WatermarkAssets
from gateway.ports.errors import OutputError, OutputUnsupported
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.settings.models import TranscodeSettings, WatermarkSettings
from gateway.workers.messages import WorkerMessage
from gateway.workers.watermark_spec import wants_watermark
from gateway.workers.worker_pool import Handler, WorkerDied, WorkerPool, WorkerProcess

log = structlog.get_logger(__name__)

MODULE: Final = "gateway.workers.programs.watermark.watermark_worker"
_CAUGHT_UP_MS: Final = 500  # maximum delay of a worker when its pictures are first shown
_MIN_UPTIME_SECONDS: Final = 2.0  # a worker that ran at least this long is replaced at once, any other after a pause
_STABLE_SECONDS: Final = 10.0  # after a worker that ran longer, the pauses begin with the shortest one again
_HANG_SECONDS: Final = 10.0  # seconds without a picture, while the source sends, until a worker is replaced
_PAUSED_SECONDS: Final = 2.0  # seconds without pictures until a source counts as paused
_FLUSH_SECONDS: Final = 2.0  # seconds to wait for the worker's last pictures
_RETURN_SECONDS: Final = 12.0  # seconds to wait for the original's next key frame when the watermark is switched off
_FIRST_PICTURE_TIMEOUT: Final = 2.0  # seconds to wait for the watermark's picture before the first frame
_MAX_RESUME_UNITS: Final = 2_000  # maximum units of the original to hold while the last pictures arrive
_WORKER_METADATA: Final = ("videodatarate", "framerate")  # the metadata that the worker needs
_VIDEO: Final = Kind.VIDEO


@dataclass(slots=True, eq=False)
class WatermarkFactory:
    """Makes the watermark of each stream. A stream has one at a time: a new one waits until the old one has ended.

    dropped: counts pictures by reason. running: by stream; the event is set when its watermark ends.
    """

    workers: WorkerPool
    pictures: PictureFetcher
    watermark: WatermarkSettings
    transcode: TranscodeSettings
    dropped: Counter
    running: dict[Stream, asyncio.Event] = field(default_factory=dict, init=False)

    def make(self, stream: Stream) -> WatermarkOutput:
        """Returns a stream's watermark, for OutputSpec."""
        return WatermarkOutput(self, stream)

    @staticmethod
    def wanted(stream: Stream) -> bool:
        """Returns whether a stream gets a watermark, for OutputSpec.

        Renditions are encoded from the original, so they have no watermark.
        """
        return stream.is_source and wants_watermark(stream.channel)


class WatermarkOutput:
    """The watermark of one stream. Implements StreamOutput, StartsWithStream, ReportsStatus, ChannelAware and Sink.

    While no worker can run, viewers wait: they never get a picture without the watermark.
    """

    def __init__(self, factory: WatermarkFactory, stream: Stream) -> None:
        self._factory = factory
        self._backlog = factory.transcode.backlog
        self._queue = Subscription(stream.original, max_seconds=self._backlog)  # never attached; the sink fills it
        self._past: list[Tracks | AccessUnit] = []  # what a worker gets before the queue, without a limit
        self._override: PictureOverride | None = None
        self._writer: OverrideWriter | None = None
        self._assets = WatermarkAssets(factory.pictures, stream.channel)
        self._tracks: Tracks | None = None  # the original's tracks
        self._sent_version: tuple[MediaTrack | None, int] | None = None  # the last video track and epoch for the worker
        self._coded: Tracks | None = None  # the worker's tracks
        self._newest = 0  # decode time of the original's latest picture, milliseconds
        self._source_at = self._worker_at = 0.0  # monotonic times of the original's and the worker's latest picture
        self._ready = False  # a worker has caught up
        self._returning = False  # viewers return to the original at its next key frame
        self._resume: list[AccessUnit] | None = None  # the original's units, from the key frame at the return on
        self._return_ready = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None
        self._worker: WorkerProcess | None = None
        self._error: str | None = None
        self._dropped = DroppedUnits(factory.dropped)
        self._restarts = 0

    # ---- Output ----

    def begin(self, stream: Stream) -> None:
        """Starts the override if it is free. Called before the publisher's first unit."""
        if self._override is None and stream not in self._factory.running:
            self._start_override(stream)

    async def run(self, stream: Stream) -> None:
        self.begin(stream)
        while self._override is None:
            previous = self._factory.running.get(stream)
            if previous is not None:
                await previous.wait()
            else:
                self._start_override(stream)
        try:
            await self._run_tasks(stream)
        finally:
            stream.original.detach(self)
            self._override.close(self._units_to_resume(stream))
            self._factory.running.pop(stream).set()

    def report(self) -> dict[str, Any]:
        """Returns the output's entry in the session's status."""
        notes = self._assets.notes
        writer = self._writer
        return {
            "error": self._error or (notes[0] if notes else self._dropped.error),
            "notes": notes,
            "shown": writer is not None and writer.last >= 0,
            "delayMs": round(writer.delay * 1000) if writer is not None else 0,
            "dropped": self._dropped.count + (writer.interleave.dropped if writer is not None else 0),
            "restarts": self._restarts,
        }

    def channel_changed(self, channel: Channel) -> None:
        """Applies the new text, picture and position at the next picture after they are ready."""
        self._assets.channel_changed(channel)

    # ---- override and workers ----

    def _start_override(self, stream: Stream) -> None:
        self._factory.running[stream] = asyncio.Event()
        self._override = stream.override()
        self._writer = OverrideWriter(self._override, round((self._backlog + _HANG_SECONDS) * 1000))
        if stream.original.tracks is None:
            self._writer.engage(None)
        self._begin_queue(stream)
        stream.original.attach(self, SinkNeeds(cache=False))

    async def _run_tasks(self, stream: Stream) -> None:
        async with Tasks(f"watermark of {stream.name}", self._crashed) as tasks:
            tasks.start(self._assets.run(), "picture")
            tasks.start(self._kill_hung_worker(), "watch")
            work = tasks.start(self._run_workers(stream), "worker")
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                if not work.done():
                    await self._wait_for_return()
                raise

    async def _run_workers(self, stream: Stream) -> None:
        """Runs workers, one after the other, until the last picture was written."""
        assert self._writer is not None, "set by _start_override"
        backoff = Backoff(0.2, 5.0)
        await self._assets.wait_for_first_fetch(_FIRST_PICTURE_TIMEOUT)
        while True:
            started = time.monotonic()
            self._raise_failure()
            try:
                async with self._factory.workers.start(MODULE, "watermark", stream=stream.name) as worker:
                    await self._run_worker(worker)
                return
            except OutputError as error:
                self._raise_failure()
                if not self._writer.engaged:
                    raise  # viewers still see the original
                if self._error is None and not isinstance(error, WorkerDied):
                    log.warning("viewers wait for the watermark", stream=stream.name, reason=str(error))
                self._error = str(error)
            if self._ended or self._resume is not None:
                return
            self._restarts += 1
            uptime = time.monotonic() - started
            if uptime > _STABLE_SECONDS:
                backoff.reset()
            if uptime < _MIN_UPTIME_SECONDS:
                await asyncio.sleep(backoff.next())
            self._coded = None
            self._begin_queue(stream)

    async def _run_worker(self, worker: WorkerProcess) -> None:
        """Receives one worker's pictures until its end. Raises WorkerDied, OutputUnsupported."""
        self._worker = worker
        self._worker_at = time.monotonic()
        self._ready = False
        handlers: dict[int, Handler] = {
            StreamMessage.UNIT: self._on_coded_picture,
            StreamMessage.TRACKS: self._on_coded_tracks,
            StreamMessage.END: self._on_coded_end,
            WorkerMessage.NOTE: self._on_notes,
            WorkerMessage.FAILED: self._on_unsupported,
        }
        try:
            if not await worker.exchange(self._send_queue(worker), handlers, FINISH_SECONDS):
                raise await worker.died()
        finally:
            self._worker = None

    async def _send_queue(self, worker: WorkerProcess) -> None:
        """Sends the settings, the watermark, the past and the queue to a worker."""
        assert self._writer is not None, "set by _start_override"
        settings = {
            "preset": self._factory.transcode.preset,
            "threads": self._factory.transcode.threads,
            "bitrate": self._factory.watermark.bitrate,
            "font": self._factory.watermark.font,
            "after": self._writer.last,
        }
        await worker.send_json(WorkerMessage.SETUP, settings)
        self._assets.changed = True
        for past in self._past:
            await self._send_item(worker, past)
        async for item in self._queue:
            if isinstance(item, Tracks | AccessUnit):
                await self._send_item(worker, item)
        await worker.send_end()

    async def _send_item(self, worker: WorkerProcess, item: Tracks | AccessUnit) -> None:
        if self._assets.changed:
            self._assets.changed = False
            await worker.send(WorkerMessage.DATA, self._assets.mark.encode())
        if isinstance(item, Tracks):
            metadata: dict[str, AmfValue] = {n: item.metadata[n] for n in _WORKER_METADATA if n in item.metadata}
            item = Tracks(item.video, None, item.epoch, metadata)
        await worker.send_item(item)

    async def _kill_hung_worker(self) -> None:
        """Kills a worker that returns no pictures although the source sends them."""
        while True:
            await asyncio.sleep(1)
            worker = self._worker
            now = time.monotonic()
            if worker is not None and now - self._source_at < _PAUSED_SECONDS and now - self._worker_at > _HANG_SECONDS:
                log.warning("media worker hangs", worker="watermark", pid=worker.pid)
                worker.kill()

    def _begin_queue(self, stream: Stream) -> None:
        """Begins the queue of a new worker, which gets the pictures since the last key frame first.

        These have no limit, because a worker decodes them much faster than real time.
        """
        tracks = stream.original.tracks
        self._queue = Subscription(stream.original, max_seconds=self._backlog)
        self._past = []
        if tracks is not None:
            self._sent_version = tracks.video, tracks.epoch
            self._past = [tracks, *(u for u in stream.original.gop.units() if u.track.kind is _VIDEO)]

    async def _wait_for_return(self) -> None:
        """Waits until viewers can return to the original.

        They get the worker's last pictures, then the original from a key frame on.
        """
        if self._override is None or not self._override.open or self._writer is None or not self._writer.begun:
            return
        self._returning = True
        await wait_at_most(_RETURN_SECONDS, self._return_ready)

    def _units_to_resume(self, stream: Stream) -> list[AccessUnit]:
        """Returns the original's units that viewers get at once.

        If there are none, viewers wait for its next key frame.
        """
        if self._resume is not None:
            return self._resume
        # If viewers have nothing yet, they get the GOP as without a watermark.
        return stream.original.gop.units() if self._writer is None or not self._writer.begun else []

    # ---- messages of the worker ----

    def _on_coded_picture(self, body: bytes) -> None:
        assert self._writer is not None, "set by _start_override"
        self._worker_at = time.monotonic()
        self._error = None
        picture = wire.decode_unit(body, self._coded)
        self._ready = self._newest - milliseconds(picture) <= _CAUGHT_UP_MS
        self._writer.add_picture(picture)

    def _on_coded_tracks(self, body: bytes) -> None:
        assert self._writer is not None, "set by _start_override"
        self._coded = wire.decode_tracks(body)
        self._writer.set_coded_tracks(self._coded)

    def _on_coded_end(self, body: bytes) -> bool:
        assert self._writer is not None, "set by _start_override"
        self._writer.write_rest()
        self._return_ready.set()
        return True

    def _on_notes(self, body: bytes) -> None:
        self._assets.set_worker_notes([str(note) for note in wire.read_json(body).get("notes", [])])

    def _on_unsupported(self, body: bytes) -> None:
        """Ends the output: the worker cannot draw on this stream."""
        raise OutputUnsupported(body.decode("utf-8", "replace"))

    # ---- Sink of the original ----

    def on_tracks(self, tracks: Tracks) -> None:
        previous, self._tracks = self._tracks, tracks
        if self._writer is not None and tracks.video is not None and previous is not None and previous.video is None:
            self._writer.engage(None)  # viewers have no pictures yet, so they get none without the watermark
        if (tracks.video, tracks.epoch) != self._sent_version:
            self._queue.on_tracks(tracks)
            self._sent_version = (tracks.video, tracks.epoch)
        if self._writer is not None:
            self._writer.add(tracks)

    def on_unit(self, unit: AccessUnit) -> None:
        writer = self._writer
        assert writer is not None, "created before the sink was attached"
        if self._resume is not None:
            self._resume.append(unit)
            if len(self._resume) > _MAX_RESUME_UNITS:
                self._return_ready.set()
            return
        if unit.track.kind is _VIDEO:
            if unit.key and self._returning:
                self._resume = [unit]
                self._queue.on_end(EndReason.OUTPUT_OFF)
                asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._return_ready.set)
                return
            self._newest, now = milliseconds(unit), time.monotonic()
            if now - self._source_at > _PAUSED_SECONDS:
                self._worker_at = now  # the source was paused, not the worker
            self._source_at = now
            if unit.key and self._ready and not writer.engaged:
                writer.engage(self._tracks, self._newest)
            dropped = self._queue.dropped
            self._queue.on_unit(unit)
            if self._queue.dropped != dropped:
                self._dropped.add(self._queue.dropped - dropped)
        writer.add(unit)

    def on_timed(self, timed: TimedData) -> None:
        if self._writer is not None and self._resume is None:
            self._writer.add(timed)

    def on_end(self, reason: EndReason) -> None:
        self._ended = True
        self._queue.on_end(reason)

    def on_failed(self, error: Exception) -> None:
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Makes `run` raise this error."""
        self._failure = error
        if self._worker is not None:
            self._worker.kill()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _crashed(self, name: str, error: BaseException) -> None:
        # `_run_tasks` awaits the worker's task and raises its error.
        if not name.endswith(":worker"):
            self._fail(error if isinstance(error, Exception) else RuntimeError(name))
