"""The shared services of RTMP connections, and the texts of refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.channels.names import channel_of
from gateway.channels.stores import find_channel
from gateway.ingest.services import ListenerServices
from gateway.lib.quota import Quota
from gateway.live.sink import EndReason
from gateway.ports.errors import (
    AtCapacity,
    GatewayError,
    NameInUse,
    NoSuchStream,
    NotAuthorized,
    PushesNotAccepted,
    StoreUnavailable,
)

# Shows the correct place of the sign, but not which part of it was wrong.
SIGN_HINT: Final = "Authorization required: the stream key is <id>?sign=<expiry>-<hash>, or the server ends in ?sign=…"

# The hub's refusals as RTMP codes (contract, section 3).
PUBLISH_REFUSALS: dict[type[GatewayError], tuple[str, str]] = {
    NotAuthorized: ("NetStream.Publish.Unauthorized", SIGN_HINT),
    NameInUse: ("NetStream.Publish.BadName", "The channel is in use by another publisher."),
    AtCapacity: ("NetStream.Publish.Failed", "This server takes no more publishers now; try again later."),
    PushesNotAccepted: ("NetStream.Publish.Failed", "This is an edge, which only plays: push to a gateway."),
    StoreUnavailable: ("NetStream.Publish.Failed", "The channel store does not answer; try again later."),
}
EVICTIONS: dict[EndReason, str] = {
    EndReason.KICKED: "Ended by an administrator.",
    EndReason.DELETED: "The channel was deleted.",
    EndReason.EXPIRED: "The stream key has expired.",
    EndReason.SHUTDOWN: "The server is shutting down.",
    EndReason.PUBLISHER_GONE: "Another publisher has taken over.",
    EndReason.MOVED: "Another node has taken the stream over.",
}


@dataclass(frozen=True, slots=True)
class RtmpServices:
    """The shared services of all RTMP connections. players: limits the players of one address."""

    shared: ListenerServices
    players: Quota

    async def check_player(self, name: str, query: dict[str, str], address: str | None) -> None:
        """Checks the play sign of a player, if the channel requires one. Raises NotAuthorized, TooManyRefusals.

        Streams that CloudFront protects cannot be played over RTMP.
        address: None for a trusted proxy, whose address is not limited.
        """
        shared = self.shared
        stream = shared.streams.find(name)
        channel = stream.channel if stream is not None else await find_channel(shared.channels, channel_of(name))
        shared.protection.judge_sign(name, channel, query.get("sign"), address)


def play_refusal(error: GatewayError, name: str) -> tuple[str, str]:
    """Returns the code and description of a refused play."""
    match error:
        case NotAuthorized():
            return "NetStream.Play.Unauthorized", "A play sign is required: <id>?sign=…"
        case NoSuchStream():
            return "NetStream.Play.StreamNotFound", f"{name[:128]} is not streaming live now"
        case _:
            return "NetStream.Play.Failed", "Try again later."
