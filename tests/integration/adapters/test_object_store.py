"""What every ObjectStore promises."""

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


async def test_what_is_put_is_read_and_described(objects, tmp_path):
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


async def test_an_empty_object_is_one(objects, tmp_path):
    await put(objects, tmp_path, "a/empty.txt", b"")
    assert (await objects.head("a/empty.txt")).size == 0
    assert await read(objects, "a/empty.txt") == b""


@pytest.mark.parametrize("key", ["nothing", "c1/none.mp4", "c1", "c1/mp4"])
async def test_what_is_not_there_is_no_object(objects, tmp_path, key):
    await put(objects, tmp_path, "c1/mp4/x.mp4", b"x")
    with pytest.raises(NoSuchObject):
        await objects.head(key)
    with pytest.raises(NoSuchObject):
        await read(objects, key)
    with pytest.raises(NoSuchObject):
        await objects.fetch(key, tmp_path / "to")
    await objects.delete(key)
    assert await keys(objects) == ["c1/mp4/x.mp4"]


async def test_a_list_has_what_begins_with_its_prefix(objects, tmp_path):
    for key in ("c1/a.ts", "c1/b/c.ts", "c10/a.ts", "c2/a.ts", "c1.txt"):
        await put(objects, tmp_path, key, b"x")
    assert await keys(objects) == ["c1.txt", "c1/a.ts", "c1/b/c.ts", "c10/a.ts", "c2/a.ts"]
    assert await keys(objects, "c1/") == ["c1/a.ts", "c1/b/c.ts"]
    assert await keys(objects, "c1") == ["c1.txt", "c1/a.ts", "c1/b/c.ts", "c10/a.ts"]
    assert await keys(objects, "c1/b") == ["c1/b/c.ts"]
    assert await keys(objects, "c3/") == []
    assert [(o.size, o.modified > 1e9) async for o in objects.list("c2/")] == [(1, True)]


async def test_a_long_list_is_whole(objects, tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.adapters.aws.objects.PAGE", 10)
    for n in range(25):
        await put(objects, tmp_path, f"c1/720p/{n}.ts", b"x")
    assert len(await keys(objects, "c1/720p/")) == 25


async def test_what_is_deleted_is_gone_and_its_siblings_stay(objects, tmp_path):
    await put(objects, tmp_path, "c1/a/1.ts", b"x")
    await put(objects, tmp_path, "c1/a/2.ts", b"x")
    await objects.delete("c1/a/1.ts")
    await objects.delete("c1/a/1.ts")
    assert await keys(objects) == ["c1/a/2.ts"]
    with pytest.raises(NoSuchObject):
        await objects.head("c1/a/1.ts")


async def test_many_are_deleted_at_once_and_their_siblings_stay(objects, tmp_path):
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


async def test_names_in_every_alphabet_are_keys(objects, tmp_path):
    key = "uploads/Ein Film – 电影 (1) +&%.mp4"
    await put(objects, tmp_path, key, b"film")
    assert await keys(objects, "uploads/") == [key]
    assert await read(objects, key) == b"film"


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "a\\b", "a\0b", "x" * 2000])
async def test_what_is_no_key_is_put_nowhere(objects, tmp_path, key):
    file = tmp_path / "finished"
    file.write_bytes(b"x")
    with pytest.raises(ValueError, match="not a valid object key"):
        await objects.put(key, file)
    assert file.exists()
    assert await keys(objects) == []


async def test_two_readers_and_a_reader_that_goes_are_fine(objects, tmp_path):
    data = bytes(2_000_000)
    await put(objects, tmp_path, "a/b.ts", data)

    async def glance() -> None:
        stream = objects.read("a/b.ts")
        await anext(stream)
        await stream.aclose()

    got = await asyncio.gather(read(objects, "a/b.ts"), glance(), read(objects, "a/b.ts", 1_000_000))
    assert (got[0], got[2]) == (data, data[1_000_000:])


async def test_a_store_that_is_there_says_so(objects):
    await objects.check()
