"""The identity of this node, and the other processes of its host that share its ports."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.channels.names import channel_of
from gateway.cluster.members.node_address import FindSockets, NodeAddress
from gateway.cluster.members.worker_slot import WorkerSlot
from gateway.ports.cluster_secret import ClusterSecret
from gateway.ports.errors import AtCapacity, StoreUnavailable

if TYPE_CHECKING:
    from gateway.cluster.members.peers import Peers
    from gateway.cluster.members.registry_locator import RegistryLocator


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """The identity of this process for other nodes.

    secret: signs and verifies requests between nodes. slot: of one of several processes;
    None if the gateway has one process. site: `cluster.site`.
    """

    id: str
    secret: ClusterSecret
    slot: WorkerSlot | None = None
    site: str = ""

    @classmethod
    def of(cls, slot: WorkerSlot | None, secret: ClusterSecret, site: str = "") -> NodeIdentity:
        """Returns the identity. A gateway of one process gets a new id at each start."""
        return cls(slot.id if slot is not None else secrets.token_hex(6), secret, slot, site)

    def siblings(self) -> Mapping[str, str]:
        """Returns the Unix sockets of the other processes of this host, by node id."""
        return self.slot.siblings() if self.slot is not None else {}

    def sockets(self) -> Mapping[str, str]:
        """Returns the Unix sockets of all processes of this host, also of this one, by node id.

        They share their ports: a connection to the address of one of them reaches any.
        """
        return {**self.slot.siblings(), self.slot.id: str(self.slot.socket)} if self.slot is not None else {}

    async def sibling_with(self, stream: str, locator: RegistryLocator) -> NodeAddress | None:
        """Returns the address of the sibling process that holds a stream; None if no sibling does.

        Another node has asked for the stream here. If the holder is elsewhere by the cached answer, this answer may be
        that of a holder that is dead. So the next request reads the registry.
        """
        if self.slot is None:
            return None
        try:
            node = await locator.find(stream)
        except (StoreUnavailable, AtCapacity):
            return None
        if node is None or node.id == self.id:
            return None
        if not node.socket:
            locator.forget(channel_of(stream))
            return None
        return node


async def _no_sibling(stream: str) -> NodeAddress | None:
    return None


@dataclass(frozen=True, slots=True)
class SiblingProcesses:
    """The other processes of this host that share its ports.

    node: id of this node.
    sockets: returns their Unix sockets, by node id.
    node_with: returns the address of the sibling that holds a stream; None if no sibling does.
    """

    node: str
    peers: Peers
    sockets: FindSockets = dict
    node_with: Callable[[str], Awaitable[NodeAddress | None]] = _no_sibling
