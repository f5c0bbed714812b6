"""Gateways: which there are, and asking one after the other for what belongs to no live stream."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, TypeAlias

import structlog

from gateway.hub.errors import AtCapacity, StoreAway
from gateway.hub.nodes import Holding, Node, Role
from gateway.nodes.origin import Answered, Origin
from gateway.nodes.peers import Peers
from gateway.nodes.places import PeerAway, PeerRefused, Place, Whereabouts

log = structlog.get_logger(__name__)

_MOST_AT_ONCE: Final = 1_024  # files that are passed on
_MOST_ASKED: Final = 8  # gateways, for one thing
_AWAY_SECONDS: Final = 5.0  # for which a gateway that did not answer is asked last
_ASK_SECONDS: Final = 3.0
_QUESTIONS: Final = 64  # to one gateway at once

# All that are believed to live, as they are now.
Living: TypeAlias = Callable[[], Awaitable[Sequence[Place]]]


def registered(nodes: Callable[[], Awaitable[Sequence[Node]]]) -> Living:
    """The gateways among the nodes of a registry."""

    async def living() -> Sequence[Place]:
        return [Place(node.id, node.address) for node in await nodes() if node.role == Role.GATEWAY]

    return living


def upstream(addresses: Sequence[str]) -> Living:
    """Those that the settings name."""
    places = [Place(address, address) for address in addresses]

    async def living() -> Sequence[Place]:
        return places

    return living


class Gateways:
    """The gateways of this edge, in an order in which they share what is asked."""

    def __init__(self, living: Living, clock: Callable[[], float] = time.monotonic) -> None:
        self._living = living
        self._clock = clock
        self._away: dict[str, float] = {}  # addresses, until when
        self._turn = 0

    async def all(self, first: Place | None = None) -> list[Place]:
        """At most _MOST_ASKED: `first`, then the others in turn, those that did not answer a moment ago last."""
        places = list(await self._living())
        if places:
            self._turn = (self._turn + 1) % len(places)
            places = places[self._turn :] + places[: self._turn]
        now = self._clock()
        self._away = {address: until for address, until in self._away.items() if until > now}
        places.sort(key=lambda place: place.address in self._away)
        if first is not None:
            places = [first, *(place for place in places if place.address != first.address)]
        return places[:_MOST_ASKED]

    def failed(self, place: Place) -> None:
        """It did not answer."""
        self._away[place.address] = self._clock() + _AWAY_SECONDS


class Store:
    """What gateways have stored, on disks of their own or in one bucket. Touched by one loop."""

    def __init__(self, gateways: Gateways, origin: Origin, where: Whereabouts) -> None:
        self._gateways = gateways
        self._origin = origin
        self._where = where
        self._at_once = 0

    @contextlib.asynccontextmanager
    async def ask(
        self, target: str, channel: str = "", *, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Answered]:
        """The answer of the first that has it, the holder of the channel's stream before all others; else a 404.

        target: path and query, encoded. Raises PeerAway or PeerRefused where one that may have it cannot say,
        AtCapacity, StoreAway.
        """
        if self._at_once >= _MOST_AT_ONCE:
            raise AtCapacity("too many files are passed on")
        self._at_once += 1
        try:
            async with contextlib.AsyncExitStack() as stack:
                yield await self._found(stack, target, channel, method, headers or {})
        finally:
            self._at_once -= 1

    async def _found(
        self, stack: contextlib.AsyncExitStack, target: str, channel: str, method: str, headers: Mapping[str, str]
    ) -> Answered:
        places = await self._gateways.all(self._where.known(channel) if channel else None)
        failure: PeerAway | PeerRefused | None = None
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
            except PeerAway as error:
                self._gateways.failed(place)
                failure = error
            except PeerRefused as error:
                failure = error
        raise failure or StoreAway("no gateway is there")


class Upstreams:
    """A locator's Finder without a registry: asks the gateways that the settings name which of them has a stream. One
    that did not answer is not asked again for _AWAY_SECONDS: the others' streams do not wait for it."""

    def __init__(self, addresses: Sequence[str], peers: Peers, clock: Callable[[], float] = time.monotonic) -> None:
        self._gates = {address: asyncio.Semaphore(_QUESTIONS) for address in addresses}
        self._peers = peers
        self._clock = clock
        self._away: dict[str, float] = {}  # addresses, until when

    async def find(self, streams: Collection[str]) -> dict[str, Holding]:
        """As of Registry. StoreAway where none answers."""
        found: dict[str, Holding] = {}
        answers = await asyncio.gather(*(self._ask(address, streams) for address in self._gates))
        for held in reversed(answers):  # the first named wins
            found |= held or {}
        if all(held is None for held in answers):
            raise StoreAway("no gateway answers")
        return found

    async def check(self) -> None:
        """Returns where one answers; StoreAway else."""
        await self.find(())

    async def _ask(self, address: str, streams: Collection[str]) -> dict[str, Holding] | None:
        """What a gateway holds of these; None where it does not answer."""
        if self._away.get(address, 0.0) > self._clock() and streams:
            return None
        place = Place(address, address)
        try:
            if not streams:
                await self._peers.ask(place, "GET", "/_node/.node/node", seconds=_ASK_SECONDS)
                return {}
            held = await asyncio.gather(*(self._holds(place, stream) for stream in streams))
        except PeerAway as away:
            self._away[address] = self._clock() + _AWAY_SECONDS
            log.debug("a gateway does not answer", address=address, reason=str(away))
            return None
        except PeerRefused as refused:
            log.warning("a gateway does not serve this edge", address=address, reason=str(refused))
            return None
        return {stream: holding for stream, holding in zip(streams, held, strict=True) if holding is not None}

    async def _holds(self, place: Place, stream: str) -> Holding | None:
        async with self._gates[place.address]:
            try:
                await self._peers.ask(place, "GET", f"/_node/.node/session/{stream}", seconds=_ASK_SECONDS)
            except PeerRefused as refused:
                if refused.status in (404, 421):
                    return None
                raise
        return Holding(stream, place.node, place.address, f"{place.address}/{stream}", 0.0)
