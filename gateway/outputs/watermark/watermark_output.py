"""The output that sends a stream's original through a watermark worker and shows the result to the viewers.

The steps, all of which run on the event loop:
1. `begin`: if no unit has arrived yet, the override is engaged at once, so nobody sees a picture without the watermark.
If the watermark is switched on later, the original is shown until the worker has caught up. Then the override is
engaged at the next key frame.
2. The sink puts pictures into `_feed`, and all items into `_showing` while the override is engaged.
3. `_supply` gives the feed to the worker, `_drive` takes its pictures. A worker that dies is replaced, from the last
key frame on. Viewers continue after the last picture that they saw.
4. When it is switched off, the pictures before the next key frame still come from the worker. Then the original is
shown.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

import structlog

from gateway.channels.channel import Channel
from gateway.lib.backoff import Backoff
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.live.sink import EndReason
from gateway.live.stream import PictureOverride, Stream
from gateway.media.track import AmfValue, Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.outputs.watermark.interleave import milliseconds
from gateway.outputs.watermark.override_writer import OverrideWriter
from gateway.outputs.watermark.picture_fetcher import PictureFetcher
from gateway.outputs.watermark.picture_queue import PictureQueue
from gateway.outputs.watermark.watermark_assets import WatermarkAssets
from gateway.ports.errors import OutputError, OutputUnsupported
from gateway.protocols import wire
from gateway.settings.models import TranscodeSettings, WatermarkSettings
from gateway.workers.watermark_spec import WatermarkMessage, wants_watermark
from gateway.workers.worker_pool import WorkerDied, WorkerPool, WorkerProcess

log = structlog.get_logger(__name__)

MODULE: Final = "gateway.workers.programs.watermark.watermark_worker"
_CAUGHT_UP_MS: Final = 500  # a worker must be this near to the source before its pictures are shown
_STUCK: Final = 10.0  # seconds without a picture, while the source sends, after which a worker is replaced
_PAUSE: Final = 2.0  # seconds without pictures after which a source counts as paused
_FLUSH: Final = 2.0  # seconds that the last pictures may take
_RETURN: Final = 12.0  # seconds to wait for the original's next key frame when it is switched off
_FIRST_PICTURE_TIMEOUT: Final = 2.0  # seconds that the first frame waits for the watermark's picture
_LONGEST_RESUME: Final = 2_000  # units of the original that are kept while the last pictures arrive
_PROMISED: Final = ("videodatarate", "framerate")  # the metadata that the worker needs
_VIDEO: Final = Kind.VIDEO


class WatermarkFactory:
    """Makes the watermark of each stream. A stream has one at a time: a new one waits until the old one has ended.

    dropped: counts pictures by reason.
    """

    def __init__(
        self,
        workers: WorkerPool,
        pictures: PictureFetcher,
        watermark: WatermarkSettings,
        transcode: TranscodeSettings,
        dropped: Counter,
    ) -> None:
        self.workers = workers
        self.pictures = pictures
        self.watermark = watermark
        self.transcode = transcode
        self.dropped = dropped
        self.holders: dict[Stream, asyncio.Event] = {}  # set when the override is free again

    def make(self, stream: Stream) -> WatermarkOutput:
        """Returns a stream's watermark, for OutputSpec."""
        return WatermarkOutput(self, stream)

    @staticmethod
    def wanted(stream: Stream) -> bool:
        """Whether a stream gets a watermark, for OutputSpec.

        Renditions are made of the original, so ladders show none.
        """
        return stream.is_source and wants_watermark(stream.channel)


class WatermarkOutput:
    """The watermark of one stream: a StreamOutput, StartsWithStream, ReportsStatus, ChannelAware, and a Sink of the
    original.

    While no worker can run, viewers wait: they never see the picture without its watermark.
    """

    def __init__(self, of: WatermarkFactory, stream: Stream) -> None:
        self._of = of
        self._backlog = of.transcode.backlog
        self._feed = PictureQueue(self._backlog)
        self._cover: PictureOverride | None = None
        self._showing: OverrideWriter | None = None
        self._dresser = WatermarkAssets(of.pictures, stream.channel)
        self._tracks: Tracks | None = None  # the original's tracks
        self._fed: tuple[MediaTrack | None, int] | None = None  # video track and epoch last sent to the worker
        self._coded: Tracks | None = None  # the worker's tracks
        self._joining = False  # set while attaching: the refill that follows contains the present tracks
        self._newest = 0  # decode time of the original's latest picture, milliseconds
        self._came_at = self._got_at = 0.0  # monotonic times of the original's and the worker's latest picture
        self._ready = False  # a worker has caught up
        self._leaving = False
        self._resume: list[AccessUnit] | None = None  # the original's units, from the key frame where it is shown again
        self._returned = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None
        self._worker: WorkerProcess | None = None
        self._error: str | None = None
        self._dropped = 0
        self._restarts = 0

    # ---- Output ----

    def begin(self, stream: Stream) -> None:
        """Takes the override, and engages it if nothing was seen yet; called when the publisher gets its lease."""
        if self._cover is None and stream not in self._of.holders:
            self._take(stream)

    async def run(self, stream: Stream) -> None:
        self.begin(stream)
        while self._cover is None:
            before = self._of.holders.get(stream)
            if before is not None:
                await before.wait()
            else:
                self._take(stream)
        try:
            await self._work(stream)
        finally:
            stream.original.detach(self)
            self._cover.close(self._units_to_resume(stream))
            self._of.holders.pop(stream).set()

    def report(self) -> dict[str, Any]:
        """Returns the output's entry in the session's status."""
        notes = self._dresser.notes
        showing = self._showing
        return {
            "error": self._error or (notes[0] if notes else None),
            "notes": notes,
            "shown": showing is not None and showing.begun,
            "delayMs": round(showing.delay * 1000) if showing is not None else 0,
            "dropped": self._dropped + (showing.late if showing is not None else 0),
            "restarts": self._restarts,
        }

    def channel_changed(self, channel: Channel) -> None:
        """Takes the new text, picture and position; they appear on the next picture after they are ready."""
        self._dresser.wear(channel)

    # ---- life ----

    def _take(self, stream: Stream) -> None:
        self._of.holders[stream] = asyncio.Event()
        self._cover = stream.override()
        self._showing = OverrideWriter(self._cover, round((self._backlog + _STUCK) * 1000))
        if stream.original.tracks is None:
            self._showing.engage(None)
        self._joining = True
        stream.original.attach(self, replay=False)
        self._joining = False
        self._refill(stream)

    async def _work(self, stream: Stream) -> None:
        async with Tasks(f"watermark of {stream.name}", self._crashed) as tasks:
            tasks.start(self._dresser.run(), "picture")
            tasks.start(self._watch(), "watch")
            work = tasks.start(self._serve(stream), "worker")
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                if not work.done():
                    await self._go_back()
                raise

    async def _serve(self, stream: Stream) -> None:
        """Runs workers, one after the other, until the last picture has been sent."""
        assert self._showing is not None, "taken before"
        backoff = Backoff(0.2, 5.0)
        await self._dresser.ready(_FIRST_PICTURE_TIMEOUT)
        while True:
            started = time.monotonic()
            self._raise_failure()
            try:
                async with self._of.workers.start(MODULE, "watermark", stream=stream.name) as worker:
                    await self._drive(worker)
                return
            except OutputError as error:
                self._raise_failure()
                if not self._showing.engaged:
                    raise  # viewers see the original in the meantime
                if self._error is None and not isinstance(error, WorkerDied):
                    log.warning("viewers wait for the watermark", stream=stream.name, reason=str(error))
                self._error = str(error)
            if self._ended or self._resume is not None:
                return
            self._restarts += 1
            lived = time.monotonic() - started
            if lived > 10:
                backoff.reset()
            if lived < 2:
                await asyncio.sleep(backoff.next())
            self._feed = PictureQueue(self._backlog)
            self._coded = None
            self._refill(stream)

    async def _drive(self, worker: WorkerProcess) -> None:
        """Takes one worker's pictures until it has flushed. Raises WorkerDied, OutputUnsupported."""
        self._worker = worker
        self._got_at = time.monotonic()
        self._ready = False
        async with Tasks("watermark's feed", self._crashed) as tasks:
            tasks.start(self._supply(worker, self._feed), "feed")
            try:
                while (message := await worker.receive()) is not None:
                    self._raise_failure()
                    if self._take_message(*message):
                        return
            finally:
                self._worker = None
        raise await worker.died()

    async def _supply(self, worker: WorkerProcess, feed: PictureQueue) -> None:
        """Sends one worker its settings, the watermark, and the feed."""
        dresser, showing = self._dresser, self._showing
        assert showing is not None, "taken before"
        settings = {
            "preset": self._of.transcode.preset,
            "threads": self._of.transcode.threads,
            "bitrate": self._of.watermark.bitrate,
            "font": self._of.watermark.font,
            "after": showing.last,
        }
        with suppress(WorkerDied):  # `_drive` reports it
            await worker.send_json(WatermarkMessage.SETUP, settings)
            dresser.changed = True
            async for item in feed:
                if dresser.changed:
                    dresser.changed = False
                    await worker.send(WatermarkMessage.MARK, dresser.mark.encode())
                if isinstance(item, Tracks):
                    said: dict[str, AmfValue] = {n: item.metadata[n] for n in _PROMISED if n in item.metadata}
                    item = Tracks(item.video, None, item.epoch, said)
                await worker.send_item(item)
            await worker.send_end()

    async def _watch(self) -> None:
        """Replaces a worker that produces nothing although the source sends pictures."""
        while True:
            await asyncio.sleep(1)
            worker = self._worker
            now = time.monotonic()
            if worker is not None and now - self._came_at < _PAUSE and now - self._got_at > _STUCK:
                log.warning("media worker is stuck", worker="watermark", pid=worker.pid)
                worker.kill()

    def _refill(self, stream: Stream) -> None:
        """Feeds the pictures since the last key frame, for a new worker."""
        if self._tracks is not None:
            self._feed.refill([self._tracks])
            self._feed.refill(u for u in stream.original.gop.units() if u.track.kind is _VIDEO)

    async def _go_back(self) -> None:
        """Returns viewers to the original.

        They get the worker's last pictures, then the original from a key frame on.
        """
        if self._cover is None or not self._cover.open or self._showing is None or not self._showing.begun:
            return
        self._leaving = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETURN):
                await self._returned.wait()

    def _units_to_resume(self, stream: Stream) -> list[AccessUnit]:
        """Returns the units that viewers get at once when the original is shown again.

        If there are none, they wait for its next key frame.
        """
        if self._resume is not None:
            return self._resume
        # Viewers who saw no picture yet get what they would have got without a watermark.
        return stream.original.gop.units() if self._showing is None or not self._showing.begun else []

    # ---- messages of the worker ----

    def _take_message(self, kind: int, body: bytes) -> bool:
        """Handles one message. Returns whether it was the last."""
        assert self._showing is not None, "taken before"
        if kind == wire.StreamMessage.UNIT:
            self._got_at = time.monotonic()
            self._error = None
            picture = wire.decode_unit(body, self._coded)
            self._ready = self._newest - milliseconds(picture) <= _CAUGHT_UP_MS
            self._showing.picture(picture)
        elif kind == wire.StreamMessage.TRACKS:
            self._coded = wire.decode_tracks(body)
            self._showing.coded(self._coded)
        elif kind == WatermarkMessage.NOTES:
            self._dresser.note([str(note) for note in wire.read_json(body).get("notes", [])])
        elif kind == WatermarkMessage.UNFIT:
            raise OutputUnsupported(str(wire.read_json(body).get("reason")))
        elif kind == wire.StreamMessage.END:
            self._showing.rest()
            self._returned.set()
            return True
        return False

    # ---- Sink of the original ----

    def on_tracks(self, tracks: Tracks) -> None:
        self._tracks = tracks
        if tracks.video is None:
            self._fail(OutputUnsupported("a stream without a picture has no place for a watermark"))
            return
        if (tracks.video, tracks.epoch) != self._fed:
            if not self._joining:
                self._feed.tracks(tracks)
            self._fed = (tracks.video, tracks.epoch)
        if self._showing is not None:
            self._showing.add(tracks)

    def on_unit(self, unit: AccessUnit) -> None:
        showing = self._showing
        assert showing is not None, "made before it was attached"
        if self._resume is not None:
            self._resume.append(unit)
            if len(self._resume) > _LONGEST_RESUME:
                self._returned.set()
            return
        if unit.track.kind is _VIDEO:
            if unit.key and self._leaving:
                self._resume = [unit]
                self._feed.end()
                asyncio.get_running_loop().call_later(_FLUSH, self._returned.set)
                return
            self._newest, now = milliseconds(unit), time.monotonic()
            if now - self._came_at > _PAUSE:
                self._got_at = now  # the source was paused, not the worker
            self._came_at = now
            if unit.key and self._ready and not showing.engaged:
                showing.engage(self._tracks, self._newest)
            lost = self._feed.dropped
            self._feed.add(unit)
            if self._feed.dropped != lost:
                self._dropped += self._feed.dropped - lost
                self._of.dropped.add("output", amount=self._feed.dropped - lost)
        showing.add(unit)

    def on_timed(self, timed: Timed) -> None:
        if self._showing is not None and self._resume is None:
            self._showing.add(timed)

    def on_end(self, reason: EndReason) -> None:
        self._ended = True
        self._feed.end()

    def on_failed(self, error: Exception) -> None:
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Ends the run with this error."""
        self._failure = error
        if self._worker is not None:
            self._worker.kill()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _crashed(self, name: str, error: BaseException) -> None:
        # `_work` awaits the worker's task and raises its error.
        if not name.endswith(":worker"):
            self._fail(error if isinstance(error, Exception) else RuntimeError(name))
