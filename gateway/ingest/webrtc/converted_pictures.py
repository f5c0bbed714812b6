"""ConvertedPictures: VP8 of a WHIP push, and its Opus, become H.264 and AAC in a worker."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.formats.mkv import writer
from gateway.ingest.websocket.container_intake import ContainerIntake
from gateway.lib.tasks import Tasks
from gateway.live.publisher import StreamPublisher
from gateway.media import vp9
from gateway.media.clock import MILLISECONDS
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind
from gateway.settings.models import TranscodeSettings
from gateway.workers.worker_pool import WorkerPool

# Bytes that the worker has not read. Beyond this, units are dropped, and then pictures up to the next key frame.
_MAX_QUEUED: Final = 4_000_000
_CLUSTER_MS: Final = 5_000  # longest cluster; a block has its time since the cluster's begin in 16 bits


class ConvertedPictures:
    """Writes the push as Matroska for the worker of browser pushes, which reads recordings.

    The worker converts pictures and sound. It drops pictures that it cannot encode in time. If it dies, the push fails.

    opus_head: the Opus header of the sound; b"": the push has no sound.
    ask_key_frame: called with each picture that is dropped because only a key frame can follow.
    """

    def __init__(
        self,
        publisher: StreamPublisher,
        workers: WorkerPool,
        settings: TranscodeSettings,
        opus_head: bytes,
        ask_key_frame: Callable[[], None],
    ) -> None:
        self._publisher = publisher
        self._ask_key_frame = ask_key_frame
        self._intake = ContainerIntake(publisher, workers, settings)
        self._opus_head = opus_head
        self._queue: deque[bytes] = deque()
        self._queued = 0  # bytes in `_queue`
        self._filled = asyncio.Event()
        self._cluster: int | None = None  # decode time of its first unit, milliseconds; None before the first key frame
        self._dropping = False

    @property
    def has_begun(self) -> bool:
        """Whether the worker got the first key frame."""
        return self._cluster is not None

    def take(self, unit: AccessUnit) -> None:
        """Gives a unit to the worker. Nothing is given before the first key frame."""
        is_video = unit.track.kind is Kind.VIDEO
        begins = unit.key and is_video
        if self._cluster is None:
            try:
                size = vp9.vp8_frame_size(unit.payload) if begins else None
            except InvalidData:
                return
            if size is None:
                return
            self._put(writer.browser_header(size, self._opus_head))
        elif self._queued > _MAX_QUEUED or (self._dropping and is_video and not begins):
            self._dropping |= is_video
            self._publisher.on_air.dropped["ingest"] += 1
            if self._queued <= _MAX_QUEUED:  # else the key frame would be dropped, too
                self._ask_key_frame()
            return
        self._dropping &= not begins
        at = unit.dts * MILLISECONDS // unit.track.timescale
        if self._cluster is None or not -_CLUSTER_MS < at - self._cluster < _CLUSTER_MS:
            self._cluster = at
            self._put(writer.cluster(at))
        kind = unit.track.kind
        self._put(writer.simple_block(writer.NUMBERS[kind], at - self._cluster, unit.key, unit.payload))

    def _put(self, data: bytes) -> None:
        self._queue.append(data)
        self._queued += len(data)
        self._filled.set()

    async def run(self) -> None:
        """Converts until `finish`. Raises IntakeFailed."""
        async with Tasks("pictures of a browser") as tasks:
            tasks.start(self._send_queued(), self._publisher.stream.name)
            await self._intake.run()

    async def _send_queued(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                data = b"".join(self._queue)
                self._queue.clear()
                self._queued = 0
                await self._intake.feed(data)

    def finish(self) -> None:
        """Ends the work."""
        self._intake.finish()
