"""AWS services other than the gateway's own stores: IVS, Kinesis, ECS, and buckets of jobs.

They are loaded on first use. A machine without AWS never loads them.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.adapters.stores import open_aws
from gateway.ports.errors import OutputError, StoreUnusable
from gateway.ports.stores import IvsChannelInfo, IvsIngest, ObjectStore, PutMediaRequest, TaskRunner

if TYPE_CHECKING:
    from gateway.adapters.aws.ivs import AwsIvs
    from gateway.adapters.aws.kvs import AwsKvs
    from gateway.adapters.aws.session import AwsSession
    from gateway.settings.models import EcsSettings


@dataclass(frozen=True, slots=True)
class _Opened:
    session: AwsSession
    ivs: AwsIvs
    kvs: AwsKvs


class AwsServices(contextlib.AbstractAsyncContextManager["AwsServices"]):
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
        self._opened: _Opened | None = None
        self._tasks: TaskRunner | None = None

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    # ---- IvsDirectory ----

    async def ingest(self, arn: str, *, fresh: bool = False) -> IvsIngest:
        return await (await self._open_for_output()).ivs.ingest(arn, fresh=fresh)

    # ---- IvsChannels ----

    @property
    def available(self) -> bool:
        return self._session is not None or (importlib.util.find_spec("aioboto3") is not None and _configured())

    async def channels(self) -> list[IvsChannelInfo]:
        return await (await self._open()).ivs.channels()

    async def create(self, name: str, kind: str, latency: str, authorized: bool = False) -> IvsChannelInfo:
        return await (await self._open()).ivs.create(name, kind, latency, authorized)

    async def delete(self, arn: str) -> None:
        await (await self._open()).ivs.delete(arn)

    # ---- tasks ----

    async def tasks(self, settings: EcsSettings) -> TaskRunner:
        """Returns the runner of ECS tasks. All streams share it."""
        opened = await self._open_for_output()
        if self._tasks is None:
            from gateway.adapters.aws.tasks import EcsTasks

            self._tasks = EcsTasks(opened.session, settings)
        return self._tasks

    async def bucket(self, name: str) -> ObjectStore:
        """Returns an object store for the bucket `name`."""
        opened = await self._open_for_output()
        from gateway.adapters.aws.objects import S3Objects

        return S3Objects(opened.session, name)

    # ---- KvsEndpoints ----

    async def put_media(self, stream: str, start: float, *, fresh: bool = False) -> PutMediaRequest:
        return await (await self._open_for_output()).kvs.put_media(stream, start, fresh=fresh)

    async def describe(self, stream: str) -> tuple[str, int]:
        return await (await self._open_for_output()).kvs.describe(stream)

    async def _open(self) -> _Opened:
        """Returns the services, opened at the first call. Raises StoreUnusable.

        Importing the SDK takes 0.5 s, so a thread does it.
        """
        async with self._open_lock:
            if self._session is None:
                session = await asyncio.to_thread(open_aws, "this")
                self._session = await self._stack.enter_async_context(session)
            if self._opened is None:
                from gateway.adapters.aws.ivs import AwsIvs
                from gateway.adapters.aws.kvs import AwsKvs

                self._opened = _Opened(self._session, AwsIvs(self._session), AwsKvs(self._session, self._role))
            return self._opened

    async def _open_for_output(self) -> _Opened:
        """Like `_open`, but raises OutputError, so that outputs retry: AWS may be installed or configured later."""
        try:
            return await self._open()
        except StoreUnusable as error:
            raise OutputError(str(error)) from None


def _configured() -> bool:
    """Whether a region is set in the environment, or an AWS configuration file exists."""
    if any(os.environ.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION")):
        return True
    return Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser().is_file()
