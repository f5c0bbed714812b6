"""Cloud: AWS beside the stores (IVS, Kinesis), loaded by the first stream that needs it: a laptop never does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from gateway.hub.errors import OutputTrouble, StoreUnusable
from gateway.hub.ports import IvsDirectory, IvsIngest, KvsEndpoints, ObjectStore, PutMediaRequest

if TYPE_CHECKING:
    from gateway.adapters.aws.session import AwsSession

P = TypeVar("P")


class Cloud:
    """An IvsDirectory and a KvsEndpoints. Use as `async with`; session: one that is open already, for a store.

    kvs_role: as of AwsKvs. Where AWS is not installed or has no region, calls raise OutputTrouble with what to do.
    """

    def __init__(self, session: AwsSession | None, kvs_role: str) -> None:
        self._session = session
        self._role = kvs_role
        self._stack = contextlib.AsyncExitStack()
        self._opening = asyncio.Lock()
        self._ivs: IvsDirectory | None = None
        self._kvs: KvsEndpoints | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # ---- IvsDirectory ----

    async def ingest(self, arn: str, *, fresh: bool = False) -> IvsIngest:
        if self._ivs is None:
            self._ivs = await self._make(_ivs)
        return await self._ivs.ingest(arn, fresh=fresh)

    async def bucket(self, name: str) -> ObjectStore:
        """Any bucket."""
        return await self._make(lambda session: _bucket(session, name))

    # ---- KvsEndpoints ----

    async def put_media(self, stream: str, start: float, *, fresh: bool = False) -> PutMediaRequest:
        return await (await self._endpoints()).put_media(stream, start, fresh=fresh)

    async def describe(self, stream: str) -> tuple[str, int]:
        return await (await self._endpoints()).describe(stream)

    async def _endpoints(self) -> KvsEndpoints:
        if self._kvs is None:
            role = self._role
            self._kvs = await self._make(lambda session: _kvs(session, role))
        return self._kvs

    async def _make(self, make: Callable[[AwsSession], P]) -> P:
        """The SDK takes half a second to import: in a thread, streams go on meanwhile."""
        async with self._opening:
            try:
                if self._session is None:
                    session = await asyncio.to_thread(_open)
                    self._session = await self._stack.enter_async_context(session)
                open_session = self._session
                return await asyncio.to_thread(lambda: make(open_session))
            except ModuleNotFoundError as missing:
                raise OutputTrouble(f"AWS needs the extra ({missing.name}): pip install 'millrace[aws]'") from None
            except StoreUnusable as unusable:
                raise OutputTrouble(str(unusable)) from None


def _open() -> AwsSession:
    from gateway.adapters.aws.session import AwsSession

    return AwsSession()


def _ivs(session: AwsSession) -> IvsDirectory:
    from gateway.adapters.aws.ivs import AwsIvs

    return AwsIvs(session)


def _bucket(session: AwsSession, name: str) -> ObjectStore:
    from gateway.adapters.aws.objects import S3Objects

    return S3Objects(session, name)


def _kvs(session: AwsSession, role: str) -> KvsEndpoints:
    from gateway.adapters.aws.kvs import AwsKvs

    return AwsKvs(session, role)
