"""Shared parts of a listener's RTMP connections: services, limits, and the texts of refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway.ingest.admission import SIGN_HERE, Admission
from gateway.ingest.pending_connections import PendingConnections
from gateway.lib.quota import Quota
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.tasks import Tasks
from gateway.live.publisher import AcquirePublisher
from gateway.live.sink import EndReason
from gateway.playback.router import PlayableStreams
from gateway.ports.errors import (
    AtCapacity,
    GatewayError,
    NameInUse,
    NoSuchStream,
    NotAuthorized,
    PushesNotAccepted,
    StoreUnavailable,
)

# Checks whether a stream may be played: (name, query, address) → None, or raises NotAuthorized.
PlayAccess = Callable[[str, dict[str, str], str | None], Awaitable[None]]

# The hub's refusals as RTMP codes (contract, section 3).
PUBLISH_REFUSALS: dict[type[GatewayError], tuple[str, str]] = {
    NotAuthorized: ("NetStream.Publish.Unauthorized", SIGN_HERE),
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
class RtmpLimits:
    """Limits of one connection, in seconds and bytes (settings, sections `rtmp` and `limits`)."""

    chunk_size: int
    message: int
    handshake: float
    first_media: float
    ping_interval: float
    ping_timeout: float
    idle_timeout: float
    wait_for_publisher: float
    viewer_backlog: int


@dataclass(frozen=True, slots=True)
class RtmpServices:
    """The services that all connections of a listener share."""

    streams: PlayableStreams
    lease: AcquirePublisher
    admission: Admission
    may_play: PlayAccess
    players: Quota
    limits: RtmpLimits
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
