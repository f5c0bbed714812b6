"""The protocol between nodes: signed requests, and the frames of a link in addition to those of `wire`."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final

from gateway.media.errors import InvalidData
from gateway.protocols import wire

HEADER: Final = "x-millrace-node"
UPGRADE: Final = "millrace-units"  # the Upgrade protocol of a POST that publishes
CONTENT_TYPE: Final = "application/x-millrace-units"
VALID_SECONDS: Final = 60.0  # a signature is valid this long before and after its time; other versions rely on it
PING_SECONDS: Final = 2.0  # interval at which each side of a link sends at least one frame
SILENT_SECONDS: Final = 8.0  # a link without data for this time is dead
OPERATIONS: Final = ".node"  # `/_node/.node/…`: requests to the node itself; stream names do not begin with a dot

_SIGNATURE = re.compile(r"([0-9]{1,15})-([0-9a-f]{64})", re.ASCII)


class LinkMessage(IntEnum):
    """Frames of a link between nodes, in addition to `wire.StreamMessage`."""

    HELLO = 16  # the first frame of a pull: JSON, see `Hello`
    PING = 17  # empty
    CHANNEL = 18  # JSON: the channel's fields changed
    EVICT = 19  # to a publishing node: JSON {"reason"}; the last frame
    OVER = 20  # JSON {"reason"}: the stream ended; the last frame of a pull
    # Additional tracks of a push, with the bodies of TRACKS and UNIT. `to` is twice the track id, plus one for audio.
    ADDITIONAL_TRACK = 21
    ADDITIONAL_UNIT = 22
    NUMBERS = 23  # to a publishing node, after each segment: JSON, see live.next_numbers
    QUALITY = 24  # JSON: the quality of the connection of a push (`gateway.live.network_quality`)
    UNUSABLE = 25  # JSON: what of a push cannot be used (`gateway.live.unusable_media`), after each change


class PullForm(StrEnum):
    """The query parameter `form` of a pull: the sender converts the stream for viewers by WebRTC."""

    WEBRTC = "webrtc"  # pictures without reordering, in any codec; sound in Opus
    WEBRTC_H264 = "webrtc-h264"  # H.264 without reordering, for viewers who lack the codec of the other form; no sound


PING: Final = wire.frame(LinkMessage.PING, b"")

_MAX_OUTPUT_NUMBER: Final = 1 << 53


def encode_numbers(numbers: Mapping[str, tuple[int, ...]]) -> bytes:
    """Returns the body of NUMBERS: `{"<output>": [number, …]}`."""
    return wire.write_json({output: list(values) for output, values in numbers.items()})


def decode_numbers(body: bytes) -> dict[str, tuple[int, ...]]:
    """Reads a NUMBERS body. Raises InvalidData."""
    numbers = {}
    for output, values in wire.read_json(body).items():
        if not isinstance(values, list) or not all(_is_number(value) for value in values):
            raise InvalidData("the numbers of an output are no numbers")
        numbers[output] = tuple(values)
    return numbers


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_OUTPUT_NUMBER


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of a pull.

    session: unchanged as long as the times of units continue.
    started: when the stream started, seconds since 1970.
    channel: the fields of the stored channel that playback needs; none of them is secret.
    """

    session: str
    started: float
    channel: Mapping[str, Any]

    def encode(self) -> bytes:
        return wire.write_json({"session": self.session, "started": self.started, "channel": dict(self.channel)})

    @classmethod
    def decode(cls, body: bytes) -> Hello:
        """Reads a HELLO body. Raises InvalidData."""
        fields = wire.read_json(body)
        session, started, channel = fields.get("session"), fields.get("started"), fields.get("channel")
        if not isinstance(session, str) or not isinstance(channel, dict):
            raise InvalidData("a hello without session or channel")
        if isinstance(started, bool) or not isinstance(started, int | float) or not 0 <= started < wire.MAX_WALL:
            raise InvalidData("a hello without a start")
        return cls(session, float(started), channel)


def sign(secret: str, method: str, target: str, now: float) -> str:
    """Returns the value of HEADER.

    target: path and query as sent.
    now: seconds since 1970.
    """
    stamp = str(int(now))
    return f"{stamp}-{_digest(secret, method, target, stamp)}"


def verify(secret: str, method: str, target: str, value: str, now: float) -> str:
    """Checks a signature. Returns "" if it is valid, "skew" if only its time is wrong, otherwise "wrong"."""
    match = _SIGNATURE.fullmatch(value)
    if not secret or match is None:
        return "wrong"
    if not hmac.compare_digest(_digest(secret, method, target, match[1]), match[2]):
        return "wrong"
    return "" if abs(now - int(match[1])) <= VALID_SECONDS else "skew"


def _digest(secret: str, method: str, target: str, stamp: str) -> str:
    signed = f"{method}\n{target}\n{stamp}".encode("utf-8", "surrogatepass")
    return hmac.digest(secret.encode(), signed, "sha256").hex()
