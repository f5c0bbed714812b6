"""Push over WebSocket, without I/O: the messages of `millrace.frames.v1`, and the text messages of the server.

A push of frames carries the output of WebCodecs. A text message announces the configuration; binary messages are coded
frames. The specification is docs/api.md, "WebSocket push".
"""

import base64
import binascii
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum, IntEnum, auto
from typing import Any, Final, TypeAlias

from gateway.media.track import Kind
from gateway.protocols.errors import RemoteProtocolError

SUBPROTOCOL: Final = "millrace.frames.v1"

TEXT_CHARACTERS: Final = 65_536  # limit of a text message; a configuration has a few hundred
DESCRIPTION_BYTES: Final = 16_384
MAX_SIDE: Final = 16_384  # pixels; limit of width and height
_REASON_BYTES: Final = 123  # RFC 6455 §5.5: a control frame holds 125 bytes, and two of them are the code
_CODEC_CHARACTERS: Final = 64

# kind with flags, presentation time in microseconds, duration in microseconds
_HEADER: Final = struct.Struct(">BqI")
_KEY: Final = 0x80
_KINDS: Final = {1: Kind.VIDEO, 2: Kind.AUDIO}


class CloseCode(IntEnum):
    """The reasons for which the server closes a connection (docs/api.md, "WebSocket push"; RFC 6455 §7.4.1)."""

    NORMAL = 1000
    GOING_AWAY = 1001  # the server shuts down
    UNUSABLE = 1003  # text instead of binary, messages out of order, or media that cannot be used
    POLICY = 1008  # too many messages, or the target of the push is not allowed
    TOO_BIG = 1009
    INTERNAL = 1011
    TRY_LATER = 1013  # the server is full or shuts down, or the channel store is unavailable
    UNAUTHORIZED = 4401
    STALLED = 4408  # no media in time, or nothing received for too long
    IN_USE = 4409
    REMOVED = 4410  # kicked, or the channel was deleted or its key expired


# ---- messages of a client ----


@dataclass(frozen=True, slots=True)
class VideoConfig:
    """The configuration of H.264 video.

    codec: RFC 6381, such as "avc1.42E01F".
    description: the avcC record.
    width, height: pixels; 0 if they are missing.
    framerate: frames a second; 0 if it is missing.
    """

    codec: str
    description: bytes
    width: int = 0
    height: int = 0
    framerate: float = 0.0


@dataclass(frozen=True, slots=True)
class AudioConfig:
    """The configuration of audio.

    codec: "opus" or "mp4a.40.2".
    rate: samples a second.
    description: OpusHead or AudioSpecificConfig; b"" if it is missing.
    """

    codec: str
    rate: int
    channels: int
    description: bytes = b""


@dataclass(frozen=True, slots=True)
class Configured:
    """The configuration of the chunks that follow; `video`, `audio` or both are set."""

    video: VideoConfig | None
    audio: AudioConfig | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One coded frame.

    pts, duration: microseconds.
    payload: length-prefixed NAL units, or one audio packet.
    """

    kind: Kind
    key: bool
    pts: int
    duration: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class PushEnded:
    """The client has sent everything."""


FramesEvent: TypeAlias = "Configured | Chunk | PushEnded"


class PushState(Enum):
    """The state of a push of frames."""

    EXPECTING = auto()  # waits for the configuration
    STREAMING = auto()
    ENDED = auto()


# By state: the events that are allowed, and the state after each.
_TRANSITIONS: Final[Mapping[PushState, Mapping[type[FramesEvent], PushState]]] = {
    PushState.EXPECTING: {Configured: PushState.STREAMING, PushEnded: PushState.ENDED},
    PushState.STREAMING: {Configured: PushState.STREAMING, Chunk: PushState.STREAMING, PushEnded: PushState.ENDED},
    PushState.ENDED: {},
}


class FramesConnection:
    """The server side of one push of frames: `receive` returns the event of each message."""

    def __init__(self) -> None:
        self.state = PushState.EXPECTING
        self._kinds: frozenset[Kind] = frozenset()

    def receive(self, message: str | bytes) -> FramesEvent:
        """Returns the event of one message. Hot path.

        Raises RemoteProtocolError if the message is not valid or the state does not allow it. Then the push is over.
        """
        event: FramesEvent = read_chunk(message) if isinstance(message, bytes) else read_text(message)
        next_state = _TRANSITIONS[self.state].get(type(event))
        if next_state is None:
            if self.state is PushState.EXPECTING:
                raise RemoteProtocolError(
                    'a frame before the configuration: the first message is {"type": "config", …}'
                )
            raise RemoteProtocolError("a message after the end")
        self.state = next_state
        if isinstance(event, Chunk):
            if event.kind not in self._kinds:
                raise RemoteProtocolError(f"a frame of {event.kind}, which the configuration does not have")
        elif isinstance(event, Configured):
            kinds = ((Kind.VIDEO, event.video), (Kind.AUDIO, event.audio))
            self._kinds = frozenset(kind for kind, config in kinds if config is not None)
        return event


def read_chunk(message: bytes) -> Chunk:
    """Reads a binary message. Hot path. Raises RemoteProtocolError."""
    if len(message) <= _HEADER.size:
        raise RemoteProtocolError(f"a binary message of {len(message)} bytes: its header alone has {_HEADER.size}")
    first, pts, duration = _HEADER.unpack_from(message)
    kind = _KINDS.get(first & ~_KEY)
    if kind is None:
        raise RemoteProtocolError(f"a frame of kind {first & ~_KEY}: 1 is video, 2 is audio")
    return Chunk(kind, bool(first & _KEY), pts, duration, message[_HEADER.size :])


def read_text(message: str) -> Configured | PushEnded:
    """Reads a text message. Raises RemoteProtocolError."""
    if len(message) > TEXT_CHARACTERS:
        raise RemoteProtocolError(f"a text message of {len(message)} characters")
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("a text message that is not JSON") from None
    if not isinstance(fields, dict):
        raise RemoteProtocolError("a text message that is not a JSON object")
    kind = fields.get("type")
    if kind == "end":
        return PushEnded()
    if kind != "config":
        raise RemoteProtocolError('a text message without a "type" of "config" or "end"')
    video, audio = fields.get("video"), fields.get("audio")
    if video is None and audio is None:
        raise RemoteProtocolError("a configuration without video and audio")
    return Configured(None if video is None else _video(video), None if audio is None else _audio(audio))


def _video(config: Any) -> VideoConfig:
    codec = _codec("video", config)
    if not codec.lower().startswith(("avc1.", "avc3.")):
        raise RemoteProtocolError(f"video codec {codec!r} is not supported, only H.264 (avc1.…)")
    description = _description("video", config)
    if not description:
        raise RemoteProtocolError('video.description (avcC) is missing: encode with avc: {format: "avc"}')
    width, height = _number("video.width", config, MAX_SIDE), _number("video.height", config, MAX_SIDE)
    return VideoConfig(codec, description, int(width), int(height), _number("video.framerate", config, 1000))


def _audio(config: Any) -> AudioConfig:
    codec = _codec("audio", config)
    if codec != "opus" and not codec.startswith("mp4a.40."):
        raise RemoteProtocolError(f"audio codec {codec!r} is not supported, only opus and mp4a.40.2 (AAC)")
    rate, channels = _number("audio.sampleRate", config, 384_000), _number("audio.numberOfChannels", config, 8)
    if rate < 8000 or channels < 1:
        raise RemoteProtocolError("audio.sampleRate or audio.numberOfChannels is missing")
    return AudioConfig(codec, int(rate), int(channels), _description("audio", config))


def _codec(kind: str, config: Any) -> str:
    codec = config.get("codec") if isinstance(config, dict) else None
    if not isinstance(codec, str) or not 0 < len(codec) <= _CODEC_CHARACTERS:
        raise RemoteProtocolError(f"{kind}.codec is missing")
    return codec


def _number(name: str, config: Mapping[str, Any], limit: int) -> float:
    value = config.get(name.partition(".")[2])
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= limit:
        raise RemoteProtocolError(f"{name} is not a number from 0 to {limit}")
    return value


def _description(kind: str, config: Mapping[str, Any]) -> bytes:
    text = config.get("description")
    if text is None:
        return b""
    too_long = f"{kind}.description is not base64 of at most {DESCRIPTION_BYTES} bytes"
    if not isinstance(text, str) or len(text) > (DESCRIPTION_BYTES + 2) // 3 * 4:
        raise RemoteProtocolError(too_long)
    try:
        description = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RemoteProtocolError(f"{kind}.description is not base64") from None
    if len(description) > DESCRIPTION_BYTES:
        raise RemoteProtocolError(too_long)
    return description


# ---- messages of the server ----


def accepted_text(id: str, protocol: str, video: str | None, audio: str | None) -> str:
    """Returns the message which says that the push has begun.

    protocol: "frames" or "container".
    video, audio: "copy" or "transcode"; None if not known yet.
    """
    return _json(type="accepted", id=id, protocol=protocol, video=video, audio=audio)


@dataclass(frozen=True, slots=True)
class Stats:
    """The state of a push.

    bitrate, fps: recent bits and frames a second.
    received: bytes in total.
    frames, dropped: frames in total.
    behind: delay of the processing behind the received media, in seconds.
    video, audio: as in `accepted_text`.
    """

    bitrate: int
    received: int
    frames: int
    dropped: int
    fps: float
    behind: float
    video: str | None
    audio: str | None


def stats_text(stats: Stats) -> str:
    """Returns the message with the state of the push. Its keys are the fields of `Stats`."""
    rounded = replace(stats, fps=round(stats.fps, 1), behind=round(stats.behind, 3))
    return _json(type="stats", **asdict(rounded))


def error_text(code: int, reason: str) -> str:
    """Returns the message which says that the push ended with an error. The close frame follows."""
    return _json(type="error", code=int(code), reason=reason)


def close_reason(reason: str) -> str:
    """Returns the reason, cut to the size of a close frame."""
    return reason.encode("utf-8", "replace")[:_REASON_BYTES].decode("utf-8", "ignore")


def _json(**fields: Any) -> str:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
