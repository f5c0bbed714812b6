"""The texts that an encoder gets when its push is refused, for all protocols. Public: must not change."""

from gateway.channels.expiry import date_text
from gateway.ports.errors import (
    AtCapacity,
    BitRateTooHigh,
    GatewayError,
    NameInUse,
    NotAuthorized,
    PushesNotAccepted,
    RefusalReason,
    StoreUnavailable,
    UnreadableRow,
)

TOO_FAST = "The bit rate is above the limit of this channel: lower it in the encoder."
# An unknown id and a wrong hash have one text, so that nobody can search for channels.
WRONG_KEY = "Wrong key: copy the stream key of this channel from the console again."
REFUSED_BY_HOOK = "The auth hook of this server refuses this push."
REVOKED_KEY = "This key was replaced: the channel has a newer key. Copy it from the console."
_TEXTS: dict[type[GatewayError], str] = {
    NameInUse: "The channel is in use by another publisher.",
    AtCapacity: "This server takes no more publishers now; try again later.",
    PushesNotAccepted: "This is an edge, which only plays: push to a gateway.",
    StoreUnavailable: "The channel store does not answer; try again later.",
    UnreadableRow: "The stored channel is damaged: an administrator must make it again.",
}


def refusal_text(error: GatewayError, place: str) -> str:
    """Returns one line without secrets. place: where the sign belongs in an address of this protocol."""
    if isinstance(error, BitRateTooHigh):
        return f"The bit rate was above the limit of {error.kbps:g} kbit/s: lower it in the encoder, then try again."
    if not isinstance(error, NotAuthorized):
        return _TEXTS.get(type(error), "Try again later.")
    match error.reason:
        case RefusalReason.MISSING:
            return f"Authorization required: {place}"
        case RefusalReason.EXPIRED if error.expired is not None:
            return f"The key expired on {date_text(error.expired)}. Renew the channel's expiry, then copy its new key."
        case RefusalReason.REVOKED:
            return REVOKED_KEY
        case RefusalReason.HOOK:
            return REFUSED_BY_HOOK
    return WRONG_KEY
