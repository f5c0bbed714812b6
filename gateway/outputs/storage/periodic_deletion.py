"""Runs a background job, such as a deletion of old objects, at a fixed interval."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.ports.errors import GatewayError

log = structlog.get_logger(__name__)


async def run_periodically(
    run_once: Callable[[], Awaitable[object]], failure: str, delay: float, interval: float, retry: float = 0.0
) -> None:
    """Calls `run_once` after `delay` and then every `interval` seconds, until cancelled. A failure is logged.

    failure: the text for the log. retry: seconds until the next call after a failure; 0: `interval`.
    """
    await asyncio.sleep(delay)
    while True:
        pause = interval
        try:
            await run_once()
        except (GatewayError, OSError) as error:
            log.warning(failure, reason=str(error))
            pause = retry or interval
        await asyncio.sleep(pause)
