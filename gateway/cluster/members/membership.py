"""Keeps this node in the registry with a heartbeat, and ends a node of one channel when the channel is idle."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from gateway.cluster.members.node_address import StreamLocator
from gateway.lib.clocks import Clock
from gateway.ports.errors import AtCapacity, StoreUnavailable
from gateway.ports.nodes import Node
from gateway.ports.stores import Registry

log = structlog.get_logger(__name__)

BEAT_SECONDS: Final = 3.0
IDLE_SECONDS: Final = 300.0  # a publisher may reconnect to any gateway within this time, and still has its edges
_POLL_SECONDS: Final = 15.0


class Membership:
    """Joins the registry, sends heartbeats and leaves. `run` does all three.

    describe: returns the current values of this node; called at each heartbeat.
    """

    def __init__(
        self,
        registry: Registry,
        describe: Callable[[], Node],
        seen: Callable[[Sequence[Node]], None] = lambda nodes: None,
    ) -> None:
        self._registry = registry
        self._seen = seen
        self._describe = describe
        self._beat = 0
        self._registry_failed = False

    async def run(self) -> None:
        """Joins and sends heartbeats until it is cancelled, then leaves.

        It retries if the registry does not answer. Streams continue.
        """
        joined = False
        try:
            while True:
                self._beat += 1
                node = replace(self._describe(), beat=self._beat)
                try:
                    if joined:
                        if (nodes := await self._registry.beat(node)) is not None:
                            self._seen(nodes)
                    else:
                        await self._registry.join(node)
                    joined = True
                    if self._registry_failed:
                        log.info("the registry answers again", node=node.id)
                    self._registry_failed = False
                except StoreUnavailable as error:
                    if not self._registry_failed:
                        log.warning("the registry does not answer: other nodes miss heartbeats", reason=str(error))
                    self._registry_failed = True
                await asyncio.sleep(BEAT_SECONDS)
        finally:
            if joined:
                await self._leave()

    async def _leave(self) -> None:
        id = self._describe().id
        try:
            async with asyncio.timeout(3):
                await self._registry.leave(id)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("this node could not be removed from the registry", reason=str(error))


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
