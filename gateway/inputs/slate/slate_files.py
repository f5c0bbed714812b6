"""Fetches the picture or film of a slate to a temporary file."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

from gateway.lib.http_download import DownloadFailed, HttpDownloader
from gateway.ports.errors import NoSuchObject, OutputError, StoreUnavailable, StoreUnusable, TooLarge
from gateway.ports.stores import ObjectStore
from gateway.vod.temporary_file import temporary_file

_WEB: Final = ("http://", "https://")


class SlateFiles:
    """Fetches files from web addresses and from the object store. folder: for temporary files."""

    def __init__(self, downloader: HttpDownloader, objects: ObjectStore, folder: Path) -> None:
        self._downloader = downloader
        self._objects = objects
        self._folder = folder

    @asynccontextmanager
    async def fetch(self, picture: str) -> AsyncIterator[tuple[Path, str]]:
        """Fetches a file, and removes it at the end. Yields its path, and the digest of its content.

        picture: an address, or a key of the store. Raises OutputError.
        """
        try:
            async with temporary_file(self._folder, "") as path:
                await (self._download(picture, path) if picture.startswith(_WEB) else self._copy(picture, path))
                yield path, await asyncio.to_thread(_digest, path)
        except OSError as error:
            raise OutputError(f"the slate's file cannot be written: {error.strerror or error}") from error

    async def _download(self, url: str, path: Path) -> None:
        try:
            with path.open("wb") as file:
                async with aclosing(self._downloader.chunks(url)) as chunks:
                    async for chunk in chunks:
                        await asyncio.to_thread(file.write, chunk)
        except DownloadFailed as error:
            raise OutputError(f"the slate's picture is not available: {error}") from None

    async def _copy(self, key: str, path: Path) -> None:
        try:
            await self._objects.fetch(key, path, self._downloader.max_bytes)
        except NoSuchObject:
            raise OutputError(f"the slate's picture is not available: the store has no {key}") from None
        except TooLarge:
            limit = self._downloader.max_bytes
            raise OutputError(f"the slate's picture is not available: {key} has more than {limit} bytes") from None
        except (StoreUnavailable, StoreUnusable):
            raise OutputError("the slate's picture is not available: the store does not answer") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
