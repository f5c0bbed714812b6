"""The nodes of a cluster, and the streams that they hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

ALIVE_SECONDS: Final = 10.0  # a node without a new heartbeat for this time is dead
LEFT_SECONDS: Final = 3600.0  # time for which the claim of a node that left is kept for the next node
FORGOTTEN_SECONDS: Final = 86_400.0  # a node's row is deleted after this time without a heartbeat
LEAST_FREE: Final = 10.0  # percent; a node with less free capacity gets no streams and viewers of other nodes


class NodeRole(StrEnum):
    GATEWAY = "gateway"  # accepts pushes, holds streams
    EDGE = "edge"  # serves streams of gateways to players
    WORKER = "worker"  # transcodes for a gateway


@dataclass(frozen=True, slots=True)
class Node:
    """One process of the cluster.

    id: `<host id>` or `<host id>.<worker>`; new at each start.
    address: `host:port` at which other nodes reach its playback listener.
    beat: increases with every heartbeat. Only changes count; clocks are not compared.
    channel: the channel of an edge that was started for one channel; "": for all channels.
    shown: information for operators and broadcasters (public address, ports), and the site and the free capacity, JSON.
    """

    id: str
    role: NodeRole
    address: str
    beat: int = 0
    channel: str = ""
    shown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The part of the id that all processes on these ports share."""
        return host_of(self.id)

    @property
    def site(self) -> str:
        """The name of the place of its machine; "" if it is unknown."""
        return self._text("site")

    @property
    def url(self) -> str:
        """The address of this node alone for viewers, without a slash at the end; "" if it has none."""
        return self._text("url")

    @property
    def free(self) -> float:
        """The smallest free share of its resources, in percent. A node without figures counts as free."""
        free = self.shown.get("free")
        percent = free.get("percent") if isinstance(free, Mapping) else None
        return percent if isinstance(percent, int | float) else 100.0

    def _text(self, name: str) -> str:
        value = self.shown.get(name)
        return value if isinstance(value, str) else ""


def host_of(id: str) -> str:
    """Returns the part of a node's id that all processes on these ports share."""
    return id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class StreamClaim:
    """A node's claim of a channel's stream, with all its renditions.

    id: new each time a node claims the stream.
    started: seconds since 1970, by the clock of the first node that had the stream.
    left: whether the node shut down properly. The next node continues its sequence numbers.
    cluster: whether edges were started only for this channel.
    """

    stream: str
    node: str
    address: str
    id: str
    started: float
    left: bool = False
    cluster: bool = False
