"""ObjectPlayer: plays a stored media file as units in real time, from a temporary file."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import structlog

from gateway.media.track import AccessUnit, Tracks
from gateway.ports.errors import NoSuchObject, OutputError, OutputUnsupported, TooLarge
from gateway.ports.stores import Object, ObjectStore
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.settings.models import KvsSettings
from gateway.vod.free_space import run_while_space
from gateway.vod.temporary_file import temporary_file
from gateway.workers.messages import WorkerMessage
from gateway.workers.package_protocol import PlayRequest
from gateway.workers.vod_bounds import Bounds, UnusableFilm, format_duration
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

MODULE: Final = "gateway.workers.programs.vod.play_worker"
KEEP_FREE: Final = 200_000_000  # bytes of the disk that a download leaves free
_BOUNDS: Final = Bounds(keep_free=KEEP_FREE)
_MAX_WAIT_SECONDS: Final = 600.0  # seconds in which a worker must send a file, however short
_WAIT_PER_SECOND: Final = 20.0  # additional seconds for each second of played media
_REPLY_TIMEOUT: Final = 60.0  # seconds without a message until a worker counts as hung


@dataclass(frozen=True, slots=True)
class ObjectPlayer:
    """Plays objects of any bucket.

    buckets: opens a bucket. folder: for temporary files; files of dead processes in it are deleted.
    kvs: limits of the object and its pictures. pace: playback speed, 1 is real time.
    """

    buckets: Callable[[str], Awaitable[ObjectStore]]
    workers: WorkerPool
    folder: Path
    kvs: KvsSettings
    pace: float = 1.0

    async def find(self, bucket: str, names: Sequence[str]) -> Object:
        """Returns the first object that exists under one of these keys.

        Raises NoSuchObject, TooLarge, StoreUnavailable, OutputError.
        """
        store = await self.buckets(bucket)
        for name in names:
            try:
                status = await store.head(name)
            except NoSuchObject:
                continue
            if status.size > self.kvs.object_bytes:
                raise TooLarge(status.size, self.kvs.object_bytes, name)
            return status
        raise NoSuchObject(names[0])

    async def play(
        self, bucket: str, key: str, on_progress: Callable[[float], None]
    ) -> AsyncGenerator[Tracks | AccessUnit, None]:
        """Yields the tracks, then each unit at its time. A caller that stops early must close the generator.

        on_progress: called with the progress, 0 to 1.
        Raises OutputUnsupported for an unusable file, OutputError, NoSuchObject, TooLarge, StoreUnavailable, OSError.
        """
        store = await self.buckets(bucket)
        async with temporary_file(self.folder, PurePosixPath(key).suffix) as path:
            size = (await store.head(key)).size
            try:
                await asyncio.to_thread(_BOUNDS.check_space, path.parent, size)
                await run_while_space(_BOUNDS, path.parent, lambda: store.fetch(key, path, self.kvs.object_bytes))
            except UnusableFilm as error:
                raise OutputError(f"the disk has no space for {size} bytes of {key}") from error
            async with contextlib.aclosing(self._play_file(path, on_progress)) as items:
                async for item in items:
                    yield item

    async def _play_file(
        self, path: Path, on_progress: Callable[[float], None]
    ) -> AsyncGenerator[Tracks | AccessUnit, None]:
        request = PlayRequest(str(path), *self.kvs.size, self.pace, self.kvs.object_seconds)
        async with self.workers.start(MODULE, "play") as worker:
            await worker.send_json(WorkerMessage.SETUP, asdict(request))
            tracks: Tracks | None = None
            first: int | None = None
            waited = played = 0.0
            while True:
                if waited > _MAX_WAIT_SECONDS + _WAIT_PER_SECOND * played:
                    raise OutputUnsupported(
                        f"it took {format_duration(waited)} to read {format_duration(round(played, 1))} of the file"
                    )
                since = time.monotonic()
                kind, body = await worker.expect(_REPLY_TIMEOUT)
                waited += time.monotonic() - since
                if kind == StreamMessage.TRACKS:
                    tracks = wire.decode_tracks(body)
                    yield tracks
                elif kind == StreamMessage.UNIT:
                    unit = wire.decode_unit(body, tracks)
                    first = unit.dts if first is None else first
                    played = (unit.dts - first) / unit.track.timescale
                    yield unit
                elif kind == WorkerMessage.PROGRESS:
                    on_progress(float(wire.read_json(body).get("done", 0.0)))
                elif kind == WorkerMessage.FAILED:
                    raise OutputUnsupported(body.decode("utf-8", "replace"))
                elif kind == StreamMessage.END:
                    on_progress(1.0)
                    return
