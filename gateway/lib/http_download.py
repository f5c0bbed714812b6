"""Downloads a file over HTTP, within the egress policy, a size limit and a time limit."""

import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gateway.lib.egress import Egress, EgressRefused

_MAX_REDIRECTS: Final = 5
_CHUNK_BYTES: Final = 65_536


class DownloadFailed(Exception):
    """The file cannot be downloaded now. The message is one line, and contains only the host of the URL."""


@dataclass(frozen=True, slots=True)
class HttpDownloader:
    """Downloads files from addresses in channels.

    timeout: seconds for the whole file. max_bytes: limit of a file.
    accept: the header with the wanted types. tls: trusted authorities for https; None: the system's.
    """

    egress: Egress
    timeout: float
    max_bytes: int
    accept: str = "*/*"
    tls: ssl.SSLContext | None = None

    async def chunks(self, url: str) -> AsyncGenerator[bytes, None]:
        """Yields the file in chunks. Raises DownloadFailed."""
        import aiohttp  # imported here, because it takes 8 MB

        from gateway.lib.egress_connector import AS_WRITTEN, EgressConnector, written

        host = _host(url)
        timeout = aiohttp.ClientTimeout(total=self.timeout)
        # The connector checks the egress policy, also for redirects.
        connector = EgressConnector(self.egress, ssl=self.tls or True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False, **AS_WRITTEN) as session,
                session.get(written(url), max_redirects=_MAX_REDIRECTS, headers={"Accept": self.accept}) as response,
            ):
                if response.status != 200:
                    raise DownloadFailed(f"{host} answers {response.status}")
                size = 0
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > self.max_bytes:
                        raise DownloadFailed(f"{host} sends more than {self.max_bytes} bytes")
                    yield chunk
        except EgressRefused as error:
            raise DownloadFailed(str(error)) from None
        except TimeoutError:
            raise DownloadFailed(f"{host} does not answer within {self.timeout:g} s") from None
        except aiohttp.TooManyRedirects:
            raise DownloadFailed(f"{host} redirects more than {_MAX_REDIRECTS} times") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DownloadFailed(f"{host} cannot be reached: {reason_of(error)}") from None


def reason_of(error: Exception) -> str:
    """Returns a short reason. aiohttp's messages contain the whole URL, which may contain secrets."""
    cause = getattr(error, "os_error", error)  # of ClientConnectorError
    return getattr(cause, "strerror", None) or type(error).__name__


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "the server")[:255]
    except ValueError:
        return "the server"
