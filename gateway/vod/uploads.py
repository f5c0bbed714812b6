"""Uploads of source files by clients, to addresses that are signed, expire soon, and allow one object each."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import re
import secrets
import time
import uuid
from collections.abc import AsyncIterable
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlencode

import structlog

from gateway.channels.stream_key import SigningSecrets
from gateway.ports.errors import InvalidField, NoSuchObject, NotAuthorized, TooLarge
from gateway.ports.job_queue import JobQueue
from gateway.ports.jobs import VOD, StoredJob
from gateway.ports.stores import DirectUpload
from gateway.settings.models import VodSettings
from gateway.vod.sources import VodSources
from gateway.vod.upload_lock import UploadExists, UploadLock, forget
from gateway.workers.vod_bounds import Bounds, UnusableMedia

log = structlog.get_logger(__name__)

# The allowed suffixes of file names, and the content type that the client sends.
TYPES: Final = {
    "mp4": "video/mp4", "m4v": "video/mp4", "mov": "video/quicktime", "mkv": "video/x-matroska", "webm": "video/webm",
    "flv": "video/x-flv", "ts": "video/mp2t", "mts": "video/mp2t", "m2ts": "video/mp2t", "avi": "video/x-msvideo",
    "mpg": "video/mpeg", "mpeg": "video/mpeg", "3gp": "video/3gpp", "wmv": "video/x-ms-wmv", "ogv": "video/ogg",
    "mxf": "application/mxf", "m4a": "audio/mp4", "mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac",
    "ogg": "audio/ogg", "aac": "audio/aac",
}  # fmt: skip
_JUDGED: Final = 16_000_000  # bytes of an upload between two checks of the free disk space
_KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[a-z0-9]{2,4}", re.ASCII)
_SPARE: Final = 86_400  # seconds that marks are kept after the address expired, in case the clock is set back
_SIGN = re.compile(r"[0-9a-f]{64}", re.ASCII)
_EXPIRES = re.compile(r"[0-9]{1,15}", re.ASCII)


class Uploads:
    """Makes addresses for uploads, and receives the uploads that come to this gateway itself.

    most: bytes of one film, 0 for any. scratch: where unfinished ones wait.
    """

    def __init__(
        self,
        settings: VodSettings,
        sources: VodSources,
        secrets: SigningSecrets,
        desk: JobQueue,
        scratch: Path,
    ) -> None:
        self._objects = sources.objects
        self._secrets = secrets
        self._sources = sources
        self._desk = desk
        self._scratch = scratch
        self.most = settings.upload_bytes
        self._seconds = settings.upload_seconds
        self._bounds = Bounds(keep_free=settings.keep_free)

    async def offer(self, name: str, base: str) -> tuple[str, DirectUpload]:
        """Returns the key of a new object for a file called `name`, and the request to send it with.

        base: this gateway's own address, such as http://127.0.0.1:8000, for a store without upload addresses.
        Raises InvalidField, StoreUnavailable.
        """
        suffix = PurePosixPath(name.replace("\\", "/")).suffix.lower().removeprefix(".")
        if suffix not in TYPES:
            raise InvalidField("name", f"expected a name that ends in one of {', '.join(TYPES)}")
        key = f"{uuid.uuid4()}.{suffix}"
        upload = await self._objects.upload(key, self._seconds)
        if upload is None:
            expires = int(time.time()) + self._seconds
            query = urlencode({"expires": expires, "sign": _sign(key, expires, self._secrets.current)})
            upload = DirectUpload(f"{base}/uploads/{key}?{query}", "PUT", {"Content-Type": TYPES[suffix]})
        return key, upload

    def admit(self, key: str, expires: str, sign: str, size: int | None) -> None:
        """Checks an upload before its body is read.

        size: declared by the client, None if unknown.
        Raises NotAuthorized if the signature is wrong or the address has expired, TooLarge.
        """
        genuine = False
        if _KEY.fullmatch(key) and _SIGN.fullmatch(sign) and _EXPIRES.fullmatch(expires):
            for secret in (self._secrets.current, self._secrets.previous):
                if secret:
                    genuine |= hmac.compare_digest(_sign(key, int(expires), secret), sign)
        if not genuine:
            raise NotAuthorized("this upload address is not valid")
        if int(expires) < int(time.time()):
            raise NotAuthorized("this upload address has expired")
        if self.most and size is not None and size > self.most:
            raise TooLarge(size, self.most, key)

    async def receive(self, key: str, pieces: AsyncIterable[bytes]) -> StoredJob:
        """Stores an upload, completely or not at all, and submits its job. Call `admit` before.

        Raises UploadExists, TooLarge, StoreUnavailable, OSError, and every error of `pieces`.
        """
        one = await asyncio.to_thread(self._begin, key)
        try:
            size = await self._store(key, pieces)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(one.release))
            raise
        await asyncio.shield(asyncio.to_thread(one.done))
        log.info("film uploaded", object=key, bytes=size)
        job, _ = await self._desk.submit(VOD, self._sources.parse(key).text)
        return job

    def _begin(self, key: str) -> UploadLock:
        self._scratch.mkdir(parents=True, exist_ok=True)
        # Addresses of such old marks have expired, so the marks are not needed any more.
        forget(self._scratch, time.time() - self._seconds - _SPARE)
        return UploadLock.begin(self._scratch, key)

    async def _store(self, key: str, pieces: AsyncIterable[bytes]) -> int:
        """Stores the upload and returns its size in bytes. Raises UploadExists."""
        try:
            await self._objects.head(key)
        except NoSuchObject:
            pass
        else:
            raise UploadExists(key)
        file = self._scratch / f".{key}.{secrets.token_hex(4)}.part"
        try:
            size = await self._write(file, key, pieces)
            await self._objects.put(key, file)
        finally:
            await asyncio.shield(asyncio.to_thread(file.unlink, missing_ok=True))
        return size

    async def _write(self, file: Path, key: str, pieces: AsyncIterable[bytes]) -> int:
        size = judged = 0
        with await asyncio.to_thread(file.open, "xb") as out:
            async for piece in pieces:
                size += len(piece)
                if self.most and size > self.most:
                    raise TooLarge(size, self.most, key)
                if size >= judged:
                    judged = size + _JUDGED
                    await asyncio.to_thread(self._judge_room)
                await asyncio.to_thread(out.write, piece)
        return size

    def _judge_room(self) -> None:
        try:
            self._bounds.judge_room(self._scratch)
        except UnusableMedia as full:
            raise OSError(errno.ENOSPC, str(full)) from None


def _sign(key: str, expires: int, secret: str) -> str:
    """Returns the signature of an address. The hashed path differs from those of stream keys and play signatures."""
    return hmac.new(
        secret.encode("utf-8", "surrogatepass"), f"/upload/{key}-{expires}".encode(), hashlib.sha256
    ).hexdigest()
