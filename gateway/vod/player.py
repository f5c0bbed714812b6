"""ObjectPlayer: a stored film as units at its own pace, through a temporary file that never outlives its use."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote_plus

import structlog

from gateway.hub.errors import NoSuchObject, OutputTrouble, OutputUnsupported, TooLarge
from gateway.hub.ports import Object, ObjectStore
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.wire import Message
from gateway.settings.models import Kvs
from gateway.transcode.launch import Workers
from gateway.vod.order import Say

log = structlog.get_logger(__name__)

MODULE: Final = "gateway.vod.play"
KEEP_FREE: Final = 200_000_000  # bytes of the disk that a download leaves
_SILENCE: Final = 60.0  # seconds without a word after which a worker hangs


class ObjectPlayer:
    """Plays objects of any bucket.

    buckets: opens one; folder: for temporary files; kvs: bounds the object and the pictures; pace: times the film's own
    speed. Files that a killed process left in the folder are removed at the next use.
    """

    def __init__(
        self,
        buckets: Callable[[str], Awaitable[ObjectStore]],
        workers: Workers,
        folder: Path,
        kvs: Kvs,
        pace: float = 1.0,
    ) -> None:
        self._buckets = buckets
        self._workers = workers
        self._folder = folder
        self._most = kvs.object_bytes
        self._box = kvs.size
        self._pace = pace

    async def find(self, bucket: str, key: str, *, encoded: bool) -> Object:
        """The object; its key as it is stored. encoded: the key is as S3's events write it.

        A key that is not said to be encoded is taken as it is, and only where nothing is there decoded.
        Raises NoSuchObject, TooLarge, StoreAway, OutputTrouble.
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
        """Its tracks, then its units as they are due. told: called with 0 to 1. To be closed by whoever stops early.

        Raises OutputUnsupported for what is no film, OutputTrouble, NoSuchObject, TooLarge, StoreAway, OSError.
        """
        store = await self._buckets(bucket)
        async with _temporary(self._folder, PurePosixPath(key).suffix) as path:
            size = (await store.head(key)).size
            free = (await asyncio.to_thread(shutil.disk_usage, path.parent)).free
            if size + KEEP_FREE > free:
                raise OutputTrouble(f"the disk has no room for {size} bytes of {key}")
            await store.fetch(key, path, self._most)
            async with contextlib.aclosing(self._played(path, told)) as items:
                async for item in items:
                    yield item

    async def _played(self, path: Path, told: Callable[[float], None]) -> AsyncGenerator[Tracks | AccessUnit, None]:
        width, height = self._box
        order = {"path": str(path), "width": width, "height": height, "pace": self._pace}
        async with self._workers.start(MODULE, "play") as worker:
            await worker.send(Say.ORDER, wire.write_json(order))
            tracks: Tracks | None = None
            while True:
                kind, body = await worker.expect(_SILENCE)
                if kind == Message.TRACKS:
                    tracks = wire.decode_tracks(body)
                    yield tracks
                elif kind == Message.UNIT:
                    yield wire.decode_unit(body, tracks)
                elif kind == Say.PROGRESS:
                    told(float(wire.read_json(body).get("done", 0.0)))
                elif kind == Say.FAILED:
                    raise OutputUnsupported(body.decode("utf-8", "replace"))
                elif kind == Message.END:
                    told(1.0)
                    return


@contextlib.asynccontextmanager
async def _temporary(folder: Path, suffix: str) -> AsyncIterator[Path]:
    """An empty file that is gone afterwards. It is locked while it is used: a lock dies with its process."""
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
        return  # no file of ours, or gone meanwhile
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # One that was just made and is not locked yet looks left too, but is empty and new.
        found = os.fstat(descriptor)
        if found.st_size or time.time() - found.st_mtime > 60:
            path.unlink(missing_ok=True)
            log.info("removed what a killed process left", file=path.name)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)
