"""Encodes an input again in the form of the push, so that decoders go on when it replaces the push."""

import asyncio
import time
from dataclasses import replace
from typing import Final

import structlog

from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks, awaited
from gateway.live.sink import EndReason, SinkNeeds
from gateway.live.stream import Stream
from gateway.live.subscription import End, Subscription
from gateway.media.clock import MILLISECONDS
from gateway.media.track import AccessUnit, TimedData, Tracks, have_same_media
from gateway.ports.errors import OutputError
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.settings.models import StreamSettings, TranscodeSettings
from gateway.workers.messages import WorkerMessage
from gateway.workers.stream_form import StreamForm, in_milliseconds
from gateway.workers.worker_pool import Handler, WorkerPool, WorkerProcess

log = structlog.get_logger(__name__)

MODULE: Final = "gateway.workers.programs.match_worker"
_HANG_SECONDS: Final = 10.0  # a worker that reads nothing for this long counts as hung
_FINISH_SECONDS: Final = 5.0
_MAX_BYTES: Final = 32_000_000  # of units that wait for the worker
_MAX_FAILURES: Final = 3  # then the input is used as it is
_GOOD_SECONDS: Final = 30.0  # after a worker that ran for longer, failures are counted anew


class Matching:
    """The media of one input. A worker encodes them again while they do not fit. A sink of the input's stream.

    media: the stream that the switcher takes. error: why the media are not matched; None: nothing is wrong.
    `set_expected_tracks` sets the tracks to match. `run` must be running.
    """

    def __init__(self, raw: Stream, workers: WorkerPool, transcode: TranscodeSettings, stream: StreamSettings) -> None:
        spec = replace(raw.spec, gop_bytes=stream.gop_bytes, gop_seconds=stream.gop_seconds, relays=False)
        self.media = Stream(spec, raw.channel)
        self.error: str | None = None
        self._raw = raw
        self._workers = workers
        self._settings = transcode
        self._tracks: Tracks | None = None  # of the input
        self._expected: Tracks | None = None
        self.passes = True  # the input's media are used as they are
        self._key_due = False  # the next unchanged unit must be a key frame
        self._failures = 0
        self._changed = asyncio.Event()
        self._matched: Tracks | None = None  # of the worker

    def set_expected_tracks(self, expected: Tracks | None) -> None:
        """Sets the tracks for which the viewers' decoders are set up; None: unknown."""
        if not have_same_media(expected, self._expected):
            self._expected = expected
            self._failures = 0
            self._decide()

    def attach(self) -> None:
        """Takes the input's media from now on."""
        self._raw.attach(self, SinkNeeds(cache=False))

    async def run(self) -> None:
        """Runs a worker whenever one is needed, until the input ends."""
        backoff = Backoff(0.5, 10.0)
        while self._raw.ended is None:
            self._changed.clear()
            if self.passes:
                await self._changed.wait()
                continue
            began = time.monotonic()
            try:
                await self._match()
                backoff.reset()
                self.error, self._failures = None, 0
            except OutputError as error:
                if time.monotonic() - began > _GOOD_SECONDS:
                    backoff.reset()
                    self._failures = 0
                self._failures += 1
                self.error = str(error)
                log.warning("an input cannot be matched", stream=self._raw.name, reason=self.error)
                self._decide()
                await asyncio.sleep(backoff.next())

    def _decide(self) -> None:
        """Chooses between the input as it is and the worker."""
        if self._tracks is None:
            return
        fits = self._expected is None or have_same_media(self._tracks, self._expected)
        passes = fits or self._failures >= _MAX_FAILURES
        if passes and not self.passes:
            self._key_due = True
        self.passes = passes
        if fits:
            self.error = None
        self._changed.set()

    # ---- the worker ----

    async def _match(self) -> None:
        """Runs one worker until the tracks of either side change. Raises OutputError."""
        assert self._expected is not None, "without it, everything fits"
        expected, tracks = self._expected, self._tracks
        self._matched = None
        async with (
            Subscription(self._raw, max_bytes=_MAX_BYTES, max_seconds=self._settings.backlog) as items,
            self._workers.start(MODULE, "match", stream=self._raw.name, hang_seconds=_HANG_SECONDS) as worker,
            Tasks(f"match {self._raw.name}", awaited) as tasks,
        ):
            settings = {"preset": self._settings.preset, "threads": self._settings.threads}
            form = StreamForm.of(expected)
            await worker.send_json(WorkerMessage.SETUP, {**form.to_json(), **settings})
            await worker.send_item(Tracks(form.video, form.audio))
            handlers: dict[int, Handler] = {
                StreamMessage.TRACKS: self._announce,
                StreamMessage.UNIT: self._push,
                StreamMessage.END: lambda body: True,
                WorkerMessage.FAILED: _fail,
            }
            sending = _send_items(worker, items)
            working = tasks.start(worker.exchange(sending, handlers, _FINISH_SECONDS), "worker", inner=[sending])
            obsolete = tasks.start(self._until_obsolete(expected, tracks), "change")
            await asyncio.wait((working, obsolete), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()

    async def _until_obsolete(self, expected: Tracks, tracks: Tracks | None) -> None:
        while have_same_media(expected, self._expected) and have_same_media(tracks, self._tracks):
            self._changed.clear()
            await self._changed.wait()

    def _announce(self, body: bytes) -> None:
        self._matched = wire.decode_tracks(body)
        metadata = self._tracks.metadata if self._tracks is not None else {}
        self.media.set_tracks(self._matched.video, self._matched.audio, metadata, False)

    def _push(self, body: bytes) -> None:
        self._write(wire.decode_unit(body, self._matched))

    def _write(self, unit: AccessUnit) -> None:
        self.media.received.add(unit, time.monotonic())
        self.media.push(unit)

    # ---- Sink of the input's stream ----

    def on_tracks(self, tracks: Tracks) -> None:
        before, self._tracks = self._tracks, tracks
        self._decide()
        if self.passes and not self._key_due:
            continuous = before is not None and before.epoch == tracks.epoch
            self.media.set_tracks(tracks.video, tracks.audio, tracks.metadata, continuous)

    def on_unit(self, unit: AccessUnit) -> None:
        if not self.passes:
            return
        if self._key_due:
            tracks = self._tracks
            assert tracks is not None, "units come after their tracks"
            if not unit.key or unit.track is not (tracks.video or tracks.audio):
                return
            self._key_due = False
            self.media.set_tracks(tracks.video, tracks.audio, tracks.metadata, False)
        self._write(unit)

    def on_timed(self, timed: TimedData) -> None:
        self.media.push_timed(timed)

    def on_end(self, reason: EndReason) -> None:
        self._changed.set()
        self.media.end(reason)

    def on_failed(self, error: Exception) -> None:
        log.error("an input cannot be taken", stream=self._raw.name, exc_info=error)
        self.media.end(EndReason.NO_MEDIA)


async def _send_items(worker: WorkerProcess, items: Subscription) -> None:
    """Sends the input to the worker, from a key frame on."""
    async for item in items:
        if isinstance(item, Tracks):
            await worker.send_item(replace(item, video=in_milliseconds(item.video), audio=in_milliseconds(item.audio)))
        elif isinstance(item, AccessUnit):
            await worker.send_item(item.counted(MILLISECONDS))
        elif isinstance(item, End):
            await worker.send_end()
            return


def _fail(body: bytes) -> bool:
    raise OutputError(body.decode("utf-8", "replace"))
