"""The rows of the registry that tell of this node's streams."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.channels.channel import Channel
from gateway.ports.nodes import StreamClaim
from gateway.ports.stores import Registry


@dataclass(frozen=True, slots=True)
class SessionRows:
    """node: our id. address: how others reach us. attributes: what else the registry tells of a session, by its
    channel, our address and its start. spreads: whether a channel can have edges of its own."""

    registry: Registry
    node: str
    address: Callable[[], str]
    attributes: Callable[[Channel, str, float], Mapping[str, Any]]
    spreads: Callable[[Channel], bool]

    def holding(self, channel: Channel, started: float) -> StreamClaim:
        """A new claim on a channel's stream. started: seconds since the epoch."""
        spreads = self.spreads(channel)
        return StreamClaim(channel.id, self.node, self.address(), secrets.token_hex(8), started, cluster=spreads)

    async def write(self, holding: StreamClaim, channel: Channel, began: float, *, over: str) -> None:
        """over: the claim that stands there now, "" for none. Raises HeldByOtherNode, StoreUnavailable."""
        await self.registry.claim(holding, self.attributes(channel, holding.address, began), over=over)
