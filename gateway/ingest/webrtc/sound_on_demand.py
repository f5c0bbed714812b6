"""SoundOnDemand: the AAC of a push whose sound is Opus, made while a sink needs it."""

import asyncio
import time
from collections import deque
from typing import Final

import structlog

from gateway.live.gop_cache import AUDIO_ONLY_SECONDS
from gateway.live.publisher import StreamPublisher
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import AccessUnit, MediaTrack
from gateway.workers.sound_client import SoundWorkerClient, SoundWorkerFailed
from gateway.workers.sound_protocol import aac_track
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

AAC_TRACK: Final = aac_track(2, VIDEO_CLOCK)  # stereo, because a decoder makes stereo of mono Opus (RFC 7587 §4.1)
_LINGER: Final = 5 * VIDEO_CLOCK  # the sound is converted for this long after the last sink needed it
_DELAY: Final = 60 * VIDEO_CLOCK // 1000  # 60 ms in decoder and encoder, see SoundWorkerClient
_RETRY_SECONDS: Final = 1.0  # if no worker is free
_LONGEST_WAIT: Final = 1.0  # seconds until the sinks that wait for sound get the pictures without it
_MAX_KEPT: Final = 500  # units: 10 s of 20 ms each


class SoundOnDemand:
    """Publishes the sound as AAC. Implements SoundSource.

    While nobody needs the sound, there is no worker, and the units since the last key frame are kept.
    The first sink that needs it waits until a worker has converted them: 0.1 s for its start, and about 50 ms for each
    second of sound.

    source: Opus, with times in ticks of 90 kHz. has_video: whether the push has pictures, too; its owner sets it.
    """

    def __init__(self, publisher: StreamPublisher, workers: WorkerPool, source: MediaTrack) -> None:
        self._publisher = publisher
        self._workers = workers
        self.source = source
        self.has_video = False
        self._client: SoundWorkerClient | None = None  # while a worker is needed
        self._changed = asyncio.Event()  # set by a new client and at the end
        self._closed = False
        self._kept: deque[AccessUnit] = deque(maxlen=_MAX_KEPT)
        self._first = -_DELAY  # decode time of the first unit that a sink could need
        self._wanted_at = 0  # decode time of the newest unit when a sink last wanted audio
        self._made: list[AccessUnit] = []  # converted units for the sinks that wait
        self._until: int | None = None  # decode time of the unit that completes `_made`; None: no sink waits
        self._timer: asyncio.TimerHandle | None = None
        self._last = -1  # decode time of the last published unit; -1: none yet

    async def run(self) -> None:
        """Runs a worker whenever the sound is needed, until `close`. Raises SoundWorkerFailed."""
        while not self._closed:
            await self._changed.wait()
            self._changed.clear()
            client = self._client
            try:
                if client is not None:
                    await client.run()
            except SoundWorkerFailed as error:
                if not error.again or client is None or client.started:
                    raise
                # No worker is free. Sinks get the pictures, and the sound as soon as there is one.
                log.warning("no worker for sound", stream=self._publisher.stream.name, reason=str(error))
                self._rest()
                await asyncio.sleep(_RETRY_SECONDS)

    def close(self) -> None:
        """Stops the worker."""
        self._closed = True
        self._changed.set()
        if self._client is not None:
            self._client.finish()
        self._complete()

    def _rest(self) -> None:
        """Ends the worker. The next sink that needs the sound starts another one."""
        client, self._client = self._client, None
        if client is not None:
            client.finish()
        self._complete()

    def _start(self) -> SoundWorkerClient:
        def deliver(unit: AccessUnit) -> None:
            if self._client is client:  # else the last units of an earlier worker
                self._deliver(unit)

        client = self._client = SoundWorkerClient(self._workers, self._publisher.stream.name, deliver)
        client.change(self.source, AAC_TRACK)
        self._changed.set()
        return client

    def begin(self) -> bool:
        if self._client is None:
            client = self._start()
            if self._kept:
                self._wanted_at = self._kept[-1].dts
                self._until = self._wanted_at - _DELAY
                self._timer = asyncio.get_running_loop().call_later(_LONGEST_WAIT, self._complete)
                for unit in self._kept:
                    client.give(unit)
        return self._until is None

    def forget_before(self, dts: int) -> None:
        """Forgets the kept sound before a time, such as that of a key frame. dts: ticks."""
        kept, first = self._kept, dts - _DELAY
        while kept and kept[0].dts < first:
            kept.popleft()
        if self._client is None:
            self._first = first
        elif self._until is not None:
            self._until = max(self._until, dts)  # the cache begins with this key frame now

    def take(self, unit: AccessUnit) -> None:
        """Takes a unit with the times of the push. Hot path."""
        if not self.has_video:
            self.forget_before(unit.dts - int(AUDIO_ONLY_SECONDS * VIDEO_CLOCK))
        if unit.dts < self._first:  # it came later than the key frame that it precedes
            self._publisher.count_unused(unit)
            return
        stream = self._publisher.stream
        if stream.wants_audio:
            self._wanted_at = unit.dts
            self.begin()
        self._kept.append(unit)
        if self._until is not None:  # so that pictures of sinks that wait are not far ahead of the sound
            self._until = max(self._until, unit.dts - 2 * _DELAY)
        if self._client is not None and unit.dts - self._wanted_at <= _LINGER:
            self._client.give(unit, at_once=self._until is not None or stream.is_awaited)
        else:
            self._rest()
            self._publisher.count_unused(unit)

    def _deliver(self, unit: AccessUnit) -> None:
        """Takes a unit of the worker."""
        if not self._publisher.active:
            return
        if self.has_video and unit.dts < self._first + _DELAY:
            return  # sinks begin with the key frame; sound before it only fills the decoder and the encoder
        self._last = unit.dts = max(unit.dts, self._last + 1)
        unit.wall = time.time()
        if self._until is None:
            self._publisher.push(unit, time.monotonic())
            return
        self._made.append(unit)
        if unit.dts >= self._until:
            self._complete()

    def _complete(self) -> None:
        """Gives the converted sound to the sinks that wait for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._until is not None:
            made, self._made, self._until = self._made, [], None
            if self._publisher.active:
                self._publisher.add_sound(made, time.monotonic())
