"""The processes of one host that share its ports: which one this is, and how it asks the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from gateway.cluster.node_address import NodeAddress
from gateway.cluster.peers import Peers


async def held_by_none(stream: str) -> NodeAddress | None:
    """Returns None: no sibling holds anything."""
    return None


@dataclass(frozen=True, slots=True)
class SiblingProcesses:
    """node: our id. sockets: their Unix sockets by node. held: where a stream of this host is that another of its
    processes holds; None: none of them does."""

    node: str
    peers: Peers
    sockets: Callable[[], Mapping[str, str]] = dict
    held: Callable[[str], Awaitable[NodeAddress | None]] = held_by_none
