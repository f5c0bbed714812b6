"""What the WebSocket pushes of a listener share: whom they ask, their bounds, and the codes of a refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.hub.errors import AtCapacity, HubError, NameInUse, NotAuthorized, StoreAway
from gateway.hub.lease import Lease
from gateway.hub.publisher import Publisher
from gateway.hub.stream import EndReason
from gateway.lib.aio import Tasks
from gateway.protocols.push import CloseCode
from gateway.servers.admission import Admission
from gateway.servers.forwarded import Forwarded
from gateway.servers.origins import Origins

if TYPE_CHECKING:
    from gateway.servers.ws_compat import Compatible
    from gateway.sources.browser import Intake
    from gateway.sources.frames import FramesIntake

# Names where the sign belongs, never which part of it was wrong.
SIGN_HERE: Final = "Authorization required: the address is /stream/<id>?sign=<expiry>-<hash>"

# What the hub says no with (contract, section 3).
REFUSALS: Final[dict[type[HubError], tuple[CloseCode, str]]] = {
    NotAuthorized: (CloseCode.UNAUTHORIZED, SIGN_HERE),
    NameInUse: (CloseCode.IN_USE, "The channel is in use by another publisher."),
    AtCapacity: (CloseCode.TRY_LATER, "This server takes no more publishers now; try again later."),
    StoreAway: (CloseCode.TRY_LATER, "The channel store does not answer; try again later."),
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
    """Bounds of one connection; seconds and bytes, 0: none (settings, sections `ws` and `limits`)."""

    message: int
    handshake: float
    first_media: float
    ping_interval: float
    ping_timeout: float
    idle_timeout: float


@dataclass(frozen=True, slots=True)
class WsDoor:
    """What every connection of the listeners shares.

    container, frames: make what takes the messages of a push. compatible: None where the original client's paths are
    off.
    """

    lease: Lease
    admission: Admission
    container: Callable[[Publisher], Intake]
    frames: Callable[[Publisher], FramesIntake]
    origins: Origins
    forwarded: Forwarded
    limits: WsLimits
    compatible: Compatible | None
    tasks: Tasks
