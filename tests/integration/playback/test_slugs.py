"""Readable addresses at a real gateway and at edges: every way to play, redirects of earlier slugs, conflicts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest

from tests.integration.playback.test_public_channels import at, nodes
from tests.support.clients import probe, push, until
from tests.support.gateway import Channel, Edge, Gateway, http
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.whip_client import watching

__all__ = ["nodes"]
FILM = Film("slugs", seconds=60)

gateway = shared_gateway("ffmpeg", MILLRACE_STREAM__WAIT_FOR_PUBLISHER="1", MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0")


@pytest.fixture(scope="module")
def stage(gateway: Gateway) -> Iterator[Channel]:
    channel = gateway.channel(videoname="Stage", slug="stage", isPublic=True)
    with push(FILM, channel.push, loop=True):
        channel.wait_live()
        channel.wait_playable("live.m3u8", "master.m3u8")
        yield channel


def address(gateway: Gateway, path: str) -> str:
    return f"http://127.0.0.1:{gateway.ports['http']}{path}"


async def test_every_way_to_play_works_under_the_slug(gateway: Gateway, stage: Channel) -> None:
    urls = stage.item["playUrls"]
    assert all("/stage/" in url or url.endswith(("/stage", "=read:stage")) for url in urls.values()), urls
    assert stage.item["pushUrl"].split("?")[0].endswith(stage.id)
    for name in ("flv", "hls", "cmaf", "rtmp", "srt"):
        assert (await asyncio.to_thread(probe, urls[name])).keys() == {"video", "audio"}, name
    for path in ("manifest.mpd", "status.json", "poster.jpg", "snapshot.jpg", "whep.html", ""):
        assert http("GET", address(gateway, f"/stage/{path}")).status == 200, path
    async with aiohttp.ClientSession() as session, session.ws_connect(urls["wsflv"]) as viewer:
        assert (await viewer.receive_bytes())[:3] == b"FLV"
    async with watching(address(gateway, "/stage/whep")) as whep:
        # Proxies that choose a server by the first part of the path send the session to the same one.
        assert whep.answer.headers["location"].startswith("/stage/whep/")
        await whep.watch(lambda: len(whep.pictures) > 10)
        assert (await asyncio.to_thread(stage.session))["viewers"]["whep"] == 1
    page = http("GET", address(gateway, "/stage/"))
    assert "<title>Stage</title>" in page.text and '/stage/poster.jpg">' in page.text
    assert 'og:url" content="' + address(gateway, "/stage/") in page.text
    listed = http("GET", address(gateway, "/channels.json")).json()["channels"]
    assert [entry["slug"] for entry in listed if entry["id"] == stage.id] == ["stage"]


def test_a_sign_stays_bound_to_the_id(gateway: Gateway) -> None:
    channel = gateway.channel(slug="signed", playAuth="sign")
    signed = channel.item["playUrls"]["hls"]
    assert "/signed/live.m3u8?sign=" in signed
    assert http("GET", address(gateway, "/signed/live.m3u8")).status == 403
    assert http("GET", signed).status == 404  # permitted, and not live
    assert http("GET", channel.url("live.m3u8?" + signed.partition("?")[2])).status == 404


async def test_pages_of_an_earlier_slug_redirect_until_another_channel_takes_it(gateway: Gateway) -> None:
    first, second = gateway.channel(slug="old-name"), gateway.channel()
    path = f"/videostream/{first.id}"
    assert http("GET", address(gateway, "/old-name/status.json")).status == 200
    assert gateway.api("PUT", path, {"slug": "new-name"}).json()["oldSlugs"].keys() == {"old-name"}
    async with aiohttp.ClientSession() as session:

        async def location(path: str) -> str | None:
            async with session.get(address(gateway, path), allow_redirects=False) as reply:
                return reply.headers.get("location")

        assert await location("/old-name/?x=1") == "/new-name/?x=1"
        assert await location("/old-name/whep.html") == "/new-name/whep.html"
        assert await location("/new-name/") is None and await location(f"/{first.id}/") is None
        assert http("GET", address(gateway, "/old-name/status.json")).json()["name"] is not None  # open players go on
        gateway.api("PUT", path, {"slug": ""})
        assert await location("/old-name/") == f"/{first.id}/"
        conflict = gateway.api("PUT", f"/videostream/{second.id}", {"slug": "signed"})
        assert (conflict.status, conflict.json()["field"]) == (409, "slug")
        assert "another channel has the address /signed/" in conflict.json()["error"]
        assert gateway.api("PUT", f"/videostream/{second.id}", {"slug": "old-name"}).status == 200
        assert await location("/old-name/") is None
        gateway.api("DELETE", f"/videostream/{second.id}")
        assert await location("/old-name/") == f"/{first.id}/"
    for bad in ("vod", "A b", "x", first.id):
        reply = gateway.api("POST", "/videostream", {"outdate": "2035-01-01", "slug": bad})
        assert (reply.status, reply.json()["field"]) == (400, "slug"), bad


def test_slugs_work_at_every_node_and_at_edges(nodes: tuple[Gateway, Gateway, Edge, Edge]) -> None:
    first, second, *edges = nodes
    channel = first.channel(videoname="Hall", slug="hall")
    with push(FILM, channel.push):
        channel.wait_live()
        for node in (second, *edges):
            until(lambda node=node: at(node, "/hall/status.json").json().get("live"), "the slug at a node", 30)
            assert "<title>Hall</title>" in at(node, "/hall/").text
            until(lambda node=node: at(node, "/hall/live.m3u8").status == 200, "HLS at a node", 30)
    assert first.api("PUT", f"/videostream/{channel.id}", {"slug": "yard"}).status == 200
    assert second.api("POST", "/videostream", {"outdate": "2035-01-01", "slug": "yard"}).status == 409
    for node in (second, *edges):
        until(lambda node=node: at(node, "/yard/status.json").json()["name"] == "Hall", "the new slug", 30)
