"""The destination of a WebSocket push (usually a channel), its client, and the reason for its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.channels.names import is_channel_id
from gateway.ingest.push import PublisherSource, PushRequest
from gateway.live.publisher import StreamPublisher
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

    async def acquire_publisher(self, evict: Callable[[EndReason], None]) -> StreamPublisher:
        """Acquires the publisher of the stream. Raises GatewayError."""

    def check(self, now: float) -> CloseReason | None:
        """Returns a reason if the push must end; otherwise None. Called once a second. now: monotonic seconds."""


@dataclass(slots=True, eq=False)
class ChannelDestination:
    """The stream of a channel. The key is checked like that of an RTMP push."""

    publishers: PublisherSource
    request: PushRequest
    problem: str = field(default="", init=False)

    @property
    def name(self) -> str:
        return self.request.id if is_channel_id(self.request.id) else ""

    async def acquire_publisher(self, evict: Callable[[EndReason], None]) -> StreamPublisher:
        return await self.publishers.acquire_publisher(self.request, evict)

    def check(self, now: float) -> CloseReason | None:
        return None
