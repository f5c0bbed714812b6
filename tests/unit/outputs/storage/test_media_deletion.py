"""Media are deleted with their channel: all of them, nothing else, also files that are finished later."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.adapters.local.objects import LocalObjects
from gateway.adapters.local.stores import SqliteChannels
from gateway.channels.deleted_channel import DeletedChannel
from gateway.lib.tasks import Tasks
from gateway.outputs.storage import media_deletion
from gateway.outputs.storage.media_deletion import MediaDeletion
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchChannel, StoreUnavailable
from gateway.ports.vod_names import is_vod_file
from tests.support.waiting import until

NOW = 1_790_000_000.0
DAY = 86_400.0
MS = round((NOW - DAY) * 1000)
MEDIA = {
    media_keys.video_key("c1", MS),
    media_keys.playlist_key("c1", MS),
    media_keys.segment_key("c1", MS),
    media_keys.segment_key("c1", MS + 1),
    media_keys.multivariant_key(media_keys.playlist_key("c1", MS)),
    media_keys.session_record_key(media_keys.playlist_key("c1", MS)),
    media_keys.segment_captions_key(media_keys.segment_key("c1", MS), "text-en"),
    "c1/images/2026/1/2/capture-2026-01-02_03-04-05.jpg",
    "c1/motion/images/2026/1/2/2026-01-02_03-04-05-000_0-50_.jpeg",
    "c1/motion/mp4/2026/1/2/2026-01-02_03-04-05-000_0-50_.mp4",
    "c1/holiday/holiday.m3u8",
    "c1/holiday/holidaystream_00001.ts",
    "c1/holiday/thumbnail.0000000.jpg",
}
OTHERS = {
    media_keys.video_key("c10", MS),
    "c1/holiday.mp4",
    "c1/2026.csv",
    "c1/c1.m3u8",
    "films/c1/c1.m3u8",
}


class Folder(LocalObjects):
    """A local store that can be unavailable."""

    away = False
    deletions = 0

    async def check(self) -> None:
        self._look()

    async def delete_many(self, keys: Sequence[str]) -> None:
        self._look()
        self.deletions += 1
        await super().delete_many(keys)

    def _look(self) -> None:
        if self.away:
            raise StoreUnavailable("the bucket does not answer")

    def add(self, *keys: str) -> None:
        for key in keys:
            file = self.root / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
            os.utime(file, (NOW - DAY, NOW - DAY))

    @property
    def keys(self) -> set[str]:
        # Not rglob: it fails where a folder is removed meanwhile.
        found = (Path(place) / name for place, _, names in os.walk(self.root) for name in names)
        return {path.relative_to(self.root).as_posix() for path in found}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_deletion, "PAUSES", (0.0, 0.0))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    found = Folder(tmp_path / "media")
    found.add(*MEDIA, *OTHERS)
    return found


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteChannels]:
    async with SqliteChannels(tmp_path / "millrace.db") as opened:
        await opened.add({"id": "c1", "playAuth": "sign"})
        yield opened


def deletion(folder: Folder, store: SqliteChannels, now: float = NOW, shared: bool = True) -> MediaDeletion:
    return MediaDeletion(folder, store, is_film=is_vod_file, shared=shared, clock=lambda: now)


@asynccontextmanager
async def at_work(one: MediaDeletion) -> AsyncIterator[MediaDeletion]:
    async with Tasks("test") as tasks:
        tasks.start(one.run())
        await asyncio.sleep(0)
        yield one


async def test_all_recordings_of_a_deleted_channel_are_deleted_and_nothing_else(
    folder: Folder, store: SqliteChannels
) -> None:
    deleted = await store.delete("c1", NOW, media=True)
    assert await deletion(folder, store).delete_once(deleted) == len(MEDIA)
    assert folder.keys == OTHERS
    assert await deletion(folder, store).delete_once(deleted) == 0


async def test_many_are_deleted_in_pages(folder: Folder, store: SqliteChannels) -> None:
    folder.add(*(media_keys.segment_key("c1", MS + n) for n in range(2_500)))
    deleted = await store.delete("c1", NOW, media=True)
    assert await deletion(folder, store).delete_once(deleted) > 2_500
    assert folder.keys == OTHERS
    assert folder.deletions == 3


@pytest.mark.parametrize("again", [False, True], ids=["same-record", "deleted-again"])
async def test_a_later_deletion_of_the_same_channel_has_passes_of_its_own(
    again: bool, folder: Folder, store: SqliteChannels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_deletion, "PAUSES", (3600.0,))
    async with at_work(deletion(folder, store)) as one:
        deleted = await store.delete("c1", NOW, media=True)
        assert one.begin(deleted)
        assert await one.wait_for_pass("c1", 10)
        folder.add(*MEDIA)
        if again:
            await store.add({"id": "c1"})
            deleted = await store.delete("c1", NOW + 60, media=True)
        assert one.begin(deleted)
        assert await one.wait_for_pass("c1", 10)
        assert folder.keys == OTHERS


async def test_media_are_deleted_in_the_background_and_callers_can_wait(folder: Folder, store: SqliteChannels) -> None:
    async with at_work(deletion(folder, store)) as one:
        deleted = await store.delete("c1", NOW, media=True)
        assert one.begin(deleted)
        assert await one.wait_for_pass("c1", 10)
        assert folder.keys == OTHERS


async def test_the_deletion_waits_for_an_unavailable_store(folder: Folder, store: SqliteChannels) -> None:
    folder.away = True
    async with at_work(deletion(folder, store)) as one:
        with pytest.raises(StoreUnavailable):
            await one.check()
        deleted = await store.delete("c1", NOW, media=True)
        assert one.begin(deleted)
        assert not await one.wait_for_pass("c1", 0.01)
        assert folder.keys == MEDIA | OTHERS
        folder.away = False
        assert await one.wait_for_pass("c1", 10)
        assert folder.keys == OTHERS


async def test_recordings_that_are_finished_after_the_deletion_are_deleted_too(
    folder: Folder, store: SqliteChannels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_deletion, "PAUSES", (0.0,) * 10_000)
    async with at_work(deletion(folder, store)) as one:
        one.begin(await store.delete("c1", NOW, media=True))
        assert await one.wait_for_pass("c1", 10)
        folder.add(media_keys.video_key("c1", MS + 60_000))
        await until(lambda: folder.keys == OTHERS)


async def test_a_requested_deletion_continues_after_a_restart(folder: Folder, store: SqliteChannels) -> None:
    await store.delete("c1", NOW, media=True)
    async with at_work(deletion(folder, store)):
        await until(lambda: folder.keys == OTHERS)


async def test_media_of_a_channel_deleted_without_them_stay(folder: Folder, store: SqliteChannels) -> None:
    await store.delete("c1", NOW - 30 * DAY)
    await deletion(folder, store).run_round()
    assert folder.keys == MEDIA | OTHERS
    assert (await store.get_deleted("c1")).channel.play_auth == "sign"


async def test_a_new_channel_with_the_same_id_keeps_its_recordings(folder: Folder, store: SqliteChannels) -> None:
    deleted = await store.delete("c1", NOW, media=True)
    await store.add({"id": "c1"})
    own = media_keys.video_key("c1", round((NOW + 60) * 1000))
    folder.add(own)
    await deletion(folder, store).delete_once(deleted)
    assert folder.keys == OTHERS | {own}


async def test_kept_recordings_of_a_later_channel_with_the_same_id_stay(folder: Folder, store: SqliteChannels) -> None:
    deleted = await store.delete("c1", NOW, media=True)
    await store.add({"id": "c1"})
    own = media_keys.video_key("c1", round((NOW + 60) * 1000))
    folder.add(own)
    await store.delete("c1", NOW + 120, media=False)
    await deletion(folder, store).delete_once(deleted)
    assert folder.keys == OTHERS | {own}


@pytest.mark.parametrize("media", [True, False])
async def test_a_deleted_channel_without_media_is_forgotten_after_a_week(
    media: bool, folder: Folder, store: SqliteChannels
) -> None:
    await store.add({"id": "c2"})
    await store.delete("c2", NOW, media=media)
    await deletion(folder, store, NOW + 6 * DAY).run_round()
    assert (await store.get_deleted("c2")).deletes_media is media
    await deletion(folder, store, NOW + 8 * DAY, shared=False).run_round()
    assert (await store.get_deleted("c2")).deletes_media is media
    await deletion(folder, store, NOW + 8 * DAY).run_round()
    with pytest.raises(NoSuchChannel):
        await store.get_deleted("c2")


async def test_a_channel_in_the_bin_is_not_forgotten_after_a_week(folder: Folder, store: SqliteChannels) -> None:
    await store.add({"id": "c2"})
    await store.delete("c2", NOW, restorable=True)
    await deletion(folder, store, NOW + 8 * DAY).run_round()
    assert (await store.get_deleted("c2")).restorable is not None


async def test_late_files_are_deleted_before_the_channel_is_forgotten(folder: Folder, store: SqliteChannels) -> None:
    await store.delete("c1", NOW, media=True)
    late = deletion(folder, store, NOW + 8 * DAY)
    await late.run_round()
    assert folder.keys == OTHERS
    assert (await store.get_deleted("c1")).deletes_media
    (folder.root / "c1/2026.csv").unlink()
    await late.run_round()
    with pytest.raises(NoSuchChannel):
        await store.get_deleted("c1")


async def test_every_deleted_channel_without_media_is_checked_in_turn(
    folder: Folder, store: SqliteChannels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.outputs.storage.media_deletion._MAX_CHECKED", 2)
    for n in range(5):
        folder.add(media_keys.video_key(f"full{n}", MS))
        await store.put_deleted(DeletedChannel({"id": f"full{n}", "deletedAt": NOW, "media": "keep"}))
    await store.put_deleted(DeletedChannel({"id": "full9", "deletedAt": NOW, "media": "keep"}))
    one = deletion(folder, store, NOW + 8 * DAY)
    for _ in range(3):
        assert "full9" in {d.id for d in await store.list_deleted()}
        await one.run_round()
    assert {d.id for d in await store.list_deleted()} == {f"full{n}" for n in range(5)}


async def test_the_deletion_reports_whether_a_channel_has_media(folder: Folder, store: SqliteChannels) -> None:
    one = deletion(folder, store)
    assert [await one.has_media(id) for id in ("c1", "c10", "films", "nobody")] == [True, True, True, False]
    assert [await one.has_media(id, films=False) for id in ("c1", "c10", "films")] == [True, True, False]


@pytest.mark.parametrize("item", [{"id": "c"}, {"id": "c", "media": "Keep"}, {"id": "c", "media": None}])
def test_an_unreadable_record_counts_as_without_media(item: dict[str, object]) -> None:
    assert DeletedChannel(item).deletes_media
    assert DeletedChannel(item).deleted_at == 0
