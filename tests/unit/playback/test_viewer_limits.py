"""New viewers are refused above the reckoned bandwidth of a channel or of the node."""

from __future__ import annotations

import pytest

from gateway.http.request import Request
from gateway.playback.viewer_limits import NodeFull, ViewerLimits
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


async def test_players_of_one_network_take_no_more_than_those_of_one_address():
    hub = builders.hub()
    limits, watched = ViewerLimits(100, {}, Clock(100.0)), stream(hub, "a", 5)
    for host in range(100):
        limits.admit(watched, f"2001:db8::{host:x}")
    assert limits.free_mbps() == pytest.approx(20)
    limits.admit(watched, "2001:db8:0:1::1")
    assert limits.free_mbps() == pytest.approx(15)
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


async def test_viewers_that_leave_make_room():
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


def asked(target="/a/live.flv", method="GET", **headers):
    path, _, query = target.partition("?")
    return Request(method, path, query, headers)


async def test_a_viewer_of_a_full_node_goes_to_another_one_once():
    hub = builders.hub()
    limits = ViewerLimits(1, {}, Clock(100.0), sibling=lambda channel: f"https://two.example.com/{channel.id}x")
    full = stream(hub, "a", 5)
    with pytest.raises(NodeFull) as error:
        limits.admit(full)
    answer = limits.answer(asked(), full.channel, error.value)
    assert (answer.status, answer.headers["Location"]) == (307, "https://two.example.com/ax/a/live.flv?moved=1")
    answer = limits.answer(asked("/a/live.m3u8?sign=9-b&x=1"), full.channel, error.value)
    assert answer.headers["Location"] == "https://two.example.com/ax/a/live.m3u8?sign=9-b&x=1&moved=1"
    assert limits.refused == {"full": 1, "moved": 2}
    for request in (
        asked("/a/live.flv?moved=1"),
        asked("/a/live.flv?sign=1&moved=1&x=1"),
        asked(method="POST"),
        asked(method="HEAD"),
        asked(upgrade="websocket", connection="Upgrade"),
    ):
        answer = limits.answer(request, full.channel, error.value)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10"), request
    limits.sibling = lambda channel: ""
    assert limits.answer(asked(), full.channel, error.value).status == 503
    hub.drain()
    await hub.drained()


async def test_a_viewer_of_a_full_channel_stays():
    hub = builders.hub()
    limits = ViewerLimits(0, {}, Clock(100.0), sibling=lambda channel: "https://two.example.com")
    full = stream(hub, "a", 5, maxViewerMbps="1")
    with pytest.raises(AtCapacity) as error:
        limits.admit(full)
    assert limits.answer(asked(), full.channel, error.value).status == 503
    assert limits.free_mbps() is None
    hub.drain()
    await hub.drained()


async def test_the_free_bandwidth_follows_the_viewers():
    hub, clock = builders.hub(), Clock(100.0)
    limits = ViewerLimits(20, {}, clock)
    watched = stream(hub, "a", 5)
    assert limits.free_mbps() == 20
    assert admitted(limits, watched, 3) == 3
    assert limits.free_mbps() == pytest.approx(5)
    watched.viewers["flv"] = 5
    clock.now += 1
    assert limits.free_mbps() == 0
    hub.drain()
    await hub.drained()
