"""What a listener's RTMP connections share: services, and the texts of refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.ingest.admission import Admission
from gateway.ingest.pending_connections import PendingConnections
from gateway.lib.quota import Quota
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.tasks import Tasks
from gateway.live.publisher import AcquirePublisher
from gateway.live.sink import EndReason
from gateway.playback.play_format import PlayableStreams
from gateway.ports.errors import (
    AtCapacity,
    GatewayError,
    NameInUse,
    NoSuchStream,
    NotAuthorized,
    PushesNotAccepted,
    StoreUnavailable,
)
from gateway.settings.models import LimitsSettings, RtmpSettings

# Checks whether a stream may be played: (name, query, address) → None. Raises NotAuthorized.
PlayAccess = Callable[[str, dict[str, str], str | None], Awaitable[None]]

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
    """The services that all connections of a listener share.

    players: limits the players of one address. wait_for_publisher: seconds that a player waits for its stream.
    """

    settings: RtmpSettings
    limits: LimitsSettings
    wait_for_publisher: float

    streams: PlayableStreams
    lease: AcquirePublisher
    admission: Admission
    may_play: PlayAccess
    players: Quota
    tasks: Tasks
    reads: ReadScheduler = field(default_factory=ReadScheduler)
    pending: PendingConnections = field(default_factory=PendingConnections)


def play_refusal(error: GatewayError, name: str) -> tuple[str, str]:
    """Returns the code and description of a refused play."""
    match error:
        case NotAuthorized():
            return "NetStream.Play.Unauthorized", "A play sign is required: <id>?sign=…"
        case NoSuchStream():
            return "NetStream.Play.StreamNotFound", f"{name[:128]} is not streaming live now"
        case _:
            return "NetStream.Play.Failed", "Try again later."
