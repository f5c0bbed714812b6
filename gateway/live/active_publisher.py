"""The publisher of a stream, as far as the stream knows it."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from gateway.live.sink import EndReason


class ActivePublisher(Protocol):
    """`Stream.publisher`; implemented by `StreamPublisher`.

    since, last_media: monotonic seconds. dropped: units by reason.
    """

    protocol: str
    peer: str
    since: float
    last_media: float
    dropped: Counter[str]

    def evict(self, reason: EndReason) -> None:
        """Takes the stream away from the publisher; only the hub calls it."""
