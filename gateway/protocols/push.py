"""Push over WebSocket, without I/O: the messages of `millrace.frames.v1`, and the text messages of the server.

A push of frames carries the output of WebCodecs: a text message announces the configuration, binary messages are coded
frames. docs/api.md, "WebSocket push", is the specification.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Any, Final, TypeAlias

from gateway.media.track import Kind
from gateway.protocols.errors import RemoteProtocolError

SUBPROTOCOL: Final = "millrace.frames.v1"

TEXT_BYTES: Final = 65_536  # of a text message: a configuration has a few hundred
DESCRIPTION_BYTES: Final = 16_384
MAX_PIXELS: Final = 16_384  # of a side
_REASON_BYTES: Final = 123  # RFC 6455 §5.5: a control frame holds 125 bytes, two of them are the code
_CODEC_CHARACTERS: Final = 64

# kind with flags, presentation time in microseconds, duration in microseconds
_HEADER: Final = struct.Struct(">BqI")
_KEY: Final = 0x80
_KINDS: Final = {1: Kind.VIDEO, 2: Kind.AUDIO}


class CloseCode(IntEnum):
    """The reasons for which the server closes (contract, section 3; RFC 6455 §7.4.1)."""

    NORMAL = 1000
    GOING_AWAY = 1001  # the server shuts down
    UNUSABLE = 1003  # text instead of binary, messages out of order, or media that cannot be used
    POLICY = 1008  # stalled, or a target that is not allowed
    TOO_BIG = 1009
    INTERNAL = 1011
    TRY_LATER = 1013  # full, shutting down, or the channel store is not available
    UNAUTHORIZED = 4401
    IN_USE = 4409
    REMOVED = 4410  # kicked, or the channel was deleted or its key expired


# ---- messages of a client ----


@dataclass(frozen=True, slots=True)
class VideoConfig:
    """The configuration of H.264 video.

    codec: RFC 6381, such as "avc1.42E01F".
    description: the avcC record.
    width, height: pixels, 0 if not given.
    framerate: frames a second, 0 if not given.
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
    description: OpusHead or AudioSpecificConfig, b"" if not given.
    """

    codec: str
    rate: int
    channels: int
    description: bytes = b""


@dataclass(frozen=True, slots=True)
class Configured:
    """The configuration of the chunks that follow; at least one of the two is set."""

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

    EXPECTING = auto()  # the configuration has not come yet
    STREAMING = auto()
    ENDED = auto()


# By state: the events that are allowed, and the state after each.
_TRANSITIONS: Final[Mapping[PushState, Mapping[type[FramesEvent], PushState]]] = {
    PushState.EXPECTING: {Configured: PushState.STREAMING, PushEnded: PushState.ENDED},
    PushState.STREAMING: {Configured: PushState.STREAMING, Chunk: PushState.STREAMING, PushEnded: PushState.ENDED},
    PushState.ENDED: {},
}
_TOLD: Final[Mapping[tuple[PushState, type[FramesEvent]], str]] = {
    (PushState.EXPECTING, Chunk): 'a frame before the configuration: the first message is {"type": "config", …}',
}


class FramesConnection:
    """The server's side of one push of frames: `receive` returns the event of each message."""

    def __init__(self) -> None:
        self.state = PushState.EXPECTING
        self._kinds: frozenset[Kind] = frozenset()

    def receive(self, message: str | bytes) -> FramesEvent:
        """Returns the event of one message. Hot path.

        Raises RemoteProtocolError for an invalid message or one that the state does not allow; then the push is over.
        """
        event: FramesEvent = read_chunk(message) if isinstance(message, bytes) else read_text(message)
        following = _TRANSITIONS[self.state].get(type(event))
        if following is None:
            raise RemoteProtocolError(_TOLD.get((self.state, type(event)), "a message after the end"))
        self.state = following
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
    if len(message) > TEXT_BYTES:
        raise RemoteProtocolError(f"a text message of {len(message)} characters")
    try:
        said = json.loads(message)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("a text message that is not JSON") from None
    if not isinstance(said, dict):
        raise RemoteProtocolError("a text message that is no JSON object")
    kind = said.get("type")
    if kind == "end":
        return PushEnded()
    if kind != "config":
        raise RemoteProtocolError('a text message without a "type" of "config" or "end"')
    video, audio = said.get("video"), said.get("audio")
    if video is None and audio is None:
        raise RemoteProtocolError("a configuration without video and audio")
    return Configured(None if video is None else _video(video), None if audio is None else _audio(audio))


def _video(said: Any) -> VideoConfig:
    codec = _codec("video", said)
    if not codec.lower().startswith(("avc1.", "avc3.")):
        raise RemoteProtocolError(f"video codec {codec!r} is not taken: H.264 (avc1.…) is")
    description = _description("video", said)
    if not description:
        raise RemoteProtocolError('video.description (avcC) is missing: encode with avc: {format: "avc"}')
    width, height = _number("video.width", said, MAX_PIXELS), _number("video.height", said, MAX_PIXELS)
    return VideoConfig(codec, description, int(width), int(height), _number("video.framerate", said, 1000))


def _audio(said: Any) -> AudioConfig:
    codec = _codec("audio", said)
    if codec != "opus" and not codec.startswith("mp4a.40."):
        raise RemoteProtocolError(f"audio codec {codec!r} is not taken: opus and mp4a.40.2 (AAC) are")
    rate, channels = _number("audio.sampleRate", said, 384_000), _number("audio.numberOfChannels", said, 8)
    if rate < 8000 or channels < 1:
        raise RemoteProtocolError("audio.sampleRate or audio.numberOfChannels is missing")
    return AudioConfig(codec, int(rate), int(channels), _description("audio", said))


def _codec(what: str, said: Any) -> str:
    codec = said.get("codec") if isinstance(said, dict) else None
    if not isinstance(codec, str) or not 0 < len(codec) <= _CODEC_CHARACTERS:
        raise RemoteProtocolError(f"{what}.codec is missing")
    return codec


def _number(name: str, said: Mapping[str, Any], limit: int) -> float:
    value = said.get(name.partition(".")[2])
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= limit:
        raise RemoteProtocolError(f"{name} is not a number from 0 to {limit}")
    return value


def _description(what: str, said: Mapping[str, Any]) -> bytes:
    text = said.get("description")
    if text is None:
        return b""
    if not isinstance(text, str) or len(text) > DESCRIPTION_BYTES * 4 // 3:
        raise RemoteProtocolError(f"{what}.description is not base64 of at most {DESCRIPTION_BYTES} bytes")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RemoteProtocolError(f"{what}.description is not base64") from None


# ---- messages of the server ----


def accepted_text(id: str, protocol: str, video: str | None, audio: str | None) -> str:
    """Returns the message that the push has begun.

    protocol: "frames" or "container".
    video, audio: "copy" or "transcode"; None: not known yet.
    """
    return _json(type="accepted", id=id, protocol=protocol, video=video, audio=audio)


@dataclass(frozen=True, slots=True)
class Stats:
    """The state of a push.

    bitrate, fps: recent bits and frames a second.
    received: bytes in total.
    frames, dropped: frames in total.
    behind: seconds by which processing is behind the received media.
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
    return _json(
        type="stats",
        bitrate=stats.bitrate,
        received=stats.received,
        frames=stats.frames,
        dropped=stats.dropped,
        fps=round(stats.fps, 1),
        behind=round(stats.behind, 3),
        video=stats.video,
        audio=stats.audio,
    )


def error_text(code: int, reason: str) -> str:
    """Returns the message that the push is over because of an error. The close frame follows."""
    return _json(type="error", code=int(code), reason=reason)


def close_reason(reason: str) -> str:
    """Returns as much of the reason as fits in a close frame."""
    return reason.encode("utf-8", "replace")[:_REASON_BYTES].decode("utf-8", "ignore")


def _json(**said: Any) -> str:
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False)
