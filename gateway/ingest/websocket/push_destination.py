"""The destination of a WebSocket push (usually a channel), its client, and the reason for its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.channels.names import is_channel_id
from gateway.ingest.admission import Admission
from gateway.live.publisher import AcquirePublisher, StreamPublisher
from gateway.live.sink import EndReason
from gateway.protocols.push import CloseCode


@dataclass(frozen=True, slots=True)
class CloseReason:
    """The reason for the end of a push.

    announced: whether the client also gets the reason as a text. False if the client itself ended the push.
    """

    code: CloseCode
    reason: str
    announced: bool = True


@dataclass(frozen=True, slots=True)
class PushClient:
    """One WebSocket publisher. protocol: ws or wss. exempt: whether it is a trusted proxy, which is not limited."""

    address: str
    protocol: str
    exempt: bool


class PushDestination(Protocol):
    """The destination of a push."""

    @property
    def name(self) -> str:
        """The name for logs and the client: the channel, or a target without its key; "" for an invalid name."""

    @property
    def problem(self) -> str:
        """The current problem, or ""."""

    async def publisher(self, evict: Callable[[EndReason], None]) -> StreamPublisher:
        """Acquires the publisher of the stream. Raises GatewayError."""

    def check(self, now: float) -> CloseReason | None:
        """Returns a reason if the push must end; otherwise None. Called once a second. now: monotonic seconds."""


@dataclass(slots=True, eq=False)
class ChannelDestination:
    """The stream of a channel. The key is checked like that of an RTMP push."""

    lease: AcquirePublisher
    admission: Admission
    id: str
    sign: str | None
    client: PushClient
    input: str = ""
    problem: str = field(default="", init=False)

    @property
    def name(self) -> str:
        return self.id if is_channel_id(self.id) else ""

    async def publisher(self, evict: Callable[[EndReason], None]) -> StreamPublisher:
        client = self.client
        channel = await self.admission.channel(
            self.id, self.sign, client.address, exempt=client.exempt, input=self.input
        )
        return await self.lease(channel, protocol=client.protocol, peer=client.address, evict=evict, input=self.input)

    def check(self, now: float) -> CloseReason | None:
        return None
