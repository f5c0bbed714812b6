"""Entry: where a push over a WebSocket goes, and why it ends; here the ordinary one, a channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.hub.lease import Lease
from gateway.hub.names import is_channel_id
from gateway.hub.publisher import Publisher
from gateway.hub.stream import EndReason
from gateway.protocols.push import CloseCode
from gateway.servers.admission import Admission


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a push is over. told: the client gets it as a text too; who ended it itself knows."""

    code: CloseCode
    reason: str
    told: bool = True


class Entry(Protocol):
    """Where a push goes."""

    @property
    def name(self) -> str:
        """For logs and the client: the channel, or a target without its key; "" where it is none."""

    @property
    def trouble(self) -> str:
        """What hinders it now; "" where nothing does."""

    async def publisher(self, evict: Callable[[EndReason], None]) -> Publisher:
        """The lease. Raises HubError."""

    def look(self, now: float) -> Ending | None:
        """Called once a second: whether the push has to end. now: monotonic seconds."""


class ChannelEntry:
    """Into a channel's stream, by its signed key, as an RTMP push."""

    trouble = ""

    def __init__(
        self,
        lease: Lease,
        admission: Admission,
        id: str,
        sign: str | None,
        *,
        address: str,
        protocol: str,
        exempt: bool,
    ) -> None:
        self._lease = lease
        self._admission = admission
        self._id = id
        self._sign = sign
        self._address = address
        self._protocol = protocol
        self._exempt = exempt

    @property
    def name(self) -> str:
        return self._id if is_channel_id(self._id) else ""

    async def publisher(self, evict: Callable[[EndReason], None]) -> Publisher:
        channel = await self._admission.channel(self._id, self._sign, self._address, exempt=self._exempt)
        return await self._lease(channel, protocol=self._protocol, peer=self._address, evict=evict)

    def look(self, now: float) -> Ending | None:
        return None
