"""AWS services other than the stores (IVS, Kinesis, ECS).

They are loaded on first use. A machine without AWS never loads them.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from gateway.adapters.stores import open_aws
from gateway.ports.errors import OutputError, StoreUnusable
from gateway.ports.stores import IvsChannelInfo, IvsIngest, KvsEndpoints, ObjectStore, PutMediaRequest, TaskRunner

if TYPE_CHECKING:
    from gateway.adapters.aws.ivs import AwsIvs
    from gateway.adapters.aws.session import AwsSession
    from gateway.settings.models import EcsSettings

T = TypeVar("T")


class AwsServices:
    """An IvsDirectory, IvsChannels and KvsEndpoints. Use it as `async with`.

    session: an AwsSession that a store has opened already. kvs_role: see AwsKvs.

    If AWS is not installed or has no region, methods for outputs raise OutputError with a hint. Methods for the API
    raise StoreUnusable.
    """

    def __init__(self, session: AwsSession | None, kvs_role: str) -> None:
        self._session = session
        self._role = kvs_role
        self._stack = contextlib.AsyncExitStack()
        self._open_lock = asyncio.Lock()
        self._ivs: AwsIvs | None = None
        self._kvs: KvsEndpoints | None = None
        self._tasks: TaskRunner | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    # ---- IvsDirectory ----

    async def ingest(self, arn: str, *, fresh: bool = False) -> IvsIngest:
        with _unusable_as_output_error():
            ivs = await self._channels()
        return await ivs.ingest(arn, fresh=fresh)

    # ---- IvsChannels ----

    @property
    def available(self) -> bool:
        return self._session is not None or (importlib.util.find_spec("aioboto3") is not None and _configured())

    async def channels(self) -> list[IvsChannelInfo]:
        return await (await self._channels()).channels()

    async def create(self, name: str, kind: str, latency: str, authorized: bool = False) -> IvsChannelInfo:
        return await (await self._channels()).create(name, kind, latency, authorized)

    async def delete(self, arn: str) -> None:
        await (await self._channels()).delete(arn)

    async def _channels(self) -> AwsIvs:
        if self._ivs is None:
            self._ivs = await self._create(_ivs)
        return self._ivs

    # ---- tasks ----

    async def tasks(self, settings: EcsSettings) -> TaskRunner:
        """Returns the runner of ECS tasks. All streams share it."""
        if self._tasks is None:
            with _unusable_as_output_error():
                self._tasks = await self._create(lambda session: _tasks(session, settings))
        return self._tasks

    async def bucket(self, name: str) -> ObjectStore:
        """Returns an object store for the bucket `name`."""
        with _unusable_as_output_error():
            return await self._create(lambda session: _bucket(session, name))

    # ---- KvsEndpoints ----

    async def put_media(self, stream: str, start: float, *, fresh: bool = False) -> PutMediaRequest:
        return await (await self._endpoints()).put_media(stream, start, fresh=fresh)

    async def describe(self, stream: str) -> tuple[str, int]:
        return await (await self._endpoints()).describe(stream)

    async def _endpoints(self) -> KvsEndpoints:
        if self._kvs is None:
            role = self._role
            with _unusable_as_output_error():
                self._kvs = await self._create(lambda session: _kvs(session, role))
        return self._kvs

    async def _create(self, factory: Callable[[AwsSession], T]) -> T:
        """Creates an object that needs the SDK. Raises StoreUnusable.

        Importing the SDK takes 0.5 s, so a thread does it.
        """
        async with self._open_lock:
            if self._session is None:
                session = await asyncio.to_thread(open_aws, "this")
                self._session = await self._stack.enter_async_context(session)
            open_session = self._session
            return await asyncio.to_thread(lambda: factory(open_session))


@contextlib.contextmanager
def _unusable_as_output_error() -> Iterator[None]:
    """Converts StoreUnusable to OutputError, so that outputs retry: AWS may be installed or configured later."""
    try:
        yield
    except StoreUnusable as error:
        raise OutputError(str(error)) from None


def _configured() -> bool:
    """Whether a region is set in the environment, or an AWS configuration file exists."""
    if any(os.environ.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION")):
        return True
    return Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser().is_file()


def _ivs(session: AwsSession) -> AwsIvs:
    from gateway.adapters.aws.ivs import AwsIvs

    return AwsIvs(session)


def _bucket(session: AwsSession, name: str) -> ObjectStore:
    from gateway.adapters.aws.objects import S3Objects

    return S3Objects(session, name)


def _tasks(session: AwsSession, settings: EcsSettings) -> TaskRunner:
    from gateway.adapters.aws.tasks import EcsTasks

    return EcsTasks(session, settings)


def _kvs(session: AwsSession, role: str) -> KvsEndpoints:
    from gateway.adapters.aws.kvs import AwsKvs

    return AwsKvs(session, role)
