"""SoundOnDemand: the AAC of a push whose sound is Opus, made while a sink needs it."""

import asyncio
import time
from collections import deque
from typing import Final

from gateway.live.gop_cache import AUDIO_ONLY_SECONDS
from gateway.live.publisher import StreamPublisher
from gateway.media.track import MediaTrack
from gateway.media.unit import AccessUnit
from gateway.workers.sound_client import SoundWorkerClient
from gateway.workers.sound_protocol import aac_track
from gateway.workers.worker_pool import WorkerPool

AAC_TRACK: Final = aac_track(2, 1_000)  # stereo, because a decoder makes stereo of mono Opus (RFC 7587 §4.1)
_LINGER_MS: Final = 5_000  # the sound is converted for this long after the last sink needed it
_CODEC_MS: Final = 60  # delay in decoder and encoder, see SoundWorkerClient
_LONGEST_WAIT: Final = 1.0  # seconds until the sinks that wait for sound get the pictures without it
_MAX_KEPT: Final = 500  # units: 10 s of 20 ms each


class SoundOnDemand:
    """Publishes the sound as AAC. Implements SoundSource.

    While nobody needs the sound, the units since the last key frame are kept, and the worker gets none.
    The first sink that needs it waits until the worker has converted them, about 50 ms for each second of sound.

    source: Opus, with times in milliseconds. has_video: whether the push has pictures, too.
    """

    def __init__(self, publisher: StreamPublisher, workers: WorkerPool, source: MediaTrack, *, has_video: bool) -> None:
        self._publisher = publisher
        self._source = source
        self._has_video = has_video
        self._client = SoundWorkerClient(workers, publisher.stream.name, self._deliver)
        self._kept: deque[AccessUnit] = deque(maxlen=_MAX_KEPT)
        self._is_on = False  # the worker gets the sound
        self._wanted_ms = 0  # decode time of the newest unit when a sink last wanted audio
        self._made: list[AccessUnit] = []  # converted units for the sinks that wait
        self._until: int | None = None  # decode time of the unit that completes `_made`; None: no sink waits
        self._timer: asyncio.TimerHandle | None = None
        self._last = -1  # decode time of the last published unit; -1: none yet

    async def run(self) -> None:
        """Runs the worker until `close`. Raises SoundWorkerFailed."""
        self._client.change(self._source, AAC_TRACK)  # so that it has started when the sound is needed
        await self._client.run()

    def close(self) -> None:
        """Stops the worker."""
        self._client.finish()
        self._complete()

    def begin(self) -> bool:
        if not self._is_on:
            self._is_on = True
            self._client.change(self._source, AAC_TRACK)
            if self._kept:
                self._wanted_ms = self._kept[-1].dts
                self._until = self._wanted_ms - _CODEC_MS
                self._timer = asyncio.get_running_loop().call_later(_LONGEST_WAIT, self._complete)
                for unit in self._kept:
                    self._client.give(unit)
        return self._until is None

    def forget_before(self, dts: int) -> None:
        """Forgets the kept sound before a time, such as that of a key frame. dts: milliseconds."""
        kept = self._kept
        while kept and kept[0].dts < dts - _CODEC_MS:
            kept.popleft()

    def take(self, unit: AccessUnit) -> None:
        """Takes a unit with the times of the push. Hot path."""
        if not self._has_video:
            self.forget_before(unit.dts - int(AUDIO_ONLY_SECONDS * 1_000))
        stream = self._publisher.stream
        if stream.wants_audio:
            self._wanted_ms = unit.dts
            self.begin()
        self._kept.append(unit)
        if self._is_on and unit.dts - self._wanted_ms <= _LINGER_MS:
            self._client.give(unit, at_once=self._until is not None or stream.is_awaited)
        else:
            self._is_on = False
            self._publisher.count_unused(unit)

    def _deliver(self, unit: AccessUnit) -> None:
        """Takes a unit of the worker."""
        if not self._is_on or not self._publisher.active:
            return
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
