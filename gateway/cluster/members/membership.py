"""Keeps this node in the registry with a heartbeat, and ends a node of one channel when the channel is idle."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from gateway.cluster.members.node_address import PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.members.node_requests import NOT_THIS_NODE, check_held
from gateway.cluster.members.peers import Peers
from gateway.lib.clocks import Clock
from gateway.lib.tasks import kept
from gateway.ports.errors import AtCapacity, StoreUnavailable
from gateway.ports.events import Event, Events, EventType
from gateway.ports.nodes import Node
from gateway.ports.stores import Registry

log = structlog.get_logger(__name__)

BEAT_SECONDS: Final = 3.0
IDLE_SECONDS: Final = 300.0  # a publisher may reconnect to any gateway within this time, and still has its edges
_POLL_SECONDS: Final = 15.0


class Membership:
    """Joins the registry, sends heartbeats and leaves. `run` does all three.

    describe: returns the current values of this node; called at each heartbeat.
    seen: gets the nodes that the registry has. events: get the beginning and the end of an outage of the registry.
    """

    def __init__(
        self,
        registry: Registry,
        describe: Callable[[], Node],
        seen: Callable[[Sequence[Node]], None] = lambda nodes: None,
        events: Events | None = None,
    ) -> None:
        self._registry = registry
        self._seen = seen
        self._describe = describe
        self._events = events
        self._beat = 0
        self._joined = False
        self._failed_at: float | None = None  # the time of the first heartbeat that failed, seconds since 1970

    async def run(self) -> None:
        """Joins and sends heartbeats until it is cancelled, then leaves.

        It retries if the registry does not answer. Streams continue.
        """
        try:
            await kept(self._beat_regularly, "membership")
        finally:
            if self._joined:
                self._joined = False
                await self._leave()

    async def _beat_regularly(self) -> None:
        while True:
            self._beat += 1
            node = replace(self._describe(), beat=self._beat)
            try:
                if self._joined:
                    if (nodes := await self._registry.beat(node)) is not None:
                        self._seen(nodes)
                else:
                    await self._registry.join(node)
                self._joined = True
                self._answered(node.id)
            except StoreUnavailable as error:
                self._did_not_answer(str(error))
            await asyncio.sleep(BEAT_SECONDS)

    @property
    def fails(self) -> bool:
        """Whether the registry did not take the last heartbeat."""
        return self._failed_at is not None

    def _answered(self, node: str) -> None:
        if self._failed_at is not None:
            seconds, self._failed_at = round(time.time() - self._failed_at, 1), None
            log.info("the registry answers again", node=node, seconds=seconds)
            self._emit(EventType.REGISTRY_RECOVERED, {"seconds": seconds})

    def _did_not_answer(self, reason: str) -> None:
        if self._failed_at is None:
            self._failed_at = time.time()
            log.warning("the registry does not answer: other nodes miss heartbeats", reason=reason)
            self._emit(EventType.REGISTRY_FAILED, {"reason": reason})

    def _emit(self, type: EventType, data: dict[str, Any]) -> None:
        if self._events is not None:
            self._events.emit(Event(type, time.time(), "", data))

    async def _leave(self) -> None:
        id = self._describe().id
        try:
            async with asyncio.timeout(3):
                await self._registry.leave(id)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("this node could not be removed from the registry", reason=str(error))


async def wait_until_idle(
    locator: StreamLocator,
    peers: Peers,
    channel: str,
    *,
    idle: float = IDLE_SECONDS,
    poll: float = _POLL_SECONDS,
    clock: Clock = time.monotonic,
) -> None:
    """Returns when no node has held the stream of the channel for `idle` seconds.

    While the registry does not answer, the stream counts as held; while the node with its claim does not answer, it
    does not. poll: seconds between two checks.
    """
    last_held = clock()
    while clock() - last_held < idle:
        try:
            if (node := await locator.find(channel)) is not None:
                await check_held(peers, node, channel)
                last_held = clock()
        except (StoreUnavailable, AtCapacity):
            last_held = clock()
        except PeerUnavailable as error:
            log.debug("the node with the stream does not answer", channel=channel, reason=str(error))
        except PeerRefused as refused:
            if refused.status != NOT_THIS_NODE:  # an older version does not know the request
                last_held = clock()
        await asyncio.sleep(poll)
    log.info("the channel is no longer live: this node ends", channel=channel, seconds=round(clock() - last_held))
