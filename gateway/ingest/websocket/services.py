"""Shared parts of a listener's WebSocket pushes: services, limits, and the codes of refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway.http.forwarded import Forwarded
from gateway.http.origin_policy import OriginPolicy
from gateway.ingest.admission import Admission
from gateway.ingest.pending_connections import PendingConnections
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.tasks import Tasks
from gateway.live.publisher import AcquirePublisher, StreamPublisher
from gateway.live.sink import EndReason
from gateway.ports.errors import AtCapacity, GatewayError, NameInUse, NotAuthorized, StoreUnavailable
from gateway.protocols.push import CloseCode

if TYPE_CHECKING:
    from gateway.ingest.browser_intake import Intake
    from gateway.ingest.websocket.compatible_targets import CompatibleTargets
    from gateway.ingest.websocket.frames_intake import FramesIntake

# Says where the sign belongs, but not which part of it was wrong.
SIGN_HERE: Final = "Authorization required: the address is /stream/<id>?sign=<expiry>-<hash>"

# The hub's refusals as close codes (contract, section 3).
REFUSALS: Final[dict[type[GatewayError], tuple[CloseCode, str]]] = {
    NotAuthorized: (CloseCode.UNAUTHORIZED, SIGN_HERE),
    NameInUse: (CloseCode.IN_USE, "The channel is in use by another publisher."),
    AtCapacity: (CloseCode.TRY_LATER, "This server takes no more publishers now; try again later."),
    StoreUnavailable: (CloseCode.TRY_LATER, "The channel store does not answer; try again later."),
}
EVICTIONS: Final[dict[EndReason, tuple[CloseCode, str]]] = {
    EndReason.KICKED: (CloseCode.REMOVED, "Ended by an administrator."),
    EndReason.DELETED: (CloseCode.REMOVED, "The channel was deleted."),
    EndReason.EXPIRED: (CloseCode.REMOVED, "The stream key has expired."),
    EndReason.SHUTDOWN: (CloseCode.GOING_AWAY, "The server is shutting down."),
    EndReason.PUBLISHER_GONE: (CloseCode.IN_USE, "Another publisher has taken over."),
}


@dataclass(frozen=True, slots=True)
class WsLimits:
    """Limits of one connection, in seconds and bytes; 0: none (settings, sections `ws` and `limits`)."""

    message: int
    handshake: float
    first_media: float
    ping_interval: float
    ping_timeout: float
    idle_timeout: float


@dataclass(frozen=True, slots=True)
class WsServices:
    """The services that all connections of the listeners share.

    container, frames: make the intake of a push. compatible: None if the original client's paths are off.
    """

    lease: AcquirePublisher
    admission: Admission
    container: Callable[[StreamPublisher], Intake]
    frames: Callable[[StreamPublisher], FramesIntake]
    origins: OriginPolicy
    forwarded: Forwarded
    limits: WsLimits
    compatible: CompatibleTargets | None
    tasks: Tasks
    reads: ReadScheduler = field(default_factory=ReadScheduler)
    pending: PendingConnections = field(default_factory=PendingConnections)
