"""Waits until a channel is idle, so that a node that was started for this channel can end."""

import asyncio
import time
from typing import Final

import structlog

from gateway.cluster.members.node_address import StreamLocator
from gateway.lib.clocks import Clock
from gateway.ports.errors import AtCapacity, StoreUnavailable

log = structlog.get_logger(__name__)

IDLE_SECONDS: Final = 300.0  # a publisher may reconnect to any gateway within this time, and still has its edges
_POLL_SECONDS: Final = 15.0


async def wait_until_idle(
    locator: StreamLocator,
    channel: str,
    *,
    idle: float = IDLE_SECONDS,
    poll: float = _POLL_SECONDS,
    clock: Clock = time.monotonic,
) -> None:
    """Returns when no node has held the stream of the channel for `idle` seconds.

    While the registry does not answer, the stream counts as held. poll: seconds between two checks.
    """
    last_held = clock()
    while clock() - last_held < idle:
        try:
            if await locator.find(channel) is not None:
                last_held = clock()
        except (StoreUnavailable, AtCapacity):
            last_held = clock()
        await asyncio.sleep(poll)
    log.info("the channel is no longer live: this node ends", channel=channel, seconds=round(clock() - last_held))
