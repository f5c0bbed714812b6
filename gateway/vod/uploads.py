"""Uploads of source files by clients. An upload URL is signed, expires soon, and is valid for one object."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import hmac
import os
import re
import time
import uuid
from collections.abc import AsyncIterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlencode

import structlog

from gateway.channels.media_types import CONTENT_TYPES, PICTURE_TYPES
from gateway.channels.stream_key import SigningSecrets
from gateway.lib.disk import open_file
from gateway.lib.tasks import finished
from gateway.ports.errors import InvalidField, NoSuchObject, NotAuthorized, TooLarge
from gateway.ports.jobs import StoredJob
from gateway.ports.stores import DirectUpload
from gateway.settings.models import VodSettings
from gateway.vod.film_files import title_of
from gateway.vod.films import Films
from gateway.vod.sources import is_upload
from gateway.vod.store_wait import wait_for_store
from gateway.vod.temporary_file import temporary_file
from gateway.workers.vod_bounds import Bounds, UnusableFilm

log = structlog.get_logger(__name__)

# A bucket that reports new films need not report each segment of a recording, which ends in .ts.
_STORED_AS: Final = {"ts": "mts"}
_ALL_TYPES: Final = {**CONTENT_TYPES, **PICTURE_TYPES}
UPLOAD_SECONDS: Final = 3_600  # in which the address of an upload is valid; a started upload may last longer
_MAX_PICTURE_BYTES: Final = 20_000_000
_CHECK_BYTES: Final = 16_000_000  # bytes of an upload between two checks of free disk space
_MARK_RESERVE_SECONDS: Final = 86_400  # added to the lifetime of marks, in case the clock is set back
_SIGN = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MARK_SUFFIX: Final = ".used"
_UNFINISHED: Final = "unfinished"  # the folder for uploads that are being received
_LOCK_ATTEMPTS: Final = 10
_EXPIRES = re.compile(r"[0-9]{1,15}", re.ASCII)


class UploadExists(Exception):
    """The object exists already, or another client is sending it. A URL is valid for only one upload."""


class UploadLock:
    """Ensures that an upload URL is used only once, also if several processes use the folder.

    It locks a hidden file next to the upload. `mark_used` writes a mark into the file, `release` deletes it.
    The lock of a dead process is free, so the client may send again. All methods block.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def begin(cls, folder: Path, key: str) -> UploadLock:
        """Locks the file. Raises UploadExists if the URL was used or is in use, or OSError."""
        path = folder / f".{key}{_MARK_SUFFIX}"
        for _ in range(_LOCK_ATTEMPTS):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_size:
                    raise UploadExists(key)
                if _is_same_file(path, descriptor):
                    return cls(path, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                raise UploadExists(key) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # another process deleted the file between open and lock
        raise UploadExists(key)

    def mark_used(self) -> None:
        """Marks the URL as used."""
        try:
            os.write(self._descriptor, b"used\n")
        finally:
            os.close(self._descriptor)

    def release(self) -> None:
        """Makes the URL usable again after a failed upload."""
        try:
            self._path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)


def remove_marks(folder: Path, before: float) -> None:
    """Deletes the marks that are older than `before`, in seconds since 1970. Blocks."""
    for path in folder.glob(f".*{_MARK_SUFFIX}"):
        with suppress(FileNotFoundError):  # another process deleted it
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)


def _is_same_file(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


class Uploads:
    """Creates upload URLs, and receives uploads to this gateway.

    scratch: folder for unfinished uploads.
    """

    def __init__(self, settings: VodSettings, secrets: SigningSecrets, films: Films, scratch: Path) -> None:
        self._objects = films.sources.objects
        self._secrets = secrets
        self._sources = films.sources
        self._films = films
        self._scratch = scratch
        self._max_bytes = settings.upload_bytes  # 0: no limit
        self._bounds = Bounds(keep_free=settings.keep_free)

    async def offer(self, name: str, base: str, title: str = "", description: str = "") -> tuple[str, DirectUpload]:
        """Returns the key of a new object for a file called `name`, and the request that uploads it.

        title: of the film; "": the file's name without its suffix.
        base: this gateway's URL, for example http://127.0.0.1:8000, for a store without upload URLs.
        Raises InvalidField, StoreUnavailable.
        """
        suffix = PurePosixPath(name.replace("\\", "/")).suffix.lower().removeprefix(".")
        if suffix not in _ALL_TYPES:
            raise InvalidField("name", f"expected a name that ends in one of {', '.join(_ALL_TYPES)}")
        suffix = _STORED_AS.get(suffix, suffix)
        key = f"{uuid.uuid4()}.{suffix}"
        if suffix in CONTENT_TYPES:
            await self._films.expect_upload(key, title or title_of(name.replace("\\", "/")), description)
        upload = await self._objects.upload(key, UPLOAD_SECONDS)
        if upload is None:
            expires = int(time.time()) + UPLOAD_SECONDS
            query = urlencode({"expires": expires, "sign": _sign(key, expires, self._secrets.current)})
            upload = DirectUpload(f"{base}/uploads/{key}?{query}", "PUT", {"Content-Type": _ALL_TYPES[suffix]})
        return key, upload

    def admit(self, key: str, expires: str, sign: str, size: int | None) -> None:
        """Checks an upload before its body is read.

        size: declared by the client, None if unknown.
        Raises NotAuthorized if the signature is wrong or the URL has expired, or TooLarge.
        """
        valid = False
        if is_upload(key) and _SIGN.fullmatch(sign) and _EXPIRES.fullmatch(expires):
            for secret in (self._secrets.current, self._secrets.previous):
                if secret:
                    valid |= hmac.compare_digest(_sign(key, int(expires), secret), sign)
        if not valid:
            raise NotAuthorized("this upload address is not valid")
        if int(expires) < int(time.time()):
            raise NotAuthorized("this upload address has expired")
        limit = self._limit(key)
        if limit and size is not None and size > limit:
            raise TooLarge(size, limit, key)

    async def receive(self, key: str, chunks: AsyncIterable[bytes]) -> StoredJob | None:
        """Stores a complete upload and submits its job; None: a picture has no job. Call `admit` before.

        Raises UploadExists, InvalidField, TooLarge, StoreUnavailable, OSError, and every error of `chunks`.
        """
        lock = await finished(asyncio.to_thread(self._begin, key), UploadLock.release)
        try:
            size = await self._store(key, chunks)
        except BaseException:
            await finished(asyncio.to_thread(lock.release))
            raise
        await finished(asyncio.to_thread(lock.mark_used))
        if _is_picture(key):
            log.info("picture uploaded", object=key, bytes=size)
            return None
        log.info("film uploaded", object=key, bytes=size)
        source = self._sources.parse(key)
        # The address is used, so the client cannot try again. `Films` continues if this process ends.
        return await wait_for_store(lambda: self._films.submit_stored(source), film=source.names.prefix)

    def _begin(self, key: str) -> UploadLock:
        self._scratch.mkdir(parents=True, exist_ok=True)
        # The URLs of these old marks have expired, so the marks are not needed.
        remove_marks(self._scratch, time.time() - UPLOAD_SECONDS - _MARK_RESERVE_SECONDS)
        return UploadLock.begin(self._scratch, key)

    async def _store(self, key: str, chunks: AsyncIterable[bytes]) -> int:
        """Stores the upload and returns its size in bytes. Raises UploadExists, and InvalidField for an empty one."""
        with suppress(NoSuchObject):
            await self._objects.head(key)
            raise UploadExists(key)
        async with temporary_file(self._scratch / _UNFINISHED, ".part") as file:
            size = await self._write(file, key, chunks)
            if not size:
                raise InvalidField("body", "expected a file that is not empty")
            await self._objects.put(key, file)
        return size

    async def _write(self, file: Path, key: str, chunks: AsyncIterable[bytes]) -> int:
        size, next_check, limit = 0, 0, self._limit(key)
        with await open_file(file, "wb") as out:
            async for chunk in chunks:
                size += len(chunk)
                if limit and size > limit:
                    raise TooLarge(size, limit, key)
                if size >= next_check:
                    next_check = size + _CHECK_BYTES
                    await asyncio.to_thread(self._check_space)
                await asyncio.to_thread(out.write, chunk)
        return size

    def _limit(self, key: str) -> int:
        """Returns the most bytes of an upload; 0: no limit."""
        if not _is_picture(key):
            return self._max_bytes
        return min(self._max_bytes or _MAX_PICTURE_BYTES, _MAX_PICTURE_BYTES)

    def _check_space(self) -> None:
        try:
            self._bounds.check_space(self._scratch)
        except UnusableFilm as error:
            raise OSError(errno.ENOSPC, str(error)) from None


def is_film_upload(key: str) -> bool:
    """Whether this is the key of an uploaded film. It was made by `Uploads.offer`."""
    return is_upload(key) and key.rpartition(".")[2] in CONTENT_TYPES


def _is_picture(key: str) -> bool:
    return key.rpartition(".")[2] in PICTURE_TYPES


def _sign(key: str, expires: int, secret: str) -> str:
    """Returns the signature of an upload URL.

    The signed text begins with `/upload/`, so signatures of stream keys and of playback are not valid for uploads.
    """
    return hmac.new(
        secret.encode("utf-8", "surrogatepass"), f"/upload/{key}-{expires}".encode(), hashlib.sha256
    ).hexdigest()
