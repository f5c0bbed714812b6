"""Fetches watermark pictures over HTTP, within the egress policy and a size limit, and caches them for outages."""

import ssl
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from gateway.lib.egress import Egress
from gateway.lib.http_download import DownloadFailed, HttpDownloader

_TIMEOUT: Final = 10.0  # seconds for a picture
_MAX_BYTES: Final = 5_000_000  # of a picture: more than a photo of a screen's size takes
_MAX_CACHE_BYTES: Final = 32_000_000  # bytes of all pictures


class PictureUnavailable(Exception):
    """The picture cannot be fetched now. The message is one line, and contains only the host of the URL."""


@dataclass(frozen=True, slots=True)
class FetchedPicture:
    """A picture. data: the received file. stale: the reason if it is a cached copy, else ""."""

    data: bytes
    stale: str = ""


class PictureFetcher:
    """Fetches the pictures of all watermarks. tls: trusted authorities for https; None: the system's.

    The last picture of each URL is cached in memory. Above 32 MB the least recently used pictures are removed.
    """

    def __init__(self, egress: Egress, tls: ssl.SSLContext | None = None) -> None:
        self._downloader = HttpDownloader(egress, _TIMEOUT, _MAX_BYTES, "image/*", tls)
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cache_bytes = 0

    async def fetch(self, url: str) -> FetchedPicture:
        """Returns the picture, or a cached copy if it cannot be fetched now. Raises PictureUnavailable."""
        try:
            async with aclosing(self._downloader.chunks(url)) as chunks:
                data = b"".join([chunk async for chunk in chunks])
        except DownloadFailed as error:
            if url not in self._cache:
                raise PictureUnavailable(str(error)) from None
            self._cache.move_to_end(url)
            return FetchedPicture(self._cache[url], str(error))
        self._store(url, data)
        return FetchedPicture(data)

    def _store(self, url: str, data: bytes) -> None:
        self._cache_bytes += len(data) - len(self._cache.pop(url, b""))
        self._cache[url] = data
        while self._cache_bytes > _MAX_CACHE_BYTES and len(self._cache) > 1:
            _, removed = self._cache.popitem(last=False)
            self._cache_bytes -= len(removed)
