"""Runs a deletion of old objects at a fixed interval."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.ports.errors import GatewayError

log = structlog.get_logger(__name__)


async def run_periodically(run_once: Callable[[], Awaitable[object]], name: str, delay: float, interval: float) -> None:
    """Calls `run_once` after `delay` and then every `interval` seconds, until cancelled. A failure is logged.

    name: of the deletion, for the log.
    """
    await asyncio.sleep(delay)
    while True:
        try:
            await run_once()
        except (GatewayError, OSError) as error:
            log.warning(f"{name} could not be deleted", reason=str(error))
        await asyncio.sleep(interval)
