"""The state of a connection's link, as operators see it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkPath:
    """One link that carries a connection. SRTLA has several, otherwise there is one.

    peer: its address. share_percent: its share of the bytes of the last five seconds. rtt_ms: round trip, milliseconds;
    None: unknown. is_up: whether packets come on it.
    """

    peer: str
    share_percent: float
    rtt_ms: float | None
    is_up: bool


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
    links: tuple[LinkPath, ...] = ()
