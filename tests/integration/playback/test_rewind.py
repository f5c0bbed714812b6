"""Viewers go back in a live stream: over several pushes, through an edge, protected, and with every frame."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import new_ffmpeg, pull, push, take_of, until
from tests.support.gateway import Channel, Edge, Gateway, Reply, http
from tests.support.hls_rules import Follower, Playlist, check, parse
from tests.support.media import Film
from tests.support.rewinding import StoredFilm
from tests.support.tools import need

FILM = Film("rewind-12", seconds=12, size="160x90")
SHORT = Film("rewind-8", seconds=8, size="160x90")
FIELDS = {"rewind": 1, "hls_time": "1", "hls_list_size": "3"}
CLUSTER = {"MILLRACE_CLUSTER__SECRET": "secret of the cluster", "MILLRACE_SIGNING__SECRET": "secret of the keys"}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    need("ffmpeg")
    with tempfile.TemporaryDirectory(prefix="millrace-rewind-") as folder:
        instance = Gateway(Path(folder), MILLRACE_STREAM__LINGER="1", **CLUSTER)
        try:
            instance.wait_ready()
            yield instance
        finally:
            assert instance.stop() == 0, instance.log[-3000:]


@pytest.fixture(scope="module")
def edge(gateway: Gateway) -> Iterator[Edge]:
    with tempfile.TemporaryDirectory(prefix="millrace-rewind-") as folder:
        upstream = f"127.0.0.1:{gateway.ports['http']}"
        instance = Edge(Path(folder), MILLRACE_EDGE__UPSTREAM=upstream, **CLUSTER)
        try:
            instance.wait_ready()
            yield instance
        finally:
            instance.stop()


def read(reply: Reply) -> Playlist:
    assert reply.status == 200, reply.text
    return check(parse(reply.text))


def playlist(channel: Channel, query: str = "rewind=3600") -> Playlist:
    return read(http("GET", channel.url(f"live.m3u8?{query}")))


def hashes(channel: Channel, query: str = "rewind=3600") -> list[str]:
    """Returns the hashes of the frames of an ended stream, as decoded by ffmpeg."""
    with pull(channel.url(f"live.m3u8?{query}"), seconds=None, before=("-live_start_index", "0")) as player:
        return [frame.digest for frame in take_of(player).video]


def publish(channel: Channel) -> None:
    """Pushes the film once, and waits for the end of the stream."""
    with push(SHORT, channel.push) as pushing:
        pushing.wait(40)
    until(lambda: channel.session()["state"] == "idle", "the end")


def test_two_pushes_form_one_playlist_with_every_frame(gateway: Gateway) -> None:
    channel = gateway.channel(**FIELDS)
    publish(channel)
    first = playlist(channel)
    assert first.ended
    source = [frame.digest for frame in SHORT.hashes().video]
    assert hashes(channel) == source
    followers = {query: Follower() for query in ("rewind=3600", "rewind=12")}
    with push(SHORT, channel.push) as pushing:
        until(lambda: not playlist(channel).ended, "the second publish")
        while pushing.running:
            live = read(http("GET", channel.url("live.m3u8")))
            for query, follower in followers.items():
                now = follower.see(http("GET", channel.url(f"live.m3u8?{query}")).text)
                numbers = {segment.number: segment.uri for segment in now.segments}
                assert {s.number: s.uri for s in live.segments if s.number in numbers}.items() <= numbers.items()
            time.sleep(0.7)
    until(lambda: playlist(channel).ended, "the end")
    whole = playlist(channel)
    # Numbers never decrease, and one discontinuity precedes the second publish.
    assert whole.sequence >= first.sequence and whole.discontinuity_sequence >= first.discontinuity_sequence
    assert whole.segments[-1].discontinuity == whole.segments[0].discontinuity + 1
    assert hashes(channel) == source + source
    # Pieces of the first publish have their own address; of this one, the live segments' names go on.
    uris = [segment.uri for segment in whole.segments]
    assert [uri.startswith("vod/720p/") for uri in uris] == [True] * SHORT.seconds + [False] * (
        len(uris) - SHORT.seconds
    )
    for uri in (uris[0], uris[SHORT.seconds]):
        reply = http("GET", channel.url(uri))
        part = http("GET", channel.url(uri), headers={"Range": "bytes=188-375"})
        assert reply.status == 200 and "immutable" in reply.headers["cache-control"]
        assert (part.status, part.body) == (206, reply.body[188:376])


@pytest.fixture(scope="module")
def live(gateway: Gateway) -> Iterator[Channel]:
    """Yields a live channel with two earlier pushes in its store."""
    channel = gateway.channel(**FIELDS, playAuth="sign")
    now = time.time()
    with StoredFilm(FILM, 1) as film:
        for ago in (60, 30):
            film.store(gateway.data / "media", channel.id, now - ago)
    with push(FILM, channel.push, loop=True):
        channel.wait_live()
        yield channel


def sign(channel: Channel) -> str:
    return str(channel.gateway.api("GET", f"/videostream/{channel.id}").json()["playUrls"]["hls"]).partition("?")[2]


def test_the_signature_is_copied_to_segments_and_the_rewind_length_is_not(live: Channel) -> None:
    query = sign(live)
    until(lambda: http("GET", live.url(f"live.m3u8?{query}")).status == 200, "live")
    found = playlist(live, f"rewind=3600&{query}")
    assert len(found.segments) >= 24 + 1
    assert all(segment.uri.endswith(f".ts?{query}") for segment in found.segments)
    for segment in (found.segments[0], found.segments[-1]):
        assert http("GET", live.url(segment.uri)).status == 200
        assert http("GET", live.url(segment.uri.partition("?")[0])).status == 403
    assert http("GET", live.url("live.m3u8?rewind=3600")).status == 403


def test_the_master_playlist_refers_to_the_rewind_playlist(live: Channel) -> None:
    query = sign(live)
    until(lambda: http("GET", live.url(f"live.m3u8?{query}")).status == 200, "live")
    master = http("GET", live.url(f"master.m3u8?rewind=3600&{query}")).text
    assert f"live.m3u8?rewind=3600&{query}" in master.splitlines()
    assert "avc1." in master and "RESOLUTION=160x90" in master


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "99999999999", "1%0a2"])
def test_an_invalid_rewind_length_is_refused(live: Channel, value: str) -> None:
    for name in ("live.m3u8", "master.m3u8"):
        assert http("GET", live.url(f"{name}?rewind={value}&{sign(live)}")).status == 400


def test_a_rewind_length_is_limited_and_zero_gives_the_plain_playlist(live: Channel) -> None:
    query = sign(live)
    until(lambda: http("GET", live.url(f"live.m3u8?{query}")).status == 200, "live")
    assert playlist(live, f"rewind=999999999&{query}").sequence == playlist(live, f"rewind=3600&{query}").sequence
    assert playlist(live, f"rewind=0&{query}").version == 3


def test_rewind_playlists_support_delta_updates_and_blocking_reload(live: Channel) -> None:
    query = f"rewind=3600&{sign(live)}"
    until(lambda: http("GET", live.url(f"live.m3u8?{query}")).status == 200, "live")
    whole = playlist(live, query)
    update = playlist(live, f"{query}&_HLS_skip=YES&_HLS_msn={whole.last + 1}")
    assert update.last == whole.last + 1 and update.sequence == whole.sequence
    assert update.skipped + len(update.segments) == len(whole.segments) + 1 and update.skipped > 10
    assert http("GET", live.url(f"live.m3u8?{query}&_HLS_msn={whole.last + 100}")).status == 400
    assert http("GET", live.url(f"live.m3u8?{query}&_HLS_msn=x")).status == 400


def test_an_edge_gives_the_same_rewind_playlist(live: Channel, edge: Edge) -> None:
    query = sign(live)
    until(lambda: edge.get(live, f"live.m3u8?rewind=3600&{query}").status == 200, "the edge's playlist")
    here, there = playlist(live, f"rewind=3600&{query}"), read(edge.get(live, f"live.m3u8?rewind=3600&{query}"))
    assert (there.sequence, there.discontinuity_sequence) == (here.sequence, here.discontinuity_sequence)
    assert there.segments[0].uri == here.segments[0].uri
    for segment in (there.segments[0], there.segments[24], there.segments[-1]):
        assert edge.get(live, segment.uri).body == http("GET", live.url(segment.uri)).body != b""
    plain = read(edge.get(live, f"live.m3u8?{query}"))
    assert len(plain.segments) < len(there.segments)  # they are cached apart
    update = read(edge.get(live, f"live.m3u8?rewind=3600&{query}&_HLS_skip=YES&_HLS_msn={there.last}"))
    assert update.skipped
    master = edge.get(live, f"master.m3u8?rewind=3600&{query}").text
    assert f"live.m3u8?rewind=3600&{query}" in master.splitlines()
    assert edge.get(live, f"live.m3u8?rewind=x&{query}").status == 400
    assert edge.get(live, f"rewind/{int(time.time()) - 45}.jpg?{query}").body[:2] == b"\xff\xd8"


def test_captions_reach_back_as_far_as_the_pictures_also_through_an_edge(live: Channel, edge: Edge) -> None:
    query = f"rewind=3600&{sign(live)}"
    said = live.gateway.api("POST", f"/videostream/{live.id}/captions", {"text": "earlier"})
    assert said.status == 202
    until(lambda: "captions/text/" in http("GET", live.url(f"master.m3u8?{query}")).text, "the captions are listed")
    path = f"captions/text/live.m3u8?{query}"
    assert f'URI="{path}"' in http("GET", live.url(f"index.m3u8?{query}")).text
    until(lambda: edge.get(live, path).status == 200, "the edge's playlist")
    for answer in (http("GET", live.url(path)), edge.get(live, path)):
        listed, pictures = read(answer), playlist(live, query)
        assert listed.sequence == pictures.sequence and len(listed.segments) >= 24 + 1
        names = {
            segment.number: segment.uri.replace("stored-", "vod/720p/").replace(".vtt", ".ts")
            for segment in listed.segments
        }
        assert names.items() <= {segment.number: segment.uri for segment in pictures.segments}.items()
    for segment in (listed.segments[0], listed.segments[-1]):
        for reply in (
            edge.get(live, f"captions/text/{segment.uri}"),
            http("GET", live.url(f"captions/text/{segment.uri}")),
        ):
            assert reply.status == 200 and reply.text.startswith("WEBVTT\nX-TIMESTAMP-MAP=")
        assert http("GET", live.url(f"captions/text/{segment.uri.partition('?')[0]}")).status == 403
    update = read(http("GET", live.url(f"{path}&_HLS_skip=YES&_HLS_msn={listed.last + 1}")))
    assert update.skipped and update.segments[-1].uri.partition("?")[0].endswith(".vtt")
    pictures = read(http("GET", live.url(f"live.m3u8?{query}&_HLS_skip=YES&_HLS_msn={listed.last + 1}")))
    assert pictures.segments[-1].uri.partition("?")[0].endswith(".ts")


def test_pictures_of_earlier_times_are_served(live: Channel) -> None:
    query, now = sign(live), time.time()
    until(lambda: http("GET", live.url(f"live.m3u8?rewind=3600&{query}")).status == 200, "live")
    for ago in (5, 45):
        reply = http("GET", live.url(f"rewind/{int(now) - ago}.jpg?{query}"))
        assert (reply.status, reply.headers["content-type"], reply.body[:2]) == (200, "image/jpeg", b"\xff\xd8")
    for name in (int(now) - 4_000, int(now) + 1_000, "x"):
        assert http("GET", live.url(f"rewind/{name}.jpg?{query}")).status == 404
    assert http("GET", live.url(f"rewind/{int(now) - 5}.jpg")).status == 403
    status = http("GET", live.url(f"status.json?{query}")).json()
    assert status["rewind"] == 3600 and abs(status["oldest"] / 1000 - (now - 60)) < 15


def test_on_demand_channels_can_rewind_within_long_recordings(gateway: Gateway) -> None:
    """The recordings last a minute, and the first one is still being written."""
    channel = gateway.channel(isOnDemand=True, hls_time="1", hls_list_size="3")
    with push(SHORT, channel.push) as pushing:
        channel.wait_playable("live.m3u8")
        until(lambda: len(playlist(channel).segments) >= 6, "six segments", 30)
        found = playlist(channel)
        sizes = [len(http("GET", channel.url(segment.uri)).body) for segment in found.segments]
        assert all(size > 1_000 and size % 188 == 0 for size in sizes)
        pushing.wait(40)
    until(lambda: playlist(channel).ended, "the end")
    assert hashes(channel) == [frame.digest for frame in SHORT.hashes().video]


@pytest.mark.nightly
def test_channels_without_rewind_ignore_the_parameter(gateway: Gateway) -> None:
    channel = gateway.channel(hls_time="1", hls_list_size="3")
    with push(FILM, channel.push, loop=True):
        channel.wait_playable("live.m3u8")
        assert playlist(channel).version == 3
        assert http("GET", channel.url("status.json")).json()["rewind"] == 0
        assert http("GET", channel.url(f"rewind/{int(time.time())}.jpg")).status == 404
        # Viewers of a live channel can go back as soon as it is switched on.
        assert gateway.api("PUT", f"/videostream/{channel.id}", {"rewind": 1}).status == 200
        until(lambda: len(playlist(channel).segments) >= 7, "seven segments", 30)
        assert all(http("GET", channel.url(s.uri)).status == 200 for s in playlist(channel).segments)


@pytest.mark.nightly
def test_channels_with_only_cmaf_rewind_in_mpeg_ts_segments(gateway: Gateway) -> None:
    channel = gateway.channel(**FIELDS, isHls=False, isFlv=False)
    assert http("GET", channel.url("live.m3u8?rewind=3600")).status == 404
    with push(FILM, channel.push):
        channel.wait_playable("master.m3u8", "live.m3u8?rewind=3600")
        until(lambda: len(playlist(channel).segments) >= 9, "nine segments", 30)
        found = playlist(channel)
        assert all(http("GET", channel.url(segment.uri)).status == 200 for segment in found.segments)
        assert "hls is not enabled" in http("GET", channel.url("live.m3u8")).text
        assert "live.m3u8?rewind=3600" in http("GET", channel.url("master.m3u8?rewind=3600")).text.splitlines()
        assert "video/index.m3u8" in http("GET", channel.url("master.m3u8")).text.splitlines()
        # DASH has no such manifest: the parameter is ignored.
        assert "rewind" not in http("GET", channel.url("manifest.mpd?rewind=3600")).text
        status = http("GET", channel.url("status.json")).json()
        assert (status["outputs"], status["rewind"]) == (["cmaf", "whep"], 3600) and status["oldest"]
        outputs = {output["name"] for output in channel.session()["outputs"]}
        assert "cmaf" in outputs and "rewind" not in outputs
        # When HLS is switched on again, numbers continue to rise, and stored media stay listed.
        assert gateway.api("PUT", f"/videostream/{channel.id}", {"isHls": True}).status == 200
        channel.wait_playable("live.m3u8")
        later = playlist(channel)
        assert later.last > found.last and later.segments[0].uri.startswith("vod/720p/")
    until(lambda: channel.session()["state"] == "idle", "the end")
    assert playlist(channel).ended


def test_codecs_unsupported_by_mpeg_ts_play_without_rewind(gateway: Gateway) -> None:
    film = Film("rewind-av1", seconds=6, size="160x90", video="libsvtav1", ffmpeg=new_ffmpeg())
    channel = gateway.channel(**FIELDS, isHls=False)
    with push(film, channel.push, ffmpeg=new_ffmpeg(), loop=True):
        channel.wait_playable("master.m3u8")
        assert http("GET", channel.url("master.m3u8?rewind=3600")).text == http("GET", channel.url("master.m3u8")).text
        refused = http("GET", channel.url("live.m3u8?rewind=3600"))
        assert refused.status == 404 and "AV1" in refused.text.upper()
        status = http("GET", channel.url("status.json")).json()
        assert (status["rewind"], status["oldest"]) == (0, None)
