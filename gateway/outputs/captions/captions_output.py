"""CaptionsOutput: sends the sound of a stream to a speech worker, and puts its words into the stream as captions."""

import asyncio
import textwrap
import time
from collections.abc import Iterator
from typing import Any, Final

import structlog

from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.lib.waiting import wait_at_most
from gateway.live.sink import SinkNeeds
from gateway.live.stream import Stream
from gateway.media.errors import InvalidData
from gateway.media.timed_data import CaptionText
from gateway.media.track import TimedData
from gateway.outputs.captions.sound_queue import SoundQueue
from gateway.ports.errors import OutputUnsupported
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.messages import WorkerMessage
from gateway.workers.speech_protocol import Words, read_words
from gateway.workers.worker_pool import WorkerPool, WorkerProcess

log = structlog.get_logger(__name__)

_MODULE: Final = "gateway.workers.programs.speech.speech_worker"
_PAUSE_SECONDS: Final = 1.0  # without sound: the engine then gets silence, so that it ends the last words
HANG_SECONDS: Final = 20.0  # without taking sound that waits: the engine counts as hung
_LOAD_SECONDS: Final = 120.0  # the same while it loads its model
_WATCH_SECONDS: Final = 0.5
_FINISH_SECONDS: Final = 1.0
MAX_CHARACTERS: Final = 84  # of a caption: two lines of 42
SHOWN_MS: Final = 2_000  # for which a caption is shown at least, after it became known and after its last word


class CaptionsOutput:
    """The output `captions`. engine: the setting `captions.engine`; "": none.

    A caption has the time of its first word, and is sent when the engine has heard all its words. Texts that an engine
    may still change are not shown: players of FLV and WebVTT cannot take a caption back.
    A slow engine skips sound, see SoundQueue; `StreamCaptions.late` has the seconds that wait. An engine that hangs or
    ends is started again by the supervision of outputs. The stream itself waits for neither.
    """

    def __init__(self, stream: Stream, engine: str, workers: WorkerPool, dropped: Counter) -> None:
        self._stream = stream
        self._engine = engine
        self._workers = workers
        self._queue = SoundQueue(dropped)
        self._captions = 0
        self._dropped_lines = 0
        self._is_loaded = False
        self._progressed = 0.0  # monotonic seconds

    async def run(self, stream: Stream) -> None:
        """Raises OutputUnsupported if the engine cannot be used, and OutputError if its worker ends."""
        if not self._engine:
            raise OutputUnsupported("this gateway has no engine for speech to text: set captions.engine")
        queue = self._queue
        stream.original.attach(queue, SinkNeeds(cache=False))
        try:
            while not queue.ended and not queue.waiting_ms:
                queue.changed.clear()
                await queue.changed.wait()
            if not queue.ended:
                await self._run_worker()
            if queue.error is not None:
                raise queue.error
        finally:
            stream.original.detach(queue)
            stream.captions.late = 0.0

    def report(self) -> dict[str, Any]:
        """Returns the number of captions, `late`: seconds of sound that wait, and what was left out.

        `skipped`: units of sound. `droppedLines`: those of a program that could not be used.
        """
        queue, late = self._queue, round(self._stream.captions.late, 1)
        return {
            "captions": self._captions,
            "late": late,
            "skipped": queue.skipped,
            "droppedLines": self._dropped_lines,
        }

    async def _run_worker(self) -> None:
        name, writes = self._stream.name, self._engine.startswith("command:")  # a program may need files of its own
        self._progressed = time.monotonic()
        async with (
            self._workers.start(_MODULE, "speech", stream=name, writes=writes) as worker,
            Tasks(f"speech of {name}") as tasks,
        ):
            tasks.start(self._watch(worker), "watch")
            await worker.exchange(
                self._send(worker),
                {
                    WorkerMessage.NOTE: self._on_words,
                    WorkerMessage.PROGRESS: self._on_progress,
                    WorkerMessage.FAILED: self._on_failed,
                    StreamMessage.END: lambda body: True,
                },
                _FINISH_SECONDS,
            )

    async def _send(self, worker: WorkerProcess) -> None:
        queue, is_silent = self._queue, True
        await worker.send_json(WorkerMessage.SETUP, {"engine": self._engine})
        while not queue.ended:
            queue.changed.clear()
            while (item := queue.take()) is not None:
                await worker.send_item(item)
                is_silent = False
            if not await wait_at_most(_PAUSE_SECONDS, queue.changed) and not queue.waiting_ms and not is_silent:
                is_silent = True
                await worker.send(WorkerMessage.DATA, b"")
        await worker.send_end()

    async def _watch(self, worker: WorkerProcess) -> None:
        """Measures how late the engine is, and ends one that hangs."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            now, waiting = time.monotonic(), self._queue.waiting_ms
            if not waiting:
                self._progressed = now
            self._stream.captions.late = waiting / 1000 if self._is_loaded else 0.0
            allowed = HANG_SECONDS if self._is_loaded else _LOAD_SECONDS
            if now - self._progressed > allowed:
                worker.kill(f"the speech engine took no sound for {allowed:.0f} s")
                return

    def _on_words(self, body: bytes) -> None:
        words, stream = read_words(wire.read_json(body)), self._stream
        if words is None:
            raise InvalidData("words that cannot be read")
        known = stream.received.last_dts_ms
        for caption in captions_of(words, known, stream.channel.text("captionLanguage")):
            stream.push_timed(TimedData(known, caption))
            self._captions += 1

    def _on_progress(self, body: bytes) -> None:
        progress = wire.read_json(body)
        units, dropped = progress.get("units"), progress.get("dropped")
        if not isinstance(units, int) or not isinstance(dropped, int):
            raise InvalidData("progress without numbers")
        if dropped and not self._dropped_lines:
            log.warning("lines of a speech program are dropped", stream=self._stream.name)
        self._is_loaded, self._progressed, self._dropped_lines = True, time.monotonic(), dropped
        self._queue.set_taken(units)

    def _on_failed(self, body: bytes) -> None:
        reason = body.decode("utf-8", "replace")[:300]
        raise OutputUnsupported(f"the engine {self._engine.partition(':')[0]} cannot be used: {reason}")


def captions_of(words: Words, known: int, language: str) -> Iterator[CaptionText]:
    """Yields the captions of a result, in order.

    words: in seconds of the stream. known: the newest time of the stream, in ms. language: see CaptionText.
    A long text is split between words, and its time is shared out by length.
    """
    parts = textwrap.wrap(words.text, MAX_CHARACTERS, break_on_hyphens=False)
    start, length = words.start * 1000, (words.end - words.start) * 1000
    total, before = sum(map(len, parts)), 0
    for part in parts:
        begin, before = start + length * before / total, before + len(part)
        end = max(known, start + length * before / total) + SHOWN_MS
        yield CaptionText(part, round(begin), round(end), language, is_speech=True)
