"""Purpose: a node that is there for one channel, and goes when that has not been live for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from gateway.hub.errors import AtCapacity, StoreAway
from gateway.nodes.places import Whereabouts

log = structlog.get_logger(__name__)

IDLE_SECONDS: Final = 300.0  # a publisher that comes back, to whichever gateway, finds its edges
_LOOK: Final = 15.0


async def lost(
    where: Whereabouts,
    channel: str,
    *,
    idle: float = IDLE_SECONDS,
    look: float = _LOOK,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Returns when nobody has held the channel's stream for `idle` seconds; while nobody can say, it counts as held."""
    held = clock()
    while clock() - held < idle:
        try:
            if await where.find(channel) is not None:
                held = clock()
        except (StoreAway, AtCapacity):
            held = clock()
        await asyncio.sleep(look)
    log.info("the channel is not live any more: this node goes", channel=channel, seconds=round(clock() - held))
