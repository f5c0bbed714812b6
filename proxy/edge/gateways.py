"""Lists the gateways of an edge, asks them for stored files, and finds streams without a registry."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, TypeAlias

import structlog

from gateway.cluster.node_address import NodeAddress, PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.peers import Peers
from gateway.cluster.upstream_client import UpstreamClient, UpstreamResponse
from gateway.ports.errors import AtCapacity, StoreUnavailable
from gateway.ports.nodes import Node, NodeRole, StreamClaim

log = structlog.get_logger(__name__)

_MAX_AT_ONCE: Final = 1_024  # files that are requested from gateways at the same time
_MAX_ASKED: Final = 8  # gateways for one request
_AWAY_SECONDS: Final = 5.0  # a gateway that did not answer is asked last for so long
_ASK_SECONDS: Final = 3.0
_QUESTIONS: Final = 64  # requests to one gateway at the same time

# Returns the gateways that are believed to be alive now.
GatewayList: TypeAlias = Callable[[], Awaitable[Sequence[NodeAddress]]]


def registry_gateways(nodes: Callable[[], Awaitable[Sequence[Node]]]) -> GatewayList:
    """Returns the GatewayList for the nodes of a registry."""

    async def living() -> Sequence[NodeAddress]:
        return [NodeAddress(node.id, node.address) for node in await nodes() if node.role == NodeRole.GATEWAY]

    return living


def configured_gateways(addresses: Sequence[str]) -> GatewayList:
    """Returns the GatewayList for the gateways in the settings."""
    places = [NodeAddress(address, address) for address in addresses]

    async def living() -> Sequence[NodeAddress]:
        return places

    return living


class Gateways:
    """The gateways of this edge, in an order that spreads the requests over all of them."""

    def __init__(self, living: GatewayList, clock: Callable[[], float] = time.monotonic) -> None:
        self._living = living
        self._clock = clock
        self._away: dict[str, float] = {}  # address → time until which it counts as away
        self._turn = 0

    async def all(self, first: NodeAddress | None = None) -> list[NodeAddress]:
        """Returns at most _MAX_ASKED gateways: `first`, then the others in turn.

        Gateways that did not answer in the last _AWAY_SECONDS come last.
        """
        places = list(await self._living())
        if places:
            self._turn = (self._turn + 1) % len(places)
            places = places[self._turn :] + places[: self._turn]
        now = self._clock()
        self._away = {address: until for address, until in self._away.items() if until > now}
        places.sort(key=lambda place: place.address in self._away)
        if first is not None:
            places = [first, *(place for place in places if place.address != first.address)]
        return places[:_MAX_ASKED]

    def failed(self, place: NodeAddress) -> None:
        """Notes that a gateway did not answer."""
        self._away[place.address] = self._clock() + _AWAY_SECONDS


class GatewayFiles:
    """Requests stored files from gateways, which have them on their own disks or in one bucket.

    Use it from one event loop only.
    """

    def __init__(self, gateways: Gateways, origin: UpstreamClient, where: StreamLocator) -> None:
        self._gateways = gateways
        self._origin = origin
        self._where = where
        self._at_once = 0

    @contextlib.asynccontextmanager
    async def ask(
        self, target: str, channel: str = "", *, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[UpstreamResponse]:
        """Yields the answer of the first gateway that has the file, else a 404. Asks the channel's holder first.

        target: path and query, encoded. Raises PeerUnavailable or PeerRefused if a gateway that may have the file gave
        no usable answer. Raises AtCapacity, StoreUnavailable.
        """
        if self._at_once >= _MAX_AT_ONCE:
            raise AtCapacity("too many files are passed on")
        self._at_once += 1
        try:
            async with contextlib.AsyncExitStack() as stack:
                yield await self._found(stack, target, channel, method, headers or {})
        finally:
            self._at_once -= 1

    async def _found(
        self, stack: contextlib.AsyncExitStack, target: str, channel: str, method: str, headers: Mapping[str, str]
    ) -> UpstreamResponse:
        places = await self._gateways.all(self._where.known(channel) if channel else None)
        failure: PeerUnavailable | PeerRefused | None = None
        for place in places:
            try:
                async with contextlib.AsyncExitStack() as attempt:
                    answered = await attempt.enter_async_context(self._origin.ask(place, method, target, headers))
                    status = answered.head.status
                    if status not in (404, 503) or (status == 404 and place is places[-1] and failure is None):
                        stack.push_async_exit(attempt.pop_all())
                        return answered
                    if status == 503:
                        failure = PeerRefused(place, status, "cannot say now")
            except PeerUnavailable as error:
                self._gateways.failed(place)
                failure = error
            except PeerRefused as error:
                failure = error
        raise failure or StoreUnavailable("no gateway is there")


class UpstreamFinder:
    """Finds streams without a registry, by asking the gateways in the settings. A Finder of RegistryLocator.

    A gateway that did not answer is not asked again for _AWAY_SECONDS, so that other streams do not wait for it.
    """

    def __init__(self, addresses: Sequence[str], peers: Peers, clock: Callable[[], float] = time.monotonic) -> None:
        self._gates = {address: asyncio.Semaphore(_QUESTIONS) for address in addresses}
        self._peers = peers
        self._clock = clock
        self._away: dict[str, float] = {}  # address → time until which it counts as away

    async def find(self, streams: Collection[str]) -> dict[str, StreamClaim]:
        """Implements Registry.find. Raises StoreUnavailable if no gateway answers."""
        found: dict[str, StreamClaim] = {}
        answers = await asyncio.gather(*(self._ask(address, streams) for address in self._gates))
        for held in reversed(answers):  # the first gateway in the settings wins
            found |= held or {}
        if all(held is None for held in answers):
            raise StoreUnavailable("no gateway answers")
        return found

    async def check(self) -> None:
        """Returns if a gateway answers. Raises StoreUnavailable if none does."""
        await self.find(())

    async def _ask(self, address: str, streams: Collection[str]) -> dict[str, StreamClaim] | None:
        """Returns the streams that a gateway holds, out of `streams`; None if it does not answer."""
        if self._away.get(address, 0.0) > self._clock() and streams:
            return None
        place = NodeAddress(address, address)
        try:
            if not streams:
                await self._peers.ask(place, "GET", "/_node/.node/node", seconds=_ASK_SECONDS)
                return {}
            held = await asyncio.gather(*(self._holds(place, stream) for stream in streams))
        except PeerUnavailable as away:
            self._away[address] = self._clock() + _AWAY_SECONDS
            log.debug("a gateway does not answer", address=address, reason=str(away))
            return None
        except PeerRefused as refused:
            log.warning("a gateway does not serve this edge", address=address, reason=str(refused))
            return None
        return {stream: holding for stream, holding in zip(streams, held, strict=True) if holding is not None}

    async def _holds(self, place: NodeAddress, stream: str) -> StreamClaim | None:
        async with self._gates[place.address]:
            try:
                await self._peers.ask(place, "GET", f"/_node/.node/session/{stream}", seconds=_ASK_SECONDS)
            except PeerRefused as refused:
                if refused.status in (404, 421):
                    return None
                raise
        return StreamClaim(stream, place.node, place.address, f"{place.address}/{stream}", 0.0)
