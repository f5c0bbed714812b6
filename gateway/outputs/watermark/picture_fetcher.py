"""Fetches watermark pictures from the web: checked by the egress policy, bounded, and cached for outages."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from gateway.lib.egress import HTTP, Egress, EgressRefused
from gateway.settings.models import WatermarkSettings

_MAX_KEPT: Final = 32_000_000  # bytes of all pictures together
_REDIRECTS: Final = 5
_PIECE: Final = 65_536


class PictureUnavailable(Exception):
    """The picture cannot be fetched now. The message is one line and names only the host of the address."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetched picture. data: the file as received. stale: why it is an earlier copy, "" if it is fresh."""

    data: bytes
    stale: str = ""


class PictureFetcher:
    """Fetches the pictures of all watermarks. tls: what https trusts; None: the system's authorities.

    The last good picture of each address is kept in memory; beyond 32 MB the least recently used are removed.
    """

    def __init__(self, egress: Egress, settings: WatermarkSettings, tls: ssl.SSLContext | None = None) -> None:
        self._egress = egress
        self._most = settings.picture_bytes
        self._timeout = settings.picture_timeout
        self._tls = tls
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    async def fetch(self, url: str) -> Fetched:
        """Returns the picture's file, or an earlier copy if it cannot be fetched now. Raises PictureUnavailable."""
        try:
            data = await self._fetch(url)
        except PictureUnavailable as error:
            if url in self._kept:
                self._kept.move_to_end(url)
                return Fetched(self._kept[url], str(error))
            raise
        self._keep(url, data)
        return Fetched(data)

    async def _fetch(self, url: str) -> bytes:
        host = _host(url)
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        # Each redirect goes through the connector, and so through the egress policy.
        connector = self._egress.connector(HTTP, ssl=self._tls or True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
                session.get(url, max_redirects=_REDIRECTS, headers={"Accept": "image/*"}) as response,
            ):
                if response.status != 200:
                    raise PictureUnavailable(f"{host} answers {response.status}")
                return await self._read(response, host)
        except EgressRefused as error:
            raise PictureUnavailable(str(error)) from None
        except TimeoutError:
            raise PictureUnavailable(f"{host} does not answer within {self._timeout:g} s") from None
        except aiohttp.TooManyRedirects:
            raise PictureUnavailable(f"{host} redirects more than {_REDIRECTS} times") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # aiohttp's messages contain the whole address, which may hold secrets.
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            words = getattr(cause, "strerror", None) or type(error).__name__
            raise PictureUnavailable(f"{host} cannot be reached: {words}") from None

    async def _read(self, response: aiohttp.ClientResponse, host: str) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in response.content.iter_chunked(_PIECE):
            size += len(piece)
            if size > self._most:
                raise PictureUnavailable(f"{host} sends more than {self._most} bytes (watermark.picture_bytes)")
            pieces.append(piece)
        return b"".join(pieces)

    def _keep(self, url: str, data: bytes) -> None:
        self._size += len(data) - len(self._kept.pop(url, b""))
        self._kept[url] = data
        while self._size > _MAX_KEPT and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self._size -= len(gone)


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "the picture's server")[:255]
    except ValueError:
        return "the picture's server"
