"""Uploads: a client sends a film by itself, to an address that is signed, short-lived and good for one object."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import AsyncIterable, Callable
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlencode

import structlog

from gateway.hub.access import Secrets
from gateway.hub.desk import JobDesk
from gateway.hub.errors import InvalidField, NoSuchObject, NotAuthorized, TooLarge
from gateway.hub.jobs import VOD, Job
from gateway.hub.ports import ObjectStore, Upload
from gateway.vod.sources import Sources

log = structlog.get_logger(__name__)

# What a name may end in, and what a client then calls it.
TYPES: Final = {
    "mp4": "video/mp4", "m4v": "video/mp4", "mov": "video/quicktime", "mkv": "video/x-matroska", "webm": "video/webm",
    "flv": "video/x-flv", "ts": "video/mp2t", "mts": "video/mp2t", "m2ts": "video/mp2t", "avi": "video/x-msvideo",
    "mpg": "video/mpeg", "mpeg": "video/mpeg", "3gp": "video/3gpp", "wmv": "video/x-ms-wmv", "ogv": "video/ogg",
    "mxf": "application/mxf", "m4a": "audio/mp4", "mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac",
    "ogg": "audio/ogg", "aac": "audio/aac",
}  # fmt: skip
_KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[a-z0-9]{2,4}", re.ASCII)
_SIGN = re.compile(r"[0-9a-f]{64}", re.ASCII)
_EXPIRES = re.compile(r"[0-9]{1,15}", re.ASCII)


class Exists(Exception):
    """There is such an object already: an address is good for one upload."""


class Uploads:
    """Addresses for uploads, and the receiving end of those that come to this gateway itself.

    most: bytes of one film, 0 for any; seconds: how long an address is good; scratch: where unfinished ones wait.
    """

    def __init__(
        self,
        objects: ObjectStore,
        secrets: Secrets,
        sources: Sources,
        desk: JobDesk,
        scratch: Path,
        *,
        most: int,
        seconds: int,
        clock: Callable[[], float],
    ) -> None:
        self._objects = objects
        self._secrets = secrets
        self._sources = sources
        self._desk = desk
        self._scratch = scratch
        self.most = most
        self._seconds = seconds
        self._clock = clock

    async def offer(self, name: str, base: str) -> tuple[str, Upload]:
        """The key of a new object for a film called `name`, and how to send it.

        base: this gateway's own address, such as http://127.0.0.1:8000, for a store that has none. Raises InvalidField,
        StoreAway.
        """
        suffix = PurePosixPath(name.replace("\\", "/")).suffix.lower().removeprefix(".")
        if suffix not in TYPES:
            raise InvalidField("name", f"expected a name that ends in one of {', '.join(TYPES)}")
        key = f"{uuid.uuid4()}.{suffix}"
        upload = await self._objects.upload(key, self._seconds)
        if upload is None:
            expires = int(self._clock()) + self._seconds
            query = urlencode({"expires": expires, "sign": _sign(key, expires, self._secrets.current)})
            upload = Upload(f"{base}/uploads/{key}?{query}", "PUT", {"Content-Type": TYPES[suffix]})
        return key, upload

    def admit(self, key: str, expires: str, sign: str, size: int | None) -> None:
        """Raises NotAuthorized for an address that is not ours or not good any more, TooLarge by the declared size."""
        genuine = False
        if _KEY.fullmatch(key) and _SIGN.fullmatch(sign) and _EXPIRES.fullmatch(expires):
            for secret in (self._secrets.current, self._secrets.previous):
                if secret:
                    genuine |= hmac.compare_digest(_sign(key, int(expires), secret), sign)
        if not genuine:
            raise NotAuthorized("this upload address is not valid")
        if int(expires) < int(self._clock()):
            raise NotAuthorized("this upload address has expired")
        if self.most and size is not None and size > self.most:
            raise TooLarge(size, self.most, key)

    async def receive(self, key: str, pieces: AsyncIterable[bytes]) -> Job:
        """Stores what an admitted client sends, whole or not at all; its job is submitted.

        Raises Exists, TooLarge, StoreAway, OSError, and whatever `pieces` raises.
        """
        try:
            await self._objects.head(key)
        except NoSuchObject:
            pass
        else:
            raise Exists(key)
        await asyncio.to_thread(self._scratch.mkdir, parents=True, exist_ok=True)
        file = self._scratch / f".{key}.{secrets.token_hex(4)}.part"
        try:
            size = await self._write(file, key, pieces)
            await self._objects.put(key, file)
        finally:
            await asyncio.shield(asyncio.to_thread(file.unlink, missing_ok=True))
        log.info("film uploaded", object=key, bytes=size)
        job, _ = await self._desk.submit(VOD, self._sources.parse(key).text)
        return job

    async def _write(self, file: Path, key: str, pieces: AsyncIterable[bytes]) -> int:
        size = 0
        with await asyncio.to_thread(file.open, "xb") as out:
            async for piece in pieces:
                size += len(piece)
                if self.most and size > self.most:
                    raise TooLarge(size, self.most, key)
                await asyncio.to_thread(out.write, piece)
        return size


def _sign(key: str, expires: int, secret: str) -> str:
    """Its path is one that no stream key and no play sign hashes."""
    return hmac.new(
        secret.encode("utf-8", "surrogatepass"), f"/upload/{key}-{expires}".encode(), hashlib.sha256
    ).hexdigest()
