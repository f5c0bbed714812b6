"""Finished files are stored at once in a local store, or through a spool in a remote store."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.outputs.storage import archive as archiving
from gateway.outputs.storage.archive import Archive
from gateway.outputs.storage.spool import Spool, SpooledFile
from gateway.ports.errors import OutputError, StoreUnavailable
from gateway.ports.stores import DirectUpload, Object
from tests.support.recording import RunningArchive
from tests.support.time_outs import at_most
from tests.support.waiting import until


class Remote:
    """A remote ObjectStore that can be unavailable."""

    def __init__(self) -> None:
        self.away = False
        self.objects: dict[str, bytes] = {}
        self.order: list[str] = []
        self.tries = 0
        self.arrived = asyncio.Event()
        self.gate: asyncio.Event | None = None

    async def put(self, key: str, file: Path) -> None:
        self.tries += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise StoreUnavailable("the bucket does not answer")
        self.objects[key] = file.read_bytes()
        self.order.append(key)
        file.unlink()
        self.arrived.set()

    async def head(self, key: str) -> Object:
        raise AssertionError("nobody asks a remote store before sending")

    async def read(self, key: str, first: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        yield self.objects[key][first:end]

    async def delete_many(self, keys: Sequence[str]) -> None:
        if self.away:
            raise StoreUnavailable("the bucket does not answer")
        for key in keys:
            del self.objects[key]

    def list(self, prefix: str) -> AsyncIterator[Object]:
        raise AssertionError

    async def delete(self, key: str) -> None:
        raise AssertionError

    async def fetch(self, key: str, to: Path, most: int = 0) -> None:
        raise AssertionError

    async def upload(self, key: str, seconds: int) -> DirectUpload | None:
        return None

    async def check(self) -> None:
        return None


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving.Backoff, "next", lambda self: 0.01)


def made(archive: Archive, name: str = "f", data: bytes = b"data") -> Path:
    file = archive.scratch("image") / name
    file.write_bytes(data)
    return file


# ---- local ----


async def test_a_kept_file_is_stored_at_once_and_as_a_whole(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        file = made(studio.archive)
        assert await studio.archive.keep("c1/images/a.jpg", file) == "c1/images/a.jpg"
        assert (studio.media / "c1/images/a.jpg").read_bytes() == b"data"
        assert not file.exists()
        assert studio.files() == [studio.media / "c1/images/a.jpg"]


async def test_nothing_is_overwritten(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        archive = studio.archive
        keys = await asyncio.gather(*[archive.keep("c1/a.jpg", made(archive, str(n), b"%d" % n)) for n in range(5)])
        assert sorted(keys) == ["c1/a-2.jpg", "c1/a-3.jpg", "c1/a-4.jpg", "c1/a-5.jpg", "c1/a.jpg"]
        assert sorted(f.read_bytes() for f in studio.files()) == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_playlist_is_replaced(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        for text in (b"one", b"two"):
            assert await studio.archive.keep("c1/v.m3u8", made(studio.archive, data=text), replace=True) == "c1/v.m3u8"
        assert (studio.media / "c1/v.m3u8").read_bytes() == b"two"


async def test_the_ready_event_has_the_key_and_the_size(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        await studio.archive.keep("c1/a.mp4", made(studio.archive), ready={"kind": "video", "seconds": 4.0})
        await studio.archive.keep("c1/b.jpg", made(studio.archive))
        (event,) = studio.events
        assert (event.type, event.channel) == ("recording.ready", "c1")
        assert event.data == {"kind": "video", "seconds": 4.0, "key": "c1/a.mp4", "bytes": 4}


async def test_a_file_that_cannot_be_stored_raises_a_clear_error(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        file = made(studio.archive)
        (studio.media / "c1").write_text("a file where a folder should be")
        with pytest.raises(OutputError, match=r"c1/a\.jpg cannot be stored"):
            await studio.archive.keep("c1/a.jpg", file, replace=True)
        assert file.exists()


@pytest.mark.parametrize(
    ("total", "free", "keep", "room"),
    [
        (10**12, 10**9, 5 * 10**8, True),
        (10**12, 4 * 10**8, 5 * 10**8, False),
        (10**12, 0, 0, True),
        (10**7, 6 * 10**5, 5 * 10**8, True),  # a small disk: a twentieth of it
        (10**7, 4 * 10**5, 5 * 10**8, False),
    ],
)
async def test_a_disk_with_less_free_space_than_keep_free_is_refused(
    total: int, free: int, keep: int, room: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = RunningArchive(tmp_path, keep_free=keep).archive
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=total, free=free))
    with contextlib.nullcontext() if room else pytest.raises(OutputError, match=r"no space .*recording\.keep_free"):
        archive.check_free_space()


async def test_scratch_files_of_a_dead_process_are_removed_except_recordings(tmp_path: Path) -> None:
    studio = RunningArchive(tmp_path)
    old = time.time() - 7200
    image, young = made(studio.archive, "old"), made(studio.archive, "young")
    video = studio.archive.scratch("video") / "c1~1767323045678.fmp4"
    video.write_bytes(b"x")
    for file in (image, video):
        os.utime(file, (old, old))
    await asyncio.to_thread(studio.archive._remove_abandoned)
    assert (image.exists(), young.exists(), video.exists()) == (False, True, True)


async def test_copies_from_another_disk_that_a_dead_process_began_are_removed(tmp_path: Path) -> None:
    studio = RunningArchive(tmp_path)
    copy, stored, young = (studio.media / name for name in ("c1/720p/.0123.part", "c1/720p/1.part", "c1/.4567.part"))
    copy.parent.mkdir(parents=True)
    for file in (copy, stored, young):
        file.write_bytes(b"x")
    for file in (copy, stored):
        os.utime(file, (time.time() - 7200,) * 2)
    await asyncio.to_thread(studio.archive._remove_abandoned)
    assert (copy.exists(), stored.exists(), young.exists()) == (False, True, True)


# ---- remote ----


async def test_kept_files_are_sent_to_the_store_in_the_background(tmp_path: Path) -> None:
    remote = Remote()
    async with RunningArchive(tmp_path, remote).open() as studio:
        await studio.archive.keep("c1/a.mp4", made(studio.archive), ready={"kind": "video"})
        await studio.archive.flush()
        assert remote.objects == {"c1/a.mp4": b"data"}
        assert studio.archive.waiting == (0, 0)
        assert [e.data["key"] for e in studio.events] == ["c1/a.mp4"]
    assert not [p for p in studio.spool.rglob("*") if p.is_file()]


async def test_a_file_whose_output_is_cancelled_while_it_is_kept_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, began, over, real = Remote(), threading.Event(), threading.Event(), Spool.add

    def add(self: Spool, key: str, file: Path, now: float, note: str | None) -> SpooledFile:
        began.set()
        assert over.wait(at_most(30))
        return real(self, key, file, now, note)

    monkeypatch.setattr(Spool, "add", add)
    async with RunningArchive(tmp_path, remote).open() as studio:
        keeping = asyncio.ensure_future(studio.archive.keep("c1/a.ts", made(studio.archive)))
        await asyncio.to_thread(began.wait, 30)
        keeping.cancel()
        over.set()
        with pytest.raises(asyncio.CancelledError):
            await keeping
        await studio.archive.flush()
        assert remote.objects == {"c1/a.ts": b"data"}


def test_the_event_of_a_newer_file_waits_until_that_file_was_sent(tmp_path: Path) -> None:
    spool, file = Spool(tmp_path, 1_000), tmp_path / "file"
    for note in (None, "finished"):
        file.write_bytes(b"x")
        spool.add("c1/vod.m3u8", file, 0, note)
        assert note is not None or spool.take("c1/vod.m3u8") is not None
    assert spool.confirm_sent("c1/vod.m3u8") is None
    assert spool.take("c1/vod.m3u8") is not None
    assert spool.confirm_sent("c1/vod.m3u8") == "finished"


def test_a_file_is_listed_while_it_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, file, listed = Spool(tmp_path, 1_000), tmp_path / "file", list[tuple[int, list[str]]]()
    file.write_bytes(b"x")
    spool.add("c1/a.ts", file, 0, None)

    def move(source: Path, target: Path) -> None:
        listed.append((len(spool), spool.keys("c1/")))
        target.parent.mkdir(exist_ok=True, parents=True)
        source.rename(target)

    monkeypatch.setattr("gateway.outputs.storage.spool._move", move)
    for _ in range(2):
        assert spool.take("c1/a.ts") is not None
        spool.give_back("c1/a.ts")
    assert listed == [(1, ["c1/a.ts"])] * 4


async def test_files_wait_in_order_while_the_store_is_unavailable(tmp_path: Path) -> None:
    remote = Remote()
    remote.away = True
    async with RunningArchive(tmp_path, remote).open() as studio:
        for n in range(5):
            await studio.archive.keep(f"c1/{n}.ts", made(studio.archive), ready={"n": n})
        await until(lambda: remote.tries > 3)
        assert (studio.archive.waiting, studio.events) == ((5, 20), [])
        remote.away = False
        await studio.archive.flush()
        assert remote.order == [f"c1/{n}.ts" for n in range(5)]
        assert [e.data["n"] for e in studio.events] == list(range(5))


async def test_a_file_can_be_read_before_and_after_its_upload(tmp_path: Path) -> None:
    remote = Remote()
    remote.away = True

    async def read(unfinished: Path) -> bytes:
        return b"".join([data async for data in studio.archive.read("c1/a.ts", unfinished, 1, 3)])

    async with RunningArchive(tmp_path, remote).open() as studio:
        file = made(studio.archive, data=b"abcd")
        assert await read(file) == b"bc"  # it is not finished yet
        await studio.archive.keep("c1/a.ts", file)
        await until(lambda: remote.tries > 1)
        assert await read(file) == b"bc"  # it waits for the store
        remote.away = False
        await studio.archive.flush()
        assert await read(file) == b"bc"  # the store has it
        await studio.archive.delete(["c1/a.ts"])
        assert remote.objects == {}
        remote.away = True
        await studio.archive.delete(["c1/a.ts"])  # does not stop the recording


async def test_deleted_files_that_wait_for_the_store_are_not_sent_later(tmp_path: Path) -> None:
    remote = Remote()
    remote.gate, remote.away = asyncio.Event(), True
    async with RunningArchive(tmp_path, remote).open() as studio:
        for name in ("a", "b", "c"):
            await studio.archive.keep(f"c1/{name}.ts", made(studio.archive))
        await until(lambda: remote.tries == 1)  # the first one is being sent
        await studio.archive.delete(["c1/a.ts", "c1/b.ts"])
        assert studio.archive.waiting == (2, 8) and studio.archive.dropped == 0
        remote.away = False
        remote.gate.set()
        await studio.archive.flush()
        await studio.archive.delete([])
        assert remote.objects.keys() == {"c1/c.ts"}


async def test_objects_that_could_not_be_deleted_are_deleted_with_later_ones(tmp_path: Path) -> None:
    remote = Remote()
    async with RunningArchive(tmp_path, remote).open() as studio:
        for name in ("a", "b", "c"):
            await studio.archive.keep(f"c1/{name}.ts", made(studio.archive))
        await studio.archive.flush()
        remote.away = True
        await studio.archive.delete(["c1/a.ts"])
        remote.away = False
        await studio.archive.delete(["c1/b.ts"])
        assert remote.objects.keys() == {"c1/c.ts"}


async def test_a_failing_upload_of_one_channel_does_not_delay_others(tmp_path: Path) -> None:
    remote = Remote()

    async def put(key: str, file: Path) -> None:
        if key.startswith("bad/"):
            raise StoreUnavailable("refused")
        await Remote.put(remote, key, file)

    remote.put = put  # type: ignore[method-assign]
    async with RunningArchive(tmp_path, remote).open() as studio:
        await studio.archive.keep("bad/a.ts", made(studio.archive))
        await studio.archive.keep("good/a.ts", made(studio.archive))
        await until(lambda: "good/a.ts" in remote.objects)


async def test_waiting_files_are_sent_with_their_events_after_a_restart(tmp_path: Path) -> None:
    remote = Remote()
    remote.away = True
    async with RunningArchive(tmp_path, remote).open() as studio:
        await studio.archive.keep("c1/a.mp4", made(studio.archive, data=b"one"), ready={"kind": "video"})
        await studio.archive.keep("c1/v.m3u8", made(studio.archive, data=b"two"), replace=True)
        await until(lambda: remote.tries > 1)
    remote.away = False
    async with RunningArchive(tmp_path, remote).open() as again:
        await until(lambda: len(remote.objects) == 2)
        await again.archive.flush()
        assert remote.order == ["c1/a.mp4", "c1/v.m3u8"]
        assert [e.data["key"] for e in again.events] == ["c1/a.mp4"]


async def test_an_upload_interrupted_by_a_crash_is_sent_again(tmp_path: Path) -> None:
    sending = tmp_path / "spool/sending/c1/a.mp4"
    sending.parent.mkdir(parents=True)
    sending.write_bytes(b"half sent")
    remote = Remote()
    async with RunningArchive(tmp_path, remote).open() as studio:
        await until(lambda: remote.objects == {"c1/a.mp4": b"half sent"})
        await studio.archive.flush()


async def test_a_newer_file_is_sent_after_the_running_upload_of_its_key(tmp_path: Path) -> None:
    remote = Remote()
    remote.gate = asyncio.Event()
    async with RunningArchive(tmp_path, remote).open() as studio:
        await studio.archive.keep("c1/v.m3u8", made(studio.archive, data=b"one"), replace=True)
        await until(lambda: remote.tries == 1)
        await studio.archive.keep("c1/v.m3u8", made(studio.archive, data=b"two"), replace=True)
        remote.gate.set()
        await studio.archive.flush()
        assert remote.objects == {"c1/v.m3u8": b"two"}


async def test_a_full_spool_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    remote = Remote()
    remote.away = True
    async with RunningArchive(tmp_path, remote, spool_bytes=10).open() as studio:
        for n in range(6):
            await studio.archive.keep(f"c{n}/a.ts", made(studio.archive))
        await until(lambda: remote.tries > 6)
        assert studio.archive.dropped >= 3
        remote.away = False
        await studio.archive.flush()
        assert "c5/a.ts" in remote.objects
        assert len(remote.objects) + studio.archive.dropped == 6
        assert studio.archive.waiting == (0, 0)


def test_a_file_given_back_to_the_spool_is_first_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1000)
    for n, key in enumerate(("a/1", "a/2")):
        file = tmp_path / "new"
        file.write_bytes(b"x" * 10)
        spool.add(key, file, 1000.0 + n, None)
    assert spool.take("a/1") is not None
    spool.give_back("a/1")
    again = Spool(tmp_path, 1000)
    assert [w.key for w in again.scan()] == ["a/1", "a/2"]
    assert again.bytes == 20


async def test_a_file_with_a_foreign_name_stays_in_the_spool(tmp_path: Path) -> None:
    stray = tmp_path / "spool/queue/a\\b"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"x")
    remote = Remote()
    async with RunningArchive(tmp_path, remote).open() as studio:
        await studio.archive.keep("c1/a.ts", made(studio.archive))
        await studio.archive.flush()
    assert list(remote.objects) == ["c1/a.ts"]
    assert stray.exists()


@pytest.mark.parametrize("note", [b"", b"[]", b"\xff"])
async def test_a_damaged_note_does_not_stop_the_uploads_of_its_channel(tmp_path: Path, note: bytes) -> None:
    for place in ("spool/queue/c1/a.ts", "spool/queue/c1/b.ts", "spool/notes/c1/a.ts.json"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(note)
    remote = Remote()
    async with RunningArchive(tmp_path, remote).open() as studio:
        await until(lambda: len(remote.objects) == 2)
        await studio.archive.flush()
        assert [event.data for event in studio.events] == [{"key": "c1/a.ts", "bytes": len(note)}]
        assert studio.archive.waiting == (0, 0)
    assert not [path for path in studio.spool.rglob("*") if path.is_file()]


def test_a_note_that_cannot_be_written_leaves_the_earlier_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, file, calls = Spool(tmp_path, 1_000), tmp_path / "file", iter(range(2))
    file.write_bytes(b"x")
    spool.add("c1/vod.m3u8", file, 0, "earlier")

    def fsync(descriptor: int) -> None:  # the file can be synced, and then its note cannot
        if next(calls):
            raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", fsync)
    file.write_bytes(b"y")
    with pytest.raises(OSError, match="no space"):
        spool.add("c1/vod.m3u8", file, 0, "later")
    assert spool.take("c1/vod.m3u8") is not None
    assert spool.confirm_sent("c1/vod.m3u8") == "earlier"
