"""The state of a connection's link, as operators see it: the API has these fields in camel case."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class LinkPath:
    """A link of a push by SRT; SRTLA has several. sharePercent: of the bytes of the last five seconds.

    rttMs: round trip; null: unknown, as always with SRTLA.
    """

    peer: str
    share_percent: float
    rtt_ms: float | None
    state: Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """The state of a connection. Times in milliseconds. rtt_ms: None: not measured yet.

    loss_percent: packets of the last five seconds that did not come the first time. retransmitted: packets that came or
    were sent again. dropped: packets that were too late. buffer_ms: media that wait for their time.
    """

    rtt_ms: float | None
    loss_percent: float
    retransmitted: int
    dropped: int
    latency_ms: int
    buffer_ms: int
    links: tuple[LinkPath, ...]
