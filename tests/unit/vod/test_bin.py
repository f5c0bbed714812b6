"""A deletion can be undone for some hours, also if a process stopped in the middle of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.outputs.recording.on_demand_session import RecordedSegment, playlist
from gateway.outputs.storage.recording_index import RecordingIndex
from gateway.ports import media_keys
from gateway.ports.bin_keys import in_bin
from gateway.ports.errors import NoSuchObject, ObjectArchived, StoreUnavailable
from gateway.vod.bin import Bin, BinEntry

NOW = 1_790_000_000.0
FILES = ["c1/vod-1.m3u8", "c1/720p/1.ts", "c1/720p/2.ts"]


class Folder(LocalObjects):
    """A local store in which the moves after the first `moves` fail. moved: the order of the moves.

    deletions: the number of calls that delete several objects, before they fail. archived: a key that cannot be copied.
    """

    moves = 100
    deletions = 100
    archived = ""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.moved: list[str] = []

    async def move(self, key: str, to: str) -> int:
        if len(self.moved) >= self.moves:
            raise StoreUnavailable("the disk is away")
        if key == self.archived:
            raise ObjectArchived(key)
        size = await super().move(key, to)
        self.moved.append(key)
        return size

    async def delete_many(self, keys: Sequence[str]) -> None:
        if keys and not self.deletions:
            raise StoreUnavailable("the disk is away")
        self.deletions -= 1
        await super().delete_many(keys)

    def add(self, key: str, data: bytes = b"12345") -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    @property
    def keys(self) -> set[str]:
        return {path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file()}

    @property
    def outside(self) -> set[str]:
        return {key for key in self.keys if not in_bin(key)}


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "media")
    for key in (*FILES, "c1/720p/3.ts"):
        folder.add(key)
    return folder


def bin_of(store: Folder, hours: int = 24, now: float = NOW) -> Bin:
    return Bin(store, hours, store.root.parent / "tmp", RecordingIndex(store).files_of, lambda: now)


MS = 1_790_000_000_000


async def session(store: Folder) -> tuple[BinEntry, tuple[str, ...]]:
    """Adds a session with captions. Returns the entry of its deletion, and its files."""
    entry = BinEntry("ondemand", media_keys.playlist_key("c2", MS), NOW)
    segments = [RecordedSegment(MS + n, 4.0, 1, not n, MS / 1000) for n in range(3)]
    store.add(entry.key, playlist(segments).encode())
    store.add(media_keys.multivariant_key(entry.key))
    for segment in segments:
        key = media_keys.segment_key("c2", segment.number)
        store.add(key)
        store.add(media_keys.segment_captions_key(key, "cc1"))
    files = await RecordingIndex(store).files_of(entry.key)
    assert len(files) == 8
    return entry, files


async def test_a_deleted_recording_is_restored_with_its_playlist_last(store: Folder) -> None:
    bin = bin_of(store)
    entry = await bin.put(BinEntry("ondemand", FILES[0], NOW), FILES)
    assert entry is not None and entry.size == 15
    assert store.outside == {"c1/720p/3.ts"}
    assert store.moved == FILES
    assert await bin.entries() == [entry] == [await bin.get(entry.id)]
    store.moved.clear()
    await bin.restore(entry)
    assert store.moved[-1].endswith("vod-1.m3u8")
    assert store.keys == {*FILES, "c1/720p/3.ts"}
    with pytest.raises(NoSuchObject):
        await bin.get(entry.id)


async def test_neither_a_deletion_nor_a_restore_leaves_empty_folders(store: Folder) -> None:
    bin = bin_of(store)
    _, files = await session(store)
    entry = await bin.put(BinEntry("ondemand", media_keys.playlist_key("c2", MS), NOW), files)
    assert entry is not None and not (store.root / "c2").exists()
    await bin.restore(entry)
    assert not [path for path in store.root.rglob("*") if path.is_dir() and not any(path.iterdir())]


async def test_a_deletion_that_stopped_in_the_middle_continues_and_can_be_undone_in_two_steps(store: Folder) -> None:
    bin, first = bin_of(store), BinEntry("film", "c1", NOW, film={"version": 3}, with_it=("upload.mp4",))
    store.add("upload.mp4")
    store.moves = 1
    with pytest.raises(StoreUnavailable):
        await bin.put(first, FILES)
    store.moves = 100
    again = await bin.put(BinEntry("film", "c1", NOW + 60, film={"version": 3}), FILES)
    assert again is not None and (again.id, again.deleted, again.with_it) == (first.id, NOW, ("upload.mp4",))
    assert store.outside == {"c1/720p/3.ts", "upload.mp4"}
    store.moves = len(store.moved) + 2
    with pytest.raises(StoreUnavailable):
        await bin.restore(again)
    store.moves = 100
    await bin.restore(again)
    assert store.keys == {*FILES, "c1/720p/3.ts", "upload.mp4"}


async def test_an_entry_stays_if_its_record_cannot_be_restored(store: Folder) -> None:
    bin = bin_of(store)
    entry = await bin.put(BinEntry("film", "c1", NOW), FILES)
    assert entry is not None

    async def fail() -> None:
        raise StoreUnavailable("the store of records is away")

    with pytest.raises(StoreUnavailable):
        await bin.restore(entry, fail)
    assert await bin.entries() == [entry]


async def test_old_entries_are_deleted_with_what_belongs_to_them(store: Folder) -> None:
    store.add("upload.mp4")
    await bin_of(store).put(BinEntry("film", "c1", NOW, with_it=("upload.mp4",)), FILES)
    newer = await bin_of(store).put(BinEntry("video", "c1/720p/3.ts", NOW + 3600), ["c1/720p/3.ts"])
    later = bin_of(store, now=NOW + 24 * 3600 + 1)
    assert await later.delete_old() == 1
    assert await later.entries() == [newer]
    assert store.outside == set()
    assert len(store.keys) == 2


async def test_without_a_bin_or_with_a_key_that_is_too_long_files_are_deleted_at_once(store: Folder) -> None:
    assert await bin_of(store, hours=0).put(BinEntry("video", FILES[0], NOW), FILES) is None
    assert await bin_of(store, hours=0).put(*await session(store)) is None
    long = "/".join(["c" * 250] * 4)
    store.add(long)
    assert await bin_of(store).put(BinEntry("film", long, NOW), [long]) is None
    assert store.keys == {"c1/720p/3.ts"}


@pytest.mark.parametrize(("kind", "archived"), [("film", FILES[0]), ("film", FILES[2]), ("video", "c1/mp4/a.mp4")])
async def test_archived_files_are_deleted_at_once(store: Folder, kind: str, archived: str) -> None:
    """Its files cannot be copied into the bin until an operator restores them."""
    files = FILES if kind == "film" else [archived]
    store.add(archived)
    store.archived = archived
    assert await bin_of(store).put(BinEntry(kind, files[0], NOW), files) is None
    assert store.keys == {"c1/720p/3.ts"} | ({*FILES} if kind == "video" else set())


async def test_a_session_with_an_archived_segment_is_deleted_at_once(store: Folder) -> None:
    entry, files = await session(store)
    store.archived = files[3]
    others = store.keys - {*files}
    assert await bin_of(store).put(entry, files) is None
    assert store.keys == others


async def test_damaged_and_foreign_entries_are_left_out(store: Folder) -> None:
    store.add("millrace-bin/entries/" + "a" * 24 + ".json", b"{")
    store.add("millrace-bin/entries/" + "b" * 24 + ".json", b'{"kind": 1}')
    store.add("millrace-bin/entries/x.json", b"{}")
    assert await bin_of(store).entries() == []
    for id in ("", "../../c1", "a" * 24):
        with pytest.raises(NoSuchObject):
            await bin_of(store).get(id)


@pytest.mark.parametrize("moves", range(1, 8))
async def test_an_interrupted_deletion_of_a_session_continues_and_can_be_undone(store: Folder, moves: int) -> None:
    entry, files = await session(store)
    before, size = store.keys, sum((store.root / key).stat().st_size for key in files)
    store.moves = moves
    with pytest.raises(StoreUnavailable):
        await bin_of(store).put(entry, files)
    store.moves = 100
    assert await bin_of(store, now=NOW + 60).delete_old() == 0
    assert store.outside.isdisjoint(files)
    (whole,) = await bin_of(store).entries()
    assert (whole.deleted, whole.size) == (NOW, size)
    await bin_of(store).restore(whole)
    assert store.keys == before


async def test_a_motion_clip_whose_deletion_was_interrupted_does_not_leave_its_picture(store: Folder) -> None:
    clip = "c2/motion/mp4/2026/9/21/2026-09-21_14-13-20.mp4"
    picture = clip.replace("mp4/", "images/", 1).replace(".mp4", ".jpeg")
    for key in (clip, picture):
        store.add(key)
    store.moves = 1
    with pytest.raises(StoreUnavailable):
        await bin_of(store).put(BinEntry("motion", clip, NOW), (clip, picture))
    store.moves = 100
    await bin_of(store).delete_old()
    assert store.outside.isdisjoint((clip, picture))


async def test_a_recording_whose_deletion_moved_nothing_stays(store: Folder) -> None:
    entry, files = await session(store)
    store.moves = 0
    with pytest.raises(StoreUnavailable):
        await bin_of(store).put(entry, files)
    store.moves = 100
    await bin_of(store).delete_old()
    assert store.outside.issuperset(files)
    assert await bin_of(store, now=NOW + 24 * 3600 + 1).delete_old() == 1
    assert store.outside.issuperset(files)
    assert await bin_of(store).entries() == []


@pytest.mark.parametrize("deletions", range(3))
async def test_an_interrupted_final_deletion_of_a_session_continues(store: Folder, deletions: int) -> None:
    entry, files = await session(store)
    others, store.deletions = store.keys.difference(files), deletions
    with pytest.raises(StoreUnavailable):
        await bin_of(store).discard(entry, files)
    store.deletions = 100
    assert await bin_of(store).delete_old() == 1
    assert store.keys == others


async def test_an_incomplete_entry_is_deleted_for_good_with_the_files_that_have_not_moved(store: Folder) -> None:
    entry, files = await session(store)
    others, store.moves = store.keys.difference(files), 3
    with pytest.raises(StoreUnavailable):
        await bin_of(store).put(entry, files)
    await bin_of(store).delete(entry)
    assert store.keys == others
