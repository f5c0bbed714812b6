"""Refuses every push, because an edge only plays."""

from __future__ import annotations

from collections.abc import Callable

from gateway.channels.channel import Channel
from gateway.channels.stores import ChannelReader
from gateway.channels.stream_key import SigningSecrets
from gateway.ingest.admission import Admission
from gateway.lib.refusals import Refusals
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.ports.errors import PushesNotAccepted
from gateway.ports.events import Events

_WORDS = "this is an edge, which only plays"


class NoPushes(Admission):
    """An Admission that refuses every push, without looking up the channel."""

    def __init__(self, channels: ChannelReader, secrets: SigningSecrets, events: Events) -> None:
        super().__init__(channels, secrets, events, publishers_per_address=0, refusals=Refusals(0))

    async def channel(self, id: str, key: str | None, address: str, *, exempt: bool = False) -> Channel:
        """Raises PushesNotAccepted."""
        raise PushesNotAccepted(_WORDS)


async def refuse_publisher(
    channel: Channel, *, protocol: str, peer: str, evict: Callable[[EndReason], None]
) -> StreamPublisher:
    """Implements live.publisher.AcquirePublisher. Always raises PushesNotAccepted."""
    raise PushesNotAccepted(_WORDS)
