"""Lists the gateways of an edge, requests stored files from them, and finds streams without a registry."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, TypeAlias

import structlog

from gateway.cluster.files.upstream_client import UpstreamClient, UpstreamResponse
from gateway.cluster.members.node_address import NodeAddress, PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.members.peers import Peers
from gateway.lib.places import Places
from gateway.ports.errors import AtCapacity, StoreUnavailable
from gateway.ports.nodes import Node, NodeRole, StreamClaim

log = structlog.get_logger(__name__)

_MAX_FILES: Final = 1_024  # concurrent requests for files
_MAX_GATEWAYS: Final = 8  # gateways that are tried for one request
_FAILED_SECONDS: Final = 5.0  # time for which a gateway that did not answer is used last
_ASK_SECONDS: Final = 3.0  # for the answer of one gateway
_MAX_PER_GATEWAY: Final = 64  # concurrent requests to one gateway

# Returns the gateways that seem to be alive.
GatewayList: TypeAlias = Callable[[], Awaitable[Sequence[NodeAddress]]]


def registry_gateways(nodes: Callable[[], Awaitable[Sequence[Node]]]) -> GatewayList:
    """Returns a GatewayList for the nodes in a registry."""

    async def live_gateways() -> Sequence[NodeAddress]:
        return [NodeAddress(node.id, node.address) for node in await nodes() if node.role == NodeRole.GATEWAY]

    return live_gateways


def configured_gateways(addresses: Sequence[str]) -> GatewayList:
    """Returns a GatewayList for the gateways in the settings."""
    gateways = [NodeAddress(address, address) for address in addresses]

    async def all_gateways() -> Sequence[NodeAddress]:
        return gateways

    return all_gateways


class Gateways:
    """The gateways of this edge, in an order that distributes the requests evenly."""

    def __init__(self, live_gateways: GatewayList, clock: Callable[[], float] = time.monotonic) -> None:
        self._live_gateways = live_gateways
        self._clock = clock
        self._failed: dict[str, float] = {}  # by address: the time until which it counts as failed
        self._next = 0

    async def in_order(self, first: NodeAddress | None = None) -> list[NodeAddress]:
        """Returns at most _MAX_GATEWAYS gateways: `first`, then the others, beginning with another one at each call.

        Gateways that did not answer in the last _FAILED_SECONDS are last.
        """
        gateways = list(await self._live_gateways())
        if gateways:
            self._next = (self._next + 1) % len(gateways)
            gateways = gateways[self._next :] + gateways[: self._next]
        now = self._clock()
        self._failed = {address: until for address, until in self._failed.items() if until > now}
        gateways.sort(key=lambda gateway: gateway.address in self._failed)
        if first is not None:
            gateways = [first, *(gateway for gateway in gateways if gateway.address != first.address)]
        return gateways[:_MAX_GATEWAYS]

    def mark_failed(self, gateway: NodeAddress) -> None:
        """Records that a gateway did not answer."""
        self._failed[gateway.address] = self._clock() + _FAILED_SECONDS


class GatewayFiles:
    """Requests stored files from gateways, which have them on their disks or in one bucket.

    Only one event loop may use it.
    """

    def __init__(self, gateways: Gateways, upstream: UpstreamClient, locator: StreamLocator) -> None:
        self._gateways, self._upstream, self._locator = gateways, upstream, locator
        self._requests = Places(_MAX_FILES, lambda: AtCapacity("too many files are requested"))

    @contextlib.asynccontextmanager
    async def request(
        self, target: str, channel: str = "", *, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[UpstreamResponse]:
        """Yields the answer of the first gateway that has the file, else a 404.

        The node that holds the channel's stream is asked first.

        target: path and query, encoded. Raises PeerUnavailable or PeerRefused if a gateway that may have the file sent
        no usable answer. Raises AtCapacity, StoreUnavailable.
        """
        with self._requests:
            async with contextlib.AsyncExitStack() as stack:
                yield await self._first_answer(stack, target, channel, method, headers or {})

    async def _first_answer(
        self, stack: contextlib.AsyncExitStack, target: str, channel: str, method: str, headers: Mapping[str, str]
    ) -> UpstreamResponse:
        gateways = await self._gateways.in_order(self._locator.known(channel) if channel else None)
        failure: PeerUnavailable | PeerRefused | None = None
        for gateway in gateways:
            try:
                async with contextlib.AsyncExitStack() as attempt:
                    request = self._upstream.request(gateway, method, target, headers)
                    response = await attempt.enter_async_context(request)
                    status = response.head.status
                    if status not in (404, 503) or (status == 404 and gateway is gateways[-1] and failure is None):
                        stack.push_async_exit(attempt.pop_all())
                        return response
                    if status == 503:
                        failure = PeerRefused(gateway, status, "has no answer now")
            except PeerUnavailable as error:
                self._gateways.mark_failed(gateway)
                failure = error
            except PeerRefused as error:
                failure = error
        raise failure or StoreUnavailable("no gateway is available")


class UpstreamFinder:
    """Finds streams without a registry: asks the gateways in the settings. A Finder for RegistryLocator.

    A gateway that did not answer is not asked again for _FAILED_SECONDS, so that other streams do not wait for it.
    """

    def __init__(self, addresses: Sequence[str], peers: Peers, clock: Callable[[], float] = time.monotonic) -> None:
        self._semaphores = {address: asyncio.Semaphore(_MAX_PER_GATEWAY) for address in addresses}
        self._peers = peers
        self._clock = clock
        self._failed: dict[str, float] = {}  # by address: the time until which it counts as failed

    async def find(self, streams: Collection[str]) -> dict[str, StreamClaim]:
        """Implements Registry.find. Raises StoreUnavailable if no gateway answers."""
        found: dict[str, StreamClaim] = {}
        answers = await asyncio.gather(*(self._claims_of(address, streams) for address in self._semaphores))
        for claims in reversed(answers):  # the first gateway in the settings wins
            found |= claims or {}
        if all(claims is None for claims in answers):
            raise StoreUnavailable("no gateway answers")
        return found

    async def check(self) -> None:
        """Checks whether a gateway answers. Raises StoreUnavailable if none answers."""
        await self.find(())

    async def _claims_of(self, address: str, streams: Collection[str]) -> dict[str, StreamClaim] | None:
        """Returns the claims of `streams` on a gateway; None if it does not answer."""
        if self._failed.get(address, 0.0) > self._clock() and streams:
            return None
        gateway = NodeAddress(address, address)
        try:
            if not streams:
                await self._peers.ask(gateway, "GET", "/_node/.node/node", seconds=_ASK_SECONDS)
                return {}
            claims = await asyncio.gather(*(self._claim_of(gateway, stream) for stream in streams))
        except PeerUnavailable as error:
            self._failed[address] = self._clock() + _FAILED_SECONDS
            log.debug("a gateway does not answer", address=address, reason=str(error))
            return None
        except PeerRefused as refused:
            log.warning("a gateway rejects this edge", address=address, reason=str(refused))
            return None
        return {claim.stream: claim for claim in claims if claim is not None}

    async def _claim_of(self, gateway: NodeAddress, stream: str) -> StreamClaim | None:
        async with self._semaphores[gateway.address]:
            try:
                await self._peers.ask(gateway, "GET", f"/_node/.node/session/{stream}", seconds=_ASK_SECONDS)
            except PeerRefused as refused:
                if refused.status in (404, 421):
                    return None
                raise
        return StreamClaim(stream, gateway.id, gateway.address, f"{gateway.address}/{stream}", 0.0)
