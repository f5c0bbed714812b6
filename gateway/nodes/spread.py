"""Spread: a stream with edges of its own is read from those, by each reader from another, and not from its holder."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from heapq import nlargest
from typing import Final, Protocol

import structlog

from gateway.hub.errors import StoreAway
from gateway.hub.names import channel_of
from gateway.hub.nodes import Node, Role
from gateway.nodes.living import Living
from gateway.nodes.locator import Locator
from gateway.nodes.places import Place

log = structlog.get_logger(__name__)

READ_SECONDS: Final = 10.0  # between two readings of the registry's nodes
_WAIT_SECONDS: Final = 2.0  # that a look-up waits for one
_TRIED: Final = 3  # edges of a channel that one reader tries; its holder is next
_FAILED_SECONDS: Final = 10.0  # for which an edge that failed is passed by


class Directory(Protocol):
    """The registry, as far as it is read here."""

    async def nodes(self) -> list[Node]: ...


class Spread:
    """A Whereabouts for readers, over the locator's; `run` must run. Who decides about a stream, the locator knows.

    Which of the living edges of a channel this node reads from is a hash of both: readers spread evenly, and where an
    edge comes or goes only its own readers move. While streams with such edges are looked for, the nodes are read every
    READ_SECONDS at most, by one request for all of them; while the registry is away the last reading serves.
    """

    def __init__(
        self,
        locator: Locator,
        registry: Directory,
        node: str,
        channel: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """node: our id. channel: that this node itself is an edge of, which reads it from the holder; "": of none."""
        self._locator = locator
        self._registry = registry
        self._node = node
        self._channel = channel
        self._clock = clock
        self._living = Living(clock)
        self._edges: dict[str, list[Node]] = {}  # by channel, as last read
        self._nearest: dict[str, list[Node]] = {}  # the same, ours first; of channels that were looked for since
        self._failed: dict[str, float] = {}  # edges, until when they are passed by
        self._read_at = float("-inf")
        self._wanted = asyncio.Event()
        self._read = asyncio.Event()  # the next reading
        self._away = False

    # ---- Whereabouts ----

    def known(self, name: str) -> Place | None:
        place = self._locator.known(name)
        if place is None or not self._spreads(name, place):
            return place
        if self._due():
            self._wanted.set()
            if not self._edges:
                return None  # find waits for a reading
        return self._chosen(channel_of(name), place)

    async def find(self, name: str) -> Place | None:
        place = await self._locator.find(name)
        if place is None or not self._spreads(name, place):
            return place
        if self._due():
            self._wanted.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WAIT_SECONDS):
                    await self._read.wait()
        return self._chosen(channel_of(name), place)

    def lost(self, name: str, place: Place) -> None:
        if not place.edge:
            self._locator.lost(name, place)
            return
        now = self._clock()
        self._failed = {node: until for node, until in self._failed.items() if until > now}
        if place.node not in self._failed:
            self._locator.forget(channel_of(name))  # the stream may have ended, which the registry knows
        self._failed[place.node] = now + _FAILED_SECONDS

    def _spreads(self, name: str, place: Place) -> bool:
        """A holder on this very machine is nearer than any edge."""
        return place.cluster and not place.socket and channel_of(name) != self._channel

    def _chosen(self, channel: str, holder: Place) -> Place:
        """The first of our edges that did not fail a moment ago; where all did, and where there is none, the holder."""
        nearest = self._nearest.get(channel)
        if nearest is None:
            edges = self._edges.get(channel, ())
            nearest = self._nearest[channel] = nlargest(_TRIED, edges, key=lambda edge: self._weight(edge.id))
        now = self._clock()
        for edge in nearest:
            if self._failed.get(edge.id, now) <= now:
                return Place(edge.id, edge.address, holder.claim, edge=True)
        return holder

    def _weight(self, id: str) -> bytes:
        """Rendezvous hashing: the greatest of all candidates' is taken."""
        return blake2b(f"{self._node}/{id}".encode(), digest_size=8).digest()

    # ---- which edges there are ----

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wanted.wait()
            await self._look()
            self._wanted.clear()
            done, self._read = self._read, asyncio.Event()
            done.set()

    def _due(self) -> bool:
        return self._clock() - self._read_at >= READ_SECONDS

    async def _look(self) -> None:
        try:
            nodes = await self._registry.nodes()
        except StoreAway as away:
            if not self._away:
                log.warning("the edges of channels cannot be looked for", reason=str(away))
            self._away = True
        else:
            self._away = False
            self._living.read(nodes)
            self._edges = self._by_channel(nodes)
        self._nearest = {}
        self._read_at = self._clock()

    def _by_channel(self, nodes: Iterable[Node]) -> dict[str, list[Node]]:
        """The living edges; judged at a reading, because between two of them no beat is seen."""
        found: dict[str, list[Node]] = {}
        for node in nodes:
            if node.role is Role.EDGE and node.channel and node.address and self._living.alive(node.id):
                found.setdefault(node.channel, []).append(node)
        return found
