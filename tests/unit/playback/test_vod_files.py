"""Finished films on the playback listener: only they, under the gateway's own protection or their channel's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.channels.channel import Channel
from gateway.channels.deleted_channel import DeletedChannel
from gateway.channels.media_owners import MediaOwners
from gateway.channels.stream_key import SignatureUse, SigningSecrets
from gateway.http.response import Response
from gateway.playback.protection import PlaybackProtection
from gateway.playback.recording_files import RecordingFiles
from gateway.playback.vod_files import VodFiles
from gateway.ports.vod_names import play_name
from tests.support.builders import channel
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


@pytest.fixture
def media(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "media"


def films(
    media: Path, *stored: Channel, auth: str = "none", local: bool = True, deleted: Sequence[Channel] = ()
) -> tuple[VodFiles, Channels]:
    channels = Channels(*stored)
    protection = PlaybackProtection(auth=auth, referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=1000)
    return VodFiles(
        RecordingFiles(LocalObjects(media), media if local else None),
        protection,
        MediaOwners(channels, Channels(*deleted)),
    ), channels


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


@pytest.mark.parametrize("local", [True, False])
async def test_a_films_files_are_served_with_their_types(local: bool, media: Path) -> None:
    served, _ = films(media, local=local)
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
     "films/a%20b/", "films/a%20b", "films", "", "a.m3u8", ".hidden/.hidden.m3u8", "films/a%20b/b.m3u8",
     "films/a%20b/a%20bstream_00002.ts"],
)  # fmt: skip
async def test_nothing_else_of_the_store_is_there(path: str, media: Path) -> None:
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


async def test_a_film_of_a_channels_recording_obeys_the_channel(media: Path) -> None:
    served, channels = films(media, channel("c1", playAuth="sign"))
    path = f"{MOVIE}/{NAME}.m3u8"
    assert (await get(served, path))[0].status == 403
    assert (await get(served, path, f"?sign={SECRETS.sign('c1', FAR, SignatureUse.PLAY)}"))[0].status == 200
    channels.away = True
    assert (await get(served, path))[0].status == 503
    assert (await get(served, "films/a%20b/a%20b.m3u8"))[0].status == 503  # "films" might be one


@pytest.mark.parametrize("path", [f"{MOVIE}/{NAME}.m3u8", "c1/holiday/holiday.m3u8"])
async def test_a_film_of_a_deleted_channel_obeys_what_the_channel_said(path: str, media: Path) -> None:
    deleted = DeletedChannel.of(channel("c1", playAuth="sign"), 1.0, media=False)
    served, _ = films(media, deleted=[deleted.channel])
    assert (await get(served, path))[0].status == 403
    assert (await served.serve_node(request(f"/{path}"), path)).status == 200
    right = f"?sign={SECRETS.sign('c1', FAR, SignatureUse.PLAY)}"
    assert (await get(served, path, right))[0].status == 200
    served, _ = films(media, deleted=[deleted.with_media_deletion().channel])
    assert (await get(served, path))[0].status == 403
    assert (await get(served, path, right))[0].status == 404
    assert (await served.serve_node(request(f"/{path}"), path)).status == 404


async def test_a_film_of_a_recording_whose_channel_nobody_knows_is_not_there(media: Path) -> None:
    served, _ = films(media)
    path = f"{MOVIE}/{NAME}.m3u8"
    assert (await get(served, path))[0].status == 404
    assert (await served.serve_node(request(f"/{path}"), path)).status == 404


async def test_pieces_of_a_segment_can_be_had(media: Path) -> None:
    served, _ = films(media)
    answer, body = await get(served, "films/a%20b/a%20bstream_00001.ts", range="bytes=10-19")
    assert (answer.status, body) == (206, bytes(range(10, 20)))
