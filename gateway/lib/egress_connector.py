"""Connections of aiohttp under the egress policy: each request and redirect connects to checked addresses."""

import asyncio
import contextvars
import re
import socket
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
from aiohttp import ClientRequest, ClientTimeout
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from gateway.lib.egress import HTTP, PORTS, Address, Egress, EgressRefused, unsupported
from gateway.lib.scheduled_reads import LARGEST_READ, ScheduledProtocol

_WRITTEN: Final = re.compile(r"(?:[!#$&-;=?-Z\[\]_a-z~]|%[0-9A-Fa-f]{2})+", re.ASCII)  # RFC 3986 appendix A


def written(address: str) -> URL:
    """Returns an address as it is written, because servers compare signed addresses byte by byte.

    yarl would write `%2f` of a path as `%2F`, and of a query as `/`. Characters that are not allowed are quoted.
    """
    return URL(address, encoded=_WRITTEN.fullmatch(address) is not None)


class _WrittenRequest(ClientRequest):
    """A request of a redirect to an address as it is written."""

    def __init__(self, method: str, url: URL, *args: Any, **options: Any) -> None:
        super().__init__(method, written(str(url)), *args, **options)


AS_WRITTEN: Final[dict[str, Any]] = {"requote_redirect_url": False, "request_class": _WrittenRequest}  # for a session


class _Resolver(AbstractResolver):
    """Returns to aiohttp the addresses that the connector has just checked for this request."""

    def __init__(self) -> None:
        self.checked: contextvars.ContextVar[list[Address]] = contextvars.ContextVar("checked addresses")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=a.host, port=port, family=a.family, proto=0, flags=socket.AI_NUMERICHOST)
            for a in self.checked.get()
        ]

    async def close(self) -> None:
        """Does nothing: there is nothing to close."""


class EgressConnector(aiohttp.TCPConnector):
    """A connector for an aiohttp session. Requests and redirects connect only to allowed addresses.

    A refused request raises EgressRefused. Connections are not reused, because `allow` may list one URL of a host and
    not another. options: for TCPConnector (`ssl`, `limit`).
    """

    def __init__(self, egress: Egress, schemes: Sequence[str] = HTTP, **options: Any) -> None:
        self._own_resolver = _Resolver()
        super().__init__(resolver=self._own_resolver, use_dns_cache=False, force_close=True, **options)
        self._egress, self._schemes = egress, schemes

    async def _wrap_create_connection(self, *args: Any, **options: Any) -> tuple[asyncio.Transport, ResponseHandler]:
        """Reads each connection in turns, because a response of tiny chunks costs much. aiohttp has no public API."""
        factory, *rest = args
        scheduled: Any
        transport, scheduled = await super()._wrap_create_connection(
            lambda: ScheduledProtocol(factory(), self._egress.reads, LARGEST_READ), *rest, **options
        )
        return transport, scheduled.inner

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109
        if req.proxy:
            raise EgressRefused("a proxy would resolve the address itself, without the policy")
        url = req.url
        if url.scheme not in self._schemes or not url.raw_host:
            raise unsupported(self._schemes)
        port = url.port or PORTS[url.scheme]
        try:
            checked = await self._egress.check_host(url.scheme, url.raw_host, port, url.raw_path)
        except OSError as error:
            raise aiohttp.ClientConnectorDNSError(req.connection_key, error) from error
        token = self._own_resolver.checked.set(checked)
        try:
            return await super().connect(req, traces, timeout)
        finally:
            self._own_resolver.checked.reset(token)
