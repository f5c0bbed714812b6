"""HTTP requests of pulls. Each host is resolved and checked, also those of redirects and segments."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from aiohttp.hdrs import AUTHORIZATION
from yarl import URL

from gateway.channels.names import PULL_HEADER, pull_mark
from gateway.inputs.descriptor import InputServices
from gateway.inputs.pull.pull_parts import CONNECT_SECONDS, REFUSALS, SILENCE_SECONDS, USER_AGENT
from gateway.lib.egress import EgressRefused
from gateway.lib.egress_connector import AS_WRITTEN, EgressConnector, written
from gateway.lib.http_download import reason_of
from gateway.ports.errors import OutputError

_MAX_REDIRECTS: Final = 5


def open_session(services: InputServices, id: str, url: str) -> aiohttp.ClientSession:
    """Returns a session that connects only to allowed addresses. Use it as a context manager.

    id: of the channel. url: of the input. Its user and password go to all addresses of the same origin, because
    addresses in playlists do not repeat them.
    """

    async def authorize(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        source = URL(url)
        if source.user is not None and URL(str(request.url)).origin() == source.origin():
            known = aiohttp.encode_basic_auth(source.user, source.password or "", "latin1")  # as aiohttp encodes them
            request.headers.setdefault(AUTHORIZATION, known)
        return await send(request)

    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
    connector = EgressConnector(services.egress, ssl=services.tls or True)
    headers = {"User-Agent": USER_AGENT, PULL_HEADER: pull_mark(id)}
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        trust_env=False,
        headers=headers,
        middlewares=[authorize],
        **AS_WRITTEN,
    )


@asynccontextmanager
async def open_response(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Sends a GET request; yields the response if it is 200 or 206.

    Raises OutputError, also if the connection breaks while the response is read.
    """
    try:
        response = await session.get(written(url), max_redirects=_MAX_REDIRECTS, headers=headers)
    except EgressRefused as error:
        raise OutputError(str(error)) from None
    except TimeoutError:
        raise OutputError(f"no answer within {CONNECT_SECONDS:.0f} s") from None
    except aiohttp.TooManyRedirects:
        raise OutputError(f"the server redirects more than {_MAX_REDIRECTS} times") from None
    except aiohttp.ClientConnectorCertificateError:
        raise OutputError("the server's certificate is not trusted") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise OutputError(f"the server cannot be reached: {reason_of(error)}") from None
    try:
        if response.status not in (200, 206):
            raise OutputError(REFUSALS.get(response.status) or f"the server answers {response.status}")
        yield response
    except aiohttp.SocketTimeoutError:
        raise OutputError(f"no media for {SILENCE_SECONDS:.0f} s") from None
    except (aiohttp.ClientError, ConnectionError):
        raise OutputError("the server closed the connection") from None
    finally:
        response.close()
