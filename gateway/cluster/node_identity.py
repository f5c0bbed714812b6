"""Which node this process is."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.cluster.worker_slot import WorkerSlot
from gateway.ports.cluster_secret import ClusterSecret


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """secret: what it signs with, and what it accepts. slot: of a worker process; None for a node of one process."""

    id: str
    secret: ClusterSecret
    slot: WorkerSlot | None = None

    @classmethod
    def of(cls, slot: WorkerSlot | None, secret: ClusterSecret) -> NodeIdentity:
        """A node of one process gets an id that is new with each start."""
        return cls(slot.id if slot is not None else secrets.token_hex(6), secret, slot)

    def siblings(self) -> Mapping[str, str]:
        """The Unix sockets of the other processes of this host, by node."""
        return self.slot.siblings() if self.slot is not None else {}
