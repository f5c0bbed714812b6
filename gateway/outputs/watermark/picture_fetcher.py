"""Fetches watermark pictures over HTTP, within the egress policy and a size limit, and caches them for outages."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from gateway.lib.egress import HTTP, Egress, EgressRefused
from gateway.settings.models import WatermarkSettings

_MAX_CACHE_BYTES: Final = 32_000_000  # bytes of all pictures
_MAX_REDIRECTS: Final = 5
_CHUNK_BYTES: Final = 65_536


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

    def __init__(self, egress: Egress, settings: WatermarkSettings, tls: ssl.SSLContext | None = None) -> None:
        self._egress = egress
        self._max_bytes = settings.picture_bytes
        self._timeout = settings.picture_timeout
        self._tls = tls
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cache_bytes = 0

    async def fetch(self, url: str) -> FetchedPicture:
        """Returns the picture, or a cached copy if it cannot be fetched now. Raises PictureUnavailable."""
        try:
            data = await self._fetch(url)
        except PictureUnavailable as error:
            if url in self._cache:
                self._cache.move_to_end(url)
                return FetchedPicture(self._cache[url], str(error))
            raise
        self._store(url, data)
        return FetchedPicture(data)

    async def _fetch(self, url: str) -> bytes:
        host = _host(url)
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        # The connector checks the egress policy, also for redirects.
        connector = self._egress.connector(HTTP, ssl=self._tls or True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
                session.get(url, max_redirects=_MAX_REDIRECTS, headers={"Accept": "image/*"}) as response,
            ):
                if response.status != 200:
                    raise PictureUnavailable(f"{host} answers {response.status}")
                return await self._read(response, host)
        except EgressRefused as error:
            raise PictureUnavailable(str(error)) from None
        except TimeoutError:
            raise PictureUnavailable(f"{host} does not answer within {self._timeout:g} s") from None
        except aiohttp.TooManyRedirects:
            raise PictureUnavailable(f"{host} redirects more than {_MAX_REDIRECTS} times") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # aiohttp's messages contain the whole URL, which may contain secrets.
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            reason = getattr(cause, "strerror", None) or type(error).__name__
            raise PictureUnavailable(f"{host} cannot be reached: {reason}") from None

    async def _read(self, response: aiohttp.ClientResponse, host: str) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            size += len(chunk)
            if size > self._max_bytes:
                raise PictureUnavailable(f"{host} sends more than {self._max_bytes} bytes (watermark.picture_bytes)")
            chunks.append(chunk)
        return b"".join(chunks)

    def _store(self, url: str, data: bytes) -> None:
        self._cache_bytes += len(data) - len(self._cache.pop(url, b""))
        self._cache[url] = data
        while self._cache_bytes > _MAX_CACHE_BYTES and len(self._cache) > 1:
            _, removed = self._cache.popitem(last=False)
            self._cache_bytes -= len(removed)


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "the picture's server")[:255]
    except ValueError:
        return "the picture's server"
