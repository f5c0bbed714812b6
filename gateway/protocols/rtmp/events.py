"""The events that `receive` of a connection returns, in the order of the received bytes."""

from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.formats.flv.tag import ScriptTag
from gateway.protocols.rtmp.message import Message
from gateway.protocols.rtmp.url import RtmpUrl, StreamTarget


@dataclass(frozen=True, slots=True)
class Connected:
    """`connect` was accepted.

    fourccs: codecs that an Enhanced RTMP peer announces.
    """

    app: str
    instance: str
    query: dict[str, str] = field(repr=False)  # may contain keys, like tc_url: kept out of logs
    tc_url: str = field(repr=False)
    flash_ver: str
    fourccs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PublishRequested(StreamTarget):
    """The peer wants to publish. Answer at any later time with `accept_publish` or `reject_publish`.

    type: "live", "record", "append" or "".
    """

    type: str


@dataclass(frozen=True, slots=True)
class PlayRequested(StreamTarget):
    """The peer wants to play. Answer at any later time with `accept_play` or `reject_play`.

    start, duration: the requested seconds; start -2 means live.
    """

    start: float
    duration: float


@dataclass(frozen=True, slots=True)
class PublishEnded:
    """The publish ended. reason: the command that ended it."""

    reason: str


@dataclass(frozen=True, slots=True)
class PlayEnded:
    """The play ended. reason: the command that ended it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Paused:
    """The player paused or resumed."""

    paused: bool


@dataclass(frozen=True, slots=True)
class CommandIgnored:
    """A harmless command or message that is unknown or not allowed in this state."""

    name: str
    detail: str


# Events of a client connection


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server accepted. Publish: media may be sent. Play: media follows."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The server refused, or ended the connection later with an error.

    code: such as NetStream.Publish.BadName. again: the address to connect to at once; None: the refusal is final.
    """

    code: str
    description: str
    again: RtmpUrl | None = None

    def __str__(self) -> str:
        return f"refused: {self.code}: {self.description}" if self.description else f"refused: {self.code}"


@dataclass(frozen=True, slots=True)
class Ended:
    """The played stream ended, or the server ended our publish normally."""

    reason: str


# A `Message` is audio (type 8) or video (type 9) of the published or played stream. Its body is an FLV tag body. The
# message itself is the event, because this is the hot path.
ServerEvent: TypeAlias = (
    "Message | ScriptTag | Connected | PublishRequested | PlayRequested | PublishEnded | PlayEnded | Paused"
    " | CommandIgnored"
)
ClientEvent: TypeAlias = "Message | ScriptTag | Accepted | Rejected | Ended | CommandIgnored"
