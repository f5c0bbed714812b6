"""Several processes on one data folder: one takes over files of a dead process, none those of a running one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog

from gateway.adapters.local.objects import LocalObjects
from gateway.live.sink import EndReason
from gateway.outputs.storage import archive as archiving
from gateway.outputs.storage import spool
from gateway.outputs.storage.spool import Spool, SpoolRecovery, process_folder
from tests.support.builders import AUDIO, VIDEO
from tests.support.recording import RunningArchive, push, record, stream_of
from tests.support.segmented import Timetable
from tests.support.time_outs import at_most
from tests.unit.outputs.storage.test_archive import Remote, made


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving.Backoff, "next", lambda self: 0.01)


async def scrap_of_a_dead_process(folder: Path) -> Path:
    """Leaves an unfinished recording of a process that has ended."""
    dead = RunningArchive(folder / "dead")
    async with dead.open():
        stream = stream_of(video_time=60)
        await record(dead.recorder(stream), stream, Timetable(seconds=5), end=False)
        scrap = next(p for p in dead.scratch() if p.suffix == ".fmp4")
        left = scrap.read_bytes()
        stream.end(EndReason.PUBLISHER_GONE)
        await asyncio.sleep(0.1)
        await dead.finisher.flush()
    place = folder / "media/.unfinished/video"
    place.mkdir(parents=True)
    (place / scrap.name).write_bytes(left)
    return place / scrap.name


async def test_one_of_many_starting_processes_finishes_an_abandoned_recording(tmp_path: Path) -> None:
    await scrap_of_a_dead_process(tmp_path)
    studios = [RunningArchive(tmp_path) for _ in range(6)]
    async with contextlib.AsyncExitStack() as stack:
        for studio in studios:
            await stack.enter_async_context(studio.open())
        async with asyncio.timeout(at_most(20)):
            while not any(studio.events for studio in studios):
                await asyncio.sleep(0.01)
        for studio in studios:
            await studio.finisher.flush()
    assert sum(len(studio.events) for studio in studios) == 1
    assert len(studios[0].files()) == 1
    assert studios[0].scratch() == []


class Slow(LocalObjects):
    """A store that accepts files only when the test permits."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked = asyncio.Event()
        self.may = asyncio.Event()

    async def put(self, key: str, file: Path) -> None:
        self.asked.set()
        await self.may.wait()
        await super().put(key, file)


async def test_a_movie_that_a_running_sibling_stores_is_not_taken_over(tmp_path: Path) -> None:
    await scrap_of_a_dead_process(tmp_path)
    one, other = RunningArchive(tmp_path), RunningArchive(tmp_path)
    slow = one.archive._objects = Slow(tmp_path / "media")  # type: ignore[assignment]
    async with one.open():
        await asyncio.wait_for(slow.asked.wait(), at_most(20))
        assert [p.suffixes for p in one.scratch()] == [[".done", ".mp4"]]
        async with other.open():
            with structlog.testing.capture_logs() as logs:
                await other.finisher.flush()
            assert (other.events, other.files()) == ([], [])
            assert "a recording cannot be finished now" not in [line["event"] for line in logs]
            slow.may.set()
            await one.finisher.flush()
    assert (len(one.events), len(one.files()), one.scratch()) == (1, 1, [])


async def test_a_session_that_a_running_sibling_writes_is_not_taken_over(tmp_path: Path) -> None:
    one = RunningArchive(tmp_path)
    async with one.open():
        stream = stream_of(ondemand_time=2)
        output = one.on_demand(stream)
        output.begin(stream)
        running = asyncio.ensure_future(output.run(stream))
        stream.set_tracks(VIDEO, AUDIO, {}, False)
        await push(stream, list(Timetable(seconds=5).units()))
        async with asyncio.timeout(at_most(20)):
            while not list((tmp_path / "media/.unfinished/ondemand").glob("*/journal")):
                await asyncio.sleep(0.01)
        other = RunningArchive(tmp_path)
        async with other.open():
            await other.finisher.flush()
        assert other.events == []
        stream.end(EndReason.PUBLISHER_GONE)
        await running
        await one.finisher.flush()
    assert [event.data["kind"] for event in one.events] == ["ondemand"]
    assert round(float(one.events[0].data["seconds"])) == 5


# ---- the spool before a bucket ----


def left(base: Path, process: str, *keys: str, sending: str = "") -> Path:
    """A spool with files that wait, the first the oldest, as a process that died left it."""
    spool = Spool(process_folder(base, process), 1_000_000)
    for n, key in enumerate(keys):
        file = base / "new"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(key.encode())
        spool.add(key, file, time.time() - 100 + n, '{"n": 1}')
    if sending:
        assert spool.take(sending) is not None
    return process_folder(base, process)


async def test_waiting_files_of_a_dead_sibling_are_sent_in_order_with_events(tmp_path: Path) -> None:
    left(tmp_path / "spool", "h.2", "c1/1.ts", "c1/2.ts", "c1/3.ts", sending="c1/1.ts")
    remote = Remote()
    async with RunningArchive(tmp_path, remote, "h.1").open() as studio:
        async with asyncio.timeout(at_most(20)):
            while len(remote.objects) < 3:
                await asyncio.sleep(0.01)
        await studio.archive.flush()
        assert remote.order == ["c1/1.ts", "c1/2.ts", "c1/3.ts"]
        assert [event.data["key"] for event in studio.events] == remote.order
    assert not [p for p in (tmp_path / "spool").rglob("*") if p.is_file()]


async def test_waiting_files_of_a_running_sibling_are_not_taken_over(tmp_path: Path) -> None:
    away, remote = Remote(), Remote()
    away.away = True
    async with RunningArchive(tmp_path, away, "h.1").open() as one:
        await one.archive.keep("c1/a.ts", made(one.archive))
        async with RunningArchive(tmp_path, remote, "h.2").open() as other:
            await other.archive.keep("c2/b.ts", made(other.archive, "g"))
            await other.archive.flush()
        assert remote.order == ["c2/b.ts"]
        assert one.archive.waiting == (1, 4)
        away.away = False
        await one.archive.flush()
    assert away.order == ["c1/a.ts"]


async def test_a_single_process_sends_files_that_several_left(tmp_path: Path) -> None:
    for process in ("h.1", "h.2"):
        left(tmp_path / "spool", process, f"{process}/1.ts")
    remote = Remote()
    async with RunningArchive(tmp_path, remote).open() as studio:
        async with asyncio.timeout(at_most(20)):
            while len(remote.objects) < 2:
                await asyncio.sleep(0.01)
        await studio.archive.flush()
    assert sorted(remote.objects) == ["h.1/1.ts", "h.2/1.ts"]


async def test_several_processes_send_files_of_a_single_process_once(tmp_path: Path) -> None:
    left(tmp_path / "spool", "", *(f"c1/{n}.ts" for n in range(20)))
    remote = Remote()
    async with contextlib.AsyncExitStack() as stack:
        studios = [RunningArchive(tmp_path, remote, f"h.{n}") for n in range(1, 5)]
        await asyncio.gather(*(stack.enter_async_context(studio.open()) for studio in studios))
        async with asyncio.timeout(at_most(20)):
            while len(remote.objects) < 20:
                await asyncio.sleep(0.01)
        for studio in studios:
            await studio.archive.flush()
    assert remote.order == [f"c1/{n}.ts" for n in range(20)], "by one of them, in order"


@pytest.mark.parametrize("others", [1, 3])
def test_a_process_that_starts_keeps_its_spool_while_others_look_for_dead_ones(tmp_path: Path, others: int) -> None:
    """They find its folder before it is locked."""
    base = tmp_path / "spool"
    with ThreadPoolExecutor(others + 1) as pool:
        for n in range(100):
            heirs = [SpoolRecovery(base, f"h.{n}.{m}") for m in range(others)]
            recovery = SpoolRecovery(base, f"h.{n}")
            for heir in heirs:
                heir.open()
            looking = [pool.submit(heir.take_over) for heir in heirs for _ in range(3)]
            with structlog.testing.capture_logs() as logs:
                pool.submit(recovery.open).result()
            waiting = left(base, f"h.{n}", "c1/1.ts") / "queue/c1/1.ts"
            for look in looking:
                look.result()
            for heir in heirs:
                heir.take_over()
            assert (logs, waiting.is_file()) == ([], True), n
            waiting.unlink()
            for one in (recovery, *heirs):
                one.close()


def test_a_spool_of_another_process_is_named_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_LOCK_SECONDS", 0.05)
    one, other = SpoolRecovery(tmp_path, ""), SpoolRecovery(tmp_path, "")
    one.open()
    with structlog.testing.capture_logs() as logs:
        other.open()
    assert [line["event"] for line in logs] == ["another process uses this spool: files may be lost"]
    other.close()
    one.close()


def test_the_newer_of_two_files_with_the_same_name_is_kept(tmp_path: Path) -> None:
    for process, age in (("h.1", 50), ("h.2", 10)):
        file = left(tmp_path, process, "c1/image.jpg") / "queue/c1/image.jpg"
        file.write_text(process)
        os.utime(file, (time.time() - age,) * 2)
    heir = SpoolRecovery(tmp_path, "h.3")
    heir.open()
    heir.take_over()
    assert (process_folder(tmp_path, "h.3") / "queue/c1/image.jpg").read_text() == "h.2"
    heir.close()


def test_a_process_that_ends_removes_its_spool_only_if_it_is_empty(tmp_path: Path) -> None:
    for process, files in (("h.1", ()), ("h.2", ("c1/1.ts",))):
        inheritance = SpoolRecovery(tmp_path, process)
        inheritance.open()
        left(tmp_path, process, *files)
        inheritance.close()
    assert [p.name for p in (tmp_path / "processes").iterdir()] == ["h.2"]
    shutil.rmtree(tmp_path / "processes")
