"""ObjectPlayer: plays a stored media file as units in real time, from a temporary file."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote_plus

import structlog

from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit
from gateway.ports.errors import NoSuchObject, OutputError, OutputUnsupported, TooLarge
from gateway.ports.stores import Object, ObjectStore
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.settings.models import KvsSettings
from gateway.workers.package_protocol import VodMessage
from gateway.workers.vod_bounds import Bounds, UnusableMedia, format_duration, while_room
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

MODULE: Final = "gateway.workers.programs.vod.play_worker"
KEEP_FREE: Final = 200_000_000  # bytes of the disk that a download leaves free
_ROOM: Final = Bounds(keep_free=KEEP_FREE)
_WAITED: Final = 600.0  # seconds in total to wait for a file …
_SLOWEST: Final = 20.0  # … plus these for each second of media that was played
_REPLY_TIMEOUT: Final = 60.0  # seconds without a message, after which a worker counts as hanging


class ObjectPlayer:
    """Plays objects of any bucket.

    buckets: opens a bucket. folder: for temporary files. kvs: limits for the object and its pictures.
    pace: playback speed, 1 is real time. The next use removes files that a killed process left in the folder.
    """

    def __init__(
        self,
        buckets: Callable[[str], Awaitable[ObjectStore]],
        workers: WorkerPool,
        folder: Path,
        kvs: KvsSettings,
        pace: float = 1.0,
    ) -> None:
        self._buckets = buckets
        self._workers = workers
        self._folder = folder
        self._most = kvs.object_bytes
        self._longest = kvs.object_seconds
        self._box = kvs.size
        self._pace = pace

    async def find(self, bucket: str, key: str, *, encoded: bool) -> Object:
        """Returns the object, with its stored key.

        encoded: True if the key is URL-encoded, as in events of S3. If False, the key is tried as it is; if there is no
        such object, the decoded key is tried.
        Raises NoSuchObject, TooLarge, StoreUnavailable, OutputError.
        """
        store = await self._buckets(bucket)
        decoded = unquote_plus(key)
        tries = (decoded,) if encoded else (key, decoded) if decoded != key else (key,)
        for name in tries:
            try:
                found = await store.head(name)
            except NoSuchObject:
                continue
            if found.size > self._most:
                raise TooLarge(found.size, self._most, name)
            return found
        raise NoSuchObject(tries[0])

    async def play(
        self, bucket: str, key: str, told: Callable[[float], None]
    ) -> AsyncGenerator[Tracks | AccessUnit, None]:
        """Yields the tracks, then each unit when it is due. A caller that stops early has to close the generator.

        told: called with the progress, 0 to 1.
        Raises OutputUnsupported for an unusable file, OutputError, NoSuchObject, TooLarge, StoreUnavailable, OSError.
        """
        store = await self._buckets(bucket)
        async with _temporary(self._folder, PurePosixPath(key).suffix) as path:
            size = (await store.head(key)).size
            try:
                await asyncio.to_thread(_ROOM.judge_room, path.parent, size)
                await while_room(_ROOM, path.parent, lambda: store.fetch(key, path, self._most))
            except UnusableMedia as full:
                raise OutputError(f"the disk has no room for {size} bytes of {key}") from full
            async with contextlib.aclosing(self._played(path, told)) as items:
                async for item in items:
                    yield item

    async def _played(self, path: Path, told: Callable[[float], None]) -> AsyncGenerator[Tracks | AccessUnit, None]:
        width, height = self._box
        order = {"path": str(path), "width": width, "height": height, "pace": self._pace, "longest": self._longest}
        async with self._workers.start(MODULE, "play") as worker:
            await worker.send(VodMessage.ORDER, wire.write_json(order))
            tracks: Tracks | None = None
            first: int | None = None
            waited = played = 0.0
            while True:
                if waited > _WAITED + _SLOWEST * played:
                    raise OutputUnsupported(
                        f"it took {format_duration(waited)} to read {format_duration(round(played, 1))} of it"
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
                elif kind == VodMessage.PROGRESS:
                    told(float(wire.read_json(body).get("done", 0.0)))
                elif kind == VodMessage.FAILED:
                    raise OutputUnsupported(body.decode("utf-8", "replace"))
                elif kind == StreamMessage.END:
                    told(1.0)
                    return


@contextlib.asynccontextmanager
async def _temporary(folder: Path, suffix: str) -> AsyncIterator[Path]:
    """Makes an empty file and removes it at the end. It is locked while in use; a lock ends with its process."""
    path = folder / f"{secrets.token_hex(8)}{suffix[:10]}"
    descriptor = await asyncio.to_thread(_create, folder, path)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _create(folder: Path, path: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        _remove_if_left(left)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _remove_if_left(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return  # not our file, or already gone
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A file that another process just made may not be locked yet. It is empty and new.
        found = os.fstat(descriptor)
        if found.st_size or time.time() - found.st_mtime > 60:
            path.unlink(missing_ok=True)
            log.info("removed what a killed process left", file=path.name)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)
