"""The Kinesis streams of this process. Each has one sender at a time."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from gateway.lib.metric_table import KVS_FRAGMENTS, MetricSample, by_label
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog, FragmentCounts
from gateway.ports.errors import NameInUse
from gateway.ports.stores import KvsEndpoints
from gateway.settings.models import KvsSettings

if TYPE_CHECKING:
    import aiohttp

    from gateway.outputs.kinesis.kvs_delivery import KvsDelivery

_ARN = re.compile(r"arn:[^:]+:kinesisvideo:([^:]+):([^:]+):stream/([^/]+)/")


class KvsStreams(contextlib.AbstractAsyncContextManager["KvsStreams"]):
    """Manages the Kinesis streams. There is one object for the process; use it with `async with`.

    tls: trusted authorities for outgoing connections; None: the system's.
    """

    def __init__(self, endpoints: KvsEndpoints, settings: KvsSettings, tls: ssl.SSLContext | None = None) -> None:
        self._endpoints = endpoints
        self._kvs = settings
        self.default_stream = settings.stream  # for channels and jobs without their own; "" if not set
        self._tls = tls
        self._counts = FragmentCounts()
        self._claims: dict[str, str] = {}  # owner by stream
        self._woken = asyncio.Event()  # replaced by `wake`
        self._http: aiohttp.ClientSession | None = None

    async def __aexit__(self, *error: object) -> None:
        if self._http is not None:
            await self._http.close()

    @contextlib.contextmanager
    def claim(self, stream: str, owner: str) -> Iterator[None]:
        """Reserves the stream for `owner` while the block runs. Raises NameInUse.

        Kinesis accepts one PutMedia per stream. A second connection would close the first.
        """
        if (reason := self._reason_to_wait(stream)) is not None:
            raise NameInUse(reason)
        self._claims[stream] = owner
        try:
            yield
        finally:
            del self._claims[stream]
            self.wake()

    @contextlib.asynccontextmanager
    async def wait_and_claim(
        self, wanted: Callable[[], str], owner: str, on_waiting: Callable[[str | None], None]
    ) -> AsyncIterator[str]:
        """Like `claim`, but waits until the stream is free, and yields its name.

        wanted: returns the stream. If it changes during the wait, `wake` must follow. Its errors are passed on.
        on_waiting: called with the reason for the wait, then with None.
        """
        while (reason := self._reason_to_wait(stream := wanted())) is not None:
            on_waiting(reason)
            await self._woken.wait()
        with self.claim(stream, owner):
            on_waiting(None)
            yield stream

    def wake(self) -> None:
        """Lets all that wait for a stream look again."""
        self._woken.set()
        self._woken = asyncio.Event()

    def _reason_to_wait(self, stream: str) -> str | None:
        users = (owner for claimed, owner in self._claims.items() if _may_be_one_stream(claimed, stream))
        user = next(users, None)
        return None if user is None else f"the Kinesis stream {stream} is in use by {user}"

    def make_backlog(self) -> FragmentBacklog:
        return FragmentBacklog(self._kvs.backlog, self._counts)

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metric samples of all streams."""
        yield from by_label(KVS_FRAGMENTS, asdict(self._counts))

    def make_delivery(self, stream: str, backlog: FragmentBacklog) -> KvsDelivery:
        """Returns the sender of the backlog to the claimed stream."""
        import aiohttp

        from gateway.outputs.kinesis.kvs_delivery import KvsDelivery

        if self._http is None:
            # Each connection is used once, so the session does not pool them.
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, limit=0), cookie_jar=aiohttp.DummyCookieJar()
            )
        return KvsDelivery(backlog, stream, self._endpoints, self._http, self._tls, self._kvs)


def _may_be_one_stream(one: str, other: str) -> bool:
    """Returns whether two names or ARNs can refer to one stream. A plain name has no account or region."""
    a, b = _ARN.match(one), _ARN.match(other)
    if a is not None and b is not None:
        return a.groups() == b.groups()
    return (a[3] if a is not None else one) == (b[3] if b is not None else other)
