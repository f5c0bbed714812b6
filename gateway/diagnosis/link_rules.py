"""The rules for the connection of a push by SRT: its loss, its latency, and its links."""

import math
from typing import Final, Protocol

from gateway.protocols.srt.statistics import LinkStatistics

# Haivision, SRT Deployment Guide, "Round Trip Time Multiplier": up to this loss in percent, the latency must be this
# multiple of the round trip.
_MULTIPLIERS: Final = ((1.0, 3), (3.0, 4), (7.0, 5), (10.0, 6))
_LOSS: Final = 1.0  # percent; less is not worth a fault
_RECOVERED_LOSS: Final = 0.5
_SOME_LOSS: Final = 0.1  # percent; without loss, every latency is enough
_STEP: Final = 10  # milliseconds, to which the proposed latency is rounded up
_MARGIN: Final = 1.1  # by which the latency must exceed the limit until the fault ends


class LinkFacts(Protocol):
    """The part of `Facts` that these rules read. link: None: the push does not come by SRT."""

    @property
    def link(self) -> LinkStatistics | None: ...


def multiplier(loss: float) -> int:
    """Returns the least ratio of latency and round trip. loss: percent; above 10 no ratio is known, and it is 6."""
    return next((ratio for most, ratio in _MULTIPLIERS if loss <= most), _MULTIPLIERS[-1][1])


def needed_latency(link: LinkStatistics) -> int:
    """Returns the latency in milliseconds that this loss and this round trip need; 0: the round trip is unknown."""
    return math.ceil(multiplier(link.loss_percent) * round(link.rtt_ms or 0) / _STEP) * _STEP


def link_loss(facts: LinkFacts, active: bool) -> float | None:
    """Returns the loss in percent if it is large, and the latency does not cover it."""
    link = facts.link
    if link is None or link.loss_percent < (_RECOVERED_LOSS if active else _LOSS):
        return None
    is_covered = link.loss_percent <= _MULTIPLIERS[-1][0] and not _is_latency_low(link, active)
    return None if is_covered else link.loss_percent


def link_latency_low(facts: LinkFacts, active: bool) -> float | None:
    """Returns the latency in milliseconds that is needed, if packets are lost and the latency is lower."""
    link = facts.link
    if link is None or link.loss_percent < _SOME_LOSS or not _is_latency_low(link, active):
        return None
    return float(needed_latency(link))


def _is_latency_low(link: LinkStatistics, active: bool) -> bool:
    """Whether the latency is below the multiple of the round trip."""
    least = multiplier(link.loss_percent) * (link.rtt_ms or 0.0)
    return link.latency_ms < least * (_MARGIN if active else 1)


def link_down(facts: LinkFacts, active: bool) -> float | None:
    """Returns how many of several links are down, while another one is up."""
    links = () if facts.link is None else facts.link.links
    down = sum(path.state == "down" for path in links)
    return float(down) if 0 < down < len(links) else None
