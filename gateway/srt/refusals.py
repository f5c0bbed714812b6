"""The reject codes of refused callers."""

from typing import Final

from gateway.ports import errors
from gateway.protocols.srt.listening import HandshakeRefused
from gateway.protocols.srt.packets import Reject

_CODES: Final[dict[type[errors.GatewayError], Reject]] = {
    errors.NotAuthorized: Reject.UNAUTHORIZED,
    errors.NoSuchStream: Reject.NOT_FOUND,
    errors.NameInUse: Reject.CONFLICT,
    errors.AtCapacity: Reject.OVERLOADED,
    errors.StoreUnavailable: Reject.OVERLOADED,
    errors.PushesNotAccepted: Reject.FORBIDDEN,
}


def rejected(error: errors.GatewayError, reason: str = "") -> HandshakeRefused:
    """Returns the refusal of a caller. reason: for logs; "": the text of the error."""
    codes = (code for kind, code in _CODES.items() if isinstance(error, kind))
    return HandshakeRefused(next(codes, Reject.PEER), reason or f"{type(error).__name__}: {error}"[:200])
