"""The quality of WebRTC connections, as sessions show it."""

from __future__ import annotations

import heapq
from typing import Any, Final

from gateway.live.network_quality import NetworkQuality
from gateway.live.stream import Stream
from gateway.packaging.rtp.output import KIND, RtpOutput

MAX_VIEWERS: Final = 50  # maximum number in the answer of a session


def quality(network: NetworkQuality) -> dict[str, Any]:
    """Returns round trip and jitter in ms, and the share of lost packets."""
    trip = network.round_trip
    return {
        "roundTrip": None if trip is None else round(trip * 1000, 1),
        "lost": round(network.lost, 4),
        "jitter": round(network.jitter * 1000, 1),
    }


def worst_viewers(stream: Stream | None) -> list[dict[str, Any]]:
    """Returns the WHEP viewers of this process with the worst connections, the worst first, at most MAX_VIEWERS."""
    output = stream.output(KIND) if stream is not None else None
    if not isinstance(output, RtpOutput):
        return []
    found = ((viewer, viewer.network) for viewer in output.connections)
    worst = heapq.nlargest(MAX_VIEWERS, found, key=lambda one: (one[1].lost, one[1].round_trip or 0.0))
    return [{"address": v.address, "transport": v.transport, **quality(network)} for v, network in worst]
