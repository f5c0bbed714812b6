"""The shared services of RTMP connections, and the texts of refusals."""

from dataclasses import dataclass
from typing import Final

from gateway.channels.names import channel_of
from gateway.channels.stores import find_channel
from gateway.ingest.refusal_texts import TOO_FAST, refusal_text
from gateway.ingest.services import ListenerServices
from gateway.lib.quota import Quota
from gateway.live.sink import EndReason
from gateway.ports.auth_hook import HookAction, HookDetails, HookRequest
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


@dataclass(frozen=True, slots=True)
class RtmpServices:
    """The shared services of all RTMP connections. players: limits the players of one address."""

    shared: ListenerServices
    players: Quota

    async def check_player(
        self, name: str, query: dict[str, str], address: str, details: HookDetails, *, exempt: bool
    ) -> str:
        """Returns the stream that a player may play: `name`, or another one by the auth hook.

        Checks its play sign, if the channel requires one. Streams that CloudFront protects cannot be played over RTMP.
        exempt: whether the address is a trusted proxy's, which is not limited.
        Raises NotAuthorized, AtCapacity, StoreUnavailable.
        """
        shared = self.shared
        stream = shared.streams.find(name)
        channel = stream.channel if stream is not None else await find_channel(shared.channels, channel_of(name))
        shared.protection.judge_sign(name, channel, query.get("sign"), None if exempt else address)
        if shared.play_hook is None:
            return name
        id = channel_of(name)
        allowed = await shared.play_hook.allowed(HookRequest(HookAction.PLAY, id, address, details), exempt=exempt)
        return allowed + name[len(id) :]


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
