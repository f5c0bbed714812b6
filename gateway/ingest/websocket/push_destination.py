"""Where a WebSocket push goes, and why it ends; with the usual destination, a channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.channels.names import is_channel_id
from gateway.ingest.admission import Admission
from gateway.live.publisher import AcquirePublisher, StreamPublisher
from gateway.live.sink import EndReason
from gateway.protocols.push import CloseCode


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Why a push is over.

    announced: the client gets the reason as a text too; not if the client itself ended the push.
    """

    code: CloseCode
    reason: str
    announced: bool = True


@dataclass(frozen=True, slots=True)
class PushClient:
    """One WebSocket publisher. protocol: ws or wss. exempt: a trusted proxy itself, whose address is not limited."""

    address: str
    protocol: str
    exempt: bool


class PushDestination(Protocol):
    """The destination of a push."""

    @property
    def name(self) -> str:
        """The name for logs and the client: the channel, or a target without its key; "" if it is not valid."""

    @property
    def trouble(self) -> str:
        """The present problem; "" if there is none."""

    async def publisher(self, evict: Callable[[EndReason], None]) -> StreamPublisher:
        """Takes the lease. Raises GatewayError."""

    def look(self, now: float) -> CloseReason | None:
        """Returns why the push must end, or None. Called once a second. now: monotonic seconds."""


class ChannelDestination:
    """A channel's stream, opened by its signed key as for an RTMP push."""

    trouble = ""

    def __init__(
        self,
        lease: AcquirePublisher,
        admission: Admission,
        id: str,
        sign: str | None,
        client: PushClient,
    ) -> None:
        self._lease = lease
        self._admission = admission
        self._id = id
        self._sign = sign
        self._client = client

    @property
    def name(self) -> str:
        return self._id if is_channel_id(self._id) else ""

    async def publisher(self, evict: Callable[[EndReason], None]) -> StreamPublisher:
        channel = await self._admission.channel(self._id, self._sign, self._client.address, exempt=self._client.exempt)
        return await self._lease(channel, protocol=self._client.protocol, peer=self._client.address, evict=evict)

    def look(self, now: float) -> CloseReason | None:
        return None
