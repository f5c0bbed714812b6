"""Reports viewer counts and viewers' measurements of this node to the nodes that hold the streams."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.channels.names import channel_of
from gateway.cluster.calls.report_numbers import REPORT
from gateway.cluster.members.node_address import PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.members.node_requests import NOT_THIS_NODE, operation_target
from gateway.cluster.members.peers import Peers
from gateway.diagnosis.experience import Experience
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.traffic import MAX_CHANNELS, TrafficCounts
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
    experience: the reports of viewers on this node.
    traffic: the bytes that this node has sent to viewers. They go with the counts.

    Bytes and totals that no holder has confirmed are sent again, unchanged and with the same number (REPORT), because a
    holder may have taken them and answered too late. Newer ones wait.

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
    # By operation and channel: the fields that no holder has confirmed.
    _unconfirmed: BoundedDict[tuple[str, str], Mapping[str, str]] = field(
        default_factory=lambda: BoundedDict(MAX_CHANNELS), init=False
    )
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False)

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
        sent = {channel: self._sent(channel) for channel in map(channel_of, names)}
        experienced = self._experienced()
        await asyncio.gather(  # the first of a channel's streams tells the bytes of all
            *(self._report(semaphore, name, viewers.get(name, {}), sent.pop(channel_of(name), {})) for name in names),
            *(self._confirm(semaphore, "experienced", channel, fields) for channel, fields in experienced.items()),
        )

    def _sent(self, channel: str) -> Mapping[str, str]:
        """Returns the fields that tell the bytes of a channel; {}: there are no new ones."""
        if ("viewers", channel) not in self._unconfirmed and (sent := self.traffic.of(channel).take()[1]):
            self._number("viewers", channel, {"sent": str(sent)})
        return self._unconfirmed.get(("viewers", channel), {})

    def _experienced(self) -> dict[str, Mapping[str, str]]:
        """Returns the fields that tell the totals of viewers, by channel."""
        for channel, totals in self.experience.take(self.held_here).items():
            if ("experienced", channel) in self._unconfirmed:
                self.experience.put_back(channel, totals)
            else:
                self._number("experienced", channel, {protocol: one.encode() for protocol, one in totals.items()})
        return {channel: fields for (name, channel), fields in self._unconfirmed.items() if name == "experienced"}

    def _number(self, operation: str, channel: str, fields: Mapping[str, str]) -> None:
        """Stores the fields of a new report until a holder confirms it."""
        self._unconfirmed[operation, channel] = {**fields, REPORT: str(next(self._numbers))}

    async def _report(
        self, semaphore: asyncio.Semaphore, name: str, counts: Mapping[str, int], sent: Mapping[str, str]
    ) -> None:
        fields = {protocol: str(count) for protocol, count in counts.items()}
        await self._confirm(semaphore, "viewers", name, {**fields, **sent})

    async def _confirm(
        self, semaphore: asyncio.Semaphore, operation: str, name: str, fields: Mapping[str, str]
    ) -> None:
        """Sends a report, and forgets its numbered fields when a holder has taken it."""
        done = await self._post(semaphore, operation, name, {"node": self.node, **fields})
        if done and REPORT in fields:
            self._unconfirmed.pop((operation, channel_of(name)), None)

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
