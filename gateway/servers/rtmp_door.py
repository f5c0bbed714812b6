"""What the RTMP connections of a listener share: whom they ask, their bounds, and the words of a refusal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.hub.errors import AtCapacity, HubError, NameInUse, NoSuchStream, NotAuthorized, PlaysOnly, StoreAway
from gateway.hub.lease import Lease
from gateway.hub.stream import EndReason
from gateway.lib.aio import Tasks
from gateway.lib.quota import Quota
from gateway.servers.admission import SIGN_HERE, Admission
from gateway.servers.playback import Streams

# Who may play a stream: (name, query, address) → None, or NotAuthorized.
PlayAccess = Callable[[str, dict[str, str], str], Awaitable[None]]

# What the hub says no with, in RTMP's words (contract, section 3).
PUBLISH_REFUSALS: dict[type[HubError], tuple[str, str]] = {
    NotAuthorized: ("NetStream.Publish.Unauthorized", SIGN_HERE),
    NameInUse: ("NetStream.Publish.BadName", "The channel is in use by another publisher."),
    AtCapacity: ("NetStream.Publish.Failed", "This server takes no more publishers now; try again later."),
    PlaysOnly: ("NetStream.Publish.Failed", "This is an edge, which only plays: push to a gateway."),
    StoreAway: ("NetStream.Publish.Failed", "The channel store does not answer; try again later."),
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
    """Bounds of one connection; seconds and bytes (settings, sections `rtmp` and `limits`)."""

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
class RtmpDoor:
    """What every connection of a listener shares."""

    streams: Streams
    lease: Lease
    admission: Admission
    may_play: PlayAccess
    players: Quota
    limits: RtmpLimits
    tasks: Tasks


def play_refusal(error: HubError, name: str) -> tuple[str, str]:
    """Code and description for a play that is turned away."""
    match error:
        case NotAuthorized():
            return "NetStream.Play.Unauthorized", "A play sign is required: <id>?sign=…"
        case NoSuchStream():
            return "NetStream.Play.StreamNotFound", f"{name[:128]} is not streaming live now"
        case _:
            return "NetStream.Play.Failed", "Try again later."
