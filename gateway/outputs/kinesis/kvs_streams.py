"""The Kinesis streams that this process sends to, each from one sender at a time."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Self

import aiohttp

from gateway.lib.metric_table import KVS_FRAGMENTS, MetricSample, by_label
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog, FragmentCounts
from gateway.outputs.kinesis.kvs_delivery import DeliveryLimits, KvsDelivery
from gateway.ports.errors import NameInUse
from gateway.ports.stores import KvsEndpoints
from gateway.settings.models import KvsSettings

_ARN = re.compile(r"arn:[^:]+:kinesisvideo:([^:]+):([^:]+):stream/([^/]+)/")


@dataclass(frozen=True, slots=True)
class _Claim:
    stream: str
    owner: str


class KvsStreams:
    """Manages the Kinesis streams; made once, used with `async with`.

    tls: what outgoing connections trust; None: the system's authorities.
    """

    def __init__(self, endpoints: KvsEndpoints, settings: KvsSettings, tls: ssl.SSLContext | None = None) -> None:
        self._endpoints = endpoints
        self._kvs = settings
        self._tls = tls
        self._counts = FragmentCounts()
        self._claims: list[_Claim] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._http is not None:
            await self._http.close()

    @property
    def default(self) -> str:
        """The stream for channels and jobs that name none (`kvs.stream`); "" if it is not set."""
        return self._kvs.stream

    @contextlib.contextmanager
    def claim(self, stream: str, owner: str) -> Iterator[None]:
        """Reserves the stream for `owner` while the block runs. Raises NameInUse.

        Kinesis accepts one PutMedia per stream: a second one of this process would end the first one.
        """
        for held in self._claims:
            if _same(held.stream, stream):
                raise NameInUse(f"the Kinesis stream {stream} is in use by {held.owner}")
        mine = _Claim(stream, owner)
        self._claims.append(mine)
        try:
            yield
        finally:
            self._claims.remove(mine)
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    @contextlib.asynccontextmanager
    async def turn(self, stream: str, owner: str, told: Callable[[str | None], None]) -> AsyncIterator[None]:
        """Like `claim`, but waits until the stream is free. `told` gets the reason, and None when the wait is over."""
        while True:
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(self.claim(stream, owner))
                except NameInUse as error:
                    told(str(error))
                else:
                    told(None)
                    yield
                    return
            freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(freed)
            await freed

    def backlog(self) -> FragmentBacklog:
        return FragmentBacklog(self._kvs.backlog, self._counts)

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metric samples of all streams."""
        yield from by_label(KVS_FRAGMENTS, asdict(self._counts))

    def delivery(self, stream: str, backlog: FragmentBacklog) -> KvsDelivery:
        """Returns the delivery that empties the backlog into the claimed stream."""
        if self._http is None:
            # Each connection is used once; the session keeps none.
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, limit=0), cookie_jar=aiohttp.DummyCookieJar()
            )
        limits = DeliveryLimits(self._kvs.rotate, self._kvs.ack_timeout, self._kvs.log_every)
        return KvsDelivery(backlog, stream, self._endpoints, self._http, self._tls, limits)


def _same(one: str, other: str) -> bool:
    """Whether two names or ARNs can mean the same stream; a plain name may be of any account and region."""
    a, b = _ARN.match(one), _ARN.match(other)
    if a is not None and b is not None:
        return a.groups() == b.groups()
    return (a[3] if a is not None else one) == (b[3] if b is not None else other)
