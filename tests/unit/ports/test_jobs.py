"""Jobs: a table of state transitions, and the queue that follows it."""

from __future__ import annotations

import itertools

import pytest

from gateway.ports.errors import JobChanged, JobExists, JobFinished, NoSuchJob
from gateway.ports.events import Event, Events, EventType
from gateway.ports.job_queue import JobQueue, new_id
from gateway.ports.jobs import TRANSITIONS, VOD, JobState, StoredJob


class Memory:
    """A `JobStore` in a dictionary."""

    def __init__(self) -> None:
        self.jobs: dict[str, StoredJob] = {}

    async def add(self, job: StoredJob) -> None:
        if job.id in self.jobs:
            raise JobExists(job.id)
        self.jobs[job.id] = job

    async def get(self, id: str) -> StoredJob:
        if id not in self.jobs:
            raise NoSuchJob(id)
        return self.jobs[id]

    async def newest(self, most: int, before: str = "") -> list[StoredJob]:
        return sorted((j for j in self.jobs.values() if not before or j.id < before), key=lambda j: j.id)[::-1][:most]

    async def unfinished(self) -> list[StoredJob]:
        return [j for j in self.jobs.values() if not j.state.finished]

    async def change(self, job: StoredJob) -> None:
        if (await self.get(job.id)).version != job.version - 1:
            raise JobChanged(job.id)
        self.jobs[job.id] = job

    async def trim(self, most: int) -> None: ...

    async def check(self) -> None: ...


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def desk(told: list[Event]) -> JobQueue:
    events = Events()
    events.listen(told.append)
    return JobQueue(Memory(), events, itertools.count(1_700_000_000.0).__next__)


@pytest.mark.parametrize(("old", "new"), list(itertools.product(JobState, JobState)))
def test_a_job_allows_only_the_listed_state_transitions(old: JobState, new: JobState) -> None:
    job = StoredJob("1", VOD, "a.mp4", 0, 0, state=old)
    if new in TRANSITIONS[old]:
        assert job.to(new, 5.0).state is new and job.to(new, 5.0).version == 2
    else:
        with pytest.raises(ValueError, match="does not change"):
            job.to(new, 5.0)


def test_the_job_states_are_those_of_mediaconvert() -> None:
    assert [str(s) for s in JobState] == ["SUBMITTED", "PROGRESSING", "COMPLETE", "CANCELED", "ERROR"]
    assert [s for s in JobState if s.finished] == [JobState.COMPLETE, JobState.CANCELED, JobState.ERROR]


def test_a_stored_job_is_read_back_despite_unknown_fields() -> None:
    job = StoredJob("1", VOD, "a.mp4", 1.5, 2.5, JobState.ERROR, 40, {"hls": "a"}, "why", "me", 2, {"x": 1}, 7)
    assert StoredJob.of_item({**job.as_item(), "later": True}) == job


async def test_a_completed_job_emits_an_event(desk: JobQueue, told: list[Event]) -> None:
    job, new = await desk.submit(VOD, "a.mp4")
    assert new and job.state is JobState.SUBMITTED
    job = await desk.begin(job, "me")
    job = await desk.advance(job, 50)
    assert job.progress == 50 and job.attempts == 1
    done = await desk.complete(job, {"hls": "a/a.m3u8"})
    assert done.progress == 100
    assert [e.type for e in told] == [EventType.JOB_DONE]
    assert told[0].data == {
        "job": job.id, "kind": "vod", "source": "a.mp4", "state": "COMPLETE", "outputs": {"hls": "a/a.m3u8"},
    }  # fmt: skip


async def test_a_failed_job_emits_an_event_with_a_one_line_error(desk: JobQueue, told: list[Event]) -> None:
    job, _ = await desk.submit(VOD, "a.mp4")
    failed = await desk.fail(await desk.begin(job, "me"), "it is\n  text")
    assert failed.error == "it is text"
    assert told[0].type is EventType.JOB_FAILED and told[0].data["error"] == "it is text"


async def test_submitting_the_same_id_again_gives_the_same_job(desk: JobQueue) -> None:
    job, new = await desk.submit(VOD, "a.mp4", id="1-a")
    again, newer = await desk.submit(VOD, "a.mp4", id="1-a")
    assert (new, newer) == (True, False) and again == job


async def test_the_owner_is_informed_when_its_job_is_cancelled(desk: JobQueue) -> None:
    job, _ = await desk.submit(VOD, "a.mp4")
    job = await desk.begin(job, "me")
    stopped: list[str] = []
    with desk.cancelling(job.id, lambda: stopped.append(job.id)):
        assert (await desk.cancel(job.id)).state is JobState.CANCELED
    assert stopped == [job.id]
    for step in (desk.advance(job, 60), desk.complete(job, {}), desk.fail(job, "x")):
        with pytest.raises(JobChanged):
            await step


async def test_a_finished_or_unknown_job_cannot_be_cancelled(desk: JobQueue) -> None:
    job, _ = await desk.submit(VOD, "a.mp4")
    await desk.cancel(job.id)
    with pytest.raises(JobFinished):
        await desk.cancel(job.id)
    with pytest.raises(NoSuchJob):
        await desk.cancel("nothing")


async def test_a_requeued_job_does_not_count_an_attempt(desk: JobQueue) -> None:
    job, _ = await desk.submit(VOD, "a.mp4")
    back = await desk.requeue(await desk.begin(job, "me"))
    assert (back.state, back.attempts, back.owner) == (JobState.SUBMITTED, 0, "")


async def test_submitting_a_job_notifies_listeners(desk: JobQueue) -> None:
    seen: list[StoredJob] = []
    desk.when_submitted(seen.append)
    job, _ = await desk.submit(VOD, "a.mp4")
    assert seen == [job]


def test_job_ids_sort_by_time() -> None:
    ids = [new_id(now) for now in (1_700_000_000.0, 1_700_000_000.5, 1_800_000_000.0)]
    assert ids == sorted(ids) and len(set(ids)) == 3
