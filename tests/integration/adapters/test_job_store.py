"""The contract of all job stores: SQLite and the DynamoDB doubles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from gateway.adapters.stores import open_stores
from gateway.ports.errors import JobChanged, JobExists, NoSuchJob
from gateway.ports.jobs import VOD, JobState, StoredJob
from gateway.ports.stores import JobStore
from gateway.settings import load
from tests.integration.adapters.conftest import CONTRACT_DOUBLES, DOUBLES, make_table

TABLE = "video-jobs"


@pytest_asyncio.fixture(params=["sqlite", "postgres", *CONTRACT_DOUBLES])
async def jobs(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[JobStore]:
    environ = {"MILLRACE_DATA": str(tmp_path)}
    if request.param in DOUBLES:
        request.getfixturevalue(DOUBLES[request.param])
        make_table(TABLE, "id")
        environ["MILLRACE_VOD__JOBS"] = f"dynamodb://{TABLE}"
    elif request.param == "postgres":
        environ["MILLRACE_DATABASE"] = request.getfixturevalue("postgres").new_database()
    async with open_stores(load(environ=environ)) as opened:
        yield opened.jobs


def job(id: str = "1700000000000-aa", **fields: object) -> StoredJob:
    return replace(StoredJob(id, VOD, "films/ä b.mp4", 1700000000.25, 1700000000.25), **fields)  # type: ignore[arg-type]


async def test_the_store_returns_a_job_unchanged(jobs: JobStore) -> None:
    stored = job(detail={"rotate": True, "n": [1, 2.5, None]}, outputs={"hls": "a/a.m3u8"}, error="it is text")
    await jobs.add(stored)
    assert await jobs.get(stored.id) == stored


async def test_a_job_id_can_be_added_only_once(jobs: JobStore) -> None:
    await jobs.add(job())
    with pytest.raises(JobExists):
        await jobs.add(job(source="another.mp4"))
    assert (await jobs.get(job().id)).source == "films/ä b.mp4"


async def test_an_unknown_job_raises_no_such_job(jobs: JobStore) -> None:
    with pytest.raises(NoSuchJob):
        await jobs.get("nothing")
    with pytest.raises(NoSuchJob):
        await jobs.change(job(version=2))


async def test_a_change_of_an_outdated_version_is_refused(jobs: JobStore) -> None:
    first = job()
    await jobs.add(first)
    begun = first.to(JobState.PROGRESSING, 1.0, owner="a")
    await jobs.change(begun)
    with pytest.raises(JobChanged):
        await jobs.change(first.to(JobState.CANCELED, 2.0))
    assert await jobs.get(first.id) == begun


async def test_only_one_of_several_simultaneous_takers_gets_a_job(jobs: JobStore) -> None:
    first = job()
    await jobs.add(first)

    async def take(owner: str) -> bool:
        try:
            await jobs.change(first.to(JobState.PROGRESSING, 1.0, owner=owner))
        except JobChanged:
            return False
        return True

    taken = await asyncio.gather(*(take(str(n)) for n in range(20)))
    assert sum(taken) == 1


async def test_the_newest_jobs_come_first_and_are_paged(jobs: JobStore) -> None:
    for n in range(7):
        await jobs.add(job(f"170000000000{n}-aa"))
    page = await jobs.newest(3)
    assert [j.id for j in page] == [f"170000000000{n}-aa" for n in (6, 5, 4)]
    assert [j.id for j in await jobs.newest(3, page[-1].id)] == [f"170000000000{n}-aa" for n in (3, 2, 1)]
    assert await jobs.newest(3, "1700000000000-aa") == []


async def test_unfinished_jobs_are_found_the_oldest_first(jobs: JobStore) -> None:
    for n, state in enumerate(JobState):
        await jobs.add(job(f"{n}-aa", state=state))
    assert [j.state for j in await jobs.unfinished()] == [JobState.SUBMITTED, JobState.PROGRESSING]


async def test_only_the_newest_finished_jobs_are_kept(jobs: JobStore) -> None:
    await jobs.add(job("0-aa"))
    for n in range(1, 6):
        await jobs.add(job(f"{n}-aa", state=JobState.COMPLETE))
    await jobs.trim(2)
    assert [j.id for j in await jobs.newest(10)] == ["5-aa", "4-aa", "0-aa"]


async def test_the_check_of_a_reachable_store_succeeds(jobs: JobStore) -> None:
    await jobs.check()
