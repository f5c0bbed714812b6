"""Waits for an unavailable store during a job, because hours of work could be lost."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from gateway.lib.backoff import Backoff
from gateway.ports.errors import ObjectArchived, StoreUnavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

_STORE_TIMEOUT: Final = 900.0  # maximum seconds that a store may be unavailable


async def wait_for_store(work: Callable[[], Awaitable[T]], **fields: str) -> T:
    """Returns the result of `work`, which is called again while a store is unavailable. fields: of the log line.

    Raises StoreUnavailable after 900 s, and at once for what is archived.
    """
    backoff, deadline = Backoff(1, 30), time.monotonic() + _STORE_TIMEOUT
    while True:
        began = time.monotonic()
        try:
            return await work()
        except StoreUnavailable as error:
            if time.monotonic() - began > _STORE_TIMEOUT:  # no call lasts so long: the store was there for a while
                backoff, deadline = Backoff(1, 30), time.monotonic() + _STORE_TIMEOUT
            if time.monotonic() > deadline or isinstance(error, ObjectArchived):
                raise
            log.info("the store is unavailable, a job waits for it", **fields, reason=str(error))
            await asyncio.sleep(backoff.next())
