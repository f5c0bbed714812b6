"""Finished films on the playback listener, protected by the gateway's setting or by their channel."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.channels.channel import Channel
from gateway.channels.deleted_channel import DeletedChannel
from gateway.channels.media_owners import MediaOwners
from gateway.channels.site import Site
from gateway.channels.stream_key import SignatureUse, SigningSecrets
from gateway.http.response import Response
from gateway.lib.tasks import Tasks
from gateway.playback.film_pages import FilmPages
from gateway.playback.play_hook import ALLOWED, REMEMBERED, PlayHook
from gateway.playback.protection import PlaybackProtection
from gateway.playback.recording_files import RecordingFiles
from gateway.playback.site import SiteReader
from gateway.playback.vod_files import VodFiles
from gateway.ports.auth_hook import HookAction, HookMode, HookRequest
from gateway.ports.errors import AtCapacity, NoSuchFilm, StoreUnavailable
from gateway.ports.films import Film, FilmState
from gateway.ports.vod_names import play_name
from tests.support.builders import channel
from tests.support.clock import Clock
from tests.support.http import request
from tests.support.playback import Channels

SECRETS = SigningSecrets("a-secret")
FAR = 4_000_000_000
NAME = "capture-2026-01-02_03-04-05-1767323045678"
MOVIE = f"c1/mp4/2026/1/2/{NAME}"
FILES = {
    "films/a b/a b.m3u8": b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-STREAM-INF:BANDWIDTH=1\na%20bstream.m3u8\n",
    "films/a b/a bstream.m3u8": b"#EXTM3U\n#EXTINF:10,\na%20bstream_00001.ts\n#EXT-X-ENDLIST\n",
    "films/a b/a bstream_00001.ts": bytes(range(188)),
    "films/a b/a b.0000000.jpg": b"\xff\xd8poster\xff\xd9",
    "films/a b/thumbnail.0000000.jpg": b"\xff\xd8\xff\xd9",
    "films/a b.mp4": b"the film as it was uploaded",
    f"{MOVIE}.mp4": b"a recording",
    "c1/720p/1700000000000.ts": b"a recording",
    "c1/vod-1700000000000.m3u8": b"#EXTM3U\n",
    f"{MOVIE}/{NAME}.m3u8": b"#EXTM3U\n",
    "c1/holiday/holiday.m3u8": b"#EXTM3U\n",
    ".hidden/.hidden.m3u8": b"#EXTM3U\n",
}


class Records:
    """A store of films with one record. unavailable: it does not answer."""

    unavailable = False

    async def get(self, key: str) -> Film:
        if self.unavailable:
            raise StoreUnavailable("away")
        if key == "films/a b":
            files = {"hls": "films/a b/a b.m3u8", "poster": "films/a b/a b.0000000.jpg"}
            return Film(key, 'A "title" </title><script>', 1700000000, "<b>&", FilmState.READY, files=files)
        if key == "films/later":
            return Film(key, "Later", 1700000000, state=FilmState.PROCESSING)
        raise NoSuchFilm(key)


@pytest.fixture
def media(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "media"


async def the_site() -> Site:
    return Site(title="Tom & Jerry TV")


def films(
    media: Path, *stored: Channel, auth: str = "none", deleted: Sequence[Channel] = ()
) -> tuple[VodFiles, Channels]:
    channels = Channels(*stored)
    protection = PlaybackProtection(auth=auth, referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=1000)
    owners = MediaOwners(channels, Channels(*deleted))
    objects = LocalObjects(media)
    pages = FilmPages(Records(), objects, owners, SiteReader(the_site, Tasks("the site")))
    return VodFiles(RecordingFiles(objects), pages.film, protection, owners), channels


async def get(served: VodFiles, path: str, query: str = "", **headers: str) -> tuple[Response, bytes]:
    asked = request(f"/vod/{path}{query}", **headers)
    answer = await served(asked, asked.path.removeprefix("/vod/"))
    body = answer.body
    if body is None or isinstance(body, bytes):
        return answer, body or b""
    data = b"".join([piece async for piece in body])
    if (close := getattr(body, "aclose", None)) is not None:
        await close()
    return answer, data


class Hook:
    """A service that knows the answers by name. asked: app, name and query of each question."""

    def __init__(self, **answers: str) -> None:
        self.answers: dict[str, str] = answers
        self.asked: list[tuple[str, str, str]] = []
        self.busy = False

    def asks(self, action: HookAction) -> bool:
        return True

    async def ask(self, request: HookRequest, *, exempt: bool = False) -> str | None:
        if self.busy:
            raise AtCapacity("busy")
        self.asked.append((request.details.app, request.name, request.details.query))
        return self.answers.get(request.name)


def hooked(
    media: Path, service: Hook, *stored: Channel, mode: HookMode = HookMode.INSTEAD, auth: str = "none"
) -> tuple[VodFiles, Clock]:
    served, channels = films(media, *stored, auth=auth)
    clock = Clock(100.0)

    async def id_of(name: str) -> str:
        return "c1" if name == "films" else name

    return replace(served, hook=PlayHook(service, mode, channels, id_of, {}, clock)), clock


async def test_a_viewer_of_a_film_is_asked_about_once_for_all_its_files(media: Path) -> None:
    service = Hook(**{"films/a b": "films/a b"})
    served, clock = hooked(media, service)
    files = ("", "a%20b.m3u8", "a%20bstream.m3u8", "a%20bstream_00001.ts", "a%20b.0000000.jpg")
    for name in files:
        assert (await get(served, f"films/a%20b/{name}", "?token=1"))[0].status == 200, name
        clock.now += ALLOWED / 10
    assert service.asked == [("vod", "films/a b", "token=1")]
    assert (await get(served, "films/a%20b/a%20b.m3u8", "?token=2"))[0].status == 200
    clock.now += ALLOWED
    await get(served, "films/a%20b/a%20bstream_00001.ts", "?token=1")
    assert [query for *_, query in service.asked] == ["token=1", "token=2", "token=1"]


@pytest.mark.parametrize("answer", [{}, {"films/a b": "films/other"}, {"films": "films/a b"}])
async def test_a_film_is_refused_without_a_plain_permission(media: Path, answer: dict[str, str]) -> None:
    service = Hook(**answer)
    served, clock = hooked(media, service)
    for name in ("", "a%20b.m3u8", "a%20bstream_00001.ts"):
        assert (await get(served, f"films/a%20b/{name}"))[0].status == 403, name
    assert len(service.asked) == 1
    clock.now += ALLOWED if answer.get("films/a b") else REMEMBERED
    service.busy = True
    assert (await get(served, "films/a%20b/a%20b.m3u8"))[0].status == 503
    assert (await get(served, "films/a%20b/a%20b.m3u8", f"?t={'x' * 5000}"))[0].status == 414
    node = request("/vod/films/a%20b/a%20b.m3u8")
    assert (await served.serve_node(node, "films/a b/a b.m3u8")).status == 200  # the other node has asked


async def test_for_a_film_of_a_channel_the_service_is_asked_about_the_channel(media: Path) -> None:
    service = Hook(c1="c1")
    served, _ = hooked(media, service, channel("c1"))
    assert (await get(served, f"{MOVIE}/{NAME}.m3u8"))[0].status == 200
    assert service.asked == [("stream", "c1", "")]
    unknown, _ = hooked(media, service := Hook(), channel("c1"), mode=HookMode.UNKNOWN)
    assert (await get(unknown, f"{MOVIE}/{NAME}.m3u8"))[0].status == 200
    assert (await get(unknown, "films/a%20b/a%20b.m3u8"))[0].status == 403
    assert service.asked == [("vod", "films/a b", "")]


async def test_a_missing_sign_is_no_question(media: Path) -> None:
    service = Hook(**{"films/a b": "films/a b"})
    served, _ = hooked(media, service, mode=HookMode.BOTH, auth="sign")
    assert (await get(served, "films/a%20b/a%20b.m3u8"))[0].status == 403
    assert service.asked == []
    sign = SECRETS.sign(play_name("films/a b"), FAR, SignatureUse.PLAY)
    assert (await get(served, "films/a%20b/a%20b.m3u8", f"?sign={sign}"))[0].status == 200


async def test_a_films_files_are_served_with_their_types(media: Path) -> None:
    served, _ = films(media)
    for name, kind in (
        ("films/a%20b/a%20b.m3u8", "application/vnd.apple.mpegurl"),
        ("films/a%20b/a%20bstream.m3u8", "application/vnd.apple.mpegurl"),
        ("films/a%20b/a%20bstream_00001.ts", "video/mp2t"),
        ("films/a%20b/a%20b.0000000.jpg", "image/jpeg"),
        ("films/a%20b/thumbnail.0000000.jpg", "image/jpeg"),
    ):
        answer, body = await get(served, name)
        assert (answer.status, answer.content_type) == (200, kind), name
        assert body == FILES[name.replace("%20", " ")]
        assert "immutable" not in answer.cache  # a film that is made anew has the same names


@pytest.mark.parametrize(
    "path",
    ["films/a%20b.mp4", f"{MOVIE}.mp4", "c1/720p/1700000000000.ts", "c1/vod-1700000000000.m3u8",
     "", "a.m3u8", ".hidden/.hidden.m3u8", "films/a%20b/b.m3u8",
     "films/a%20b/a%20bstream_00002.ts"],
)  # fmt: skip
async def test_other_files_of_the_store_are_not_served(path: str, media: Path) -> None:
    served, _ = films(media)
    assert (await get(served, path))[0].status == 404


async def test_protected_films_need_a_play_sign_of_their_folder(media: Path) -> None:
    served, _ = films(media, auth="sign")
    path = "films/a%20b/a%20b.m3u8"
    assert (await get(served, path))[0].status == 403
    right = SECRETS.sign(play_name("films/a b"), FAR, SignatureUse.PLAY)
    answer, body = await get(served, path, f"?sign={right}")
    assert answer.status == 200
    assert body.endswith(f"a%20bstream.m3u8?sign={right}\n".encode())  # so that it covers what follows
    assert (await get(served, "films/a%20b/a%20bstream_00001.ts", f"?sign={right}"))[0].status == 200
    for other in ("films/a", "films", "vod/films", "c1"):
        assert (await get(served, path, f"?sign={SECRETS.sign(play_name(other), FAR, SignatureUse.PLAY)}"))[
            0
        ].status == 403
    assert (await get(served, path, f"?sign={SECRETS.sign(play_name('films/a b'), FAR, SignatureUse.PUSH)}"))[
        0
    ].status == 403
    assert (await get(served, path, f"?sign={SECRETS.sign('films', FAR, SignatureUse.PLAY)}"))[0].status == 403


async def test_a_film_of_a_recording_has_the_protection_of_its_channel(media: Path) -> None:
    served, channels = films(media, channel("c1", playAuth="sign"))
    path = f"{MOVIE}/{NAME}.m3u8"
    assert (await get(served, path))[0].status == 403
    assert (await get(served, path, f"?sign={SECRETS.sign('c1', FAR, SignatureUse.PLAY)}"))[0].status == 200
    channels.away = True
    assert (await get(served, path))[0].status == 503
    assert (await get(served, "films/a%20b/a%20b.m3u8"))[0].status == 503  # "films" might be one


@pytest.mark.parametrize("path", [f"{MOVIE}/{NAME}.m3u8", "c1/holiday/holiday.m3u8"])
async def test_a_film_of_a_deleted_channel_keeps_the_channels_protection(path: str, media: Path) -> None:
    deleted = DeletedChannel.of("c1", channel("c1", playAuth="sign"), 1.0, media=False)
    served, _ = films(media, deleted=[deleted.channel])
    assert (await get(served, path))[0].status == 403
    assert (await served.serve_node(request(f"/{path}"), path)).status == 200
    right = f"?sign={SECRETS.sign('c1', FAR, SignatureUse.PLAY)}"
    assert (await get(served, path, right))[0].status == 200
    served, _ = films(media, deleted=[deleted.with_media_deletion().channel])
    assert (await get(served, path))[0].status == 403
    assert (await get(served, path, right))[0].status == 404
    assert (await served.serve_node(request(f"/{path}"), path)).status == 404


async def test_a_film_of_a_recording_of_an_unknown_channel_is_not_found(media: Path) -> None:
    served, _ = films(media)
    path = f"{MOVIE}/{NAME}.m3u8"
    assert (await get(served, path))[0].status == 404
    assert (await served.serve_node(request(f"/{path}"), path)).status == 404


async def test_byte_ranges_of_a_segment_are_served(media: Path) -> None:
    served, _ = films(media)
    answer, body = await get(served, "films/a%20b/a%20bstream_00001.ts", range="bytes=10-19")
    assert (answer.status, body) == (206, bytes(range(10, 20)))


def video(body: bytes) -> dict[str, Any]:
    """The data that the script of the page reads."""
    found = re.search(rb'<meta name="video" content="([^"]*)">', body)
    assert found is not None, body
    return dict(json.loads(html.unescape(found[1].decode())))


async def test_the_page_of_a_film_has_its_title_and_addresses_escaped(media: Path) -> None:
    served, _ = films(media)
    answer, body = await get(served, "films/a%20b/", "?embed=1")
    assert (answer.status, answer.content_type) == (200, "text/html; charset=utf-8")
    assert "script-src 'self';" in answer.headers["Content-Security-Policy"]
    assert b"<script>" not in body
    assert b"<title>A &quot;title&quot; &lt;/title&gt;&lt;script&gt; " in body
    assert video(body) == {
        "title": 'A "title" </title><script>', "description": "<b>&", "created": "2023-11-14T22:13:20Z",
        "hls": "a%20b.m3u8", "poster": "a%20b.0000000.jpg", "preview": None,
    }  # fmt: skip


def shared_as(body: bytes) -> dict[str, str]:
    """The Open Graph tags, which programs that show links read."""
    found = re.findall(rb'<meta property="og:(\w+)" content="([^"]*)">', body)
    return {name.decode(): html.unescape(value.decode()) for name, value in found}


async def test_a_shared_film_has_its_poster_its_address_and_the_name_of_the_site(media: Path) -> None:
    served, _ = films(media)
    _, body = await get(served, "films/a%20b/", "?sign=1-2&x=%22")
    assert shared_as(body) == {
        "title": 'A "title" </title><script>', "type": "video.other", "description": "<b>&",
        "site_name": "Tom & Jerry TV",
        "url": "http://live.example.com/vod/films/a%20b/?sign=1-2&x=%22",
        "image": "http://live.example.com/vod/films/a%20b/a%20b.0000000.jpg?sign=1-2&x=%22",
    }  # fmt: skip


async def test_the_page_for_an_edge_names_no_address_of_this_node(media: Path) -> None:
    served, _ = films(media)
    answer = await served.page(request("/_node/.node/film/films/a%20b/?x=1"), "films/a b")
    assert isinstance(answer.body, bytes)
    assert shared_as(answer.body).keys() == {"title", "type", "description", "site_name"}


async def test_a_film_without_a_record_has_a_page_too(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served, _ = films(media, channel("c1"))
    answer, body = await get(served, "c1/holiday/")
    assert answer.status == 200
    assert video(body)["title"] == "holiday"
    monkeypatch.setattr(Records, "unavailable", True)
    answer, body = await get(served, "films/a%20b/")
    assert (answer.status, video(body)["title"], video(body)["poster"]) == (200, "a b", "a%20b.0000000.jpg")


@pytest.mark.parametrize(
    "path", ["nothing/", "films/later/", "films/", ".hidden/", "c1/720p/", "c1/vod-1700000000000/"]
)
async def test_other_folders_have_no_page(path: str, media: Path) -> None:
    served, _ = films(media, channel("c1"))
    answer, body = await get(served, path)
    assert answer.status == 404
    assert b"There is no such video" in body and b'name="video"' not in body


async def test_a_page_has_the_protection_of_its_files(media: Path) -> None:
    served, _ = films(media, channel("c1", playAuth="sign"), auth="sign")
    for path, name in (("films/a%20b/", play_name("films/a b")), ("c1/holiday/", "c1")):
        assert (await get(served, path))[0].status == 403
        sign = SECRETS.sign(name, FAR, SignatureUse.PLAY)
        assert (await get(served, path, f"?sign={sign}"))[0].status == 200
        wrong = SECRETS.sign("films", FAR, SignatureUse.PLAY)
        assert (await get(served, path, f"?sign={wrong}"))[0].status == 403


async def test_media_without_known_protection_have_no_page(media: Path) -> None:
    served, _ = films(media)
    assert (await get(served, f"{MOVIE}/"))[0].status == 404
    gone = DeletedChannel.of("c1", channel("c1"), 1.0, media=True)
    served, _ = films(media, deleted=[Channel(gone.item)])
    assert (await get(served, "c1/holiday/"))[0].status == 404


async def test_the_folder_without_a_slash_redirects_to_the_page_with_the_query(media: Path) -> None:
    served, _ = films(media)
    for path, query, location in (
        ("films/a%20b", "?sign=1-a&embed=1", "a%20b/?sign=1-a&embed=1"),
        ("Nothing.part1", "", "Nothing.part1/"),
    ):
        answer, _ = await get(served, path, query)
        assert (answer.status, answer.headers["Location"]) == (302, location)
    assert (await get(served, "films/a%20b.mp4"))[0].status == 404  # the source is never served


async def test_the_page_of_a_film_is_framed_only_by_pages_that_may_embed_its_channel(media: Path):
    served, _ = films(media, channel("c1", refererAllow=["friends.example"]))
    for path, sources in (("c1/holiday/", "http://friends.example:*"), ("films/a%20b/", "*")):
        answer, _ = await get(served, path)
        assert answer.status == 200
        assert answer.headers["Content-Security-Policy"].endswith(f" {sources}")
