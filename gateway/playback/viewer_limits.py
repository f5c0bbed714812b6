"""Refuses new viewers while the viewers of a channel or of this node need more than their limit of bandwidth."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol
from weakref import WeakSet

from gateway.channels.channel import Channel
from gateway.channels.names import channel_of
from gateway.ports.errors import AtCapacity

RETRY_AFTER: Final = 10  # seconds
_RECKONED_EACH: Final = 1.0  # seconds
_CHANNEL_FULL: Final = "this channel has no bandwidth for more viewers now"
_NODE_FULL: Final = "this server has no bandwidth for more viewers now"


class WatchedStream(Protocol):
    """A stream of this node or of another. bitrate: bits per second; 0: unknown."""

    channel: Channel
    viewers: Counter[str]

    @property
    def name(self) -> str: ...

    @property
    def bitrate(self) -> int: ...


@dataclass(eq=False, slots=True)
class ViewerLimits:
    """Limits the reckoned bandwidth: the number of viewers of each stream, times the mean bit rate of the stream.

    node_mbps: of all viewers of this process; 0: no limit. The channel field `maxViewerMbps` limits those of a channel
    at this process. refused: counts refusals. Viewers who already watch are never refused.
    """

    node_mbps: float
    refused: dict[str, int]
    clock: Callable[[], float] = time.monotonic
    _watched: WeakSet[WatchedStream] = field(default_factory=WeakSet, init=False)
    _bits: dict[str, float] = field(default_factory=dict, init=False)  # bits per second by channel
    _all_bits: float = field(default=0.0, init=False)
    _reckoned: float = field(default=float("-inf"), init=False)

    def admit(self, stream: WatchedStream) -> None:
        """Counts a new viewer of a stream. Raises AtCapacity instead if a limit would be exceeded."""
        self._watched.add(stream)  # a limit may be set while it has viewers
        most = stream.channel.number("maxViewerMbps") * 1e6
        if not most and not self.node_mbps:
            return
        now = self.clock()
        if now - self._reckoned >= _RECKONED_EACH:
            self._reckon(now)
        id, needed = channel_of(stream.name), stream.bitrate
        bits = self._bits.get(id, 0.0) + needed
        if most and bits > most:
            self._refuse(_CHANNEL_FULL)
        if self.node_mbps and self._all_bits + needed > self.node_mbps * 1e6:
            self._refuse(_NODE_FULL)
        self._bits[id] = bits
        self._all_bits += needed

    def _reckon(self, now: float) -> None:
        self._reckoned, self._all_bits = now, 0.0
        self._bits.clear()
        for stream in self._watched:
            id, bits = channel_of(stream.name), stream.viewers.total() * stream.bitrate
            self._bits[id] = self._bits.get(id, 0.0) + bits
            self._all_bits += bits

    def _refuse(self, reason: str) -> None:
        self.refused["full"] = self.refused.get("full", 0) + 1
        raise AtCapacity(reason)
