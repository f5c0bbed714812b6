"""The HTTP cache proxy asks the holder once for each file and gives it to permitted viewers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from gateway.channels.cached_channels import CachedChannels
from gateway.channels.channel import Channel
from gateway.channels.stream_key import SignatureUse, SigningSecrets
from gateway.cluster.files import http_cache_proxy, request_coalescer, upstream_client
from gateway.cluster.files.http_cache_proxy import HttpCacheProxy
from gateway.cluster.files.upstream_client import UpstreamClient
from gateway.cluster.members.liveness_monitor import LivenessMonitor
from gateway.cluster.members.peers import Peers
from gateway.formats.dash import mpd
from gateway.formats.hls import media_playlist
from gateway.http.response import Response, text
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.playlist_response import copied_query
from gateway.playback.protection import PlaybackProtection
from gateway.playback.viewer_limits import ViewerLimits
from gateway.ports.errors import StoreUnavailable
from gateway.settings.models import EdgeSettings
from tests.support.holder import SEGMENT, Holder, Where, answer, for_ever, holding
from tests.support.http import request
from tests.support.playback import Channels
from tests.support.waiting import until

SECRETS = SigningSecrets("a-secret")
M3U8 = "application/vnd.apple.mpegurl"
MPD = "application/dash+xml"
FAR = 4_000_000_000


class Lab:
    """A proxy with one holder; the test moves its clock."""

    def __init__(self, holder: Holder, where: Where, channels: Channels) -> None:
        self.holder, self.where, self.channels = holder, where, channels
        self.now = 1000.0
        self.absences = 0
        self.audience = HttpViewers(clock=lambda: self.now)
        self.relay: HttpCacheProxy

    def file(self, target: str, **headers: str) -> Response | Coroutine[Any, Any, Any]:
        """The proxy's answer for `/<name>/<rest>?<query>`, or a coroutine that returns it."""
        asked = request(target, **headers)
        name, _, rest = asked.path[1:].partition("/")
        return self.relay.file(asked, name, rest, self.absent)

    def in_memory(self, target: str) -> bool:
        """Whether the file is answered without a task."""
        found = self.file(target)
        if isinstance(found, Response):
            return True
        found.close()
        return False

    async def absent(self) -> Response:
        self.absences += 1
        return text(404, "c1 is not streaming live now")

    async def get(self, target: str, **headers: str) -> Response:
        """The whole answer, its body read where it comes in pieces."""
        found = self.file(target, **headers)
        response = found if isinstance(found, Response) else await found
        assert isinstance(response, Response)
        if response.body is None or isinstance(response.body, bytes):
            return response
        body = b""
        try:
            async for piece in response.body:
                body += piece
        finally:
            await response.body.aclose()  # type: ignore[attr-defined]
        return Response(response.status, body, response.content_type, cache=response.cache)


@asynccontextmanager
async def relaying(*channels: Channel, auth: str = "none", cache: int = 64_000_000) -> AsyncIterator[Lab]:
    store = Channels(*(channels or (Channel({"id": "c1"}),)))
    where = Where()
    async with holding() as holder, Peers("cluster") as peers:
        lab = Lab(holder, where, store)
        where.places["c1"] = [holder.place]
        protection = PlaybackProtection(
            auth=auth, referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=100
        )
        edge = EdgeSettings(upstream=(), cache=cache, channel="")
        cached = CachedChannels(store, clock=lambda: lab.now)
        lab.relay = HttpCacheProxy(
            UpstreamClient(where, peers), cached, protection, lab.audience, edge, clock=lambda: lab.now
        )
        async with lab.relay:
            yield lab
        lab.audience.close()


def gated(before: bytes, after: bytes) -> tuple[Callable[[asyncio.StreamWriter], Awaitable[None]], asyncio.Event]:
    """Says `before`, and the rest when the event is set."""
    gate = asyncio.Event()

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(before)
        await writer.drain()
        await gate.wait()
        writer.write(after)
        await writer.drain()

    return say, gate


def split(whole: bytes, at: int = -1) -> tuple[Callable[[asyncio.StreamWriter], Awaitable[None]], asyncio.Event]:
    at = whole.index(b"\r\n\r\n") + 4 if at < 0 else at
    return gated(whole[:at], whole[at:])


def playlist(text: str, suffix: str = http_cache_proxy.QUERY and f"?{http_cache_proxy.QUERY}") -> bytes:
    """A playlist as a holder answers the proxy's own query."""
    return media_playlist.with_suffix(text, suffix)


LIVE = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2.00000,\n100.ts{media_playlist.MARK}\n"
LOW = (
    f'#EXTM3U\n#EXT-X-PART-INF:PART-TARGET=0.2\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI="i.mp4{media_playlist.MARK}"\n'
)


# ---- one request for all ----


async def test_a_thousand_requests_for_a_segment_become_one_request() -> None:
    async with relaying() as lab:
        say, gate = split(answer(b"segment" * 1000, **SEGMENT))
        lab.holder.says["c1/100.ts"] = say
        crowd = asyncio.gather(*(lab.get("/c1/100.ts", User_Agent=str(n)) for n in range(1000)))
        await until(lambda: lab.holder.asked)
        gate.set()
        assert {(r.status, r.body, r.cache) for r in await crowd} == {
            (200, b"segment" * 1000, "public, max-age=600, immutable")
        }
        assert lab.holder.asked == ["c1/100.ts"]


async def test_a_thousand_blocking_reloads_become_one_and_keep_their_own_queries() -> None:
    async with relaying() as lab:
        say, gate = split(answer(playlist(LOW), M3U8, Cache_Control="max-age=12"))
        lab.holder.says["c1/video/index.m3u8"] = say
        ask = "/c1/video/index.m3u8?_HLS_msn=9&_HLS_part=2"
        crowd = asyncio.gather(*(lab.get(f"{ask}&sign={n}") for n in range(1000)))
        await until(lambda: lab.holder.asked)
        gate.set()
        assert [r.body for r in await crowd] == [playlist(LOW, f"?sign={n}") for n in range(1000)]
        assert lab.holder.asked == [f"c1/video/index.m3u8?{http_cache_proxy.QUERY}&_HLS_msn=9&_HLS_part=2"]


async def test_a_cached_file_is_answered_without_a_task() -> None:
    async with relaying() as lab:
        lab.holder.says["c1/100.ts"] = answer(b"segment", **SEGMENT)
        first = await lab.get("/c1/100.ts")
        assert lab.file("/c1/100.ts") is first
        assert lab.holder.asks("c1/100.ts") == 1


async def test_a_pending_request_uses_an_answer_that_arrived_meanwhile() -> None:
    async with relaying() as lab:
        lab.holder.says["c1/100.ts"] = answer(b"segment", **SEGMENT)
        await lab.get("/c1/live.m3u8")  # the channel is known from now on
        about_to = lab.file("/c1/100.ts")
        assert not isinstance(about_to, Response)
        await lab.get("/c1/100.ts")
        assert (await about_to).body == b"segment"
        assert lab.holder.asks("c1/100.ts") == 1


async def test_equivalent_delivery_directives_become_one_request() -> None:
    async with relaying() as lab:
        lab.holder.says["c1/video/index.m3u8"] = answer(playlist(LOW), M3U8, Cache_Control="max-age=12")
        for query in ("_HLS_part=2&_HLS_msn=9", "_HLS_msn=009&x=1&_HLS_part=2&_HLS_push=1", "_HLS_msn=9&_HLS_part=02"):
            await lab.get(f"/c1/video/index.m3u8?{query}")
        assert len(lab.holder.asked) == 1


async def test_a_reload_for_an_old_segment_gets_the_cached_newest_playlist() -> None:
    async with relaying() as lab:
        lab.holder.says["c1/video/index.m3u8"] = answer(playlist(LOW), M3U8)
        await lab.get("/c1/video/index.m3u8")
        for number in range(7):
            await lab.get(f"/c1/video/index.m3u8?_HLS_msn={number}")
        assert lab.holder.asked == [f"c1/video/index.m3u8?{http_cache_proxy.QUERY}"]


async def test_invalid_paths_are_not_found_without_asking_the_holder() -> None:
    async with relaying() as lab:
        for path in ("a/b/c/d.ts", "video/" + "9" * 100 + ".m4s", "a%20b.ts", "ä.ts", "a;b.ts"):
            found = await lab.get(f"/c1/{path}")
            assert (found.status, found.body) == (404, b"not found\n"), path
        assert lab.holder.asked == []


# ---- bodies that come as they are made ----


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces)
    return body + (b"0\r\n\r\n" if end else b"")


OPEN = (
    b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nCache-Control: public, max-age=600, immutable\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


async def test_an_open_segment_is_passed_on_from_its_beginning_also_to_late_viewers() -> None:
    async with relaying() as lab:
        say, gate = gated(OPEN + chunked(b"one", end=False), chunked(b"two"))
        lab.holder.says["c1/video/5-1.m4s"] = say
        opened = await lab.file("/c1/video/5-1.m4s")  # type: ignore[misc]
        body = aiter(opened.body)
        assert await anext(body) == b"one"
        late = await lab.file("/c1/video/5-1.m4s")  # type: ignore[misc]
        behind = aiter(late.body)
        assert await anext(behind) == b"one"
        gate.set()
        assert [p async for p in body] == [p async for p in behind] == [b"two"]
        await body.aclose()
        await behind.aclose()
        again = lab.file("/c1/video/5-1.m4s")
        assert isinstance(again, Response) and again.body == b"onetwo"
        assert lab.holder.asks("c1/video/5-1.m4s") == 1


async def test_an_open_segment_that_breaks_off_is_truncated_and_not_cached() -> None:
    async with relaying() as lab:

        async def say(writer: asyncio.StreamWriter) -> None:
            writer.write(OPEN + chunked(b"one", end=False))
            await writer.drain()
            writer.close()

        lab.holder.says["c1/video/5-1.m4s"] = say
        with pytest.raises(request_coalescer.TruncatedBody):
            await lab.get("/c1/video/5-1.m4s")
        lab.holder.says["c1/video/5-1.m4s"] = answer(b"all of it", "video/mp4", **SEGMENT)
        assert (await lab.get("/c1/video/5-1.m4s")).body == b"all of it"


async def test_a_segment_shorter_than_its_declared_length_is_not_delivered() -> None:
    async with relaying() as lab:
        whole = answer(b"segment" * 100, **SEGMENT)

        async def say(writer: asyncio.StreamWriter) -> None:
            writer.write(whole[:-10])
            await writer.drain()
            writer.close()

        lab.holder.says["c1/100.ts"] = say
        found = await asyncio.gather(*(lab.get("/c1/100.ts") for _ in range(5)))
        assert {r.status for r in found} == {503}
        assert found[0].headers["Retry-After"] == "1"
        lab.holder.says["c1/100.ts"] = whole
        assert (await lab.get("/c1/100.ts")).status == 200


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_above_the_size_limit_is_refused(monkeypatch: pytest.MonkeyPatch, declared: bool) -> None:
    monkeypatch.setattr(http_cache_proxy, "MAX_TEXT", 10_000)
    async with relaying() as lab:
        body = b"#" * 10_001
        head = f"Content-Length: {len(body)}" if declared else "Transfer-Encoding: chunked"
        said = f"HTTP/1.1 200 OK\r\nContent-Type: {M3U8}\r\n{head}\r\n\r\n".encode()
        lab.holder.says["c1/live.m3u8"] = said + (body if declared else chunked(body))
        assert (await lab.get("/c1/live.m3u8")).status == 503


async def test_bodies_in_transit_count_towards_the_limit_too() -> None:
    async with relaying(cache=100_000) as lab:
        lab.holder.says["c1/1.ts"] = answer(b"x" * 200_000, **SEGMENT)
        assert (await lab.get("/c1/1.ts")).status == 503
        lab.holder.says["c1/1.ts"] = answer(b"x" * 10_000, **SEGMENT)
        assert (await lab.get("/c1/1.ts")).status == 200  # nothing of the first is left


async def test_requests_for_one_stream_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_coalescer, "_MAX_PER_GROUP", 3)
    async with relaying() as lab:
        gates = []
        for n in range(3):
            say, gate = split(answer(b"x", **SEGMENT))
            lab.holder.says[f"c1/{n}.ts"] = say
            gates.append(gate)
        waiting = asyncio.gather(*(lab.get(f"/c1/{n}.ts") for n in range(3)))
        await until(lambda: len(lab.holder.asked) == 3)
        refused = await lab.get("/c1/3.ts")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        for gate in gates:
            gate.set()
        assert {r.status for r in await waiting} == {200}


async def test_held_playlists_leave_room_for_media_and_for_other_playlists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_coalescer, "_MAX_PER_GROUP", 3)
    async with relaying() as lab:
        say, gate = split(answer(playlist(LOW), M3U8))
        lab.holder.says["c1/video/index.m3u8"] = say
        held = [lab.get(f"/c1/video/index.m3u8?_HLS_msn=11&_HLS_part={n}&rewind=9{n}0") for n in range(3)]
        waiting = asyncio.gather(*held, lab.get("/c1/video/index.m3u8?_HLS_msn=11&_HLS_part=0"))
        await until(lambda: len(lab.holder.asked) == 3)
        lab.holder.says["c1/1.m4s"] = answer(b"x", **SEGMENT)
        lab.holder.says["c1/live.m3u8"] = answer(playlist(LIVE), M3U8)
        for path in ("1.m4s", "live.m3u8", "live.m3u8?rewind=60&_HLS_msn=11"):
            assert (await lab.get(f"/c1/{path}")).status == 200
        assert (await lab.get("/c1/video/index.m3u8?_HLS_msn=11")).status == 503
        gate.set()
        assert {r.status for r in await waiting} == {200}


async def test_an_invalid_answer_of_the_holder_causes_503() -> None:
    async with relaying() as lab:
        lab.holder.says["c1/100.ts"] = b"\x00\x01\x02 what is this\r\n\r\n"
        assert (await lab.get("/c1/100.ts")).status == 503


async def test_an_error_of_the_holder_is_passed_on_and_cached_only_briefly() -> None:
    async with relaying() as lab:
        lab.holder.says["c1/100.ts"] = answer("something went wrong\n", "text/plain", "500 Internal Server Error")
        assert [(await lab.get("/c1/100.ts")).status for _ in range(3)] == [500] * 3
        assert len(lab.holder.asked) == 1
        lab.now += 0.3
        lab.holder.says["c1/100.ts"] = answer(b"segment", **SEGMENT)
        assert (await lab.get("/c1/100.ts")).status == 200


# ---- who leaves ----


async def test_a_viewer_that_leaves_does_not_stop_the_request_of_others() -> None:
    async with relaying() as lab:
        say, gate = split(answer(b"segment", **SEGMENT))
        lab.holder.says["c1/100.ts"] = say
        crowd = [asyncio.ensure_future(lab.get("/c1/100.ts")) for _ in range(3)]
        await until(lambda: lab.holder.asked)
        crowd[0].cancel()
        await asyncio.sleep(0)
        gate.set()
        assert [(await one).body for one in crowd[1:]] == [b"segment"] * 2
        assert len(lab.holder.asked) == 1


async def test_the_request_to_the_holder_ends_when_the_last_viewer_leaves() -> None:
    async with relaying() as lab:
        say, gate = split(answer(b"segment", **SEGMENT))
        lab.holder.says["c1/100.ts"] = say
        crowd = [asyncio.ensure_future(lab.get("/c1/100.ts")) for _ in range(3)]
        await until(lambda: lab.holder.asked)
        for one in crowd:
            one.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        gate.set()
        await until(lambda: lab.holder.left)
        assert (await lab.get("/c1/100.ts")).body == b"segment"
        assert len(lab.holder.asked) == 2


async def test_the_request_for_an_open_segment_ends_when_its_viewer_leaves() -> None:
    async with relaying() as lab:
        say, gate = gated(OPEN + chunked(b"one", end=False), chunked(b"two"))
        lab.holder.says["c1/video/5-1.m4s"] = say
        opened = await lab.file("/c1/video/5-1.m4s")  # type: ignore[misc]
        await opened.body.aclose()
        gate.set()
        await until(lambda: lab.holder.left)


# ---- each viewer's query ----


@pytest.mark.parametrize("query", ["", "sign=1-a", 'a="><b>&c=$d$&e=%20', "a=1&_HLS_skip=NO&b=2", "ä=ö"])
async def test_playlists_and_manifests_equal_those_of_the_holder_byte_for_byte(query: str) -> None:
    """The proxy finishes them for this viewer as the holder itself would."""
    async with relaying() as lab:
        now = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC).timestamp()
        manifest = (
            f'<MPD><Period><SegmentTemplate media="v-$Number$.m4s{mpd.MARK}"/></Period>'
            f'<UTCTiming schemeIdUri="urn:mpeg:dash:utc:direct:2014" value="{mpd.NOW}"/></MPD>'
        )
        lab.holder.says["c1/live.m3u8"] = answer(playlist(LIVE), M3U8)
        lab.holder.says["c1/manifest.mpd"] = answer(mpd.finish(manifest, f"?{http_cache_proxy.QUERY}", now), MPD)
        suffix = copied_query(request(f"/c1/live.m3u8?{query}"))
        assert isinstance(suffix, str)
        assert (await lab.get(f"/c1/live.m3u8?{query}")).body == media_playlist.with_suffix(LIVE, suffix)
        assert (await lab.get(f"/c1/manifest.mpd?{query}")).body == mpd.finish(manifest, suffix, now)


async def test_a_cached_mpd_has_the_current_time() -> None:
    async with relaying() as lab:
        text = f'<MPD><UTCTiming schemeIdUri="urn:mpeg:dash:utc:direct:2014" value="{mpd.NOW}"/></MPD>'
        lab.holder.says["c1/manifest.mpd"] = answer(mpd.finish(text, "", 1_000_000.0), MPD)
        await lab.get("/c1/manifest.mpd")
        lab.now += 0.25
        assert (await lab.get("/c1/manifest.mpd")).body == mpd.finish(text, "", 1_000_000.25)
        assert len(lab.holder.asked) == 1


async def test_a_cached_status_has_the_current_time() -> None:
    async with relaying() as lab:
        lab.holder.says["c1/status.json"] = answer('{"live": true, "now": 5000}', "application/json")
        await lab.get("/c1/status.json")
        lab.now += 0.25
        assert (await lab.get("/c1/status.json")).body == b'{"live": true, "now": 5250}'


@pytest.mark.parametrize("status", ['{"now": "x"}', "[" * 60_000])
async def test_a_cached_status_without_a_time_is_passed_on_unchanged(status: str) -> None:
    async with relaying() as lab:
        lab.holder.says["c1/status.json"] = answer(status, "application/json")
        await lab.get("/c1/status.json")
        assert (await lab.get("/c1/status.json")).body == status.encode()


async def test_a_query_that_is_too_long_is_refused_without_asking_the_holder() -> None:
    async with relaying() as lab:
        assert (await lab.get(f"/c1/live.m3u8?a={'b' * 3000}")).status == 414
        assert lab.holder.asked == []


# ---- how long an answer serves ----


@pytest.mark.parametrize(
    ("path", "said", "seconds"),
    [
        ("c1/100.ts", answer(b"s", **SEGMENT), 600),
        ("c1/live.m3u8", answer(playlist(LIVE), M3U8), 0.3),
        ("c1/video/index.m3u8", answer(playlist(LOW), M3U8), 0.1),
        ("c1/video/index.m3u8?_HLS_msn=9", answer(playlist(LOW), M3U8, Cache_Control="max-age=12"), 12),
        ("c1/snapshot.jpg", answer(b"jpeg", "image/jpeg", Cache_Control="public, max-age=1"), 1),
        ("c1/1.ts", answer("1.ts is not here (any more)\n", "text/plain", "404 Not Found"), 0.5),
        ("c1/video/5-1.m4s", answer(b"styp", "video/mp4", Cache_Control="no-store"), 0),
    ],
)
async def test_an_answer_is_cached_only_for_its_lifetime(path: str, said: bytes, seconds: float) -> None:
    async with relaying() as lab:
        lab.holder.says[path.partition("?")[0]] = said
        await lab.get(f"/{path}")
        if seconds:
            lab.now += seconds - 0.01
            await lab.get(f"/{path}")
            assert len(lab.holder.asked) == 1
        lab.now += 0.02
        await lab.get(f"/{path}")
        assert len(lab.holder.asked) == 2


async def test_requests_for_invented_files_do_not_remove_media_from_the_cache() -> None:
    async with relaying(cache=1_000_000) as lab:
        lab.holder.says["c1/100.ts"] = answer(b"s" * 50_000, **SEGMENT)
        await lab.get("/c1/100.ts")
        lab.holder.says |= {f"c1/{n}.ts": answer("gone\n", "text/plain", "404 Not Found") for n in range(300)}
        for n in range(300):
            await lab.get(f"/c1/{n}.ts") if n != 100 else None
        assert isinstance(lab.file("/c1/100.ts"), Response)
        kept = {s.metric.name: s.value for s in lab.relay.samples()}["millrace_edge_cache_bytes"]
        assert kept <= 1_000_000
        assert len(lab.holder.asked) == 300


# ---- where the holder is ----


async def test_a_stream_that_moved_is_found_at_once() -> None:
    async with relaying() as lab, holding() as other:
        other.says["c1/live.m3u8"] = answer(playlist(LIVE), M3U8)
        lab.where.places["c1"] = [lab.holder.place, other.place]
        assert (await lab.get("/c1/live.m3u8")).status == 200
        assert [place for _, place in lab.where.losses] == [lab.holder.place]
        await lab.holder.close()


async def test_an_unreachable_holder_is_looked_up_once_more() -> None:
    async with relaying() as lab, holding() as other:
        await lab.holder.close()
        other.says["c1/100.ts"] = answer(b"segment", **SEGMENT)
        lab.where.places["c1"] = [lab.holder.place, other.place]
        assert (await lab.get("/c1/100.ts")).body == b"segment"


async def test_a_stream_without_a_holder_is_not_found() -> None:
    async with relaying() as lab:
        lab.where.places.clear()
        found = await lab.get("/c1/live.m3u8")
        assert (found.status, found.body, lab.absences) == (404, b"c1 is not streaming live now\n", 1)
        assert lab.holder.asked == []


async def test_a_stream_that_ended_at_its_holder_is_not_found_despite_the_cache() -> None:
    async with relaying() as lab:
        lab.holder.says["c1/live.m3u8"] = answer(playlist(LIVE), M3U8)
        await lab.get("/c1/live.m3u8")
        lab.holder.says.clear()
        lab.now += 0.5
        assert (await lab.get("/c1/live.m3u8")).status == 404
        assert lab.absences == 1


async def test_the_cached_playlist_is_served_while_the_next_holder_has_no_media_yet() -> None:
    async with relaying() as lab, holding() as other:
        lab.holder.says["c1/live.m3u8"] = answer(playlist(LIVE), M3U8)
        await lab.get("/c1/live.m3u8")
        await lab.holder.close()
        lab.where.places["c1"] = [lab.holder.place, other.place]
        lab.now += 0.5
        assert (await lab.get("/c1/live.m3u8")).status == 200
        lab.now += 6
        assert (await lab.get("/c1/live.m3u8")).status == 404
        other.says["c1/live.m3u8"] = answer(playlist(LIVE), M3U8)
        assert (await lab.get("/c1/live.m3u8")).status == 200


async def test_a_status_that_is_not_live_causes_another_look_up() -> None:
    async with relaying() as lab, holding() as other:
        lab.holder.says["c1/status.json"] = answer('{"live": false, "now": 5000}', "application/json")
        other.says["c1/status.json"] = answer('{"live": true, "now": 5000}', "application/json")
        lab.where.places["c1"] = [lab.holder.place, other.place]
        assert (await lab.get("/c1/status.json")).body == b'{"live": true, "now": 5000}'


async def test_the_last_holder_of_an_ended_stream_gives_its_last_playlist() -> None:
    async with relaying() as lab:
        lab.holder.says["c1/live.m3u8"] = answer(playlist(LIVE), M3U8)
        await lab.get("/c1/live.m3u8")
        lab.where.places.clear()
        lab.holder.says["c1/live.m3u8"] = answer(playlist(LIVE + "#EXT-X-ENDLIST\n"), M3U8)
        lab.now += 0.5
        ended = await lab.get("/c1/live.m3u8")
        assert isinstance(ended.body, bytes) and ended.body.endswith(b"#EXT-X-ENDLIST\n")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("status.json", answer('{"live": false}', "application/json")),
        ("snapshot.jpg", answer("c1 is not streaming live now\n", "text/plain", "404 Not Found")),
    ],
)
async def test_questions_about_an_ended_stream_leave_its_last_playlist(path: str, said: bytes) -> None:
    async with relaying() as lab:
        lab.holder.says |= {"c1/live.m3u8": answer(playlist(LIVE + "#EXT-X-ENDLIST\n"), M3U8), f"c1/{path}": said}
        await lab.get("/c1/live.m3u8")
        lab.where.places.clear()
        lab.now += 10  # nothing cached is used
        for _ in range(2):
            assert (await lab.get(f"/c1/{path}")).status == 404
        assert (await lab.get("/c1/live.m3u8")).status == 200


async def test_the_cached_playlist_is_served_for_a_while_without_a_holder() -> None:
    async with relaying() as lab:
        lab.holder.says["c1/live.m3u8"] = answer(playlist(LIVE), M3U8)
        first = await lab.get("/c1/live.m3u8")
        await lab.holder.close()
        lab.now += 5.9
        assert (await lab.get("/c1/live.m3u8?sign=x")).body == media_playlist.with_suffix(LIVE, "?sign=x")
        assert (await lab.get("/c1/100.ts")).status == 503
        lab.now += 0.2
        late = await lab.get("/c1/live.m3u8")
        assert (late.status, late.headers["Retry-After"]) == (503, "1")
        assert first.status == 200


async def test_with_a_cached_playlist_viewers_wait_only_briefly_for_a_hung_holder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_cache_proxy, "_STALE_TIMEOUT_SECONDS", 0.01)
    async with relaying() as lab:
        lab.holder.says["c1/live.m3u8"] = answer(playlist(LIVE), M3U8)
        await lab.get("/c1/live.m3u8")
        newer = LIVE.replace(":7", ":8")
        say, gate = split(answer(playlist(newer), M3U8), 0)
        lab.holder.says["c1/live.m3u8"] = say
        lab.now += 1
        assert (await lab.get("/c1/live.m3u8")).body == media_playlist.with_suffix(LIVE)
        gate.set()  # what it says in the end is not lost
        await until(lambda: lab.in_memory("/c1/live.m3u8"))
        assert len(lab.holder.asked) == 2


async def test_a_holder_with_another_cluster_secret_causes_503_and_not_404() -> None:
    async with relaying() as lab:
        lab.holder.says["c1/live.m3u8"] = answer("not signed\n", "text/plain", "401 Unauthorized")
        assert (await lab.get("/c1/live.m3u8")).status == 503
        assert lab.where.losses == []


async def test_requests_are_refused_while_the_channels_cannot_be_read() -> None:
    async with relaying() as lab:
        lab.channels.away = True
        found = await lab.get("/c1/live.m3u8")
        assert (found.status, found.body) == (503, b"the channels cannot be read now\n")
        assert lab.holder.asked == []


async def test_an_unavailable_registry_causes_503_and_not_404() -> None:
    async with relaying() as lab:
        lab.where.places.clear()

        async def away(name: str) -> None:
            raise StoreUnavailable("the registry is away")

        lab.where.find = away  # type: ignore[method-assign,assignment]
        assert (await lab.get("/c1/live.m3u8")).status == 503
        assert lab.absences == 0


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """A liveness monitor that soon probes a silent node."""
    monkeypatch.setattr(upstream_client, "LivenessMonitor", partial(LivenessMonitor, quiet=0.05, probe_seconds=0.05))


@pytest.mark.usefixtures("watchful")
async def test_requests_to_a_hung_node_are_answered_with_503() -> None:
    async with relaying() as lab:
        lab.holder.says |= {"c1/video/index.m3u8": for_ever, "c1/100.ts": for_ever, "/healthcheck": for_ever}
        found = await asyncio.gather(
            lab.get("/c1/video/index.m3u8?_HLS_msn=9"), *(lab.get("/c1/100.ts") for _ in range(10))
        )
        assert {r.status for r in found} == {503}


@pytest.mark.usefixtures("watchful")
async def test_a_body_is_truncated_when_its_node_hangs() -> None:
    async with relaying() as lab:
        say, _ = gated(OPEN + chunked(b"one", end=False), b"")
        lab.holder.says |= {"c1/video/5-1.m4s": say, "/healthcheck": for_ever}
        opened = await lab.file("/c1/video/5-1.m4s")  # type: ignore[misc]
        body = aiter(opened.body)
        assert await anext(body) == b"one"
        with pytest.raises(request_coalescer.TruncatedBody):
            await anext(body)
        await body.aclose()


async def test_a_blocking_reload_waits_while_its_node_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_client, "LivenessMonitor", partial(LivenessMonitor, quiet=0.05))
    async with relaying() as lab:
        say, gate = split(answer(playlist(LOW), M3U8))
        lab.holder.says |= {"c1/video/index.m3u8": say, "/healthcheck": answer("OK", "text/plain")}
        held = asyncio.ensure_future(lab.get("/c1/video/index.m3u8?_HLS_msn=9"))
        await until(lambda: lab.holder.asks("/healthcheck") > 2)
        assert not held.done()
        gate.set()
        assert (await held).status == 200


# ---- who may ----


async def test_a_viewer_without_permission_is_refused_without_asking_the_holder() -> None:
    async with relaying(Channel({"id": "c1", "playAuth": "sign"})) as lab:
        lab.holder.says["c1/100.ts"] = answer(b"segment", **SEGMENT)
        sign = SECRETS.sign("c1", FAR, SignatureUse.PLAY)
        assert (await lab.get("/c1/100.ts")).status == 403
        assert lab.holder.asked == []
        assert (await lab.get(f"/c1/100.ts?sign={sign}")).status == 200
        assert (await lab.get("/c1/100.ts")).status == 403  # from memory as well
        assert (await lab.get(f"/c1/100.ts?sign={SECRETS.sign('c1', FAR, SignatureUse.PUSH)}")).status == 403


async def test_the_holder_gets_no_signature_and_no_cookie() -> None:
    async with relaying(Channel({"id": "c1", "playAuth": "sign"})) as lab:
        lab.holder.says["c1/live.m3u8"] = answer(playlist(LIVE), M3U8)
        sign = SECRETS.sign("c1", FAR, SignatureUse.PLAY)
        found = await lab.get(f"/c1/live.m3u8?sign={sign}", Cookie="CloudFront-Signature=abc", Referer="http://a/")
        assert found.body == media_playlist.with_suffix(LIVE, f"?sign={sign}")
        assert sign not in lab.holder.headers[0] and "CloudFront" not in lab.holder.headers[0]
        assert lab.holder.asked == [f"c1/live.m3u8?{http_cache_proxy.QUERY}"]


async def test_a_rendition_has_the_protection_of_its_channel() -> None:
    async with relaying(Channel({"id": "c1", "playAuth": "sign"})) as lab:
        lab.holder.says["c1@720p/100.ts"] = answer(b"segment", **SEGMENT)
        assert (await lab.get("/c1@720p/100.ts")).status == 403
        assert (await lab.get(f"/c1@720p/100.ts?sign={SECRETS.sign('c1', FAR, SignatureUse.PLAY)}")).status == 200


async def test_a_new_channel_is_protected_although_it_was_unknown_before() -> None:
    async with relaying(Channel({"id": "other"})) as lab:
        lab.where.places.clear()
        assert (await lab.get("/c1/live.m3u8")).status == 404  # nobody knows it
        lab.channels.stored["c1"] = Channel({"id": "c1", "playAuth": "sign"})
        lab.where.places["c1"] = [lab.holder.place]
        lab.holder.says["c1/live.m3u8"] = answer(playlist(LIVE), M3U8)
        assert (await lab.get("/c1/live.m3u8")).status == 403
        assert lab.holder.asked == []


async def test_a_stream_without_a_channel_is_not_found() -> None:
    async with relaying(Channel({"id": "other"})) as lab:
        lab.holder.says["c1/live.m3u8"] = answer(playlist(LIVE), M3U8)
        assert (await lab.get("/c1/live.m3u8")).status == 404
        assert lab.holder.asked == []


# ---- who watches ----


@pytest.mark.parametrize(
    ("path", "said", "protocol"),
    [
        ("100.ts", answer(b"s", **SEGMENT), "hls"),
        ("live.m3u8", answer(playlist(LIVE), M3U8), "hls"),
        ("video/index.m3u8", answer(playlist(LOW), M3U8), "cmaf"),
        ("720p/index.m3u8", answer(playlist(LIVE), M3U8), "hls"),
        ("720p/index.m3u8", answer(playlist(LOW), M3U8), "cmaf"),
        ("manifest.mpd", answer("<MPD/>", MPD), "dash"),
        ("index.m3u8", answer(playlist("#EXTM3U\n"), M3U8), None),
        ("live.m3u8", answer(playlist(LIVE + "#EXT-X-ENDLIST\n"), M3U8), None),
        ("snapshot.jpg", answer(b"jpeg", "image/jpeg"), None),
        ("1.ts", answer("gone\n", "text/plain", "404 Not Found"), None),
    ],
)
async def test_the_proxy_counts_players_as_the_holder_does(path: str, said: bytes, protocol: str | None) -> None:
    async with relaying() as lab:
        lab.holder.says[f"c1/{path}"] = said
        for agent in ("one", "two", "one"):
            await lab.get(f"/c1/{path}", User_Agent=agent)
        if protocol and path.endswith((".m3u8", ".mpd")):
            assert lab.relay.viewers == {}, "nobody got media"
            media = {"hls": "100.ts"}.get(protocol, "video/1-1.m4s")
            lab.holder.says[f"c1/{media}"] = answer(b"s", **SEGMENT)
            for agent in ("one", "two"):
                await lab.get(f"/c1/{media}", User_Agent=agent)
        assert lab.relay.viewers == ({"c1": {protocol: 2}} if protocol else {})
        lab.now += 60
        lab.audience.expire()
        assert lab.relay.viewers == {}


async def test_the_proxy_counts_players_of_long_segments_longer() -> None:
    async with relaying(Channel({"id": "c1", "hls_time": "60"})) as lab:
        lab.holder.says["c1/100.ts"] = answer(b"s", **SEGMENT)
        await lab.get("/c1/100.ts")
        lab.now += 60
        lab.audience.expire()
        assert lab.relay.viewers == {"c1": {"hls": 1}}


@pytest.mark.parametrize(
    ("path", "kind", "body", "media"),
    [
        ("live.m3u8", M3U8, "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n100.ts\n", "100.ts"),
        ("manifest.mpd", MPD, "<MPD/>", "video/1-1.m4s"),
    ],
)
async def test_new_viewers_above_the_bandwidth_are_refused_and_others_go_on(
    path: str, kind: str, body: str | bytes, media: str
) -> None:
    async with relaying(Channel({"id": "c1", "maxViewerMbps": "5"})) as lab:
        refused: dict[str, int] = {}
        lab.audience.limits = ViewerLimits(0, refused, lambda: lab.now)
        lab.holder.says[f"c1/{path}"] = answer(body, kind, X_Millrace_Bitrate="2000000")
        lab.holder.says[f"c1/{media}"] = answer(b"s", **SEGMENT)
        for agent in ("one", "two"):
            assert (await lab.get(f"/c1/{path}", User_Agent=agent)).status == 200
            assert (await lab.get(f"/c1/{media}", User_Agent=agent)).status == 200
        for later in (0, 1, 1):  # from the cache, and from the holder
            lab.now += later
            third = await lab.get(f"/c1/{path}", User_Agent="three")
            assert (third.status, third.headers["Retry-After"]) == (503, "10")
            assert (await lab.get(f"/c1/{path}", User_Agent="one")).status == 200
        assert refused == {"full": 3}
        lab.holder.says[f"c1/{path}"] = answer(body, kind, X_Millrace_Bitrate="9000000")
        lab.now += 1
        assert {(await lab.get(f"/c1/{path}", User_Agent=agent)).status for agent in ("one", "two")} == {200}
        lab.now += 60
        lab.audience.expire()
        lab.holder.says[f"c1/{path}"] = answer(body, kind)  # a holder of an earlier version
        assert (await lab.get(f"/c1/{path}", User_Agent="three")).status == 200


async def test_hits_misses_and_requests_to_the_holder_are_counted() -> None:
    async with relaying() as lab:
        say, gate = split(answer(b"segment", **SEGMENT))
        lab.holder.says["c1/100.ts"] = say
        crowd = asyncio.gather(*(lab.get("/c1/100.ts") for _ in range(10)))
        await until(lambda: lab.holder.asked)
        gate.set()
        await crowd
        await lab.get("/c1/100.ts")
        counted = {(s.metric.name, *s.labels): s.value for s in lab.relay.samples()}
        assert counted["millrace_edge_requests_total", "miss"] == 1
        assert counted["millrace_edge_requests_total", "collapsed"] == 9
        assert counted["millrace_edge_requests_total", "hit"] == 1
        assert counted[("millrace_edge_upstream_requests_total",)] == 1
        assert counted[("millrace_edge_upstream_bytes_total",)] == len(b"segment")
