"""The nodes of a cluster, and the streams that they hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

ALIVE_SECONDS: Final = 10.0  # a node without a new heartbeat for this time is dead
LEFT_SECONDS: Final = 3600.0  # time for which the claim of a node that left is kept for the next node
FORGOTTEN_SECONDS: Final = 86_400.0  # a node's row is deleted after this time without a heartbeat


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
    shown: information for operators and broadcasters (public address, ports), JSON.
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
        return self.id.partition(".")[0]


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
