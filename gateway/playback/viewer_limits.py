"""Refuses new viewers while the viewers of a channel or of this node need more than their limit of bandwidth.

Viewers whom this node refuses may go to another node.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol, TypeAlias
from weakref import WeakSet

from gateway.channels.channel import Channel
from gateway.channels.names import channel_of
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.http.websocket import wants_upgrade
from gateway.lib.network import client_network
from gateway.lib.traffic import Tally
from gateway.ports.errors import AtCapacity

RETRY_AFTER: Final = 10  # seconds
_RECKONED_EACH: Final = 1.0  # seconds
_NEW_PER_ADDRESS: Final = 16  # new viewers of one address that count between two sums
_CHANNEL_FULL: Final = "this channel has no bandwidth for more viewers now"
_NODE_FULL: Final = "this server has no bandwidth for more viewers now"

# In the query of a viewer whom another node has sent here. This node sends it nowhere else, so there is no circle.
MOVED: Final = "moved=1"
# Returns the address of another node for a viewer of a channel; "" if there is none.
FindSibling: TypeAlias = Callable[[Channel], str]


class NodeFull(AtCapacity):
    """The viewers of this node need all its bandwidth. Another node may have more."""


class WatchedStream(Protocol):
    """A stream of this node or of another. bitrate: bits per second; 0: unknown."""

    channel: Channel

    @property
    def name(self) -> str: ...

    @property
    def viewers(self) -> Counter[str]: ...

    @property
    def tally(self) -> Tally: ...

    @property
    def bitrate(self) -> int: ...


@dataclass(eq=False, slots=True)
class ViewerLimits:
    """Limits the reckoned bandwidth: the number of viewers of each stream, times the mean bit rate of the stream.

    node_mbps: of all viewers of this process; 0: no limit. The channel field `maxViewerMbps` limits those of a channel
    at this process. refused: counts refusals. Viewers who already watch are never refused.
    sibling: finds another node for a viewer whom this node refuses.
    """

    node_mbps: float
    refused: dict[str, int]
    clock: Callable[[], float] = time.monotonic
    sibling: FindSibling = lambda channel: ""
    _watched: WeakSet[WatchedStream] = field(default_factory=WeakSet, init=False)
    _bits: dict[str, float] = field(default_factory=dict, init=False)  # bits per second by channel
    _all_bits: float = field(default=0.0, init=False)
    _reckoned: float = field(default=float("-inf"), init=False)
    _new: Counter[str] = field(default_factory=Counter, init=False)  # by network, since then

    def admit(self, stream: WatchedStream, address: str = "") -> None:
        """Counts a new viewer of a stream. Raises AtCapacity instead, or NodeFull, if a limit would be exceeded.

        address: few of each count before the next sum, because viewers may leave at once; "": each of them counts.
        """
        self._watched.add(stream)  # a limit may be set while it has viewers
        most = stream.channel.number("maxViewerMbps") * 1e6
        if not most and not self.node_mbps:
            return
        self._reckon()
        id, needed = channel_of(stream.name), stream.bitrate
        bits = self._bits.get(id, 0.0) + needed
        if most and bits > most:
            self._refuse(AtCapacity(_CHANNEL_FULL))
        if self.node_mbps and self._all_bits + needed > self.node_mbps * 1e6:
            self._refuse(NodeFull(_NODE_FULL))
        network = client_network(address)
        if network and self._new[network] == _NEW_PER_ADDRESS:
            return
        self._new[network] += 1
        self._bits[id] = bits
        self._all_bits += needed

    def answer(self, request: Request, channel: Channel | None, error: AtCapacity) -> Response:
        """Returns the answer to a viewer whom a limit refused: the same address at another node, or 503.

        A WebSocket gets 503, because browsers follow no redirect of its handshake.
        """
        base = ""
        if channel is not None and isinstance(error, NodeFull) and _may_move(request):
            base = self.sibling(channel)
        if not base:
            return service_unavailable(str(error), RETRY_AFTER)
        self._count("moved")
        query = f"{request.raw_query}&{MOVED}" if request.raw_query else MOVED
        return text(307, str(error), headers={"Location": f"{base}{request.raw_path}?{query}"})

    def free_mbps(self) -> float | None:
        """Returns the bandwidth for more viewers of this process; None if it has no limit."""
        if not self.node_mbps:
            return None
        self._reckon()
        return max(0.0, self.node_mbps - self._all_bits / 1e6)

    def _reckon(self) -> None:
        """Adds up the bandwidth of all viewers, if the last sum is too old."""
        now = self.clock()
        if now - self._reckoned < _RECKONED_EACH:
            return
        self._reckoned, self._all_bits = now, 0.0
        self._bits.clear()
        self._new.clear()
        for stream in self._watched:
            id, bits = channel_of(stream.name), stream.viewers.total() * stream.bitrate
            self._bits[id] = self._bits.get(id, 0.0) + bits
            self._all_bits += bits

    def _refuse(self, error: AtCapacity) -> NoReturn:
        self._count("full")
        raise error

    def _count(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1


def _may_move(request: Request) -> bool:
    return request.method == "GET" and MOVED not in request.raw_query.split("&") and not wants_upgrade(request)
