"""The recordings of a channel by the admin API."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.outputs.motion.motion_output import Trigger
from gateway.outputs.recording.on_demand_session import RecordedSegment, playlist
from gateway.ports import media_keys
from tests.support.admin import admin

MS = 1_767_323_045_678


def add(folder: Path, key: str, data: bytes = b"x") -> str:
    file = folder / key
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    os.utime(file, (MS / 1000, MS / 1000))
    return key


def session(folder: Path, id: str, start: int) -> str:
    for n in range(2):
        add(folder, media_keys.segment_key(id, start + n))
    entries = [RecordedSegment(start + n, 4.0, 1, not n, start / 1000) for n in range(2)]
    return add(folder, media_keys.playlist_key(id, start), playlist(entries).encode())


async def test_recordings_are_listed_with_their_addresses_and_deleted(tmp_path: Path) -> None:
    media = tmp_path / "media"
    async with admin(tmp_path, objects=LocalObjects(media)) as api:
        id = (await api.create())["id"]
        video, index = add(media, media_keys.video_key(id, MS), b"movie"), session(media, id, MS - 60_000)
        found = await api.json("GET", f"/videostream/{id}/recordings")
        assert [(r["key"], r["kind"], r["seconds"], r["size"]) for r in found] == [
            (video, "video", None, 5),
            (index, "ondemand", 8.0, (media / index).stat().st_size),
        ]
        assert found[0]["start"] == "2026-01-02T03:04:05.678Z"
        assert found[0]["url"].endswith(f":8080/{id}/vod/{video.removeprefix(id + '/')}")
        page = await api.json("GET", f"/videostream/{id}/recordings?limit=1&before={video}")
        assert [r["key"] for r in page] == [index]
        for moment, older in (("2026-01-02T03:04:05.678Z", [index]), ("2026-01-02T03:04:06Z", [video, index])):
            page = await api.json("GET", f"/videostream/{id}/recordings?before={moment}")
            assert [r["key"] for r in page] == older
        gone = await api.json("DELETE", f"/videostream/{id}/recordings/{index.removeprefix(id + '/')}")
        assert gone == {"key": index, "deleted": True}
        assert [r["key"] for r in await api.json("GET", f"/videostream/{id}/recordings")] == [video]
        assert [p.name for p in (media / id).rglob("*") if p.is_file()] == [Path(video).name]


async def test_addresses_of_a_protected_channel_carry_a_play_sign(tmp_path: Path) -> None:
    media = tmp_path / "media"
    async with admin(tmp_path, objects=LocalObjects(media)) as api:
        id = (await api.create(playAuth="sign"))["id"]
        add(media, media_keys.video_key(id, MS))
        assert "?sign=" in (await api.json("GET", f"/videostream/{id}/recordings"))[0]["url"]


async def test_pictures_are_listed_on_request(tmp_path: Path) -> None:
    media = tmp_path / "media"
    async with admin(tmp_path, objects=LocalObjects(media)) as api:
        id = (await api.create())["id"]
        image = add(media, media_keys.image_key(id, datetime.fromtimestamp(MS / 1000, UTC)), b"jpeg")
        video, index = add(media, media_keys.video_key(id, MS)), session(media, id, MS - 60_000)
        assert [r["key"] for r in await api.json("GET", f"/videostream/{id}/recordings")] == [video, index]
        (found,) = await api.json("GET", f"/videostream/{id}/recordings?kind=image")
        assert (found["key"], found["kind"], found["seconds"], found["poster"]) == (image, "image", None, None)
        both = await api.json("GET", f"/videostream/{id}/recordings?kind=image,ondemand")
        assert [r["key"] for r in both] == [image, index]
        await api.json("DELETE", f"/videostream/{id}/recordings/{image.removeprefix(id + '/')}")
        assert not (media / image).exists()


async def test_a_motion_clip_is_listed_and_deleted_with_its_picture(tmp_path: Path) -> None:
    media = tmp_path / "media"
    async with admin(tmp_path, objects=LocalObjects(media)) as api:
        id = (await api.create())["id"]
        trigger = Trigger(MS / 1000, 3, 40)
        clip, picture = (
            add(media, trigger.key(id, folder, suffix)) for folder, suffix in (("mp4", ".mp4"), ("images", ".jpeg"))
        )
        bare = add(media, Trigger(MS / 1000 - 60, 3, 40).key(id, "mp4", ".mp4"))
        found = await api.json("GET", f"/videostream/{id}/recordings?kind=motion")
        assert [r["key"] for r in found] == [clip, bare]
        assert found[0]["poster"].endswith(f":8080/{id}/vod/{picture.removeprefix(id + '/')}")
        assert found[1]["poster"] is None
        await api.json("DELETE", f"/videostream/{id}/recordings/{clip.removeprefix(id + '/')}")
        assert not (media / clip).exists() and not (media / picture).exists()


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=many", "limit=501", "before=other/vod-1767323045678.m3u8", "kind=segment", "kind=video,"],
)
async def test_an_invalid_page_query_is_refused(tmp_path: Path, query: str) -> None:
    async with admin(tmp_path, objects=LocalObjects(tmp_path / "media")) as api:
        id = (await api.create())["id"]
        reply: Any = await api.json("GET", f"/videostream/{id}/recordings?{query}", status=400)
        assert reply["field"] in ("limit", "before", "kind")


@pytest.mark.parametrize(
    "path", ["none.mp4", "vod-1767323045678.m3u8", "720p/1767323045678.ts", "..%2Fother%2Fvod-1767323045678.m3u8"]
)
async def test_a_path_that_is_not_a_recording_is_not_deleted(tmp_path: Path, path: str) -> None:
    media = tmp_path / "media"
    async with admin(tmp_path, objects=LocalObjects(media)) as api:
        id = (await api.create())["id"]
        kept = add(media, "other/vod-1767323045678.m3u8"), add(media, media_keys.segment_key(id, MS))
        assert (await api.call("DELETE", f"/videostream/{id}/recordings/{path}")).status == 404
        assert all((media / key).exists() for key in kept)


async def test_an_unknown_channel_and_a_node_without_a_store_have_no_recordings(tmp_path: Path) -> None:
    async with admin(tmp_path) as api:
        id = (await api.create())["id"]
        assert (await api.call("GET", "/videostream/nobody/recordings")).status == 404
        assert await api.json("GET", f"/videostream/{id}/recordings") == []
        assert (await api.call("DELETE", f"/videostream/{id}/recordings/vod-1767323045678.m3u8")).status == 404
        assert (await api.call("GET", f"/videostream/{id}/recordings", token=None)).status == 401


async def test_a_deleted_recording_is_restored_from_the_bin(tmp_path: Path) -> None:
    media = tmp_path / "media"
    async with admin(tmp_path, objects=LocalObjects(media)) as api:
        id = (await api.create())["id"]
        video, index = add(media, media_keys.video_key(id, MS), b"movie"), session(media, id, MS - 60_000)
        path = f"/videostream/{id}/recordings"
        before = await api.json("GET", path)
        for key in (video, index):
            await api.json("DELETE", f"{path}/{key.removeprefix(id + '/')}")
        listed = await api.json("GET", "/bin")
        assert {(one["kind"], one["key"], one["channel"], one["title"]) for one in listed} == {
            ("video", video, id, None),
            ("ondemand", index, id, None),
        }
        assert all(one["until"] > one["deleted"] > one["start"] for one in listed)
        for one in listed:
            assert await api.json("POST", f"/bin/{one['id']}/restore") == {"id": one["id"], "key": one["key"]}
        assert await api.json("GET", path) == before
        gone = await api.json("POST", f"/bin/{listed[0]['id']}/restore", status=404)
        assert gone["error"] == "it is not in the bin: it was restored, or deleted for good"


async def test_the_bin_is_emptied_and_a_final_deletion_passes_it_by(tmp_path: Path) -> None:
    media = tmp_path / "media"
    async with admin(tmp_path, objects=LocalObjects(media)) as api:
        id = (await api.create())["id"]
        first, second, third = (add(media, media_keys.video_key(id, MS + n), b"movie") for n in range(3))
        path = f"/videostream/{id}/recordings"
        await api.json("DELETE", f"{path}/{first.removeprefix(id + '/')}?final=true")
        assert await api.json("GET", "/bin") == []
        await api.json("DELETE", f"{path}/{second.removeprefix(id + '/')}")
        await api.json("DELETE", f"{path}/{third.removeprefix(id + '/')}")
        newest, older = await api.json("GET", "/bin")
        assert (await api.json("DELETE", f"/bin/{newest['id']}"))["key"] == newest["key"]
        assert await api.json("DELETE", "/bin") == [{"id": older["id"], "key": older["key"]}]
        assert [p for p in media.rglob("*") if p.is_file()] == []
        assert (await api.json("DELETE", f"{path}/x.mp4?final=maybe", status=400))["field"] == "final"
