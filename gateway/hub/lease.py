"""Lease: how a push gets its publisher, here or on the node that holds the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.hub.channel import Channel
    from gateway.hub.fanout import EndReason
    from gateway.hub.publisher import Publisher


class Lease(Protocol):
    """`Hub.lease`, or what asks other nodes first. Nothing is awaited between the grant and the return."""

    async def __call__(
        self, channel: Channel, *, protocol: str, peer: str, evict: Callable[[EndReason], None]
    ) -> Publisher:
        """The lease on the channel's source stream. Raises NameInUse, AtCapacity, StoreAway."""
        ...
