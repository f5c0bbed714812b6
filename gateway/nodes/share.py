"""Share: what a gateway needs to hold its streams together with other nodes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import structlog

from gateway.adapters.advertise import advertised, host_of
from gateway.api.servers import shown
from gateway.hub.addresses import Ports
from gateway.hub.cache import CachedChannels
from gateway.hub.channel import Channel
from gateway.hub.cluster_secret import ClusterSecret
from gateway.hub.errors import AtCapacity, StoreAway
from gateway.hub.events import Events
from gateway.hub.hub import Hub, StreamLimits
from gateway.hub.lease import Lease
from gateway.hub.nodes import Node, Role
from gateway.hub.output import OutputSpec
from gateway.hub.ports import ChannelReader, Registry
from gateway.lib import metrics
from gateway.lib.aio import Tasks
from gateway.lib.metrics import Counter, Sample
from gateway.nodes.claims import Claims
from gateway.nodes.cluster import Cluster
from gateway.nodes.door import Files, NodeDoor, Operation
from gateway.nodes.forward import Forwards
from gateway.nodes.locator import Locator
from gateway.nodes.membership import Membership
from gateway.nodes.peers import Peers
from gateway.nodes.places import Place
from gateway.nodes.relay import Relay
from gateway.nodes.replicas import Replicas
from gateway.nodes.spread import Spread
from gateway.nodes.streams import Streams
from gateway.nodes.teller import Teller, together
from gateway.servers.audience import Audience
from gateway.servers.protection import Protection

if TYPE_CHECKING:
    from gateway.nodes.host import Slot
    from gateway.settings import Settings

log = structlog.get_logger(__name__)


class Share:
    """Made by the app where there is a registry; use as `async with`, then `start`, and `locate` before the first push.

    slot: of a worker process; None for a gateway of one process. replicated: the outputs of what is pulled here. row:
    what the registry tells of a session besides, and spreads: which channels can have edges of their own, as of Claims.
    secret: one that may be replaced while this runs.
    """

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        registry: Registry,
        limits: StreamLimits,
        replicated: Sequence[OutputSpec],
        *,
        dropped: Counter,
        row: Callable[[Channel, str, float], Mapping[str, Any]],
        spreads: Callable[[Channel], bool],
        slot: Slot | None,
        tasks: Tasks,
        secret: ClusterSecret | None = None,
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._slot = slot
        self._tasks = tasks
        self._dropped = dropped
        self._stack = AsyncExitStack()
        self.registry = registry
        self.node = slot.id if slot is not None else secrets.token_hex(6)
        self.address = ""
        self.shown: dict[str, Any] = {}  # what people are told of this node
        own = slot.secret if slot is not None else ""
        self._secret = secret or ClusterSecret(settings.cluster.secret.get_secret_value() or own)
        self.peers = Peers(self._secret)
        self.siblings: Callable[[], Mapping[str, str]] = slot.siblings if slot is not None else dict
        self.locator = Locator(registry, self.siblings)
        self.pulled = Hub(limits, replicated, Events())  # the replicas'
        self._spread = Spread(self.locator, registry, self.node)
        self.replicas = Replicas(self.pulled, self._spread, self.peers)
        self.streams = Streams(hub, self.replicas)
        self._forwards = Forwards(limits, self.peers, dropped)
        self.claims = Claims(
            hub,
            registry,
            self.locator,
            self._forwards,
            node=self.node,
            address=lambda: self.address,
            row=row,
            spreads=spreads,
            tasks=tasks,
        )
        self._relay: Relay | None = None
        self.membership = Membership(registry, self._as_node)
        self.cluster = Cluster(self.node, registry, self.locator, self.peers, siblings=self.siblings)
        self._teller = Teller(self.node, self._watched, self.locator, self.peers)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.peers)
        await self._stack.enter_async_context(self.cluster)
        await self._stack.enter_async_context(self.replicas)
        await self._stack.enter_async_context(self.streams)
        self._stack.push_async_callback(self.claims.finish)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def lease(self) -> Lease:
        """How pushes get their publisher."""
        return self.claims.lease

    @property
    def carried(self) -> Hub:
        """The hub of the pushes that go on to their holders."""
        return self._forwards.hub

    async def locate(self, ports: Ports) -> None:
        """Finds out how others reach this node, and tells them that it is there. ports: what is open."""
        self.address = await advertised(self._settings, ports)
        self.shown = shown(host_of(self.address), ports, time.time())
        self._tasks.start(self.membership.run(), "membership")
        if not self._secret:
            log.warning("other nodes cannot play what is pushed here: cluster.secret is not set")

    def start(self) -> None:
        """What runs beside the streams, until the application's tasks end."""
        tasks = self._tasks
        tasks.start(self.pulled.run(), "replicas")
        tasks.start(self._forwards.run(), "forwards")
        tasks.start(self.locator.run(), "look-ups")
        tasks.start(self._spread.run(), "edges of channels")
        tasks.start(self.claims.run(), "claims")
        tasks.start(self._teller.run(), "viewers")
        if self._slot is not None and self._slot.succeeds:
            tasks.start(self._bury(self._slot.succeeds), "predecessor")

    async def _bury(self, node: str) -> None:
        """The process that crashed in our slot is a node no more."""
        try:
            await self.registry.leave(node)
        except StoreAway as away:
            log.info("a dead process stays in the registry until its time is over", node=node, reason=str(away))

    def samples(self) -> Iterator[Sample]:
        """A source of metrics."""
        for stream in self.pulled:
            for protocol, count in stream.viewers.items():
                yield Sample(metrics.VIEWERS, count, (protocol,))
        yield Sample(metrics.PULLED, len(self.replicas))
        yield Sample(metrics.PULLS, self.replicas.pulls)
        yield Sample(metrics.LOOKUPS, self.locator.asked)
        yield Sample(metrics.HELD, len(self.claims))

    def drain(self) -> None:
        """Nothing new; who pushes or plays through here is told."""
        self._forwards.drain()
        self.pulled.drain()

    async def relay(self, channels: CachedChannels, protection: Protection, audience: Audience) -> Relay:
        """What players get of streams that other nodes hold, but for FLV and RTMP."""
        relay = Relay(self._spread, self.peers, channels, protection, audience, self._settings.edge)
        self._relay = await self._stack.enter_async_context(relay)
        return self._relay

    def door(self, channels: ChannelReader, files: Files, operations: Mapping[str, Operation]) -> NodeDoor:
        """channels: read fresh."""
        return NodeDoor(
            secret=self._secret,
            hub=self._hub,
            channels=channels,
            files=files,
            peers=self.peers,
            held=self.held,
            operations=operations,
            dropped=self._dropped,
            session=self.claims.session,
        )

    async def held(self, name: str) -> Place | None:
        """Which sibling holds a stream."""
        if self._slot is None:
            return None
        try:
            place = await self.locator.find(name)
        except (StoreAway, AtCapacity):
            return None
        return place if place is not None and place.socket and place.node != self.node else None

    def _watched(self) -> Mapping[str, Mapping[str, int]]:
        """Who watches here what other nodes hold."""
        pulled = {stream.name: stream.viewers for stream in self.pulled}
        return together(pulled, self._relay.viewers if self._relay is not None else {})

    def _as_node(self) -> Node:
        return Node(self.node, Role.GATEWAY, self.address, shown=self.shown)
