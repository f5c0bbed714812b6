"""The reject codes of refused callers."""

from typing import Final

from gateway.ports.errors import (
    AtCapacity,
    GatewayError,
    NameInUse,
    NoSuchStream,
    NotAuthorized,
    PushesNotAccepted,
    StoreUnavailable,
)
from gateway.protocols.srt.listening import HandshakeRefused
from gateway.protocols.srt.packets import Reject

_CODES: Final[dict[type[GatewayError], Reject]] = {
    NotAuthorized: Reject.UNAUTHORIZED,
    NoSuchStream: Reject.NOT_FOUND,
    NameInUse: Reject.CONFLICT,
    AtCapacity: Reject.OVERLOADED,
    StoreUnavailable: Reject.OVERLOADED,
    PushesNotAccepted: Reject.FORBIDDEN,
}


def rejected(error: GatewayError, reason: str = "") -> HandshakeRefused:
    """Returns the refusal of a caller. reason: for logs; "": the text of the error."""
    codes = (code for kind, code in _CODES.items() if isinstance(error, kind))
    return HandshakeRefused(next(codes, Reject.PEER), reason or f"{type(error).__name__}: {error}"[:200])
