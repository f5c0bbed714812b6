"""Tells the holders of streams how many viewers watch them through this node."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

import structlog

from gateway.cluster.node_address import PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.node_rpc import ELSEWHERE
from gateway.cluster.peers import Peers
from gateway.ports.errors import AtCapacity, StoreUnavailable

log = structlog.get_logger(__name__)

REPORT_SECONDS: Final = 10.0
_MAX_CONCURRENT: Final = 16
_ANSWER_SECONDS: Final = 2.0


def total_viewers(*watched: Mapping[str, Mapping[str, int]]) -> dict[str, Counter[str]]:
    """Returns the sum of viewers by stream and protocol."""
    found: dict[str, Counter[str]] = {}
    for streams in watched:
        for name, counts in streams.items():
            found.setdefault(name, Counter()).update(counts)
    return found


class ViewerReporter:
    """Reports viewers to holders every REPORT_SECONDS. Holders forget the counts of a node that stops reporting.

    watched: returns the viewers here, by stream and protocol (flv, wsflv, rtmp, hls, cmaf, dash). Streams that this
    node holds are not reported: `where` does not find them elsewhere. A report that fails is not repeated; the next
    one follows.
    """

    def __init__(
        self, node: str, watched: Callable[[], Mapping[str, Mapping[str, int]]], where: StreamLocator, peers: Peers
    ) -> None:
        self._node = node
        self._watched = watched
        self._where = where
        self._peers = peers
        self._reported: set[str] = set()  # streams in the last report: a stream without viewers is reported once more

    async def run(self) -> None:
        """Reports until it is cancelled."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await self.tell()

    async def tell(self) -> None:
        """Reports all streams once. A stream that nobody watches any more is reported a last time."""
        watched = {name: {p: n for p, n in counts.items() if n > 0} for name, counts in self._watched().items()}
        watched = {name: counts for name, counts in watched.items() if counts}
        gate = asyncio.Semaphore(_MAX_CONCURRENT)
        names = [*watched, *(self._reported - watched.keys())]
        self._reported = set(watched)
        await asyncio.gather(*(self._tell(gate, name, watched.get(name, {})) for name in names))

    async def _tell(self, gate: asyncio.Semaphore, name: str, counts: Mapping[str, int]) -> None:
        async with gate:
            try:
                place = await self._where.find(name)
            except (StoreUnavailable, AtCapacity) as error:
                log.debug("viewers cannot be told", stream=name, reason=str(error))
                return
            if place is None or place.node == self._node:
                return
            # A node from the settings is known by its address alone. It finds the right process itself.
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
            except PeerUnavailable as away:
                log.debug("viewers cannot be told", stream=name, reason=str(away))
