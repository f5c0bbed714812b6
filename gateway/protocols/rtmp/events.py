"""The events that connections return from `receive`, in the order of the peer's bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.formats.flv.tag import Script
from gateway.media.track import AmfValue
from gateway.protocols.rtmp.message import Message

Media = Message
"""One audio (type 8) or video (type 9) message of the stream being published or played: its body is an FLV tag body.
The message itself is the event, for this is the hot path."""


@dataclass(frozen=True, slots=True)
class Connected:
    """`connect` was accepted.

    raw: the whole command object.
    fourccs: codecs that an Enhanced RTMP peer announces.
    """

    app: str
    instance: str
    query: dict[str, str] = field(repr=False)  # may contain keys, as may tc_url: kept out of logs
    tc_url: str = field(repr=False)
    flash_ver: str
    fourccs: tuple[str, ...] = ()
    raw: dict[str, AmfValue] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class PublishRequested:
    """The peer wants to publish. Answer with accept_publish or reject_publish, at any later time.

    name: without its query.
    query: parameters of name, app and tcUrl (`sign`).
    type: "live", "record", "append" or "".
    """

    app: str
    instance: str
    name: str
    query: dict[str, str] = field(repr=False)
    type: str


@dataclass(frozen=True, slots=True)
class PlayRequested:
    """The peer wants to play. Answer with accept_play or reject_play.

    start, duration: seconds as requested; start -2 means live.
    """

    app: str
    instance: str
    name: str
    query: dict[str, str] = field(repr=False)
    start: float
    duration: float


@dataclass(frozen=True, slots=True)
class PublishEnded:
    """The publish is over. reason: the command that ended it."""

    reason: str


@dataclass(frozen=True, slots=True)
class PlayEnded:
    """The play is over. reason: the command that ended it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Paused:
    """The player paused, or resumed."""

    paused: bool


@dataclass(frozen=True, slots=True)
class Receiving:
    """The player wants audio or video, or wants no more of it (receiveAudio, receiveVideo).

    audio, video: None means unchanged.
    """

    audio: bool | None
    video: bool | None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The peer has received `total` bytes; 32-bit wraps are included."""

    total: int


@dataclass(frozen=True, slots=True)
class Pinged:
    """The peer answered a ping. stamp: the number that `ping` sent."""

    stamp: int


@dataclass(frozen=True, slots=True)
class PeerBufferLength:
    """The player's buffer in milliseconds."""

    milliseconds: int


@dataclass(frozen=True, slots=True)
class CommandIgnored:
    """A harmless command or message that is unknown or makes no sense now."""

    name: str
    detail: str


# Events of a client connection


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server accepted: media may be sent (publish), or comes from now on (play)."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The server refused, or ended the connection with an error later. code: for example NetStream.Publish.BadName."""

    code: str
    description: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The played stream is over, or the server ended our publish normally."""

    reason: str


ServerEvent: TypeAlias = (
    "Message | Script | Connected | PublishRequested | PlayRequested | PublishEnded | PlayEnded | Paused | Receiving"
    " | Acknowledged | Pinged | PeerBufferLength | CommandIgnored"
)
ClientEvent: TypeAlias = (
    "Message | Script | Accepted | Rejected | Ended | Acknowledged | Pinged | PeerBufferLength | CommandIgnored"
)
