"""Players over HTTP are counted from their first media on, while they come back, in bounded memory."""

from __future__ import annotations

from typing import cast

import pytest

from gateway.http.request import Request
from gateway.http.response import Response, text
from gateway.live.stream import Stream
from gateway.playback import http_viewers as module
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.viewer_limits import ViewerLimits
from gateway.ports.errors import AtCapacity
from tests.support import builders
from tests.support.builders import channel, stream
from tests.support.clock import Clock
from tests.support.http import request, serving, trusting

FOUND = Response(200, b"media")


def viewer(n: int = 0, agent: str = "VLC", **fields: str) -> Request:
    return request("/c1/1.ts", peer=f"192.0.2.{n}", user_agent=agent, **fields)


async def test_a_player_is_one_viewer_per_protocol_for_any_number_of_requests():
    audience, watched = HttpViewers(), stream()
    for _ in range(3):
        audience.record(viewer(), watched, "hls", media=True)
        audience.record(viewer(), watched, "cmaf", media=True)
        audience.record(viewer(1), watched, "hls", media=True)
        audience.record(viewer(1, "Safari"), watched, "hls", media=True)
    assert watched.viewers == {"hls": 3, "cmaf": 1}
    audience.close()
    assert not +watched.viewers
    assert len(audience) == 0


async def test_a_player_of_shared_media_counts_under_the_list_that_it_got_last():
    clock = Clock(100.0)
    audience, watched = HttpViewers(15, clock=clock), stream()

    def plays(protocol: str, seconds: int) -> None:
        audience.record(viewer(), watched, protocol, media=False, is_list=True)
        for _ in range(seconds):
            clock.now += 1
            audience.record(viewer(), watched, "cmaf", media=True)  # as every request of a fragment
            audience.expire()

    plays("dash", 40)
    assert +watched.viewers == {"dash": 1}
    plays("cmaf", 2)
    plays("dash", 2)
    assert +watched.viewers == {"dash": 1, "cmaf": 1}  # two tabs of one browser
    plays("dash", 20)
    assert +watched.viewers == {"dash": 1}
    audience.close()


async def test_players_that_stay_away_are_forgotten_and_returning_ones_are_not():
    clock = Clock(100.0)
    audience, watched = HttpViewers(15, clock=clock), stream()
    audience.record(viewer(1), watched, "hls", media=True)
    audience.record(viewer(2), watched, "hls", media=True)
    clock.now += 10
    audience.record(viewer(1), watched, "hls", media=False)
    clock.now += 10
    audience.expire()
    assert watched.viewers["hls"] == 1
    clock.now += 10
    audience.expire()
    assert watched.viewers["hls"] == 0
    audience.close()


async def test_players_of_long_segments_count_longer_without_keeping_others():
    clock = Clock(100.0)
    audience, long, usual = HttpViewers(15, clock=clock), stream(), stream()
    long.channel = channel(hls_time="60")
    audience.record(viewer(1), long, "hls", media=True)
    audience.record(viewer(2), usual, "cmaf", media=True)
    clock.now += 100
    audience.expire()
    assert (long.viewers["hls"], usual.viewers["cmaf"]) == (1, 0)
    clock.now += 80
    audience.expire()
    assert long.viewers["hls"] == 0
    audience.close()


@pytest.mark.parametrize(
    ("path", "answer", "method", "counted"),
    [
        ("1.ts", FOUND, "GET", 1),
        ("video/1-part2.m4s", FOUND, "GET", 1),
        ("live.m3u8", FOUND, "GET", 0),
        ("manifest.mpd", FOUND, "GET", 0),
        ("1.ts", FOUND, "HEAD", 0),
        ("1.ts", text(404, "no segment"), "GET", 0),
        ("1.ts", text(503, "not yet"), "GET", 0),
    ],
)
async def test_only_players_that_get_media_are_counted(path: str, answer: Response, method: str, counted: int):
    async def later() -> Response:
        return answer

    for answering in (answer, later()):
        audience, watched = HttpViewers(), stream()
        got = audience.follow(request(f"/c1/{path}", method), watched, "hls", path, answering)
        assert (got if isinstance(got, Response) else await got) is answer
        assert watched.viewers["hls"] == counted
        audience.close()


async def test_behind_a_trusted_proxy_a_playlist_counts():
    audience, watched = HttpViewers(), stream()

    def handle(asking: Request) -> Response:
        audience.record(asking, watched, "hls", media=False)
        return FOUND

    async with serving(handle, forwarded=trusting("127.0.0.0/8")) as listener:
        await listener.get("/c1/live.m3u8")
        assert watched.viewers["hls"] == 0
        await listener.get("/c1/live.m3u8", X_Forwarded_For="192.0.2.7")
        assert watched.viewers["hls"] == 1
    audience.close()


async def test_the_table_is_bounded():
    audience, watched = HttpViewers(max_viewers=10), stream()
    for n in range(30):
        audience.record(viewer(n), watched, "hls", media=True)
    assert len(audience) == watched.viewers["hls"] == 10
    audience.close()


async def test_an_address_has_a_bounded_number_of_players(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_PER_ADDRESS", 3)
    clock = Clock(100.0)
    audience, watched, other = HttpViewers(15, clock=clock), stream(), stream()
    for n in range(9):
        audience.record(viewer(1, f"forged {n}"), watched, "hls", media=bool(n % 2))
        audience.record(viewer(1, f"forged {n}"), other, "cmaf", media=True)
    assert len(audience) == 3
    audience.record(viewer(2), watched, "hls", media=True)
    assert len(audience) == 4
    proxy = viewer(1, "through a trusted proxy")
    proxy.exempt = True
    audience.record(proxy, watched, "hls", media=True)
    assert len(audience) == 5
    clock.now += 20
    audience.expire()
    audience.record(viewer(1, "later"), watched, "hls", media=True)
    assert watched.viewers["hls"] == 1
    audience.close()


async def test_players_without_media_do_not_take_the_bandwidth_of_other_addresses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_PER_ADDRESS", 40)
    hub, clock, refused = builders.hub(), Clock(100.0), dict[str, int]()
    publisher = builders.publish(hub, "a")
    watched = publisher.stream
    watched.received.sample(0.0)
    watched.received.bytes = 5 * 125_000
    watched.received.sample(1.0)
    audience = HttpViewers(15, clock=clock, limits=ViewerLimits(100, refused, clock))
    for n in range(60):  # of one NAT: those above its 40 players are not refused while they watch
        audience.record(viewer(1, f"forged {n}"), watched, "hls", media=False, is_list=True)
    audience.record(viewer(2), watched, "hls", media=False, is_list=True)
    for n in range(19):
        audience.record(viewer(1, f"forged {n}"), watched, "hls", media=True)
    clock.now += 1
    audience.record(viewer(3), watched, "hls", media=False, is_list=True)
    assert refused == {}
    for _ in range(50):  # a refused player takes no place of its address
        with pytest.raises(AtCapacity):
            audience.record(viewer(4), watched, "hls", media=False, is_list=True)
    clock.now += 20
    audience.expire()
    audience.record(viewer(4), watched, "hls", media=False, is_list=True)
    audience.close()
    hub.drain()
    await hub.drained()


async def test_a_stream_that_begins_again_has_its_own_viewers():
    audience, first, second = HttpViewers(), stream(), stream()
    audience.record(viewer(), first, "hls", media=True)
    audience.record(viewer(), second, "hls", media=True)
    assert (first.viewers["hls"], second.viewers["hls"]) == (0, 1)
    audience.close()


async def test_a_player_with_a_long_agent_is_remembered_in_few_bytes():
    watched: Stream = stream()
    audience = HttpViewers()
    agent = "x" * 16_000
    audience.record(viewer(1, agent), watched, "hls", media=True)
    audience.record(viewer(1, agent), watched, "hls", media=True)
    [key] = audience._entries
    assert len(repr(key)) < 200
    assert watched.viewers == {"hls": 1}
    audience.close()


async def test_the_bytes_of_answers_count_for_the_channel_as_they_are_sent():
    audience, watched = HttpViewers(), stream()
    body = b"x" * 10_000

    def answer(asked: Request) -> Response:
        if asked.path == "/c1/other":
            return Response(200, body)
        return cast("Response", audience.follow(asked, watched, "hls", "1.ts", Response(200, body, {"ETag": '"1"'})))

    sent = []
    async with serving(answer) as listener:
        for line in ("GET /c1/1.ts", "GET /c1/1.ts", "HEAD /c1/1.ts", "GET /c1/other"):
            async with listener.connect() as wire:
                part = "Range: bytes=0-99\r\n" if len(sent) == 1 else ""
                await wire.send(f"{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{part}\r\n")
                sent.append(len(await wire.rest()))
    assert sent[1] < 1_000 < sent[0]
    assert watched.tally.sent == sum(sent[:3])
    audience.close()


async def test_a_repeated_request_counts_only_while_its_answer_is_for_a_viewer():
    audience, watched, refused = HttpViewers(), stream(), False

    def answer(asked: Request) -> Response:
        found = Response(200, b"x" * 1000)
        return text(403, "no") if refused else cast("Response", audience.follow(asked, watched, "hls", "1.ts", found))

    async with serving(answer) as listener, listener.connect() as wire:
        await wire.get("/c1/1.ts")
        counted = watched.tally.sent
        refused = True
        await wire.get("/c1/1.ts")
    assert watched.tally.sent == counted > 1000
    audience.close()
