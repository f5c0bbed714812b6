"""JobDesk: the one way in which jobs are made and moved, so that state, cancelling and events agree everywhere."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import structlog

from gateway.hub.errors import JobChanged, JobExists, JobFinished
from gateway.hub.events import Event, Events, EventType
from gateway.hub.jobs import Job, JobState
from gateway.hub.ports import JobStore

log = structlog.get_logger(__name__)

_MOST_TRIES: Final = 20
_MOST_ERROR: Final = 500


class JobDesk:
    """Jobs over a store that others may share. Every method may raise StoreAway.

    A job's owner moves it with the version it holds; whoever cancels changes the stored job, and the owner's next step
    then fails with JobChanged: it has to stop. Owners in this process are told at once (`cancelling`).
    """

    def __init__(self, store: JobStore, events: Events, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self._events = events
        self._clock = clock
        self._cancels: dict[str, Callable[[], None]] = {}
        self._submitted: list[Callable[[Job], None]] = []

    def when_submitted(self, told: Callable[[Job], None]) -> None:
        """Calls `told` with each job that is submitted here."""
        self._submitted.append(told)

    async def submit(
        self, kind: str, source: str, *, id: str = "", detail: Mapping[str, Any] | None = None
    ) -> tuple[Job, bool]:
        """A new job in SUBMITTED, and True; where `id` exists already that one as it is, and False."""
        now = self._clock()
        job = Job(id or new_id(now), kind, source, now, now, detail=detail or {})
        try:
            await self.store.add(job)
        except JobExists:
            return await self.store.get(job.id), False
        log.info("job submitted", job=job.id, kind=kind, source=source)
        for told in self._submitted:
            told(job)
        return job, True

    async def begin(self, job: Job, owner: str) -> Job:
        """SUBMITTED (or another's PROGRESSING, taken over) to PROGRESSING. Raises JobChanged: another was first."""
        begun = job.to(JobState.PROGRESSING, self._clock(), owner=owner, attempts=job.attempts + 1, progress=0)
        await self.store.change(begun)
        return begun

    async def advance(self, job: Job, percent: int) -> Job:
        """The owner's word that it is at work, at so many percent. Raises JobChanged where it has to stop."""
        further = job.to(JobState.PROGRESSING, self._clock(), progress=max(0, min(100, percent)))
        await self.store.change(further)
        return further

    async def again(self, job: Job) -> Job:
        """Back to SUBMITTED, by an owner that ends in good order: this beginning does not count. Raises JobChanged."""
        back = job.to(JobState.SUBMITTED, self._clock(), owner="", progress=0, attempts=max(0, job.attempts - 1))
        await self.store.change(back)
        return back

    async def complete(self, job: Job, outputs: Mapping[str, str]) -> Job:
        """Raises JobChanged where it was cancelled meanwhile."""
        done = job.to(JobState.COMPLETE, self._clock(), progress=100, outputs=outputs)
        await self.store.change(done)
        log.info(
            "job complete", job=job.id, kind=job.kind, source=job.source, seconds=round(done.updated - done.created)
        )
        self._tell(EventType.JOB_DONE, done)
        return done

    async def fail(self, job: Job, error: str) -> Job:
        """error: one line. Raises JobChanged where it was cancelled meanwhile."""
        failed = job.to(JobState.ERROR, self._clock(), error=" ".join(error.split())[:_MOST_ERROR])
        await self.store.change(failed)
        log.warning("job failed", job=job.id, kind=job.kind, source=job.source, reason=failed.error)
        self._tell(EventType.JOB_FAILED, failed)
        return failed

    async def cancel(self, id: str) -> Job:
        """CANCELED, wherever it is at work. Raises NoSuchJob, JobFinished."""
        for _ in range(_MOST_TRIES):  # its owner may be faster a few times
            job = await self.store.get(id)
            if job.state.finished:
                raise JobFinished(job.id, str(job.state))
            canceled = job.to(JobState.CANCELED, self._clock())
            try:
                await self.store.change(canceled)
            except JobChanged:
                continue
            log.info("job canceled", job=id)
            if (stop := self._cancels.get(id)) is not None:
                stop()
            return canceled
        raise JobChanged(id)

    @contextmanager
    def cancelling(self, id: str, stop: Callable[[], None]) -> Iterator[None]:
        """While the block runs, a job that is cancelled in this process is stopped by `stop`, on the loop."""
        self._cancels[id] = stop
        try:
            yield
        finally:
            del self._cancels[id]

    def _tell(self, type: EventType, job: Job) -> None:
        data: dict[str, Any] = {"job": job.id, "kind": job.kind, "source": job.source, "state": str(job.state)}
        if type is EventType.JOB_DONE:
            data["outputs"] = dict(job.outputs)
        else:
            data["error"] = job.error
        self._events.emit(Event(type, job.updated, "", data))


def new_id(now: float) -> str:
    """Unique, and in order of time: milliseconds and chance, in MediaConvert's form."""
    return f"{int(now * 1000)}-{secrets.token_hex(4)}"
