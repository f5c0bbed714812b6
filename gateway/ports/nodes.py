"""The nodes of a cluster, and the streams that they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

ALIVE_SECONDS: Final = 10.0  # design, section 11: without a new heartbeat for so long, a holder is dead
LEFT_SECONDS: Final = 3600.0  # how long the holding of a node that left is kept for the next holder
FORGOTTEN_SECONDS: Final = 86_400.0  # without a heartbeat for so long, a node's row is deleted


class NodeRole(StrEnum):
    GATEWAY = "gateway"  # takes pushes, holds streams
    EDGE = "edge"  # serves players with streams of gateways
    WORKER = "worker"  # transcodes for a gateway


@dataclass(frozen=True, slots=True)
class Node:
    """One process of the cluster.

    id: `<host id>` or `<host id>.<worker>`; unique for each start.
    address: `host:port` of its playback listener as other nodes reach it.
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
        """The part of the id that is equal for all processes on these ports."""
        return self.id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class StreamClaim:
    """States that a node holds a channel's stream, with all its renditions.

    claim: unique for each time that a node begins to hold it.
    started: seconds since the epoch, by the clock of the first holder.
    left: whether the holder shut down properly. The next holder continues with its numbers.
    cluster: whether edges were started for this channel alone.
    """

    stream: str
    node: str
    address: str
    claim: str
    started: float
    left: bool = False
    cluster: bool = False
