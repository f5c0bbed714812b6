"""Nodes: who shares the streams with this process, and which of them holds which stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

ALIVE_SECONDS: Final = 10.0  # design, section 11: a holder whose beat stands still for so long is dead
LEFT_SECONDS: Final = 3600.0  # how long a holding that has left is kept for a successor
FORGOTTEN_SECONDS: Final = (
    86_400.0  # without a beat for so long, a node's row is swept away; alive or dead is not asked
)


class Role(StrEnum):
    GATEWAY = "gateway"  # takes pushes, holds streams
    EDGE = "edge"  # plays what gateways hold
    WORKER = "worker"  # transcodes for a gateway


@dataclass(frozen=True, slots=True)
class Node:
    """One process. id: `<host id>` or `<host id>.<worker>`; unique for each start.

    address: `host:port` of its playback listener as others reach it. beat: grows with every heartbeat; only its changes
    count, no clock is compared. shown: what people and broadcasters are told of it (public address, ports), JSON.
    channel: an edge that was started for one channel; "": for all.
    """

    id: str
    role: Role
    address: str
    beat: int = 0
    channel: str = ""
    shown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """What its sibling processes on the same ports share."""
        return self.id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Holding:
    """That a node holds a channel's stream (and with it all renditions).

    claim: unique for each time that somebody begins to hold it. started: seconds since the epoch, by the holder's
    clock; of the first holder where others followed. left: the holder went in good order and whoever comes next goes on
    with its numbers. cluster: edges of its own were started for this channel.
    """

    stream: str
    node: str
    address: str
    claim: str
    started: float
    left: bool = False
    cluster: bool = False
