"""The media of deleted channels by the admin API: kept or deleted, listed page by page, deleted later."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.adapters.local.stores import SqliteChannels
from gateway.api.channels import MEDIA_DELETION
from gateway.lib.tasks import Tasks
from gateway.live.sink import EndReason
from gateway.outputs.storage.media_deletion import MediaDeletion
from gateway.ports import media_keys
from gateway.ports.bin_keys import in_bin
from gateway.ports.errors import NoSuchChannel, StoreUnavailable
from gateway.ports.vod_names import is_vod_file
from tests.integration.api.test_recordings_api import MS, add, session
from tests.support.admin import Admin, admin
from tests.support.waiting import until

FILM = "holiday/holiday"


class Folder(LocalObjects):
    """A folder that can be away, or slow to delete."""

    away = False
    gate: asyncio.Event | None = None

    async def check(self) -> None:
        if self.away:
            raise StoreUnavailable("the bucket does not answer", 7)
        await super().check()

    async def delete_many(self, keys: Sequence[str]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        await super().delete_many(keys)

    @property
    def keys(self) -> set[str]:
        # Not rglob: it fails where a folder is removed meanwhile.
        found = (Path(place) / name for place, _, names in os.walk(self.root) for name in names)
        return {key for path in found if not in_bin(key := path.relative_to(self.root).as_posix())}


@asynccontextmanager
async def api_of(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[Admin, Folder]]:
    folder = Folder(tmp_path / "media")
    folder.root.mkdir()
    async with SqliteChannels(tmp_path / "millrace.db") as store, Tasks("test") as tasks:
        deletion = MediaDeletion(folder, store, is_film=is_vod_file, shared=True)
        tasks.start(deletion.run())
        async with admin(tmp_path, store=store, objects=folder, services={MEDIA_DELETION: deletion}, **options) as api:
            yield api, folder


async def recorded(api: Admin, folder: Folder, at: int = MS, **fields: Any) -> tuple[str, str, str]:
    """A channel with a movie and a session: its id and their keys, the newer one first."""
    id = (await api.create(**fields))["id"]
    return id, add(folder.root, media_keys.video_key(id, at), b"movie"), session(folder.root, id, at - 60_000)


def unsigned(media: object) -> str:
    """A list of media without the signs of addresses, which have the second of their request."""
    return re.sub(r"\?sign=[0-9a-f-]+", "", json.dumps(media))


async def test_kept_media_stay_listed_and_protected_after_the_channels_deletion(tmp_path: Path) -> None:
    async with api_of(tmp_path) as (api, folder):
        id, video, index = await recorded(api, folder, playAuth="sign", videoname="Stage")
        before = await api.json("GET", f"/media?channel={id}")
        assert [(m["key"], m["deleted"]) for m in before] == [(video, None), (index, None)]
        assert await api.json("GET", "/media") == []  # the list has only media of deleted channels
        assert await api.json("DELETE", f"/videostream/{id}") == "stream deleted"
        assert (await api.call("GET", f"/videostream/{id}")).status == 404
        found = await api.json("GET", f"/media?channel={id}")
        assert [m["key"] for m in found] == [video, index]
        assert unsigned(found) == unsigned(await api.json("GET", "/media"))
        assert {(m["channel"], m["videoname"]) for m in found} == {(id, "Stage")}
        assert all(m["deleted"] is not None and "?sign=" in m["url"] for m in found)
        assert found[1]["seconds"] == 8.0
        (listed,) = await api.json("GET", "/media/channels")
        assert listed == {"id": id, "videoname": "Stage", "deleted": found[0]["deleted"]}
        assert id in api.forgotten


async def test_media_are_deleted_with_the_channel_on_request(tmp_path: Path) -> None:
    async with api_of(tmp_path) as (api, folder):
        id, *_ = await recorded(api, folder)
        _, *kept = await recorded(api, folder)
        own = add(folder.root, f"{id}/notes.txt")
        evicted: list[EndReason] = []
        await api.push(id, evicted)
        assert await api.json("DELETE", f"/videostream/{id}?media=delete") == "stream deleted"
        assert evicted == [EndReason.DELETED]
        assert {key for key in folder.keys if key.startswith(id)} == {own}
        assert set(kept) < folder.keys
        assert await api.json("GET", f"/media?channel={id}") == []
        assert await api.json("GET", "/media") == await api.json("GET", "/media/channels") == []


@pytest.mark.parametrize("media", ["", "Delete", "all", "keep,delete"])
async def test_an_unknown_value_of_the_media_parameter_deletes_nothing(tmp_path: Path, media: str) -> None:
    async with api_of(tmp_path) as (api, folder):
        id, *_ = await recorded(api, folder)
        reply = await api.json("DELETE", f"/videostream/{id}?media={media}", status=400)
        assert reply["field"] == "media"
        await api.json("GET", f"/videostream/{id}")


async def test_kept_media_are_deleted_later(tmp_path: Path) -> None:
    async with api_of(tmp_path) as (api, folder):
        id, video, index = await recorded(api, folder)
        await api.call("DELETE", f"/videostream/{id}")
        path = f"/media?channel={id}"
        gone = await api.json("DELETE", f"{path}&key={quote(index)}")
        assert gone == {"channel": id, "key": index, "deleted": True}
        assert folder.keys == {video}
        assert [m["key"] for m in await api.json("GET", path)] == [video]
        assert await api.json("DELETE", path) == {"channel": id, "key": None, "deleted": True}
        assert folder.keys == set()
        assert await api.json("GET", path) == await api.json("GET", "/media") == []
        assert await api.json("DELETE", path) == {"channel": id, "key": None, "deleted": True}


async def test_a_long_deletion_continues_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.media.MEDIA_DELETION_TIMEOUT", 0.01)
    async with api_of(tmp_path) as (api, folder):
        id, video, _ = await recorded(api, folder)
        await api.call("DELETE", f"/videostream/{id}")
        folder.gate = asyncio.Event()
        gone = await api.json("DELETE", f"/media?channel={id}", status=202)
        assert gone == {"channel": id, "key": None, "deleted": False}
        assert video in folder.keys
        assert await api.json("GET", f"/media?channel={id}") == []  # media are not listed while they are being deleted
        folder.gate.set()
        await until(lambda: not folder.keys)


async def test_an_unavailable_object_store_gives_503_and_loses_nothing(tmp_path: Path) -> None:
    async with api_of(tmp_path) as (api, folder):
        id, video, _ = await recorded(api, folder, playAuth="sign")
        folder.away = True
        reply = await api.call("DELETE", f"/videostream/{id}?media=delete")
        assert (reply.status, reply.headers["Retry-After"]) == (503, "7")
        await api.json("GET", f"/videostream/{id}")
        await api.json("DELETE", f"/videostream/{id}")
        assert (await api.call("DELETE", f"/media?channel={id}")).status == 503
        assert not (await api.store.get_deleted(id)).deletes_media
        folder.away = False
        assert video in {m["key"] for m in await api.json("GET", "/media")}


async def test_the_media_of_an_existing_channel_cannot_be_deleted_by_this_route(tmp_path: Path) -> None:
    async with api_of(tmp_path) as (api, folder):
        id, video, _ = await recorded(api, folder)
        for path in (f"/media?channel={id}", f"/media?channel={id}&key={quote(video)}"):
            assert (await api.call("DELETE", path)).status == 409
        assert video in folder.keys


@pytest.mark.parametrize(
    ("path", "status"),
    [("/media", 400), ("/media?channel=", 400), ("/media?channel=a/b", 400), ("/media?channel=nobody", 404),
     ("/media?channel=nobody&key=other/vod-1767323045678.m3u8", 400),
     ("/media?channel=nobody&key=nobody/vod-1767323045678.m3u8", 404), ("/media?channel=films", 404)],
)  # fmt: skip
async def test_media_of_unknown_channels_and_keys_are_not_deleted(tmp_path: Path, path: str, status: int) -> None:
    async with api_of(tmp_path) as (api, folder):
        kept = add(folder.root, f"films/{FILM}.m3u8"), add(folder.root, "other/vod-1767323045678.m3u8")
        assert (await api.call("DELETE", path)).status == status
        assert folder.keys == set(kept)


async def test_media_of_an_unknown_channel_can_be_found_and_deleted(tmp_path: Path) -> None:
    """Another program deleted the channel, so its media are not served, but they use space."""
    async with api_of(tmp_path) as (api, folder):
        video = add(folder.root, media_keys.video_key("lost", MS))
        (found,) = await api.json("GET", "/media?channel=lost")
        assert (found["key"], found["url"], found["deleted"]) == (video, None, None)
        stem = video.removesuffix(".mp4")
        add(folder.root, f"{stem}/{stem.rpartition('/')[2]}.m3u8")
        (film,) = await api.json("GET", "/media?channel=lost&kind=film")
        assert film["url"] is None
        assert await api.json("GET", "/media") == []
        await api.json("DELETE", "/media?channel=lost")
        assert folder.keys == set()


async def test_pages_continue_through_all_media_of_all_channels(tmp_path: Path) -> None:
    now = 1_790_000_000.0

    def clock() -> float:
        nonlocal now
        now += 10
        return now

    async with api_of(tmp_path, clock=clock) as (api, folder):
        wanted: list[str] = []
        for n in range(3):
            id, video, index = await recorded(api, folder, MS + n * 1_000_000)
            older = [add(folder.root, media_keys.video_key(id, MS - 1_000_000 * k)) for k in (1, 2)]
            await api.store.delete(id, now + n)
            wanted = [video, index, *older, *wanted]  # the last deleted one first
        empty = (await api.create())["id"]
        await api.call("DELETE", f"/videostream/{empty}")
        assert [m["key"] for m in await api.json("GET", "/media")] == wanted
        for size in (1, 3, 4, 5):
            found, before = [], ""
            while page := await api.json(
                "GET", f"/media?limit={size}&before={quote(before)}" if before else f"/media?limit={size}"
            ):
                assert len(page) <= size
                found += [m["key"] for m in page]
                before = found[-1]
            assert found == wanted


async def test_a_film_with_an_old_style_name_is_listed(tmp_path: Path) -> None:
    async with api_of(tmp_path) as (api, folder):
        id, *_ = await recorded(api, folder)
        film = add(folder.root, f"{id}/my film/my film.m3u8")
        poster = add(folder.root, f"{id}/my film/my film.0000000.jpg")
        await api.call("DELETE", f"/videostream/{id}")
        (found,) = await api.json("GET", f"/media?channel={id}&kind=film")
        assert found["key"] == film and found["poster"].endswith(quote(poster))
        assert await api.json("GET", f"/media?channel={id}&kind=film&before={quote(film)}") == []


async def test_films_of_a_channel_are_listed_on_request_and_deleted_too(tmp_path: Path) -> None:
    async with api_of(tmp_path) as (api, folder):
        id, *_ = await recorded(api, folder, playAuth="sign")
        film = add(folder.root, f"{id}/{FILM}.m3u8")
        poster = add(folder.root, f"{id}/{FILM}.0000000.jpg")
        add(folder.root, f"{id}/{FILM}stream_00001.ts")
        add(folder.root, f"{id}/second/second.m3u8")
        await api.call("DELETE", f"/videostream/{id}")
        assert [m["kind"] for m in await api.json("GET", f"/media?channel={id}")] == ["video", "ondemand"]
        films = await api.json("GET", f"/media?channel={id}&kind=film")
        assert [m["key"] for m in films] == [f"{id}/second/second.m3u8", film]
        sign = films[1]["url"].partition("?")[2]
        assert films[1]["url"].endswith(f":8080/vod/{film}?{sign}") and sign.startswith("sign=")
        assert films[1]["poster"].endswith(f":8080/vod/{poster}?{sign}")
        assert films[0]["poster"] is None
        rest = await api.json("GET", f"/media?channel={id}&kind=film,video&before={quote(films[0]['key'])}")
        assert [m["kind"] for m in rest] == ["video", "film"]
        await api.json("DELETE", f"/media?channel={id}")
        assert folder.keys == set()


@pytest.mark.parametrize(
    "query",
    ["limit=0", "kind=segment", "channel=a/b", "channel=", "before=x", "before=lost/vod-1767323045678.m3u8",
     "channel=c1&before=c2/vod-1767323045678.m3u8", "before=lost/a/a.m3u8", "kind=films"],
)  # fmt: skip
async def test_an_invalid_page_query_is_refused(tmp_path: Path, query: str) -> None:
    async with api_of(tmp_path) as (api, _):
        reply = await api.json("GET", f"/media?{query}", status=400)
        assert reply["field"] in ("limit", "before", "kind", "channel")


async def test_a_channel_that_is_created_again_determines_the_protection_of_its_media(tmp_path: Path) -> None:
    async with api_of(tmp_path) as (api, folder):
        id, *_ = await recorded(api, folder, playAuth="sign")
        item = (await api.store.get(id)).item
        await api.call("DELETE", f"/videostream/{id}")
        await api.store.add({**item, "playAuth": "none"})
        assert await api.json("GET", "/media") == await api.json("GET", "/media/channels") == []
        assert "?sign=" not in (await api.json("GET", f"/media?channel={id}"))[0]["url"]
        await api.call("DELETE", f"/videostream/{id}")
        assert (await api.store.get_deleted(id)).channel.play_auth == "none"
        with pytest.raises(NoSuchChannel):
            await api.store.get(id)


async def test_media_need_a_token(tmp_path: Path) -> None:
    async with api_of(tmp_path) as (api, _):
        for method, path in (("GET", "/media"), ("GET", "/media/channels"), ("DELETE", "/media?channel=c1")):
            assert (await api.call(method, path, token=None)).status == 401
