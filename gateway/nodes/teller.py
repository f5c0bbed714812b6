"""Teller: says to the holders of streams how many watch them through this node."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

import structlog

from gateway.hub.errors import AtCapacity, StoreAway
from gateway.nodes.operation import ELSEWHERE
from gateway.nodes.peers import Peers
from gateway.nodes.places import PeerAway, PeerRefused, Whereabouts

log = structlog.get_logger(__name__)

TELL_SECONDS: Final = 10.0
_AT_ONCE: Final = 16
_ANSWER_SECONDS: Final = 2.0


def together(*watched: Mapping[str, Mapping[str, int]]) -> dict[str, Counter[str]]:
    """Viewers by stream and protocol, added up."""
    found: dict[str, Counter[str]] = {}
    for streams in watched:
        for name, counts in streams.items():
            found.setdefault(name, Counter()).update(counts)
    return found


class Teller:
    """`run` tells every TELL_SECONDS until it is cancelled; holders forget a node that falls silent by themselves.

    watched: who watches here, by stream and protocol (flv, wsflv, rtmp, hls, cmaf, dash). Streams that are held here,
    which `where` does not find elsewhere, need no telling. What cannot be told is told the next time.
    """

    def __init__(
        self, node: str, watched: Callable[[], Mapping[str, Mapping[str, int]]], where: Whereabouts, peers: Peers
    ) -> None:
        self._node = node
        self._watched = watched
        self._where = where
        self._peers = peers
        self._told: set[str] = set()  # the last time: who left is told too

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            await self.tell()

    async def tell(self) -> None:
        """Once, all streams; those that nobody watches any more for the last time."""
        watched = {name: {p: n for p, n in counts.items() if n > 0} for name, counts in self._watched().items()}
        watched = {name: counts for name, counts in watched.items() if counts}
        gate = asyncio.Semaphore(_AT_ONCE)
        names = [*watched, *(self._told - watched.keys())]
        self._told = set(watched)
        await asyncio.gather(*(self._tell(gate, name, watched.get(name, {})) for name in names))

    async def _tell(self, gate: asyncio.Semaphore, name: str, counts: Mapping[str, int]) -> None:
        async with gate:
            try:
                place = await self._where.find(name)
            except (StoreAway, AtCapacity) as error:
                log.debug("viewers cannot be told", stream=name, reason=str(error))
                return
            if place is None or place.node == self._node:
                return
            # One that the settings name is known by its address alone: which of its processes it is it knows itself.
            query = {"node": self._node, **({"to": place.node} if place.node != place.address else {})}
            query |= {protocol: str(count) for protocol, count in counts.items()}
            try:
                await self._peers.ask(
                    place, "POST", f"/_node/.node/viewers/{name}?{urlencode(query)}", seconds=_ANSWER_SECONDS
                )
            except PeerRefused as refused:
                if refused.status == ELSEWHERE:
                    self._where.lost(name, place)
                log.debug("viewers were not taken", stream=name, reason=str(refused))
            except PeerAway as away:
                log.debug("viewers cannot be told", stream=name, reason=str(away))
