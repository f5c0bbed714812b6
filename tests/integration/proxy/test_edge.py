"""The playback edge in front of real gateways: identical content, one request per resource, and access control."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.adapters.local.stores import SqliteRegistry
from gateway.channels.stream_key import SignatureUse, SigningSecrets
from gateway.ports import media_keys
from tests.support.clients import Program, probe, pull, push, so_far, take_of, until
from tests.support.cloudfront import Signer
from tests.support.command_line import run
from tests.support.gateway import ANY_PORTS, Channel, Edge, Gateway, Reply, http
from tests.support.media import FRAMES_PER_SECOND, Film, judge
from tests.support.rtmp import connected
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("edge-40", seconds=40)
SHORT = Film("edge-6", seconds=6)
RECORDED = Film("edge-4", seconds=4)
KEYS = SigningSecrets("secret of the keys")
FAR = 4_000_000_000
DEAD_WITHIN = 15.0  # seconds until the edge reports that the streams of a dead gateway are away
NOW = re.compile(rb'(utc:direct:2014" value=")[^"]*')


@pytest.fixture(autouse=True)
def tools() -> None:
    need("ffmpeg")


@dataclass
class Farm:
    """Gateways `a` and `b`, and an edge that finds them. `signer` has the CloudFront key of the edge."""

    a: Gateway
    b: Gateway
    edge: Edge
    signer: Signer

    def at(self, gateway: Gateway, channel: Channel, path: str) -> Reply:
        return http("GET", f"http://127.0.0.1:{gateway.ports['http']}/{channel.id}/{path}")

    def wait(self, channel: Channel, *paths: str, query: str = "") -> None:
        """Waits until every one of these files answers 200 at the edge."""
        for path in paths:
            until(lambda path=path: self.edge.get(channel, path + query).status == 200, f"{path} at the edge")


@contextlib.contextmanager
def farm(folder: Path, *, linger: float = 10, **edge: str) -> Iterator[Farm]:
    """Yields two gateways with one registry, which the edge has too.

    Where `edge` says how it finds them, they have no registry, and each has its own channels.
    UPSTREAM stands for both of them. linger: seconds for which a stream outlives its push.
    """
    registry = f"sqlite:///{folder}/nodes.db"
    signer = Signer()
    key = signer.write_public(folder / "cloudfront.pem")
    shared = {
        "MILLRACE_CLUSTER__SECRET": "secret of the cluster",
        "MILLRACE_SIGNING__SECRET": KEYS.current,
        "MILLRACE_STREAM__LINGER": str(linger),
    }
    kept = {"MILLRACE_CHANNELS": f"sqlite:///{folder}/channels.db", "MILLRACE_REGISTRY": registry} if not edge else {}
    for name in ("a", "b", "edge"):
        (folder / name).mkdir()
    running: list[Gateway] = []
    try:
        running += [Gateway(folder / "a", **shared, **kept), Gateway(folder / "b", **shared, **kept)]
        for one in running:
            one.wait_ready()
        upstream = ",".join(f"127.0.0.1:{one.ports['http']}" for one in running)
        where = edge or {"MILLRACE_REGISTRY": registry}
        settings = {name: value.replace("UPSTREAM", upstream) for name, value in where.items()}
        settings["MILLRACE_CLOUDFRONT__PUBLIC_KEYS"] = f"{signer.key_id}={key}"
        running.append(Edge(folder / "edge", **shared, **settings))
        running[-1].wait_ready()
        a, b, last = running
        assert isinstance(last, Edge)
        yield Farm(a, b, last, signer)
    finally:
        for one in reversed(running):
            with contextlib.suppress(AssertionError):
                one.stop(10)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("farm")) as built:
        yield built


@pytest.fixture(scope="module")
def live(lab: Farm) -> Iterator[Channel]:
    """A channel of gateway `a` that is live in every form."""
    channel = lab.a.channel(isFlv=True, isHls=True, isCMAF=True)
    with push(FILM, channel.push, loop=True):
        lab.wait(channel, "live.m3u8", "master.m3u8", "manifest.mpd")
        yield channel


# ---- playing ----


def test_captions_are_those_of_the_gateway(lab: Farm, live: Channel) -> None:
    for gateway in (lab.a, lab.b):  # either takes them
        answer = gateway.api("POST", f"/videostream/{live.id}/captions", {"text": "through the edge"})
        assert answer.status == 202, answer.text

    def text() -> str:
        playlist = lab.edge.get(live, "captions/text/live.m3u8").text
        names = re.findall(r"^[0-9]+\.vtt", playlist, re.MULTILINE)
        return "".join(lab.edge.get(live, f"captions/text/{name}").text for name in names)

    until(lambda: "through the edge" in text(), "the caption is at the edge")
    lab.wait(live, "index.m3u8", "captions/text/index.m3u8")


def test_every_protocol_plays_through_the_edge(lab: Farm) -> None:
    channel = lab.b.channel(isFlv=True, isHls=True, isCMAF=True)
    with push(FILM, channel.push):
        lab.wait(channel, "live.m3u8", "master.m3u8", "manifest.mpd")
        players = {
            "flv": pull(lab.edge.url(channel, "live.flv"), seconds=4),
            "rtmp": pull(f"rtmp://127.0.0.1:{lab.edge.ports['rtmp']}/stream/{channel.id}", seconds=4),
            "hls": pull(lab.edge.url(channel, "live.m3u8"), seconds=4),
            "cmaf": pull(lab.edge.url(channel, "master.m3u8"), seconds=4),
            "dash": pull(lab.edge.url(channel, "manifest.mpd"), seconds=4),
        }
        with contextlib.ExitStack() as stack:
            for player in players.values():
                stack.enter_context(player)
            for name, player in players.items():
                judge(take_of(player), FILM, cut=name in ("flv", "rtmp"))


@pytest.mark.nightly
def test_a_waiting_viewer_starts_with_the_push(lab: Farm) -> None:
    channel = lab.a.channel(isFlv=True)
    with pull(lab.edge.url(channel, "live.flv"), seconds=3) as waiting, push(SHORT, channel.push):
        judge(take_of(waiting), SHORT, cut=True)


def test_the_edge_gives_the_same_bytes_as_the_gateway(lab: Farm, live: Channel) -> None:
    """Segments are compared as they are; playlists and the MPD while they do not change."""

    def same(path: str) -> bool:
        one, other, again = lab.at(lab.a, live, path), lab.edge.get(live, path), lab.at(lab.a, live, path)
        bodies = [NOW.sub(rb"\1", reply.body) for reply in (one, other, again)]
        if bodies[0] != bodies[2]:
            return False  # it has changed meanwhile
        kept = ("content-type", "cache-control", "access-control-allow-origin")
        assert {k: one.headers.get(k) for k in kept} == {k: other.headers.get(k) for k in kept}, path
        return bodies[0] == bodies[1]

    for query in ("", "?token=a%22b&x=1", "?a=$b$&c=<d>"):
        for path in ("live.m3u8", "master.m3u8", "video/index.m3u8", "audio/index.m3u8", "manifest.mpd"):
            until(lambda path=path, query=query: same(path + query), f"{path}{query} is the same")
    named = re.findall(r'[^"\s]+\.(?:ts|m4s|mp4)', lab.edge.get(live, "live.m3u8").text)
    index = lab.edge.get(live, "video/index.m3u8").text
    named += ["video/" + name for name in re.findall(r'[^"\s]+\.(?:m4s|mp4)', index.partition("PRELOAD-HINT")[0])]
    assert len(named) > 5
    for path in named:
        assert lab.edge.get(live, path).body == lab.at(lab.a, live, path).body, path


def test_a_head_request_for_flv_is_answered_where_nobody_plays_it(lab: Farm, live: Channel) -> None:
    idle = lab.a.channel()
    for node in (lab.a, lab.b, lab.edge):
        for channel, status in ((live, 200), (idle, 404)):
            assert http("HEAD", f"http://127.0.0.1:{node.ports['http']}/{channel.id}/live.flv").status == status


def test_range_requests_for_a_segment_are_answered(lab: Farm, live: Channel) -> None:
    name = lab.edge.get(live, "live.m3u8").text.split()[-1]
    whole = lab.edge.get(live, name)
    part = lab.edge.get(live, name, Range="bytes=188-375")
    assert (part.status, part.headers["content-range"]) == (206, f"bytes 188-375/{len(whole.body)}")
    assert part.body == whole.body[188:376]


def test_the_player_page_of_the_edge_works(lab: Farm, live: Channel) -> None:
    assert lab.edge.get(live, "index.html").status == 200
    status = lab.edge.get(live, "status.json").json()
    assert status["live"] and status["ready"] == ["flv", "hls", "cmaf", "whep"]
    assert abs(status["now"] / 1000 - time.time()) < 2


def test_a_channel_that_is_not_live_gives_the_gateways_error(lab: Farm) -> None:
    channel = lab.a.channel(isFlv=True)
    for path in ("live.m3u8", "1.ts", "video/index.m3u8"):
        at_edge = lab.edge.get(channel, path)
        assert (at_edge.status, at_edge.text) == (404, f"{channel.id} is not streaming live now\n")
    assert http("GET", f"http://127.0.0.1:{lab.edge.ports['http']}/nobody/live.m3u8").text == (
        "nobody is not streaming live now\n"
    )
    assert not lab.edge.get(channel, "status.json").json()["live"]


def test_a_disabled_output_is_disabled_at_the_edge(lab: Farm) -> None:
    channel = lab.a.channel(isFlv=False, isHls=False, isCMAF=True)
    with push(SHORT, channel.push):
        lab.wait(channel, "master.m3u8")
        for path, output in (("live.m3u8", "hls"), ("live.flv", "flv")):
            found = lab.edge.get(channel, path)
            assert (found.status, found.text) == (404, f"{output} is not enabled for {channel.id}\n")


# ---- once ----


async def crowd(port: int, path: Callable[[], str], count: int) -> list[tuple[int, bytes]]:
    """Returns status and body of `count` simultaneous requests. `path` is called when all are connected."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head[9:12]), body

    pairs = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port, limit=1 << 20) for _ in range(count)))
    wanted = path()
    for _, writer in pairs:
        writer.write(f"GET {wanted} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n".encode())
    return await asyncio.gather(*(one(*pair) for pair in pairs))


async def test_simultaneous_requests_for_one_reload_or_part_cause_one_request_upstream(
    lab: Farm, live: Channel
) -> None:
    before = 0.0

    def next_but_one() -> str:
        nonlocal before
        index = lab.edge.get(live, "video/index.m3u8").text
        sequence = int(re.search(r"MEDIA-SEQUENCE:(\d+)", index)[1])  # type: ignore[index]
        before = lab.edge.metrics()["millrace_edge_upstream_requests_total"]
        return f"/{live.id}/video/index.m3u8?_HLS_msn={sequence + index.count('#EXTINF') + 1}&_HLS_part=0"

    found = await crowd(lab.edge.ports["http"], next_but_one, 1000)
    assert {status for status, _ in found} == {200}
    assert len({body for _, body in found}) == 1
    assert lab.edge.metrics()["millrace_edge_upstream_requests_total"] - before == 1
    hint = re.search(r'PRELOAD-HINT:TYPE=PART,URI="([^"]+)"', found[0][1].decode())
    assert hint is not None
    before = lab.edge.metrics()["millrace_edge_upstream_requests_total"]
    parts = await crowd(lab.edge.ports["http"], lambda: f"/{live.id}/video/{hint[1]}", 1000)
    assert {status for status, _ in parts} == {200}
    assert len({body for _, body in parts}) == 1
    assert lab.edge.metrics()["millrace_edge_upstream_requests_total"] - before == 1


@pytest.mark.nightly
def test_many_flv_viewers_cause_one_pull(lab: Farm, live: Channel) -> None:
    before = lab.edge.metrics()["millrace_pulls_total"]
    with contextlib.ExitStack() as stack:
        players = [stack.enter_context(pull(lab.edge.url(live, "live.flv"), seconds=2)) for _ in range(4)]
        for player in players:
            take_of(player)
    assert lab.edge.metrics()["millrace_pulls_total"] - before <= 1


def test_a_gateway_counts_the_viewers_at_the_edge(lab: Farm, live: Channel) -> None:
    with pull(lab.edge.url(live, "live.flv"), seconds=30):
        listed = lab.edge.get(live, "live.m3u8").text.splitlines()
        lab.edge.get(live, [line for line in listed if ".ts" in line][-1])
        # Another player reads the playlist that names a fragment: the fragment belongs to the player with the manifest.
        assert lab.edge.get(live, "manifest.mpd").status == 200
        media = lab.edge.get(live, "video/index.m3u8", **{"User-Agent": "another"}).text
        assert lab.edge.get(live, "video/" + re.findall(r"[^\"\s]+\.m4s", media)[-1]).status == 200
        counted = until(
            lambda: (v := live.session()["viewers"]).get("flv") and v.get("hls") and v.get("dash") and v,
            "they count",
            25,
        )
        assert counted["flv"] >= 1
    assert lab.edge.metrics()['millrace_viewers{protocol="hls"}'] >= 1


# ---- who may ----


def test_new_viewers_above_the_bandwidth_are_refused_at_nodes_that_do_not_hold_the_stream(lab: Farm) -> None:
    channel = lab.a.channel(isHls=True, isCMAF=True)
    with push(FILM, channel.push, loop=True):
        lab.wait(channel, "live.m3u8", "manifest.mpd")
        bitrate = until(lambda: channel.session().get("bitrate"), "its bit rate is known")
        lab.a.api("PUT", f"/videostream/{channel.id}", {"maxViewerMbps": str(1.5 * bitrate / 1e6)})
        for node in (lab.edge, lab.b):

            def status(path: str, agent: str, node: Gateway = node) -> int:
                url = f"http://127.0.0.1:{node.ports['http']}/{channel.id}/{path}"
                reply = http("GET", url, headers={"User-Agent": agent})
                segments = re.findall(r"^[^#\n]+\.ts$", reply.text, re.MULTILINE)
                if agent == "first" and segments:
                    http("GET", f"{url.rpartition('/')[0]}/{segments[-1]}", headers={"User-Agent": agent})
                return reply.status

            until(lambda status=status: status("live.m3u8", "first") == 200, "the first viewer watches")
            for path in ("live.m3u8", "manifest.mpd"):  # each time another viewer: an admitted one stays
                until(lambda path=path, status=status: status(path, f"at {time.time()}") == 503, f"{path} is refused")
            assert [status("live.m3u8", "first") for _ in range(3)] == [200, 200, 200]


def test_a_protected_channel_is_protected_at_the_edge(lab: Farm) -> None:
    channel = lab.a.channel(isFlv=True, isHls=True, isCMAF=True, playAuth="sign")
    sign = "?sign=" + KEYS.sign(channel.id, FAR, SignatureUse.PLAY)
    assert lab.edge.get(channel, "live.m3u8").status == 403  # also before it is live
    with push(FILM, channel.push):
        lab.wait(channel, "live.m3u8", "master.m3u8", "manifest.mpd", query=sign)
        listed = lab.edge.get(channel, "live.m3u8" + sign).text.split()[-1]
        assert listed.endswith(sign)
        assert lab.edge.get(channel, listed).status == 200
        for path in (listed.partition("?")[0], "live.m3u8", "live.flv", "snapshot.jpg", "status.json", "manifest.mpd"):
            found = lab.edge.get(channel, path)
            assert (found.status, found.text) == (403, "a play sign is needed: ?sign=<expiry>-<hash>\n"), path
        wrong = "?sign=" + KEYS.sign(channel.id, FAR, SignatureUse.PUSH)
        assert lab.edge.get(channel, "live.m3u8" + wrong).status == 403
        with pull(lab.edge.url(channel, "master.m3u8" + sign), seconds=3) as player:
            judge(take_of(player), FILM)
        assert lab.edge.get(channel, "live.flv?sign=1-" + "0" * 64).status == 403


def test_cloudfront_signatures_are_checked_at_the_edge(lab: Farm) -> None:
    channel = lab.a.channel(isFlv=True, isHls=True, playAuth="cloudfront")
    signer = lab.signer
    base = lab.edge.url(channel, "")
    with push(SHORT, channel.push):
        signed = signer.custom(base + "live.m3u8", base + "*", FAR)
        until(lambda: http("GET", signed).status == 200, "the playlist with a signature")
        listed = http("GET", signed).text.split()[-1]
        assert http("GET", base + listed).status == 200
        assert http("GET", signer.canned(base + "live.m3u8", FAR)).status == 200
        assert http("GET", signer.canned(base + "live.m3u8", 1)).status == 403
        assert http("GET", base + listed.partition("?")[0]).status == 403
        cookie = {"Cookie": signer.cookie(base + "*", FAR)}
        assert http("GET", base + listed.partition("?")[0], headers=cookie).status == 200
        assert http("GET", base + "live.m3u8").status == 403
        assert http("GET", base + "live.flv").status == 403


def test_a_change_of_protection_reaches_the_edge(lab: Farm) -> None:
    channel = lab.a.channel(isHls=True)
    with push(SHORT, channel.push):
        lab.wait(channel, "live.m3u8")
        assert lab.a.api("PUT", f"/videostream/{channel.id}", {"playAuth": "sign"}).status == 200
        until(lambda: lab.edge.get(channel, "live.m3u8").status == 403, "the edge wants a sign", 8)


async def test_a_push_to_an_edge_is_refused_with_an_explanation(lab: Farm) -> None:
    channel = lab.a.channel(isFlv=True)
    async with connected(lab.edge.ports["rtmp"]) as peer:
        said = await peer.publish(channel.obs_key)
        assert (said.level, said.code) == ("error", "NetStream.Publish.Failed")
        assert said.info["description"] == "This is an edge, which only plays: push to a gateway."
        assert await peer.closed()


def test_srt_plays_through_the_edge_and_a_push_there_is_refused(lab: Farm) -> None:
    channel = lab.a.channel(isHls=True)
    at = f"srt://127.0.0.1:{lab.edge.ports['srt']}?streamid="
    with push(SHORT, channel.push):
        lab.wait(channel, "live.m3u8")
        with pull(f"{at}read:{channel.id}", seconds=3) as player:
            assert take_of(player).video
    copy = ["ffmpeg", "-v", "error", "-re", "-i", str(SHORT.path()), "-c", "copy", "-f", "mpegts"]
    with Program([*copy, f"{at}publish:{channel.obs_key}"]) as refused:
        until(lambda: not refused.running, "the push ends", 20)
    assert '"code":1403' in lab.edge.log


# ---- what is stored ----


def test_recordings_play_through_the_edge(lab: Farm, tmp_path: Path) -> None:
    channel = lab.b.channel(isVideo=True, isOnDemand=True, video_time="3", ondemand_time="2")
    with push(RECORDED, channel.push) as pushing:
        pushing.wait(30)
    media = lab.b.data / "media"
    files = until(lambda: sorted(media.glob(f"{channel.id}/mp4/**/*.mp4")), "a recording")
    lists = until(lambda: sorted(media.glob(f"{channel.id}/vod-*.m3u8")), "a playlist")
    until(lambda: "ENDLIST" in lists[0].read_text(), "its end")
    path = "vod/" + files[0].relative_to(media / channel.id).as_posix()
    whole = lab.edge.get(channel, path)
    assert (whole.status, whole.body) == (200, files[0].read_bytes())
    part = lab.edge.get(channel, path, Range="bytes=100-199")
    assert (part.status, part.body) == (206, whole.body[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.body)}"
    assert lab.edge.get(channel, path, **{"If-None-Match": whole.headers["etag"]}).status == 304
    assert "attachment" in lab.edge.get(channel, path + "?download").headers["content-disposition"]
    listed = lab.edge.get(channel, "vod/" + lists[0].name + "?token=1")
    assert listed.text == lab.at(lab.b, channel, "vod/" + lists[0].name + "?token=1").text
    assert probe(lab.edge.url(channel, "vod/" + lists[0].name))["video"]["codec_name"] == "h264"
    assert lab.edge.get(channel, "vod/nothing.mp4").status == 404
    page = lab.edge.get(channel, path + "/")
    assert (
        page.status == 200 and "<title>" in page.text and "script-src 'self'" in page.headers["content-security-policy"]
    )
    assert lab.edge.get(channel, "vod/mp4/2020/1/1/capture-2020-01-01_00-00-00-1577836800000.mp4/").status == 404
    assert lab.edge.get(channel, "vod/.hidden.mp4").status == 404


def test_the_last_session_and_its_page_come_through_the_edge(lab: Farm) -> None:
    channel = lab.b.channel(isOnDemand=True, ondemand_time="2", videoname="Main stage")
    with push(RECORDED, channel.push) as pushing:
        pushing.wait(30)
    replay = until(lambda: lab.edge.get(channel, "status.json").json()["replay"], "a replay", 40)
    assert lab.edge.get(channel, replay["hls"]).status == 200
    page = lab.edge.get(channel, replay["page"])
    assert page.status == 200 and "Main stage" in page.text
    picture = lab.edge.get(channel, replay["poster"])
    assert (picture.status, picture.body[:2]) == (200, b"\xff\xd8")
    film = lab.edge.get(channel, replay["page"] + "video.mp4")
    assert film.status == 200 and film.body[4:8] == b"ftyp"
    assert "attachment" in film.headers["content-disposition"]
    assert lab.edge.get(channel, "vod/1764300000001/").status == 404
    moved = lab.edge.get(channel, replay["page"].removesuffix("/"))
    assert moved.status == 200 and moved.body == page.body  # the client follows the redirect


def test_the_last_picture_of_an_idle_channel_comes_through_the_edge(lab: Farm) -> None:
    channel = lab.a.channel()
    key = media_keys.image_key(channel.id, datetime.now(UTC) - timedelta(hours=1))
    picture = lab.a.data / "media" / key
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"a picture")
    path = lab.edge.get(channel, "status.json").json()["poster"]
    assert key.endswith(path.removeprefix("vod/"))
    for address in (path, "poster.jpg"):
        assert lab.edge.get(channel, address).body == b"a picture"


def test_films_play_through_the_edge(lab: Farm) -> None:
    film = lab.a.data / "media" / "films" / "one"
    film.mkdir(parents=True)
    (film / "thumbnail.0000000.jpg").write_bytes(b"a picture")
    (film / "secret.txt").write_bytes(b"no film")
    base = f"http://127.0.0.1:{lab.edge.ports['http']}/vod/films/one"
    found = http("GET", f"{base}/thumbnail.0000000.jpg")
    assert (found.status, found.body, found.headers["content-type"]) == (200, b"a picture", "image/jpeg")
    assert http("GET", f"{base}/secret.txt").status == 404
    assert http("GET", f"{base}/thumbnail.0000001.jpg").status == 404
    assert http("GET", f"{base}/").status == 404
    (film / "one.m3u8").write_bytes(b"#EXTM3U\n")
    page = until(lambda: (got := http("GET", f"{base}?x=1")).status == 200 and got, "a page")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "&quot;hls&quot;: &quot;one.m3u8&quot;" in page.text


# ---- the process ----


def test_metrics_of_the_edge_need_the_admin_token(lab: Farm) -> None:
    admin = f"http://127.0.0.1:{lab.edge.ports['admin']}"
    assert http("GET", f"{admin}/metrics").status == 401
    assert http("GET", f"{admin}/metrics", headers={"Authorization": "Bearer wrong"}).status == 401
    assert "millrace_edge_cache_bytes" in lab.edge.api("GET", "/metrics").text
    assert (http("GET", f"{admin}/healthcheck").text, http("GET", f"{admin}/ready").status) == ("OK", 200)
    assert http("GET", f"{admin}/videostream").status == 404
    assert lab.edge.ports["ws"] is None


def test_the_edge_is_listed_among_the_nodes(lab: Farm) -> None:
    nodes = until(lambda: [n for n in lab.a.api("GET", "/nodes").json() if n["role"] == "edge"], "the edge is seen")
    assert nodes[0]["answers"] is True


def said_by(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return run("edge", *arguments, env=env | environ)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "millrace: an edge needs to know where streams are: set registry, or edge.upstream\n"),
        (
            {"MILLRACE_EDGE__UPSTREAM": "127.0.0.1:8080"},
            "millrace: cluster.secret is not set: gateways refuse an edge that does not have their secret\n",
        ),
    ],
)
def test_an_edge_without_required_settings_gives_a_one_line_error(
    tmp_path: Path, environ: dict[str, str], words: str
) -> None:
    found = said_by(MILLRACE_DATA=str(tmp_path), **environ)
    assert (found.returncode, found.stdout, found.stderr) == (2, "", words)


def test_a_port_in_use_gives_a_one_line_error(tmp_path: Path, lab: Farm) -> None:
    taken = ANY_PORTS | {"MILLRACE_HTTP__PORT": str(lab.edge.ports["http"]), "MILLRACE_HTTP__HOST": "127.0.0.1"}
    secret = {
        "MILLRACE_CLUSTER__SECRET": "x" * 16,
        "MILLRACE_SIGNING__SECRET": "y" * 16,
        "MILLRACE_DATA": str(tmp_path),
    }
    found = said_by(**taken, **secret, MILLRACE_EDGE__UPSTREAM="127.0.0.1:9")
    assert found.returncode == 1
    words = r"millrace: http: 127\.0\.0\.1:\d+ is in use by .+, pid \d+; choose another with --set http\.port=…\n"
    assert re.fullmatch(words, found.stderr), found.stderr


async def test_an_edge_leaves_the_registry_when_it_ends(tmp_path: Path) -> None:
    shared = {"MILLRACE_REGISTRY": f"sqlite:///{tmp_path}/nodes.db", "MILLRACE_CLUSTER__SECRET": "x" * 16}
    (tmp_path / "edge").mkdir()
    edge = Edge(tmp_path / "edge", **shared)
    async with SqliteRegistry(tmp_path / "nodes.db") as registry:
        edge.wait_ready()
        async with asyncio.timeout(at_most(10)):
            while not await registry.nodes():
                await asyncio.sleep(0.02)
        [node] = await registry.nodes()
        assert (node.role, node.address) == ("edge", f"127.0.0.1:{edge.ports['http']}")
        assert await asyncio.to_thread(edge.stop) == 0
        assert await registry.nodes() == []
    assert "warning" not in edge.log


# ---- publishers ----


def test_an_edge_takes_no_push_by_webrtc(lab: Farm) -> None:
    channel = lab.a.channel()
    reply = http("POST", f"http://127.0.0.1:{lab.edge.ports['http']}/{channel.id}/whip?sign={channel.key}")
    assert reply.status == 405


def test_an_edge_gives_the_addresses_of_the_gateways_to_publishers(lab: Farm) -> None:
    edge, gateway = (f"http://127.0.0.1:{node.ports['http']}" for node in (lab.edge, lab.a))
    channel = lab.a.channel(isHls=True)
    ports = http("GET", f"{edge}/broadcast.json").json()
    assert ports["host"] == "127.0.0.1" and ports["ws"] in {node.ports["ws"] for node in (lab.a, lab.b)}
    key = channel.item["key"]

    def servers() -> set[int]:
        return {s["ports"]["ws"] for s in http("GET", f"{edge}/_servers/{channel.id}?sign={key}").json()}

    # The edge may have read the registry before the second gateway was in it.
    until(lambda: servers() == {node.ports["ws"] for node in (lab.a, lab.b)}, "both gateways are listed")
    refused = [http("GET", f"{host}/_servers/{channel.id}?sign=1-{'a' * 64}") for host in (edge, gateway)]
    assert [reply.status for reply in refused] == [403, 403] and refused[0].body == refused[1].body

    def configure(host: str, key: str) -> Reply:
        body = {"authentication": f"{channel.id}?sign={key}", "preferences": {}, "capabilities": {}}
        return http("POST", f"{host}/{channel.id}/GetClientConfiguration", body=body)

    assert configure(edge, "1-" + "a" * 64).status == 403
    told = configure(edge, key)
    assert told.status == 200, told.body
    endpoints = told.json()["ingest_endpoints"]
    assert endpoints[0]["url_template"].startswith("rtmp://127.0.0.1:")
    assert http("GET", f"{edge}/{channel.id}/GetClientConfiguration").status == 404


def test_captions_with_the_stream_key_are_sent_through_an_edge(lab: Farm, live: Channel) -> None:
    """The gateway that gets them first need not be the holder of the stream."""
    nodes = [f"http://127.0.0.1:{node.ports['http']}/{live.id}/captions" for node in (lab.edge, lab.a, lab.b)]
    for number, node in enumerate(nodes):
        reply = http("POST", f"{node}?sign={live.item['key']}", body={"text": f"Caption {number}", "language": "en"})
        assert reply.status == 202, (node, reply.text)
        tracks = lab.b.api("GET", f"/videostream/{live.id}/captions").json()
        assert {f"Caption {number}"} == {track["last"] for track in tracks if track["language"] == "en"}
    assert {http("POST", f"{node}?sign=x", body={"text": "A wrong key."}).status for node in nodes} == {403}
    idle = lab.a.channel()
    reply = http(
        "POST", f"{nodes[0].replace(live.id, idle.id)}?sign={idle.item['key']}", body={"text": "Nobody is live."}
    )
    assert (reply.status, reply.text.strip()) == (409, "the channel is not live")


def test_an_edge_names_only_the_push_domain_to_publishers_if_there_is_one(lab: Farm) -> None:
    edge, gateway = (f"http://127.0.0.1:{node.ports['http']}" for node in (lab.edge, lab.a))
    channel = lab.a.channel()
    for node in (lab.a, lab.b):
        node.api("PUT", "/domains", {"pushDNS": "push.example.com"})
    try:
        for host in (edge, gateway):
            (server,) = http("GET", f"{host}/_servers/{channel.id}?sign={channel.item['key']}").json()
            assert (server["address"], server["ports"]["admin"]) == ("push.example.com", None)
    finally:
        for node in (lab.a, lab.b):
            node.api("PUT", "/domains", {"pushDNS": ""})


# ---- gateways that the settings name ----


def test_an_edge_can_find_streams_by_asking_configured_gateways(tmp_path: Path) -> None:
    with farm(tmp_path, MILLRACE_EDGE__UPSTREAM="UPSTREAM") as lab:
        opened = lab.b.channel(isFlv=True, isHls=True)
        closed = lab.a.channel(isFlv=True, isHls=True, playAuth="sign")
        never_asked = lab.a.channel(isHls=True, playAuth="sign")
        with push(SHORT, opened.push), push(SHORT, closed.push):
            lab.wait(opened, "live.m3u8")
            with pull(lab.edge.url(opened, "live.flv"), seconds=2) as player:
                judge(take_of(player), SHORT, cut=True)
            assert lab.edge.get(closed, "live.m3u8").status == 403
            assert lab.edge.get(closed, "live.flv").status == 403
        for one in (opened, closed):  # each gateway knows only the own channel
            servers = f"http://127.0.0.1:{lab.edge.ports['http']}/_servers/{one.id}?sign={one.item['key']}"
            assert http("GET", servers).status == 200
        ready = f"http://127.0.0.1:{lab.edge.ports['http']}/ready"
        assert http("GET", ready).status == 200
        for gateway in (lab.a, lab.b):
            gateway.process.kill()
        until(lambda: http("GET", ready).status == 503, "it is not ready without any gateway")
        assert json.loads(http("GET", ready).body)["missing"] == ["gateways"]
        asked = lab.edge.get(never_asked, "live.m3u8")
        assert asked.status == 503, "of which nobody can say whether all may play it"


# ---- faults ----


@pytest.mark.nightly
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_gateway_interrupts_only_its_own_streams(tmp_path: Path, how: signal.Signals) -> None:
    with farm(tmp_path) as lab:
        lost, kept = lab.a.channel(isFlv=True, isHls=True, isCMAF=True), lab.b.channel(isFlv=True, isHls=True)
        with push(FILM, lost.push) as first, push(FILM, kept.push):
            lab.wait(lost, "live.m3u8", "master.m3u8")
            lab.wait(kept, "live.m3u8")
            with pull(lab.edge.url(kept, "live.flv"), seconds=None) as watching:
                until(lambda: so_far(watching).video, "the viewer of the other gateway plays")
                lab.a.process.send_signal(how)
                died = time.monotonic()
                until(lambda: lab.edge.get(lost, "live.m3u8").status in (404, 503), "its stream is said to be away", 30)
                assert time.monotonic() - died < at_most(DEAD_WITHIN)
                assert lab.edge.get(kept, "live.m3u8").status == 200
                assert lab.edge.get(lost, "video/index.m3u8").status in (404, 503)
                seen = len(so_far(watching).video)
                until(lambda: len(so_far(watching).video) > seen + 2 * FRAMES_PER_SECOND, "it plays on")
                watching.stop()
                judge(so_far(watching), FILM, cut=True)
            first.kill()
        if how is signal.SIGSTOP:
            lab.a.process.send_signal(signal.SIGCONT)


def test_players_continue_when_the_publisher_moves_to_another_gateway(tmp_path: Path) -> None:
    with farm(tmp_path) as lab:
        channel = lab.a.channel(isFlv=True, isHls=True)
        other = f"rtmp://127.0.0.1:{lab.b.ports['rtmp']}/stream/{channel.obs_key}"
        with push(FILM, channel.push) as first:
            lab.wait(channel, "live.m3u8")
            lab.a.process.kill()
            first.kill()
        with Reconnecting(other):
            before = lab.edge.get(channel, "live.m3u8").text
            newer = until(
                lambda: (r := lab.edge.get(channel, "live.m3u8")).status == 200 and r.text != before and r.text,
                "the stream plays again",
                40,
            )
            assert lab.edge.get(channel, newer.split()[-1]).status == 200


class Reconnecting:
    """An encoder that tries again until its push is accepted."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._program: Program | None = None

    def __enter__(self) -> Reconnecting:
        def taken() -> bool:
            if self._program is not None:
                self._program.kill()
            self._program = push(FILM, self._url).__enter__()
            time.sleep(2)
            return self._program.running

        until(taken, "a gateway takes the push", 40)
        return self

    def __exit__(self, *_: object) -> None:
        if self._program is not None:
            self._program.__exit__()
