"""What nodes say to each other: how their requests are signed, and what a link carries beside units (`wire`)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from gateway.media.errors import InvalidData
from gateway.protocols import wire

HEADER: Final = "x-millrace-node"
UPGRADE: Final = "millrace-units"  # the protocol of a POST that publishes
CONTENT_TYPE: Final = "application/x-millrace-units"
VALID_SECONDS: Final = 60.0  # contract: a signature is good for so long, to either side of its time
PING_SECONDS: Final = 2.0  # how often either side of a link says something
SILENT_SECONDS: Final = 8.0  # without a word for so long, a link is dead
OPERATIONS: Final = ".node"  # `/_node/.node/…`: what is asked of a node; no stream begins with a dot

_SIGNATURE = re.compile(r"([0-9]{1,15})-([0-9a-f]{64})", re.ASCII)


class LinkMessage(IntEnum):
    """Frames of a link between nodes beside wire.Message."""

    HELLO = 16  # first of a pull: JSON, see Hello
    PING = 17  # empty
    CHANNEL = 18  # JSON: the channel's fields changed
    EVICT = 19  # to a publishing node: JSON {"reason"}; the last one
    OVER = 20  # JSON {"reason"}: the stream ended; the last one of a pull


PING: Final = wire.frame(LinkMessage.PING, b"")


@dataclass(frozen=True, slots=True)
class Hello:
    """What a pull begins with. session: the same for as long as the times of units go on. channel: the fields of the
    stored channel that players' treatment depends on, no secret among them."""

    session: str
    started: float
    channel: Mapping[str, Any]

    def encode(self) -> bytes:
        return wire.write_json({"session": self.session, "started": self.started, "channel": dict(self.channel)})

    @classmethod
    def decode(cls, body: bytes) -> Hello:
        """Raises InvalidData."""
        said = wire.read_json(body)
        session, started, channel = said.get("session"), said.get("started"), said.get("channel")
        if not isinstance(session, str) or not isinstance(channel, dict):
            raise InvalidData("a hello without session or channel")
        if isinstance(started, bool) or not isinstance(started, int | float):
            raise InvalidData("a hello without a start")
        return cls(session, float(started), channel)


def sign(secret: str, method: str, target: str, now: float) -> str:
    """The value of HEADER. target: path and query as sent; now: seconds since the epoch."""
    stamp = str(int(now))
    return f"{stamp}-{_digest(secret, method, target, stamp)}"


def verify(secret: str, method: str, target: str, value: str, now: float) -> str:
    """ "" where the signature is good, else why not: "wrong", or "skew" where only the time is."""
    match = _SIGNATURE.fullmatch(value)
    if not secret or match is None:
        return "wrong"
    if not hmac.compare_digest(_digest(secret, method, target, match[1]), match[2]):
        return "wrong"
    return "" if abs(now - int(match[1])) <= VALID_SECONDS else "skew"


def _digest(secret: str, method: str, target: str, stamp: str) -> str:
    return hmac.new(
        secret.encode(), f"{method}\n{target}\n{stamp}".encode("utf-8", "surrogatepass"), hashlib.sha256
    ).hexdigest()
