"""Pushes, which an edge does not take: it says so, whatever the key."""

from __future__ import annotations

from collections.abc import Callable

from gateway.hub.access import Secrets
from gateway.hub.channel import Channel
from gateway.hub.errors import PlaysOnly
from gateway.hub.events import Events
from gateway.hub.fanout import EndReason
from gateway.hub.ports import ChannelReader
from gateway.hub.publisher import Publisher
from gateway.lib.refusals import Refusals
from gateway.servers.admission import Admission

_WORDS = "this is an edge, which only plays"


class NoPushes(Admission):
    """An Admission that asks nobody."""

    def __init__(self, channels: ChannelReader, secrets: Secrets, events: Events) -> None:
        super().__init__(channels, secrets, events, publishers_per_address=0, refusals=Refusals(0))

    async def channel(self, id: str, key: str | None, address: str, *, exempt: bool = False) -> Channel:
        """Raises PlaysOnly."""
        raise PlaysOnly(_WORDS)


async def no_lease(channel: Channel, *, protocol: str, peer: str, evict: Callable[[EndReason], None]) -> Publisher:
    """A hub.lease.Lease. Raises PlaysOnly."""
    raise PlaysOnly(_WORDS)
