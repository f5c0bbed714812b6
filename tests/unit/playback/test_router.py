"""Playback routes: their content, their protection, and the answers where nothing is found."""

import json
import re
from datetime import UTC, datetime

import pytest

from gateway.api.routes import ROUTES
from gateway.channels.stream_key import SignatureUse
from gateway.http.request import Request
from gateway.http.response import Response, text
from gateway.lib.tasks import Tasks
from gateway.live.sink import EndReason
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.packaging.packager import SegmentPlan
from gateway.packaging.ts.packager import TsPackager
from gateway.playback.pages import PAGE_HEADERS, Pages
from gateway.playback.posters import Posters
from gateway.ports import media_keys
from tests.support.builders import FAR, VIDEO, channel, publish
from tests.support.playback import SECRETS, playing
from tests.support.waiting import until

MEDIA = ["live.m3u8", "1700000000001.ts", "master.m3u8", "manifest.mpd", "video/1700000000-1.m4s"]


@pytest.mark.parametrize("path", MEDIA)
async def test_media_of_a_live_stream_comes_from_its_output(path):
    async with playing() as lab:
        lab.live(isHls=True, isCMAF=True)
        reply = await lab.listener.get(f"/c1/{path}")
        assert (reply.status, reply.text) == (200, f"c1 {path}")


@pytest.mark.parametrize("path", MEDIA)
async def test_idle_and_unknown_streams_get_the_same_404_text(path):
    async with playing(channel("c1")) as lab:
        for name in ("c1", "nobody", "c1@720p"):
            reply = await lab.listener.get(f"/{name}/{path}")
            assert (reply.status, reply.text) == (404, f"{name} is not streaming live now\n")
            assert reply.headers["cache-control"] == "no-store"
            assert reply.headers["access-control-allow-origin"] == "*"


async def test_a_request_for_a_disabled_output_gets_404_with_the_reason():
    async with playing(channel("c2", isFlv=False)) as lab:
        lab.live(isFlv=False)
        for path, output in [("live.m3u8", "hls"), ("1.ts", "hls"), ("master.m3u8", "cmaf"), ("live.flv", "flv")]:
            reply = await lab.listener.get(f"/c1/{path}")
            assert (reply.status, reply.text) == (404, f"{output} is not enabled for c1\n")
        assert (await lab.listener.get("/c2/live.flv")).text == "flv is not enabled for c2\n"  # before any wait


async def test_playlists_of_an_ended_stream_stay_available():
    async with playing() as lab:
        lab.live(isHls=True)
        lab.hub.end("c1", EndReason.KICKED)
        assert (await lab.listener.get("/c1/live.m3u8")).status == 200
        assert (await lab.listener.get("/c1/live.flv", "HEAD")).status == 404


async def test_a_protected_stream_needs_its_sign_for_everything_except_pages():
    async with playing(channel("idle", playAuth="sign")) as lab:
        lab.live(isHls=True, isCMAF=True, playAuth="sign")
        signs = {n: SECRETS.sign(n, FAR, SignatureUse.PLAY) for n in ("c1", "idle")}
        for path in [*MEDIA, "status.json"]:
            refused = await lab.listener.get(f"/c1/{path}")
            assert (refused.status, refused.headers["cache-control"]) == (403, "no-store")
            assert "sign" in refused.text
            assert (await lab.listener.get(f"/c1/{path}?sign={signs['c1']}")).status == 200
            assert (await lab.listener.get(f"/c1/{path}?sign={signs['idle']}")).status == 403
        assert (await lab.listener.get("/c1/live.flv")).status == 403
        assert (await lab.listener.get("/idle/live.flv")).status == 403  # at once, not after the wait
        assert (await lab.listener.get("/idle/live.m3u8")).status == 403
        assert (await lab.listener.get(f"/idle/live.m3u8?sign={signs['idle']}")).status == 404
        assert (await lab.listener.get("/c1/hls.html")).status == 200


FRAMED = "'self' http://live.example.com:* http://friends.example:* http://*.friends.example:* http://a.example:8443"


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("page", ["", "hls.html", "index.html", "nothing", "live.m3u8"])
async def test_only_pages_that_may_embed_a_channel_may_show_its_pages_in_a_frame(page, live):
    """A page in a frame requests its media itself, so their Referer is its own address."""
    fields = {"refererAllow": ["friends.example", "*.friends.example", "a.example:8443"], "videoname": "Club"}
    async with playing(channel("c1", **fields), channel("open")) as lab:
        if live:
            lab.live(**fields)
        if live and page == "live.m3u8":
            return  # it is no page
        stranger = {} if page == "live.m3u8" else {"referer": "https://evil.example/"}  # gets 403 for media
        for headers in ({}, {"referer": "https://friends.example/"}, stranger):
            reply = await lab.listener.get(f"/c1/{page}", accept="text/html", **headers)
            assert reply.headers["content-security-policy"].endswith(f"; frame-ancestors {FRAMED}")
        for name in ("open", "nobody"):
            reply = await lab.listener.get(f"/{name}/{page}", accept="text/html")
            assert reply.headers["content-security-policy"].endswith("; frame-ancestors *")
        tag = (await lab.listener.get("/open/hls.html")).headers["etag"]
        assert (await lab.listener.get("/open/hls.html", if_none_match=tag)).status == 304
        again = await lab.listener.get("/c1/hls.html", if_none_match=tag)
        assert (again.status, "etag" in again.headers) == (200, False)  # a 304 would leave another policy as it was


async def test_the_page_of_a_recording_is_framed_only_by_pages_that_may_embed_its_channel():
    async def recordings(asked: Request, id: str, path: str) -> Response:
        return Response(200, b"page", headers=PAGE_HEADERS)

    async with playing(channel("c1", refererAllow=["friends.example"]), recordings=recordings) as lab:
        page = await lab.listener.get("/c1/vod/1800000000123/")
        assert page.headers["content-security-policy"].endswith(
            "; frame-ancestors 'self' http://live.example.com:* http://friends.example:*"
        )


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    ("destination", "opens"), [("document", True), ("iframe", False), ("video", False), ("empty", False), (None, False)]
)
async def test_a_link_of_any_site_opens_the_pages_of_a_channel_and_embeds_nothing(destination, opens, live):
    async def recordings(asked: Request, id: str, path: str) -> Response:
        return Response(200, b"Club", headers=PAGE_HEADERS)

    fields = {"refererAllow": ["friends.example"], "videoname": "Club", "isHls": True}
    async with playing(channel("c1", **fields), recordings=recordings) as lab:
        if live:
            lab.live(**fields)
        headers = {"referer": "https://social.example/"} | ({"sec-fetch-dest": destination} if destination else {})
        for page in ("", "vod/1800000000123/", "vod/vod-1800000000123.m3u8/"):
            reply = await lab.listener.get(f"/c1/{page}", accept="text/html", **headers)
            assert ("Club" in reply.text) is opens
            assert reply.status == (200 if opens or not page else 403)
        for file in ("status.json", "live.m3u8", "vod/vod-1800000000123.m3u8", "vod/720p/1.ts", "vod/mp4/a.mp4"):
            assert (await lab.listener.get(f"/c1/{file}", **headers)).status == 403


async def test_unknown_channels_are_answered_like_existing_ones():
    async with playing(channel("c1"), auth="sign") as lab:
        for name in ("c1", "nobody"):
            assert (await lab.listener.get(f"/{name}/live.m3u8")).status == 403
            sign = SECRETS.sign(name, FAR, SignatureUse.PLAY)
            assert (await lab.listener.get(f"/{name}/live.m3u8?sign={sign}")).status == 404


async def test_the_status_of_an_idle_channel_is_no_error():
    async with playing(channel("c1", isHls=True)) as lab:
        status = await lab.listener.get("/c1/status.json")
        assert status.status == 200
        assert status.headers["cache-control"] == "no-store"
        assert '"live": false, "outputs": ["flv", "hls", "whep"], "ready": []' in status.text
        assert '"outputs": []' in (await lab.listener.get("/nobody/status.json")).text
        lab.live(isHls=True)
        status = await lab.listener.get("/c1/status.json")
        assert '"live": true, "outputs": ["flv", "hls"], "ready": ["flv", "hls"]' in status.text
        assert int(re.search(r'"now": (\d+)', status.text)[1]) > 1_700_000_000_000


async def test_the_status_of_a_live_stream_leaves_out_an_output_that_cannot_carry_its_codecs():
    segments = SegmentPlan(2.0, 5)
    async with playing(hls=lambda stream: TsPackager(stream.name, segments, 0.0)) as lab:
        publisher = publish(lab.hub, "c1", isHls=True)
        publisher.set_tracks(VIDEO, MediaTrack(Kind.AUDIO, Codec.OPUS, 48000, b""), {})
        lab.push(publisher, key=True)
        await until(lambda: (output := lab.hub.find("c1").output("hls")) is not None and output.refused)
        status = json.loads((await lab.listener.get("/c1/status.json")).text)
        assert status["outputs"] == ["flv"]


async def test_the_status_distinguishes_a_lingering_stream_from_an_idle_channel():
    async with playing(channel("c1", isHls=True)) as lab:
        assert json.loads((await lab.listener.get("/c1/status.json")).text)["state"] == "idle"
        publisher = lab.live(isHls=True)
        assert json.loads((await lab.listener.get("/c1/status.json")).text)["state"] == "live"
        publisher.close()
        said = json.loads((await lab.listener.get("/c1/status.json")).text)
        assert (said["state"], said["live"]) == ("lingering", True)


async def test_an_unavailable_store_causes_503_and_live_streams_continue():
    async with playing() as lab:
        lab.live(isHls=True)
        lab.channels.away = True
        for path in ("live.m3u8", "live.flv", "status.json"):
            reply = await lab.listener.get(f"/c2/{path}")
            assert (reply.status, "retry-after" in reply.headers) == (503, True)
        assert (await lab.listener.get("/c1/live.m3u8")).status == 200
        assert (await lab.listener.get("/c1/status.json")).status == 200
        assert (await lab.listener.get("/c1/live.flv", "HEAD")).status == 200


async def test_players_that_get_media_are_counted_by_protocol():
    async with playing() as lab:
        stream = lab.live(isHls=True, isCMAF=True).stream
        for agent in ("VLC", "Safari", "VLC"):
            await lab.listener.get("/c1/live.m3u8", User_Agent=agent)
            await lab.listener.get("/c1/1.ts", User_Agent=agent)
            await lab.listener.get("/c1/live.m3u8", User_Agent=f"{agent} without media")
        await lab.listener.get("/c1/manifest.mpd", User_Agent="VLC")
        assert stream.viewers == {"hls": 2}
        await lab.listener.get("/c1/video/1-1.m4s", User_Agent="VLC")
        assert stream.viewers == {"hls": 2, "dash": 1}
        lab.audience.close()
        assert not +stream.viewers


async def test_health_and_time():
    async with playing() as lab:
        alive = await lab.listener.get("/healthcheck")
        assert (alive.status, alive.text) == (200, "OK")
        assert (await lab.listener.get("/ready")).status == 200
        lab.missing.append("channel store")
        waiting = await lab.listener.get("/ready")
        assert (waiting.status, "channel store" in waiting.text) == (503, True)
        assert (await lab.listener.get("/healthcheck")).text == "OK"
        clock = await lab.listener.get("/time")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", clock.text)
        assert clock.headers["cache-control"] == "no-store"


async def test_pages_have_a_strict_policy_and_all_their_assets_exist():
    async with playing() as lab:
        for page in ("flv.html", "index.html", "hls.html", "dash.html", "instant.html"):
            reply = await lab.listener.get(f"/c1/{page}")
            assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
            policy = reply.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            for asset in re.findall(r'(?:src|href)="(/_player/[^"]+)"', reply.text):
                loaded = await lab.listener.get(asset)
                assert loaded.status == 200, asset
                kind = loaded.headers["content-type"].partition(";")[0]
                assert (
                    kind
                    == {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}[asset.rpartition(".")[2]]
                )


async def test_unchanged_assets_are_answered_with_304():
    async with playing() as lab:
        first = await lab.listener.get("/_player/hls.min.js")
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache"
        packed = await lab.listener.get("/_player/hls.min.js", Accept_Encoding="gzip")
        assert len(packed.body) < len(first.body) / 2
        for known in (tag, packed.headers["etag"]):
            again = await lab.listener.get("/_player/hls.min.js", If_None_Match=known)
            assert (again.status, again.body) == (304, b"")
            assert again.headers["vary"] == first.headers["vary"] == "Accept-Encoding"
        named = await lab.listener.get("/_player/hls.min.js?v=" + tag.strip('"'))
        assert "immutable" in named.headers["cache-control"]


async def test_the_broadcast_page_is_served_with_a_strict_policy():
    async with playing() as lab:
        page = await lab.listener.get("/broadcast.html")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert "connect-src 'self' ws: wss:" in policy
        assert page.headers["referrer-policy"] == "no-referrer"
        for asset in re.findall(r'(?:src|href)="(/_player/[^"]+)"', page.text):
            assert (await lab.listener.get(asset)).status == 200, asset


async def test_the_player_page_plays_addresses_of_ivs_only():
    good = "https://abc.eu-central-1.playback.live-video.net/api/video/v1/channel.x.m3u8"
    async with playing() as lab:
        page = await lab.listener.get(f"/player.html?url={good}")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = page.headers["content-security-policy"]
        assert "connect-src 'self' https://*.live-video.net;" in policy and "unsafe" not in policy
        for asset in re.findall(r'(?:src|href)="(/_player/[^"]+)"', page.text):
            assert (await lab.listener.get(asset)).status == 200, asset
        moved = await lab.listener.get(f"/PlayerView?url={good}")
        assert (moved.status, moved.headers["location"]) == (302, f"/player.html?url={good}")
        for address in (
            "", "http://x.live-video.net/a.m3u8", "https://live-video.net.evil.example/a.m3u8", "javascript:a//.m3u8",
            "https://evil.example/?x.live-video.net/a.m3u8", "https://evil.example%5C@x.live-video.net/a.m3u8",
            "https://eva@x.live-video.net/a.m3u8", "https://x.live-video.net:8443/a.m3u8", "https://x.live-video.net/a.html",
            "https://x.live-video.net:99999999/a.m3u8", "https://[x.live-video.net/a.m3u8", "https://live-video.net/a.m3u8",
            f"https://x.live-video.net/{'a' * 2100}.m3u8", "https://evil.example%0a.live-video.net/a.m3u8",
        ):  # fmt: skip
            assert (await lab.listener.get(f"/player.html?url={address}")).status == 403, address


async def test_the_operator_allows_the_player_page_additional_hosts():
    request = Request("GET", "/player.html", "url=https://media.example.com/a.m3u8", {})
    refused = Pages().address_player(request)
    assert isinstance(refused, Response) and refused.status == 403
    loading = Pages(player_hosts=["media.example.com"]).address_player(request)
    assert not isinstance(loading, Response)
    assert "https://media.example.com;" in (await loading).headers["Content-Security-Policy"]


async def test_only_shared_files_of_the_console_are_served():
    async with playing() as lab:
        for path in ("players/style.css", "style.css", "vendor/preact/preact.js", "hls.min.js", "players/hls.min.js"):
            assert (await lab.listener.get(f"/_player/{path}")).status == 200, path
        for path in ("app/main.js", "app/index.html", "docs/docs.js", "broadcast/broadcast.html", ".hidden.js"):
            assert (await lab.listener.get(f"/_player/{path}")).status == 404, path


@pytest.mark.parametrize(
    "path",
    ["/favicon.ico", "/vod@x@y", "/c1/home.html", "/c1/watch.html", "/c1/nothing", "/_player/nothing.js",
     "/_player/flv.html", "/_player/types.py", "/-/x@y@z/a",
     "/a b/live.m3u8", "/.hidden/live.m3u8", "/c1/..%2fsecret", "/c1/live.flv/x.y", "/_node/c1"],
)  # fmt: skip
async def test_everything_else_is_not_found(path):
    async with playing() as lab:
        assert (await lab.listener.get(path.replace(" ", "%20"))).status in (400, 404)


async def test_the_name_of_a_channel_redirects_to_its_page_with_the_query():
    async with playing(channel("c1")) as lab:
        for name in ("c1", "c1@720p", "nobody"):  # whether or not it exists
            reply = await lab.listener.get(f"/{name}?sign=1-a")
            assert (reply.status, reply.headers["location"]) == (302, f"{name}/?sign=1-a")
            page = await lab.listener.get(f"/{name}/?sign=1-a")
            assert (page.status, page.headers["cache-control"]) == (200, "no-cache")
            assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert (await lab.listener.get("/c1", "POST")).status == 405
        await until(lambda: len(lab.listener.server) == 0)


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "POST", "PUT"])
async def test_other_methods_are_not_allowed_and_the_answer_names_those_that_are(method):
    reads = "GET, HEAD, OPTIONS"
    paths = {"/c1/live.m3u8": reads, "/c1": reads, "/c1/": reads, "/_player": reads, "/": reads, "/ready": reads}
    paths |= {"/c1/vod/x.mp4": reads, "/nobody/GetClientConfiguration": reads, "/c1/report": reads}
    async with playing(channel("c1")) as lab:
        for path, allowed in paths.items():
            refused = await lab.listener.get(path, method)
            assert (refused.status, refused.headers["allow"]) == (405, allowed), path
            preflight = await lab.listener.get(path, "OPTIONS", Access_Control_Request_Method=method)
            assert (preflight.status, preflight.headers["access-control-allow-methods"]) == (204, allowed), path
        assert (await lab.listener.get("/c1", "TRACE")).headers["allow"] == reads


async def test_folders_accept_only_get_and_post():
    seen = []
    async with playing() as lab:
        router = lab.listener.server.handler
        router.add_folder("_own", lambda request, rest: seen.append((request.method, rest)) or text(200, "own"))
        for method in ("GET", "POST", "DELETE", "PATCH"):
            status = (await lab.listener.get("/_own/a/b", method)).status
            assert status == (200 if method in ("GET", "POST") else 405)
    assert seen == [("GET", "a/b"), ("POST", "a/b")]


async def test_session_addresses_refuse_reads_and_name_their_media_types():
    methods = "DELETE, OPTIONS, PATCH, POST"
    seen = []
    async with playing(channel("c1")) as lab:
        lab.listener.server.handler.add_sessions("whip", lambda request, name: seen.append(name) or text(201, "own"))
        for method in ("GET", "HEAD", "PUT"):
            refused = await lab.listener.get("/c1/whip", method)
            assert (refused.status, refused.headers["allow"]) == (405, methods), method
        assert (await lab.listener.get("/c1/whip/some-session", "PUT")).status == 405
        for path in ("/c1/whip", "/c1/whip/some-session", "/whip"):
            allowed = (await lab.listener.get(path, "OPTIONS")).headers
            assert allowed["access-control-allow-methods"] == methods
            assert allowed["accept-post"] == "application/sdp"
            assert allowed["accept-patch"] == "application/trickle-ice-sdpfrag"
            assert (await lab.listener.get(path, "POST")).status == 201
        assert seen == ["c1", "c1", ""]
        assert "accept-post" not in (await lab.listener.get("/c1/live.m3u8", "OPTIONS")).headers


async def test_names_of_the_api_have_no_page():
    both = {"", "healthcheck", "ready", "broadcast.json", "_player", "_servers"}  # they are on both listeners
    names = {route.path.split("/")[1] for route in ROUTES} - both
    async with playing() as lab:
        found = {name: (await lab.listener.get(f"/{name}")).status for name in names}
    assert found == dict.fromkeys(names, 404)


async def test_the_watch_page_names_the_channel_for_link_previews_and_escapes_its_words():
    hostile = '"><script>alert(1)</script>'
    async with playing(channel("c1", videoname=f"A & B {hostile}", description=hostile)) as lab:
        for live in (False, True):
            if live:
                lab.live("c1", videoname=f"A & B {hostile}", description=hostile)
            page = (await lab.listener.get("/c1/?x=%22")).text
            assert "<title>A &amp; B &quot;&gt;&lt;script&gt;" in page
            assert "<script>" not in page
            host = re.search(r'og:url" content="(http://[^/"]+)/c1/\?x=%22"', page)
            assert host is not None
            assert f'<meta property="og:image" content="{host[1]}/c1/poster.jpg?x=%22">' in page


async def test_the_watch_page_names_a_protected_channel_only_to_permitted_viewers():
    async with playing(channel("c1", playAuth="sign", videoname="Secret plans"), channel("bare", isFlv=False)) as lab:
        sign = SECRETS.sign("c1", FAR, SignatureUse.PLAY)
        refused, unknown = [await lab.listener.get(path) for path in ("/c1/", "/nobody/")]
        assert refused.status == unknown.status == 200
        assert refused.body == unknown.body == (await lab.listener.get("/bare/")).body
        assert "Secret plans" in (await lab.listener.get(f"/c1/?sign={sign}")).text
        lab.live("c1", playAuth="sign", videoname="Secret plans")
        assert (await lab.listener.get("/c1/")).body == unknown.body
        assert "Secret plans" in (await lab.listener.get(f"/c1/?sign={sign}")).text


async def test_the_watch_page_does_not_need_the_store():
    async with playing(channel("c1", videoname="One")) as lab:
        lab.channels.away = True
        assert "<title>Live stream</title>" in (await lab.listener.get("/c1/")).text


async def test_the_status_has_name_tracks_and_viewers_of_public_channels():
    async with playing(channel("c1", videoname="One", description="First"), channel("bare", isFlv=False)) as lab:
        said = json.loads((await lab.listener.get("/c1/status.json")).text)
        assert (said["name"], said["description"], said["viewers"]) == ("One", "First", None)
        for name in ("nobody", "bare"):  # nothing can be watched, so they look the same
            said = json.loads((await lab.listener.get(f"/{name}/status.json")).text)
            assert (said["name"], said["description"], said["outputs"]) == (None, "", [])
        stream = lab.live(videoname="One", isPublic="true").stream
        stream.viewers["flv"] += 3
        said = json.loads((await lab.listener.get("/c1/status.json")).text)
        assert (said["name"], said["viewers"]) == ("One", 3)
        assert [track["kind"] for track in said["tracks"]] == ["video", "audio"]
        assert said["tracks"][0]["codec"].startswith("avc1.")


async def test_the_home_page_is_served_without_a_list():
    async with playing() as lab:
        page = await lab.listener.get("/")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "unsafe" not in page.headers["content-security-policy"]
        assert "Millrace" not in page.text


async def find_snapshot(channel, now):
    return media_keys.image_key("c1", datetime.fromtimestamp(now, UTC)) if channel == "c1" else None


async def test_a_poster_is_the_live_picture_the_last_one_or_a_neutral_one():
    channels = channel("c1"), channel("c2"), channel("shut", playAuth="sign")
    async with Tasks("test") as tasks, playing(*channels, posters=Posters(find_snapshot, tasks)) as lab:
        stored = await lab.listener.get("/c1/poster.jpg?a=b")
        assert stored.status == 302
        assert re.fullmatch(r"vod/images/\d+/\d+/\d+/capture-[-\d_]+\.jpg\?a=b", stored.headers["location"])
        for name in ("c2", "nobody"):
            neutral = await lab.listener.get(f"/{name}/poster.jpg")
            assert (neutral.status, neutral.headers["location"]) == (302, "/_player/poster.svg")
        assert (await lab.listener.get("/_player/poster.svg")).status == 200
        assert (await lab.listener.get("/shut/poster.jpg")).status == 403
        lab.live()
        assert (await lab.listener.get("/c1/poster.jpg")).text == "c1 snapshot.jpg"
        lab.live("shut", playAuth="sign")
        assert (await lab.listener.get("/shut/poster.jpg")).status == 403


async def test_the_status_of_an_idle_channel_names_its_last_picture():
    async with (
        Tasks("test") as tasks,
        playing(channel("c1"), channel("c2"), posters=Posters(find_snapshot, tasks)) as lab,
    ):
        poster = (await lab.listener.get("/c1/status.json")).text
        assert re.search(r'"poster": "vod/images/\d+/\d+/\d+/capture-[-\d_]+\.jpg"', poster)
        assert '"poster": null' in (await lab.listener.get("/c2/status.json")).text
        assert '"poster": null' in (await lab.listener.get("/nobody/status.json")).text
        lab.live()
        assert '"poster": null' in (await lab.listener.get("/c1/status.json")).text


async def test_the_last_picture_is_searched_again_after_another_node_had_the_stream():
    class Elsewhere:
        is_live = False

        async def file(self, request, name, rest, absent):
            return Response(200, b'{"live": true}') if self.is_live else await absent()

        async def is_held(self, name):
            return self.is_live

    found: list[str] = []

    async def find(id, now):
        return found[-1] if found else None

    async with (
        Tasks("test") as tasks,
        playing(channel("c1"), posters=Posters(find, tasks), remote_files=(elsewhere := Elsewhere())) as lab,
    ):
        assert '"poster": null' in (await lab.listener.get("/c1/status.json")).text
        elsewhere.is_live = True
        assert (await lab.listener.get("/c1/status.json")).text == '{"live": true}'
        elsewhere.is_live = False
        found.append("c1/images/a.jpg")
        assert '"poster": "vod/images/a.jpg"' in (await lab.listener.get("/c1/status.json")).text
