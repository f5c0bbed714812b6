"""Encodes slates with workers, and keeps them. If several channels show the same slate, it is encoded once."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

import structlog

from gateway.inputs.slate.slate_loop import LoopTimer, SlateLoop, with_silence
from gateway.media.silent_frames import LIKE_OTHERS
from gateway.media.track import Kind, MediaTrack, Tracks
from gateway.ports.errors import OutputError
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.messages import WorkerMessage
from gateway.workers.slate_protocol import SlateRequest
from gateway.workers.stream_form import StreamForm
from gateway.workers.worker_pool import WorkerDied, WorkerPool

log = structlog.get_logger(__name__)

MODULE: Final = "gateway.workers.programs.slate.slate_worker"
_ATTEMPTS: Final = 3  # workers that may die, one after the other
_MAX_WORKERS: Final = 2  # at a time
_REPLY_TIMEOUT: Final = 60.0  # seconds without a message until a worker counts as hung
# The content and the form of a slate: video and audio track, (width, height), pictures per second.
_Key: TypeAlias = tuple[tuple[str, ...], MediaTrack | None, MediaTrack | None, tuple[int, int], Fraction]
_MAX_CACHE_BYTES: Final = 64_000_000  # of slates that no channel uses at present


class SlateLibrary:
    """All slates of a process. A card is a slate that the worker draws: the channel's name and a text.

    timer: publishes the slates on air. limits: a request that has only the settings.
    A slate stays in memory while a channel uses it. Of the other slates, the last used ones stay, up to 64 MB.
    """

    def __init__(self, workers: WorkerPool, limits: SlateRequest) -> None:
        self.timer = LoopTimer()
        self._workers = workers
        self._limits = limits
        self._loops: WeakValueDictionary[_Key, SlateLoop] = WeakValueDictionary()
        self._recent: OrderedDict[_Key, SlateLoop] = OrderedDict()  # keeps slates that nobody uses
        self._recent_bytes = 0
        self._running: dict[_Key, asyncio.Lock] = {}  # slates that are being encoded
        self._worker_slots = asyncio.Semaphore(_MAX_WORKERS)

    async def make_card(self, name: str, text: str, form: StreamForm) -> SlateLoop:
        """Returns a card without a clock. Raises OutputError."""
        return await self._get(("card", name, text), replace(self._limits, name=name, text=text), form)

    async def encode_file(self, path: Path, digest: str, form: StreamForm) -> SlateLoop:
        """Returns the slate of a picture or a film. digest: of the file. Raises OutputError."""
        return await self._get(("file", digest), replace(self._limits, path=str(path)), form)

    async def make_clocked_cards(
        self, name: str, text: str, labels: Sequence[str], form: StreamForm
    ) -> list[SlateLoop]:
        """Returns a card for each text of the clock. The library does not keep these cards. Raises OutputError."""
        return await self._encode(replace(self._limits, name=name, text=text, labels=tuple(labels)), form)

    async def _get(self, content: tuple[str, ...], request: SlateRequest, form: StreamForm) -> SlateLoop:
        key = content, form.video, form.audio, form.size, form.rate
        lock = self._running.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                loop = self._loops.get(key)
                if loop is None:
                    (loop,) = await self._encode(request, form)
                self._keep(key, loop)
                return loop
        finally:
            if not lock.locked():
                self._running.pop(key, None)

    def _keep(self, key: _Key, loop: SlateLoop) -> None:
        self._loops[key] = loop
        if key not in self._recent:
            self._recent_bytes += loop.size
        self._recent[key] = loop
        self._recent.move_to_end(key)
        while self._recent_bytes > _MAX_CACHE_BYTES and len(self._recent) > 1:
            _, removed = self._recent.popitem(last=False)
            self._recent_bytes -= removed.size

    async def _encode(self, request: SlateRequest, form: StreamForm) -> list[SlateLoop]:
        """Returns one loop for each label of the request. A worker that died is replaced."""
        if not form.has_video:
            return [_loop_of(form, None, form.audio, [], [])]
        async with self._worker_slots:
            for attempt in range(_ATTEMPTS):
                try:
                    return await self._run_worker(request, form)
                except WorkerDied as error:
                    if attempt + 1 == _ATTEMPTS:
                        raise
                    log.warning("slate is encoded again", reason=str(error))
        raise AssertionError("the last attempt returns or raises")

    async def _run_worker(self, request: SlateRequest, form: StreamForm) -> list[SlateLoop]:
        async with self._workers.start(MODULE, "slate") as worker:
            await worker.send_json(WorkerMessage.SETUP, {**asdict(request), **form.to_json()})
            await worker.send_item(Tracks(form.video, form.audio))
            tracks: Tracks | None = None
            pictures: list[bytes] = []
            sounds: list[bytes] = []
            size = 0
            while True:
                kind, body = await worker.expect(_REPLY_TIMEOUT)
                if kind == StreamMessage.TRACKS:
                    tracks = wire.decode_tracks(body)
                elif kind == StreamMessage.UNIT:
                    unit = wire.decode_unit(body, tracks)
                    size += len(unit.payload)
                    if size > request.max_bytes:
                        raise OutputError(f"the slate has more than {request.max_bytes} bytes")
                    (pictures if unit.track.kind is Kind.VIDEO else sounds).append(unit.payload)
                elif kind == WorkerMessage.FAILED:
                    raise OutputError(body.decode("utf-8", "replace"))
                elif kind == StreamMessage.END:
                    break
        if tracks is None or not pictures or len(pictures) % len(request.labels):
            raise OutputError("the slate worker sent no pictures")
        count = len(pictures) // len(request.labels)
        loop = _loop_of(form, tracks.video, tracks.audio, pictures[:count], sounds)
        loop = replace(loop, is_card=not request.path)
        parts = (tuple(pictures[at : at + count]) for at in range(0, len(pictures), count))
        return [loop if n == 0 else replace(loop, pictures=part) for n, part in enumerate(parts)]


def _loop_of(
    form: StreamForm, video: MediaTrack | None, audio: MediaTrack | None, pictures: list[bytes], sounds: list[bytes]
) -> SlateLoop:
    """Returns a loop. Without `sounds`, its sound is silence, or is known when the slate goes on air."""
    loop = SlateLoop(video, tuple(pictures), form.gop, form.rate, audio, tuple(sounds), form.rate**-1)
    return loop if audio is not None and audio.codec in LIKE_OTHERS else with_silence(loop)
