"""The interface with which a push gets its publisher, on this node or on the node that holds the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.channels.channel import Channel
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason


class AcquirePublisher(Protocol):
    """`Hub.lease`, or a function that asks other nodes first. It awaits nothing between the grant and the return."""

    async def __call__(
        self, channel: Channel, *, protocol: str, peer: str, evict: Callable[[EndReason], None]
    ) -> StreamPublisher:
        """Returns the lease on the channel's source stream. Raises NameInUse, AtCapacity, StoreUnavailable."""
        ...
