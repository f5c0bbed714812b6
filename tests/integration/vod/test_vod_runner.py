"""Jobs from submission to the last state: dying workers, cancellations, and killed processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.lib.backoff import Backoff
from gateway.ports.errors import InvalidField, NoSuchObject, StoreUnavailable
from gateway.ports.events import EventType
from gateway.ports.jobs import VOD, JobState, StoredJob
from gateway.ports.stores import DirectUpload, Object
from gateway.vod import store_wait
from tests.support import films
from tests.support.studio import Bench, bench
from tests.support.time_outs import at_most


def slow_film() -> Path:
    """Returns a film that takes long enough with the settings SLOW."""
    return films.silent("slow.mkv", "testsrc2=size=640x360:rate=30", *films.H264, seconds=12)


def finished_film() -> Path:
    """Returns a film of two segments for tests that wait for its end."""
    return films.silent("finished.mkv", "testsrc2=size=320x180:rate=15", *films.H264, seconds=12)


SLOW = {"MILLRACE_VOD__PRESET": "slow"}


def files(at: Bench, folder: str) -> set[str]:
    return {path.name for path in (at.root / folder).iterdir()}


async def test_a_film_in_the_store_becomes_hls_beside_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        at.put(films.plain(), "films/my.v1.clip.mp4")
        job = await at.finished((await at.studio.submit("films/my.v1.clip.mp4")).id)
        assert (job.state, job.progress, job.error) == (JobState.COMPLETE, 100, None)
        assert job.outputs == {
            "hls": "films/my.v1.clip/my.v1.clip.m3u8",
            "poster": "films/my.v1.clip/my.v1.clip.0000000.jpg",
            "thumbnail": "films/my.v1.clip/thumbnail.0000000.jpg",
        }
        assert films.probe(at.root / job.outputs["hls"])["video"]["codec_name"] == "h264"
        assert (at.root / "films/my.v1.clip.mp4").exists()
        await at.told()
        assert [event.type for event in at.events] == [EventType.JOB_DONE]
        assert at.scratch() == []


async def test_a_finished_job_says_what_of_the_film_is_missing(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        at.put(films.twice(), "a.mkv")
        job = await at.finished((await at.studio.submit("a.mkv")).id)
        assert (job.state, job.error, job.warning) == (JobState.COMPLETE, None, films.LEFT_OUT)


async def test_a_file_that_is_not_a_film_ends_in_an_error(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        (at.root / "text.mp4").write_text("This is text.\n")
        job = await at.finished((await at.studio.submit("text.mp4")).id)
        assert (job.state, job.error) == (JobState.ERROR, "it is text, not media")
        assert not (at.root / "text").exists()
        await at.told()
        assert [event.type for event in at.events] == [EventType.JOB_FAILED]
        assert at.scratch() == []


async def test_a_cancelled_job_ends_its_worker_and_leaves_no_files(tmp_path: Path) -> None:
    async with bench(tmp_path, **SLOW) as at:
        at.put(slow_film(), "slow.mkv")
        job = await at.studio.submit("slow.mkv")
        await at.at_work(job.id)
        assert (await at.desk.cancel(job.id)).state is JobState.CANCELED
        async with asyncio.timeout(at_most(10)):
            while at.pids() or at.scratch():
                await asyncio.sleep(0.02)
        assert (await at.store.get(job.id)).state is JobState.CANCELED
        assert not (at.root / "slow").exists() and at.events == []


async def test_a_job_cancelled_by_another_node_stops_here(tmp_path: Path) -> None:
    async with bench(tmp_path, **SLOW) as at:
        at.put(slow_film(), "slow.mkv")
        job = await at.studio.submit("slow.mkv")
        working = await at.at_work(job.id)
        while True:  # as any other process would
            working = await at.store.get(job.id)
            try:
                await at.store.change(working.to(JobState.CANCELED, working.updated))
                break
            except Exception:
                continue
        async with asyncio.timeout(at_most(15)):
            while at.pids() or at.scratch():
                await asyncio.sleep(0.02)


async def test_a_killed_worker_is_replaced_once(tmp_path: Path) -> None:
    async with bench(tmp_path, **SLOW) as at:
        at.put(finished_film(), "slow.mkv")
        job = await at.studio.submit("slow.mkv")
        await at.at_work(job.id)
        (killed,) = at.pids()
        os.kill(killed, signal.SIGKILL)
        done = await at.finished(job.id)
        assert done.state is JobState.COMPLETE
        assert sum(at.restarts.values.values()) == 1


async def test_a_job_fails_if_its_worker_is_killed_twice(tmp_path: Path) -> None:
    async with bench(tmp_path, **SLOW) as at:
        at.put(slow_film(), "slow.mkv")
        job = await at.studio.submit("slow.mkv")
        for _ in range(2):
            await at.at_work(job.id)
            (killed,) = at.pids()
            os.kill(killed, signal.SIGKILL)
            async with asyncio.timeout(at_most(10)):
                while killed in at.pids():
                    await asyncio.sleep(0.02)
        done = await at.finished(job.id)
        assert done.state is JobState.ERROR and "SIGKILL" in (done.error or "")
        assert at.scratch() == []


async def test_an_orderly_end_returns_the_job_to_the_queue(tmp_path: Path) -> None:
    async with bench(tmp_path, **SLOW) as at:
        at.put(slow_film(), "slow.mkv")
        job = await at.studio.submit("slow.mkv")
        await at.at_work(job.id)
    async with bench(tmp_path, run=False) as at:
        left = await at.store.get(job.id)
        assert (left.state, left.attempts) == (JobState.SUBMITTED, 0)
        assert at.scratch() == []


async def test_a_job_of_a_dead_process_is_restarted_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        at.put(films.plain(), "a.mp4")
        job = await at.studio.submit("a.mp4")
        owner = at.studio.runner.owner.split("/")
        await at.desk.begin(job, f"{owner[0]}/999999/{owner[2]}")
        left = tmp_path / "vod" / f"999999-{job.id}"
        left.mkdir(parents=True)
    async with bench(tmp_path) as at:
        done = await at.finished(job.id)
        assert (done.state, done.attempts) == (JobState.COMPLETE, 2)
        assert at.scratch() == []


async def test_a_job_of_a_running_process_is_not_taken_over(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        at.put(films.plain(), "a.mp4")
        job = await at.studio.submit("a.mp4")
        host = at.studio.runner.owner.split("/")[0]
        await at.desk.begin(job, f"{host}/{os.getppid()}/x")
        other = await at.studio.submit("a.mp4")
        await at.desk.begin(other, "elsewhere/1/x")
    async with bench(tmp_path) as at:
        at.put(films.plain(), "b.mp4")
        assert (await at.finished((await at.studio.submit("b.mp4")).id)).state is JobState.COMPLETE
        assert (await at.store.get(job.id)).attempts == 1
        assert (await at.store.get(other.id)).attempts == 1


async def test_a_job_that_kills_five_processes_fails(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        at.put(films.plain(), "a.mp4")
        job = await at.studio.submit("a.mp4")
        host = at.studio.runner.owner.split("/")[0]
        for _ in range(5):
            job = await at.desk.begin(job, f"{host}/999999/x")
    async with bench(tmp_path) as at:
        done = await at.finished(job.id)
        assert done.state is JobState.ERROR and "5 times" in (done.error or "")


async def test_the_number_of_simultaneous_jobs_is_limited(tmp_path: Path) -> None:
    async with bench(tmp_path, MILLRACE_VOD__WORKERS="2", **SLOW) as at:
        ids = []
        for n in range(4):
            at.put(finished_film() if n < 2 else films.plain(), f"{n}.mkv")
            ids.append((await at.studio.submit(f"{n}.mkv")).id)
        most = 0
        async with asyncio.timeout(at_most(120)):
            while await at.store.unfinished():
                most = max(most, len(at.studio.runner.running))
                await asyncio.sleep(0.02)
        assert most == 2
        assert {(await at.store.get(id)).state for id in ids} == {JobState.COMPLETE}


async def test_two_films_of_one_name_are_not_made_at_the_same_time(tmp_path: Path) -> None:
    async with bench(tmp_path, MILLRACE_VOD__WORKERS="4", **SLOW) as at:
        at.put(finished_film(), "a.mkv")
        at.put(films.plain(), "a.mp4")
        first, second = await at.studio.submit("a.mkv"), await at.studio.submit("a.mp4")
        await at.at_work(first.id)
        assert (await at.store.get(second.id)).state is JobState.SUBMITTED
        await at.finished(first.id)
        assert (await at.finished(second.id)).state is JobState.COMPLETE
        assert len([name for name in files(at, "a") if name.endswith(".ts")]) == 1  # nothing is left of the longer one


async def test_a_full_disk_gives_an_error_with_its_reason(tmp_path: Path) -> None:
    class Full(Local):
        async def fetch(self, key: str, to: Path, most: int = 0) -> None:
            raise OSError(28, "No space left on device")

    async with bench(tmp_path, objects=Full(tmp_path / "media")) as at:
        at.put(films.plain(), "a.mp4")
        done = await at.finished((await at.studio.submit("a.mp4")).id)
        assert (done.state, done.error) == (JobState.ERROR, "No space left on device")


async def test_a_job_waits_for_a_temporarily_unavailable_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_wait, "Backoff", lambda *_: Backoff(0.1, 0.1))

    class Shy(Local):
        refusals = 2

        async def put(self, key: str, file: Path) -> None:
            if self.refusals:
                self.refusals -= 1
                raise StoreUnavailable("s3 does not answer")
            await super().put(key, file)

    async with bench(tmp_path, objects=Shy(tmp_path / "media")) as at:
        at.put(films.plain(), "a.mp4")
        assert (await at.finished((await at.studio.submit("a.mp4")).id)).state is JobState.COMPLETE


async def test_media_are_stored_before_the_playlists(tmp_path: Path) -> None:
    order: list[str] = []

    class Telling(Local):
        async def put(self, key: str, file: Path) -> None:
            order.append(key.rpartition("/")[2])
            await super().put(key, file)

    async with bench(tmp_path, objects=Telling(tmp_path / "media")) as at:
        at.put(films.plain(), "a.mp4")
        await at.finished((await at.studio.submit("a.mp4")).id)
    assert order[0] == "astream_00001.ts" and order[-2:] == ["astream.m3u8", "a.m3u8"]


async def test_progress_is_visible_during_the_job(tmp_path: Path) -> None:
    async with bench(tmp_path, **SLOW) as at:
        at.put(slow_film(), "slow.mkv")
        job = await at.studio.submit("slow.mkv")
        seen = await at.until(job.id, lambda job: 0 < job.progress < 100)
        assert seen.state is JobState.PROGRESSING


async def test_a_missing_source_is_refused_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        for text in (
            "nothing.mp4",
            "../a.mp4",
            "/etc/passwd",
            "file:///etc/passwd",
            "s3://bucket/a.mp4",
            "noextension",
            "a//b.mp4",
        ):
            with pytest.raises(InvalidField) as told:
                await at.studio.submit(text)
            assert told.value.field == "source"
        assert await at.store.newest(10) == []


async def test_local_films_are_used_only_from_allowed_folders(tmp_path: Path) -> None:
    allowed, private = tmp_path / "films", tmp_path / "private"
    (allowed / "new").mkdir(parents=True)
    private.mkdir()
    (allowed / "new" / "a.mp4").write_bytes(films.plain().read_bytes())
    (private / "b.mp4").write_bytes(b"secret")
    (allowed / "link.mp4").symlink_to(private / "b.mp4")
    async with bench(tmp_path, MILLRACE_VOD__SOURCES=str(allowed)) as at:
        job = await at.finished((await at.studio.submit(str(allowed / "new" / "a.mp4"))).id)
        assert job.outputs["hls"] == "new/a/a.m3u8"
        for text in (
            str(private / "b.mp4"),
            str(allowed / "link.mp4"),
            f"{allowed}/../private/b.mp4",
            str(allowed / "none.mp4"),
        ):
            with pytest.raises(InvalidField, match=r"vod\.sources"):
                await at.studio.submit(text)


class Local:
    """A local object store whose methods tests override."""

    def __init__(self, root: Path) -> None:
        from gateway.adapters.local.objects import LocalObjects

        self._inner = LocalObjects(root)

    async def put(self, key: str, file: Path) -> None:
        await self._inner.put(key, file)

    async def head(self, key: str) -> Object:
        return await self._inner.head(key)

    def read(self, key: str, first: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        return self._inner.read(key, first, end)

    def list(self, prefix: str) -> AsyncIterator[Object]:
        return self._inner.list(prefix)

    async def delete(self, key: str) -> None:
        await self._inner.delete(key)

    async def fetch(self, key: str, to: Path, most: int = 0) -> None:
        await self._inner.fetch(key, to, most)

    async def upload(self, key: str, seconds: int) -> DirectUpload | None:
        return await self._inner.upload(key, seconds)

    async def check(self) -> None:
        await self._inner.check()


async def test_an_object_deleted_before_its_job_starts_gives_an_error(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        job, _ = await at.desk.submit(VOD, "gone.mp4")
        done: StoredJob = await at.finished(job.id)
        assert (done.state, done.error) == (JobState.ERROR, "there is no such object")
        with pytest.raises(NoSuchObject):
            await at.objects.head("gone/gone.m3u8")


async def test_a_film_with_a_too_long_declared_duration_gives_an_error_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path, MILLRACE_VOD__FILM_SECONDS="2") as at:
        at.put(films.plain(), "a.mp4")
        job = await at.finished((await at.studio.submit("a.mp4")).id)
        assert job.state is JobState.ERROR
        assert job.error == "it says that it lasts 3 s: at most 2 s are allowed (vod.film_seconds)"
        assert at.scratch() == [] and not (at.root / "a").exists()


async def test_a_job_that_takes_too_long_ends_in_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.workers.vod_bounds.JOB_SECONDS", 0.5)
    async with bench(tmp_path, **SLOW, MILLRACE_VOD__JOB_RATIO="0.01") as at:
        at.put(slow_film(), "slow.mkv")
        job = await at.finished((await at.studio.submit("slow.mkv")).id)
        assert job.state is JobState.ERROR
        assert (job.error or "").endswith("of it: that is too long (vod.job_ratio)")
        assert at.scratch() == [] and at.pids() == []


async def test_a_disk_that_becomes_full_ends_a_running_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [1 << 40]
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: real._replace(free=free[0]))
    async with bench(tmp_path, **SLOW) as at:
        at.put(slow_film(), "slow.mkv")
        job = await at.studio.submit("slow.mkv")
        await at.at_work(job.id)
        free[0] = 1000
        done = await at.finished(job.id)
        assert done.state is JobState.ERROR
        assert done.error == "the disk has 1000 bytes left, 500000000 stay free (vod.keep_free)"
        assert at.scratch() == [] and at.pids() == []


async def test_a_long_running_job_lets_another_job_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.vod.vod_runner._TURN_SECONDS", 0.001)
    async with bench(tmp_path, **SLOW, MILLRACE_VOD__WORKERS="1") as at:
        for name in ("one", "two", "three"):
            at.put(slow_film(), f"{name}.mkv")
        jobs = [await at.studio.submit(f"{name}.mkv") for name in ("one", "two", "three")]
        for job in jobs[:2]:
            await at.until(job.id, lambda job: job.state is JobState.PROGRESSING)
        assert (await at.store.get(jobs[0].id)).state is JobState.PROGRESSING
        assert len(at.studio.runner.running) == 2  # and never a third
        assert (await at.store.get(jobs[2].id)).state is JobState.SUBMITTED
