"""The shared services of WebSocket pushes, and the close codes of refusals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.http.forwarded import Forwarded
from gateway.http.origin_policy import OriginPolicy
from gateway.ingest.browser_intake import Intake
from gateway.ingest.refusal_texts import TOO_FAST, refusal_text
from gateway.ingest.services import ListenerServices
from gateway.ingest.websocket.compatible_targets import CompatibleTargets
from gateway.ingest.websocket.frames_intake import FramesIntake
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.ports.errors import GatewayError, NameInUse, NotAuthorized
from gateway.protocols.push import CloseCode

# The place of the sign, for a client that sends none.
SIGN_PLACE: Final = "the address is /stream/<id>?sign=<expiry>-<hash>"
_CODES: Final = {NotAuthorized: CloseCode.UNAUTHORIZED, NameInUse: CloseCode.IN_USE}
# What a client gets when the hub ends its push.
EVICTIONS: Final[dict[EndReason, tuple[CloseCode, str]]] = {
    EndReason.KICKED: (CloseCode.REMOVED, "Ended by an administrator."),
    EndReason.DELETED: (CloseCode.REMOVED, "The channel was deleted."),
    EndReason.EXPIRED: (CloseCode.REMOVED, "The stream key has expired."),
    EndReason.BIT_RATE: (CloseCode.TRY_LATER, TOO_FAST),
    EndReason.SHUTDOWN: (CloseCode.GOING_AWAY, "The server is shutting down."),
    EndReason.PUBLISHER_GONE: (CloseCode.IN_USE, "Another publisher has taken over."),
}


@dataclass(frozen=True, slots=True)
class WsServices:
    """The shared services of all WebSocket connections.

    container, frames: create the intake of a push. compatible: None if pushes of the old system's client are off.
    """

    shared: ListenerServices
    container: Callable[[StreamPublisher], Intake]
    frames: Callable[[StreamPublisher], FramesIntake]
    origins: OriginPolicy
    forwarded: Forwarded
    compatible: CompatibleTargets | None


def refusal(error: GatewayError) -> tuple[CloseCode, str]:
    """Returns the close code and text of a refused push. docs/api.md, "WebSocket push", lists the codes."""
    return _CODES.get(type(error), CloseCode.TRY_LATER), refusal_text(error, SIGN_PLACE)
