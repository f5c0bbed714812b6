"""Ends a node that was started for one channel, when the channel has not been live for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from gateway.cluster.node_address import StreamLocator
from gateway.ports.errors import AtCapacity, StoreUnavailable

log = structlog.get_logger(__name__)

IDLE_SECONDS: Final = 300.0  # a publisher that reconnects in this time, to any gateway, finds its edges
_POLL_SECONDS: Final = 15.0


async def wait_until_idle(
    where: StreamLocator,
    channel: str,
    *,
    idle: float = IDLE_SECONDS,
    poll: float = _POLL_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Returns when no node has held the stream of the channel for `idle` seconds.

    While the registry does not answer, the stream counts as held. poll: seconds between two checks.
    """
    held = clock()
    while clock() - held < idle:
        try:
            if await where.find(channel) is not None:
                held = clock()
        except (StoreUnavailable, AtCapacity):
            held = clock()
        await asyncio.sleep(poll)
    log.info("the channel is not live any more: this node goes", channel=channel, seconds=round(clock() - held))
