"""Players over HTTP are counted while they come back, in bounded memory."""

from gateway.playback.http_viewers import HttpViewers
from tests.support.builders import stream
from tests.support.clock import Clock
from tests.support.http import request


def viewer(n=0, agent="VLC"):
    return request("/c1/live.m3u8", peer=f"192.0.2.{n}", user_agent=agent)


async def test_a_player_is_one_viewer_however_often_it_asks_and_by_protocol():
    audience, watched = HttpViewers(), stream()
    for _ in range(3):
        audience.record(viewer(), watched, "hls")
        audience.record(viewer(), watched, "cmaf")
        audience.record(viewer(1), watched, "hls")
        audience.record(viewer(1, "Safari"), watched, "hls")
    assert watched.viewers == {"hls": 3, "cmaf": 1}
    audience.close()
    assert not +watched.viewers
    assert len(audience) == 0


async def test_who_stays_away_is_forgotten_and_who_comes_back_is_not():
    clock = Clock(100.0)
    audience, watched = HttpViewers(15, clock=clock), stream()
    audience.record(viewer(1), watched, "hls")
    audience.record(viewer(2), watched, "hls")
    clock.now += 10
    audience.record(viewer(1), watched, "hls")
    clock.now += 10
    audience.expire()
    assert watched.viewers["hls"] == 1
    clock.now += 10
    audience.expire()
    assert watched.viewers["hls"] == 0
    audience.close()


async def test_the_table_is_bounded():
    audience, watched = HttpViewers(max_viewers=10), stream()
    for n in range(30):
        audience.record(viewer(n), watched, "hls")
    assert len(audience) == watched.viewers["hls"] == 10
    audience.close()


async def test_a_stream_that_begins_anew_has_its_own_viewers():
    audience, first, second = HttpViewers(), stream(), stream()
    audience.record(viewer(), first, "hls")
    audience.record(viewer(), second, "hls")
    assert (first.viewers["hls"], second.viewers["hls"]) == (0, 1)
    audience.close()


async def test_a_player_with_a_long_agent_is_remembered_in_few_bytes():
    watched, audience = stream(), HttpViewers()
    agent = "x" * 16_000
    audience.record(viewer(1, agent), watched, "hls")
    audience.record(viewer(1, agent), watched, "hls")
    [key] = audience._entries
    assert len(repr(key)) < 200
    assert watched.viewers == {"hls": 1}
    audience.close()
