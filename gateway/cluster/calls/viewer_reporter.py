"""Reports viewer counts and viewers' measurements of this node to the nodes that hold the streams."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.channels.names import channel_of
from gateway.cluster.calls.node_rpc import NOT_THIS_NODE, operation_target
from gateway.cluster.members.node_address import PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.members.peers import Peers
from gateway.diagnosis.experience import Experience, Totals
from gateway.lib.traffic import TrafficCounts
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


@dataclass(slots=True, eq=False)
class ViewerReporter:
    """Reports every REPORT_SECONDS. The other nodes remove the viewer counts of a node that stops reporting.

    viewers: returns the viewers on this node, by stream and protocol (flv, wsflv, rtmp, hls, cmaf, dash). Streams of
    this node are not reported, because `locator` finds no other node. A failed report of counts is not retried.
    experience: the reports of viewers on this node. A failed report of them is sent again with the next one.
    traffic: the bytes that this node has sent to viewers. They go with the counts, and wait until a holder has them.
    held_here(channel): whether this node holds the channel's stream.
    """

    node: str
    viewers: Callable[[], Mapping[str, Mapping[str, int]]]
    locator: StreamLocator
    peers: Peers
    experience: Experience
    traffic: TrafficCounts = field(default_factory=TrafficCounts)
    held_here: Callable[[str], bool] = lambda channel: False
    # The streams in the last report. A stream without viewers is reported once more.
    _reported: set[str] = field(default_factory=set, init=False)

    async def run(self) -> None:
        """Reports until it is cancelled."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await self.report()

    async def report(self) -> None:
        """Reports all streams once. A stream that has lost its last viewer is reported once more."""
        viewers = {name: {p: n for p, n in counts.items() if n > 0} for name, counts in self.viewers().items()}
        viewers = {name: counts for name, counts in viewers.items() if counts}
        semaphore = asyncio.Semaphore(_MAX_CONCURRENT)
        names = [*viewers, *(self._reported - viewers.keys())]
        self._reported = set(viewers)
        taken = self.experience.take(self.held_here)
        await asyncio.gather(
            *(self._report_viewers(semaphore, name, viewers.get(name, {})) for name in names),
            *(self._report_experience(semaphore, channel, totals) for channel, totals in taken.items()),
        )

    async def _report_viewers(self, semaphore: asyncio.Semaphore, name: str, counts: Mapping[str, int]) -> None:
        query = {"node": self.node, **{protocol: str(count) for protocol, count in counts.items()}}
        tally = self.traffic.of(channel_of(name))
        if sent := tally.take()[1]:  # the first of a channel's streams tells all
            query["sent"] = str(sent)
        if not await self._post(semaphore, "viewers", name, query):
            tally.put_back(sent)

    async def _report_experience(self, semaphore: asyncio.Semaphore, name: str, totals: Mapping[str, Totals]) -> None:
        query = {protocol: one.encode() for protocol, one in totals.items()}
        if not await self._post(semaphore, "experienced", name, query):
            self.experience.put_back(name, totals)

    async def _post(self, semaphore: asyncio.Semaphore, operation: str, name: str, query: Mapping[str, str]) -> bool:
        """Sends numbers to the node that holds a stream. Returns False if they have to be sent again."""
        async with semaphore:
            try:
                node = await self.locator.find(name)
            except (StoreUnavailable, AtCapacity) as error:
                log.debug("viewers cannot be reported", stream=name, reason=str(error))
                return False
            if node is None or node.id == self.node:
                return "sent" not in query
            target = operation_target(node, f"{operation}/{name}", query)
            try:
                await self.peers.ask(node, "POST", target, seconds=_ANSWER_SECONDS)
                return True
            except PeerRefused as refused:
                if refused.status == NOT_THIS_NODE:
                    self.locator.invalidate(name, node)
                log.debug("a viewer report was rejected", stream=name, reason=str(refused))
            except PeerUnavailable as error:
                log.debug("viewers cannot be reported", stream=name, reason=str(error))
            return False
