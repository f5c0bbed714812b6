"""New viewers are refused above the reckoned bandwidth of a channel or of the node."""

from __future__ import annotations

import pytest

from gateway.playback.viewer_limits import ViewerLimits
from gateway.ports.errors import AtCapacity
from tests.support import builders
from tests.support.clock import Clock


def stream(hub, name, megabits, **fields):
    publisher = builders.publish(hub, name, **fields)
    received = publisher.stream.received
    received.sample(0.0)
    received.bytes = int(megabits * 125_000)
    received.sample(1.0)
    return publisher.stream


def admitted(limits, stream, times=50):
    """Returns how many viewers are admitted in one second."""
    for count in range(times):
        try:
            limits.admit(stream)
        except AtCapacity:
            return count
    return times


async def test_a_channel_has_its_own_limit():
    hub = builders.hub()
    limits = ViewerLimits(0, {}, Clock(100.0))
    assert admitted(limits, stream(hub, "a", 2, maxViewerMbps="10")) == 5
    assert admitted(limits, stream(hub, "b", 2)) == 50
    assert admitted(limits, stream(hub, "c", 0, maxViewerMbps="1")) == 50
    assert limits.refused == {"full": 1}
    hub.drain()
    await hub.drained()


async def test_renditions_count_for_their_channel_and_all_streams_for_the_node():
    hub, clock = builders.hub(), Clock(100.0)
    limits = ViewerLimits(20, {}, clock)
    source, small = stream(hub, "a", 4, maxViewerMbps="10"), stream(hub, "a@240p", 1, maxViewerMbps="10")
    assert admitted(limits, source) == 2
    assert admitted(limits, small) == 2
    assert admitted(limits, stream(hub, "b", 5)) == 2
    with pytest.raises(AtCapacity, match="this server"):
        limits.admit(stream(hub, "c", 1))
    hub.drain()
    await hub.drained()


async def test_viewers_who_leave_make_room():
    hub, clock = builders.hub(), Clock(100.0)
    limits = ViewerLimits(10, {}, clock)
    watched = stream(hub, "a", 5)
    assert admitted(limits, watched) == 2
    watched.viewers["flv"] = 2
    clock.now += 1
    assert admitted(limits, watched) == 0
    watched.viewers["flv"] = 1
    clock.now += 1
    assert admitted(limits, watched) == 1
    hub.drain()
    await hub.drained()
