"""One client per AWS service, made at first use and kept, with time-outs that detect an unavailable service."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any, Final, Self

import aioboto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError, ProfileNotFound

from gateway.ports.errors import StoreUnavailable, StoreUnusable

CONNECT_TIMEOUT: Final = 2
READ_TIMEOUT: Final = 3
# For a whole call with its second try. An unavailable service has to be noticed within 8 s, and the caller needs the
# rest.
CALL_TIMEOUT: Final = 6.0
_CONFIG: Final = Config(
    connect_timeout=CONNECT_TIMEOUT,
    read_timeout=READ_TIMEOUT,
    retries={"total_max_attempts": 2, "mode": "standard"},
    max_pool_connections=50,
    tcp_keepalive=True,
)
# S3 may take a while for a large object. Signature version 4 also for presigned URLs.
_TRANSFERS: Final = _CONFIG.merge(Config(read_timeout=20, signature_version="s3v4"))


class AwsSession:
    """Clients by service name; use as `async with`.

    The standard environment variables set region, credentials and endpoints.
    """

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()
        self._clients: dict[str, Any] = {}
        self._making = asyncio.Lock()
        try:
            # botocore itself reads only AWS_DEFAULT_REGION; every other SDK reads AWS_REGION first.
            self._session = aioboto3.Session(region_name=os.environ.get("AWS_REGION") or None)
        except ProfileNotFound as e:
            raise StoreUnusable(f"AWS: {e}") from None
        if self._session.region_name is None:
            raise StoreUnusable("AWS: no region: set AWS_REGION")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._clients.clear()
        await self._stack.aclose()

    @property
    def region(self) -> str:
        """The region used where a call names none."""
        return str(self._session.region_name)

    async def credentials(self) -> Any:
        """Returns this process's botocore credentials; None without any. botocore refreshes those that expire."""
        return await self._session.get_credentials()

    async def client(self, service: str, region: str | None = None, *, wait: int = 0) -> Any:
        """Returns the client of a service such as "dynamodb".

        region: one other than the configured one. wait: see `calling`.
        """
        async with self._making:
            name = "@".join(filter(None, (service, region, str(wait or ""))))
            if name not in self._clients:
                try:
                    config = _TRANSFERS if service == "s3" else _CONFIG
                    if wait:
                        config = config.merge(Config(read_timeout=wait + READ_TIMEOUT))
                    opening = self._session.client(service, region_name=region, config=config)
                    self._clients[name] = await self._stack.enter_async_context(opening)
                except (NoRegionError, ValueError) as e:
                    raise StoreUnusable(f"AWS {service}: {e}") from None
            return self._clients[name]

    @contextlib.asynccontextmanager
    async def calling(
        self, service: str, what: str, region: str | None = None, seconds: float | None = None, *, wait: int = 0
    ) -> AsyncIterator[Any]:
        """Gives the client for one call with a time-out. A failure that the block does not handle becomes
        StoreUnavailable.

        what: text for the message, such as "table video-metadata". seconds: time-out of a call that moves much data.
        wait: seconds that a long poll may take before the service answers.
        """
        try:
            async with asyncio.timeout(seconds or wait + CALL_TIMEOUT):
                yield await self.client(service, region, wait=wait)
        except TimeoutError:
            raise StoreUnavailable(f"{service} ({what}) does not answer") from None
        except ClientError as e:
            raise StoreUnavailable(f"{service} ({what}) refuses: {error_code(e)}") from e
        except (BotoCoreError, OSError) as e:
            raise StoreUnavailable(f"{service} ({what}) does not serve: {type(e).__name__}") from e


def error_code(error: ClientError) -> str:
    """Returns the code of an AWS error, such as "ConditionalCheckFailedException"."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))
