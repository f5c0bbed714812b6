"""The contract of all object stores."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.ports.errors import NoSuchObject, TooLarge
from gateway.ports.stores import ObjectStore

KEY = "c1/mp4/2026/1/2/capture-2026-01-02_03-04-05-1767323045000.mp4"


async def put(store: ObjectStore, folder: Path, key: str, data: bytes) -> None:
    file = folder / "finished"
    file.write_bytes(data)
    await store.put(key, file)
    assert not file.exists()


async def read(store: ObjectStore, key: str, first: int = 0, end: int | None = None) -> bytes:
    pieces = [piece async for piece in store.read(key, first, end)]
    assert all(0 < len(piece) <= 256 * 1024 for piece in pieces)
    return b"".join(pieces)


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return sorted([found.key async for found in store.list(prefix)])


async def test_a_stored_object_can_be_read_and_described(objects, tmp_path):
    data = bytes(range(256)) * 3000
    before = time.time()
    await put(objects, tmp_path, KEY, data)
    found = await objects.head(KEY)
    assert (found.key, found.size) == (KEY, len(data))
    assert before - 2 <= found.modified <= time.time() + 2
    assert await read(objects, KEY) == data


async def test_a_second_object_of_a_key_replaces_the_first(objects, tmp_path):
    await put(objects, tmp_path, "c1/vod-1767323045000.m3u8", b"one")
    await put(objects, tmp_path, "c1/vod-1767323045000.m3u8", b"another")
    assert await read(objects, "c1/vod-1767323045000.m3u8") == b"another"
    assert len(await keys(objects)) == 1


@pytest.mark.parametrize(
    ("first", "end"),
    [(0, 1), (0, 10), (3, 7), (9, 10), (5, None), (0, 99), (10, None), (12, 20), (4, 4), (262100, None)],
)
async def test_a_range_is_read(objects, tmp_path, first, end):
    data = b"0123456789" if first < 100 else bytes(300_000)
    await put(objects, tmp_path, "a/b.ts", data)
    assert await read(objects, "a/b.ts", first, end) == data[first:end]


async def test_an_empty_object_can_be_stored(objects, tmp_path):
    await put(objects, tmp_path, "a/empty.txt", b"")
    assert (await objects.head("a/empty.txt")).size == 0
    assert await read(objects, "a/empty.txt") == b""


@pytest.mark.parametrize("key", ["nothing", "c1/none.mp4", "c1", "c1/mp4"])
async def test_a_missing_key_raises_no_such_object(objects, tmp_path, key):
    await put(objects, tmp_path, "c1/mp4/x.mp4", b"x")
    with pytest.raises(NoSuchObject):
        await objects.head(key)
    with pytest.raises(NoSuchObject):
        await read(objects, key)
    with pytest.raises(NoSuchObject):
        await objects.fetch(key, tmp_path / "to")
    await objects.delete(key)
    assert await keys(objects) == ["c1/mp4/x.mp4"]


async def test_a_list_contains_the_keys_with_its_prefix(objects, tmp_path):
    for key in ("c1/a.ts", "c1/b/c.ts", "c10/a.ts", "c2/a.ts", "c1.txt"):
        await put(objects, tmp_path, key, b"x")
    assert await keys(objects) == ["c1.txt", "c1/a.ts", "c1/b/c.ts", "c10/a.ts", "c2/a.ts"]
    assert await keys(objects, "c1/") == ["c1/a.ts", "c1/b/c.ts"]
    assert await keys(objects, "c1") == ["c1.txt", "c1/a.ts", "c1/b/c.ts", "c10/a.ts"]
    assert await keys(objects, "c1/b") == ["c1/b/c.ts"]
    assert await keys(objects, "c3/") == []
    assert [(o.size, o.modified > 1e9) async for o in objects.list("c2/")] == [(1, True)]


async def test_a_long_list_is_complete(objects, tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.adapters.aws.objects.PAGE", 10)
    for n in range(25):
        await put(objects, tmp_path, f"c1/720p/{n}.ts", b"x")
    assert len(await keys(objects, "c1/720p/")) == 25


async def test_deleting_an_object_keeps_its_siblings(objects, tmp_path):
    await put(objects, tmp_path, "c1/a/1.ts", b"x")
    await put(objects, tmp_path, "c1/a/2.ts", b"x")
    await objects.delete("c1/a/1.ts")
    await objects.delete("c1/a/1.ts")
    assert await keys(objects) == ["c1/a/2.ts"]
    with pytest.raises(NoSuchObject):
        await objects.head("c1/a/1.ts")


async def test_deleting_many_objects_keeps_their_siblings(objects, tmp_path):
    wanted = [f"c1/720p/{n}.ts" for n in range(250)]
    for key in ("c1/vod-1.m3u8", *wanted):
        await put(objects, tmp_path, key, b"x")
    await objects.delete_many([*wanted, "c1/none.ts", "c2"])
    await objects.delete_many([])
    assert await keys(objects) == ["c1/vod-1.m3u8"]


async def test_an_object_is_fetched_into_a_file_but_not_one_that_is_too_large(objects, tmp_path):
    await put(objects, tmp_path, "a/b.mp4", b"x" * 1000)
    await objects.fetch("a/b.mp4", tmp_path / "to", 1000)
    assert (tmp_path / "to").read_bytes() == b"x" * 1000
    with pytest.raises(TooLarge, match="1000 bytes, 999 are allowed"):
        await objects.fetch("a/b.mp4", tmp_path / "to", 999)


async def test_keys_may_contain_characters_of_every_alphabet(objects, tmp_path):
    key = "uploads/Ein Film – 电影 (1) +&%.mp4"
    await put(objects, tmp_path, key, b"film")
    assert await keys(objects, "uploads/") == [key]
    assert await read(objects, key) == b"film"


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "a\\b", "a\0b", "x" * 2000])
async def test_an_invalid_key_is_refused(objects, tmp_path, key):
    file = tmp_path / "finished"
    file.write_bytes(b"x")
    with pytest.raises(ValueError, match="not a valid object key"):
        await objects.put(key, file)
    assert file.exists()
    assert await keys(objects) == []


async def test_several_readers_and_an_aborted_reader_do_not_interfere(objects, tmp_path):
    data = bytes(2_000_000)
    await put(objects, tmp_path, "a/b.ts", data)

    async def glance() -> None:
        stream = objects.read("a/b.ts")
        await anext(stream)
        await stream.aclose()

    got = await asyncio.gather(read(objects, "a/b.ts"), glance(), read(objects, "a/b.ts", 1_000_000))
    assert (got[0], got[2]) == (data, data[1_000_000:])


async def test_the_check_of_a_reachable_store_succeeds(objects):
    await objects.check()


async def test_a_moved_object_has_its_bytes_under_the_new_key_only(objects, tmp_path):
    await put(objects, tmp_path, "c1/vod-1767323045000.m3u8", b"list")
    await put(objects, tmp_path, "c2/other.ts", b"another")
    await objects.move("c1/vod-1767323045000.m3u8", "c2/moved.m3u8")
    await objects.move("c2/moved.m3u8", "c2/other.ts")
    assert await keys(objects) == ["c2/other.ts"]
    assert await read(objects, "c2/other.ts") == b"list"
    with pytest.raises(NoSuchObject):
        await objects.move("c2/moved.m3u8", "c2/again.m3u8")
    assert await keys(objects) == ["c2/other.ts"]
