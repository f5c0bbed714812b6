"""Jobs of other processes: which ones may be taken, and what an outage of the store does not change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.lib.tasks import Tasks
from gateway.outputs.kinesis import kvs_jobs
from gateway.outputs.kinesis.kvs_jobs import KvsJobs
from gateway.ports.errors import StoreUnavailable
from gateway.ports.events import Events
from gateway.ports.job_queue import JobQueue
from gateway.ports.jobs import KVS, VOD, JobState, StoredJob
from gateway.ports.stores import JobStore
from gateway.vod import vod_runner
from gateway.vod.abandoned_jobs import AbandonedJobs
from tests.support.clock import Clock
from tests.support.studio import bench

LONG = 150.0  # seconds, longer than both runners wait for a write


def running(version: int = 1, kind: str = VOD) -> StoredJob:
    return StoredJob("1-a", kind, "a.mp4", 0, Clock().now, JobState.PROGRESSING, owner="elsewhere/1/x", version=version)


def test_a_job_is_abandoned_after_a_time_without_a_new_version() -> None:
    jobs = AbandonedJobs("here/1/x", 60)
    assert [jobs.find([running(1)], now) for now in (0, 60)] == [set(), set()]
    assert [jobs.find([running(2)], now) for now in (61, 121)] == [set(), set()]
    assert jobs.find([running(2)], 122) == {"1-a"}


def test_a_job_is_measured_again_after_it_was_gone_or_the_store_was_away() -> None:
    jobs = AbandonedJobs("here/1/x", 60)
    assert [jobs.find(read, now) for read, now in (([running()], 0), ([], 10), ([running()], 61))] == [set()] * 3
    jobs.reset()
    assert [jobs.find([running()], now) for now in (122, 182)] == [set(), set()]


class Outage:
    """A `JobStore` with one job, which does not answer while there is none. It collects the changes."""

    def __init__(self, job: StoredJob) -> None:
        self.job: StoredJob | None = job
        self.changes: list[StoredJob] = []
        self._read = asyncio.Event()

    async def unfinished(self) -> list[StoredJob]:
        self._read.set()
        await asyncio.sleep(0)
        if self.job is None:
            raise StoreUnavailable("no answer")
        return [self.job]

    async def change(self, job: StoredJob) -> None:
        self.changes.append(job)

    async def is_read_again(self) -> None:
        for _ in range(4):  # a round of the runner of Kinesis jobs reads twice
            self._read.clear()
            await self._read.wait()


@asynccontextmanager
async def runner(kind: str, store: Outage, folder: Path) -> AsyncIterator[None]:
    jobs = cast(JobStore, store)
    async with bench(folder, run=False, jobs=jobs) as at, Tasks("test") as tasks:
        if kind == VOD:
            tasks.start(at.studio.runner.run())
        else:
            at_once = asynccontextmanager(_claim)
            streams: Any = SimpleNamespace(default_stream="lobby", wait_and_claim=at_once)
            tasks.start(KvsJobs(streams, cast(Any, None), JobQueue(jobs, Events())).run())
        yield


async def _claim(*_: object) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("kind", [VOD, KVS])
async def test_a_job_stays_with_its_owner_after_an_outage_of_the_store(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, job = Clock(), running(kind=kind)
    store = Outage(job)
    for module in (vod_runner, kvs_jobs):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock, time=clock))
        monkeypatch.setattr(module, "_POLL_SECONDS", 0.0)
        monkeypatch.setattr(module, "_IDLE_POLL_SECONDS", 0.0)
    async with runner(kind, store, tmp_path):
        await store.is_read_again()
        store.job = None
        await store.is_read_again()
        clock.now += LONG
        store.job = job
        await store.is_read_again()
        assert store.changes == []
        clock.now += LONG
        await store.is_read_again()
        assert store.changes, "an owner that does not write for so long has ended"
