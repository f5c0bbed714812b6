"""The codes and texts of refused pushes and plays over RTMP."""

from typing import Final

from gateway.ingest.refusal_texts import TOO_FAST, refusal_text
from gateway.live.sink import EndReason
from gateway.ports.errors import GatewayError, NameInUse, NoSuchStream, NotAuthorized, OwnOutput

# The place of the sign, for an encoder that sends none.
SIGN_PLACE: Final = "the stream key is <id>?sign=<expiry>-<hash>, or the server ends in ?sign=…"
_CODES: Final = {NotAuthorized: "NetStream.Publish.Unauthorized", NameInUse: "NetStream.Publish.BadName"}
# What a publisher is told when the hub ends its push.
EVICTIONS: dict[EndReason, str] = {
    EndReason.KICKED: "Ended by an administrator.",
    EndReason.DELETED: "The channel was deleted.",
    EndReason.EXPIRED: "The stream key has expired.",
    EndReason.BIT_RATE: TOO_FAST,
    EndReason.SHUTDOWN: "The server is shutting down.",
    EndReason.PUBLISHER_GONE: "Another publisher has taken over.",
    EndReason.MOVED: "Another node has taken the stream over.",
}


def publish_refusal(error: GatewayError) -> tuple[str, str]:
    """Returns the code and description of a refused push. Both are public, because encoders show them."""
    return _CODES.get(type(error), "NetStream.Publish.Failed"), refusal_text(error, SIGN_PLACE)


def play_refusal(error: GatewayError, name: str) -> tuple[str, str]:
    """Returns the code and description of a refused play."""
    match error:
        case NotAuthorized():
            return "NetStream.Play.Unauthorized", "A play sign is required: <id>?sign=…"
        case NoSuchStream():
            return "NetStream.Play.StreamNotFound", f"{name[:128]} is not streaming live now"
        case OwnOutput():
            return "NetStream.Play.Failed", "A channel cannot pull its own output."
        case _:
            return "NetStream.Play.Failed", "Try again later."
