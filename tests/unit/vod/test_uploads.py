"""An upload becomes a job, also if a store was unavailable; a process that ended leaves no file for long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.adapters.local.stores import SqliteJobs
from gateway.ports.errors import StoreUnavailable
from gateway.ports.films import FilmState
from gateway.ports.jobs import StoredJob
from gateway.ports.vod_names import names_of
from gateway.vod import films as films_module
from gateway.vod import store_wait
from gateway.vod.uploads import UploadLock
from tests.support.studio import Bench, bench
from tests.support.time_outs import at_most


class Jobs(SqliteJobs):
    """A store of jobs whose next `add` fails with these errors."""

    def __init__(self, path: Path, *errors: Exception) -> None:
        super().__init__(path)
        self.errors = list(errors)

    async def add(self, job: StoredJob) -> None:
        if self.errors:
            raise self.errors.pop()
        await super().add(job)


async def body() -> AsyncIterator[bytes]:
    yield b"film"


async def state_of(at: Bench, key: str) -> FilmState:
    return (await at.studio.films.store.get(names_of(key).prefix)).state


async def test_an_upload_waits_for_an_unavailable_store_of_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_wait.Backoff, "next", lambda self: 0)
    jobs = Jobs(tmp_path / "jobs.db", StoreUnavailable("it is away"))
    async with jobs, bench(tmp_path, run=False, jobs=jobs) as at:
        key, _ = await at.studio.uploads.offer("clip.mp4", "http://x")
        job = await at.studio.uploads.receive(key, body())
        assert job is not None and await jobs.newest(10) == [job]
        assert await state_of(at, key) is FilmState.PROCESSING


async def test_a_client_that_leaves_while_its_upload_is_locked_can_send_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may = threading.Event(), threading.Event()
    real = UploadLock.begin

    def slow(folder: Path, key: str) -> UploadLock:
        begun.set()
        may.wait(at_most(20))
        return real(folder, key)

    async with bench(tmp_path, run=False) as at:
        key, _ = await at.studio.uploads.offer("clip.mp4", "http://x")
        with monkeypatch.context() as patched:
            patched.setattr(UploadLock, "begin", slow)
            sending = asyncio.create_task(at.studio.uploads.receive(key, body()))
            await asyncio.to_thread(begun.wait, at_most(20))
            sending.cancel()
            await asyncio.sleep(0)
            may.set()
            with pytest.raises(asyncio.CancelledError):
                await sending
        assert await at.studio.uploads.receive(key, body()) is not None


@pytest.mark.parametrize("step", ["submit", "begin"])
async def test_an_upload_whose_process_ended_before_its_job_is_continued_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(films_module, "_SUBMIT_SECONDS", 0.01)  # no other process submits a job here
    async with Jobs(tmp_path / "jobs.db") as jobs, bench(tmp_path, run=False, jobs=jobs) as at:
        key, _ = await at.studio.uploads.offer("clip.mp4", "http://x", "Holiday")

        async def end(*_: object, **__: object) -> None:
            raise asyncio.CancelledError

        with monkeypatch.context() as ended:
            ended.setattr(at.studio.queue if step == "submit" else at.studio.films, step, end)
            with pytest.raises(asyncio.CancelledError):
                await at.studio.uploads.receive(key, body())
        assert await state_of(at, key) is FilmState.UPLOADING
        for _ in range(2):
            await at.studio.films._round()
            assert [job.source for job in await jobs.newest(10)] == [key]
        film = await at.studio.films.get_visible(names_of(key).prefix)
        assert (film.state, film.title) == (FilmState.PROCESSING, "Holiday")


async def test_the_file_of_a_dead_process_is_removed_and_that_of_a_running_upload_stays(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        uploads = at.studio.uploads
        first, second, third = [(await uploads.offer("clip.mp4", "http://x"))[0] for _ in range(3)]
        seen: list[Path] = []

        async def body_beside_another() -> AsyncIterator[bytes]:
            yield b"fi"
            seen.extend(at.data / name for name in at.scratch())
            await uploads.receive(second, body())
            yield b"lm"

        await uploads.receive(first, body_beside_another())
        assert [(at.root / key).read_bytes() for key in (first, second)] == [b"film", b"film"]
        (part,) = seen
        part.write_bytes(b"fi")  # as if its process had been killed
        await uploads.receive(third, body())
        assert at.scratch() == []
