"""Pictures of watermarks from the web: through the egress policy, bounded, and kept for the day they are away."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from gateway.lib.egress import HTTP, Egress, EgressRefused
from gateway.settings.models import Watermark

_MOST_KEPT: Final = 32_000_000  # bytes of all pictures together
_REDIRECTS: Final = 5
_PIECE: Final = 65_536


class PictureAway(Exception):
    """The picture cannot be had now; one line that names no more of the address than its host."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """data: the file as it came. stale: why it is an earlier one, "" where it is fresh."""

    data: bytes
    stale: str = ""


class Pictures:
    """The pictures of all watermarks. tls: what https trusts; None: the system's authorities.

    The last good picture of an address is kept in memory (the least used are given up beyond 32 MB).
    """

    def __init__(self, egress: Egress, settings: Watermark, tls: ssl.SSLContext | None = None) -> None:
        self._egress = egress
        self._most = settings.picture_bytes
        self._timeout = settings.picture_timeout
        self._tls = tls
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    async def fetch(self, url: str) -> Fetched:
        """The picture's file; an earlier copy where it cannot be had now. Raises PictureAway."""
        try:
            data = await self._fetch(url)
        except PictureAway as error:
            if url in self._kept:
                self._kept.move_to_end(url)
                return Fetched(self._kept[url], str(error))
            raise
        self._keep(url, data)
        return Fetched(data)

    async def _fetch(self, url: str) -> bytes:
        host = _host(url)
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        # Each redirect goes through the connector, and so through the policy.
        connector = self._egress.connector(HTTP, ssl=self._tls or True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
                session.get(url, max_redirects=_REDIRECTS, headers={"Accept": "image/*"}) as response,
            ):
                if response.status != 200:
                    raise PictureAway(f"{host} answers {response.status}")
                return await self._read(response, host)
        except EgressRefused as error:
            raise PictureAway(str(error)) from None
        except TimeoutError:
            raise PictureAway(f"{host} does not answer within {self._timeout:g} s") from None
        except aiohttp.TooManyRedirects:
            raise PictureAway(f"{host} redirects more than {_REDIRECTS} times") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # aiohttp's messages spell the whole address, in which secrets may stand.
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            words = getattr(cause, "strerror", None) or type(error).__name__
            raise PictureAway(f"{host} cannot be reached: {words}") from None

    async def _read(self, response: aiohttp.ClientResponse, host: str) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in response.content.iter_chunked(_PIECE):
            size += len(piece)
            if size > self._most:
                raise PictureAway(f"{host} sends more than {self._most} bytes (watermark.picture_bytes)")
            pieces.append(piece)
        return b"".join(pieces)

    def _keep(self, url: str, data: bytes) -> None:
        self._size += len(data) - len(self._kept.pop(url, b""))
        self._kept[url] = data
        while self._size > _MOST_KEPT and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self._size -= len(gone)


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "the picture's server")[:255]
    except ValueError:
        return "the picture's server"
