"""The statuses of refused pushes and plays over RTSP. The reason follows the number, where programs show it."""

from typing import Final

from gateway.ingest.refusal_texts import refusal_text
from gateway.ports.errors import (
    AtCapacity,
    GatewayError,
    NoSuchStream,
    NotAuthorized,
    OwnOutput,
    StoreUnavailable,
)

UNAUTHORIZED: Final = "401 Unauthorized"
NO_BANDWIDTH: Final = "453 Not Enough Bandwidth"
_BUSY: Final = "503 Service Unavailable"
# The place of the key, for a client that sends none.
_PLACE: Final = "the address ends in /<id>?sign=<expiry>-<hash>, or the key is the password of any user"
_STATUSES: Final[dict[type[GatewayError], str]] = {
    NotAuthorized: UNAUTHORIZED,
    AtCapacity: _BUSY,
    StoreUnavailable: _BUSY,
}


def push_refusal(error: GatewayError) -> str:
    """Returns the status of a refused push."""
    return f"{_STATUSES.get(type(error), '403 Forbidden')}: {refusal_text(error, _PLACE)}"


def play_refusal(error: GatewayError, name: str, full: str = _BUSY) -> str:
    """Returns the status of a refused play. name: of the stream. full: the status if a limit is reached."""
    match error:
        case NotAuthorized():
            return f"{UNAUTHORIZED}: a play sign is needed: ?sign=<expiry>-<hash>, or as the password of any user"
        case NoSuchStream():
            return f"404 Not Found: {''.join(filter(str.isprintable, name[:128]))} is not streaming live now"
        case OwnOutput():
            return "508 Loop Detected: a channel cannot pull its own output"
        case AtCapacity():
            return f"{full}: {error}"
    return f"{_BUSY}: try again later"
