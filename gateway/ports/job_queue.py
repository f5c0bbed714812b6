"""Creates jobs and changes their states. No other code does this, so states, cancelling and events are consistent."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import structlog

from gateway.ports.errors import JobChanged, JobExists, JobFinished
from gateway.ports.events import Event, Events, EventType
from gateway.ports.jobs import JobState, StoredJob
from gateway.ports.stores import JobStore

log = structlog.get_logger(__name__)

FINISHED_JOBS: Final = 1_000  # that are kept: weeks of uploads, and one page of `GET /jobs`
_MAX_ATTEMPTS: Final = 20  # of one `cancel`, while the owner changes the job
_MAX_ERROR: Final = 500  # characters


class JobQueue:
    """Jobs in a store that other processes may share. Every method may raise StoreUnavailable.

    A job's owner changes it with the version that it has read. Cancelling changes the stored job. The owner's next
    change then raises JobChanged, and the owner must stop. An owner in this process is stopped at once (`cancelling`).
    """

    def __init__(self, store: JobStore, events: Events, clock: Callable[[], float] = time.time) -> None:
        self.store, self._events, self._clock = store, events, clock
        self._cancels: dict[str, Callable[[], None]] = {}
        self._callbacks: list[Callable[[StoredJob], None]] = []

    def when_submitted(self, callback: Callable[[StoredJob], None]) -> None:
        """Calls `callback` with each job that is submitted in this process."""
        self._callbacks.append(callback)

    async def submit(
        self, kind: str, source: str, *, id: str = "", detail: Mapping[str, Any] | None = None
    ) -> tuple[StoredJob, bool]:
        """Stores a new job in SUBMITTED and returns it with True.

        If `id` exists already, it returns the stored job with False.
        """
        now = self._clock()
        job = StoredJob(id or new_id(now), kind, source, now, now, detail=detail or {})
        try:
            await self.store.add(job)
        except JobExists:
            return await self.store.get(job.id), False
        log.info("job submitted", job=job.id, kind=kind, source=source)
        for callback in self._callbacks:
            callback(job)
        return job, True

    async def begin(self, job: StoredJob, owner: str) -> StoredJob:
        """Changes SUBMITTED to PROGRESSING, or makes `owner` the owner of a job in PROGRESSING.

        Raises JobChanged if another process changed the job first.
        """
        started = job.to(JobState.PROGRESSING, self._clock(), owner=owner, attempts=job.attempts + 1, progress=0)
        await self.store.change(started)
        return started

    async def advance(self, job: StoredJob, percent: int, outputs: Mapping[str, str] | None = None) -> StoredJob:
        """Stores the progress in percent, and outputs that exist already. Raises JobChanged if the owner must stop."""
        changes = {"outputs": outputs} if outputs is not None else {}
        advanced = job.to(JobState.PROGRESSING, self._clock(), progress=max(0, min(100, percent)), **changes)
        await self.store.change(advanced)
        return advanced

    async def requeue(self, job: StoredJob) -> StoredJob:
        """Changes a job to SUBMITTED because its owner shuts down. Does not count this attempt. Raises JobChanged."""
        queued = job.to(JobState.SUBMITTED, self._clock(), owner="", progress=0, attempts=max(0, job.attempts - 1))
        await self.store.change(queued)
        return queued

    async def complete(self, job: StoredJob, outputs: Mapping[str, str], warning: str | None = None) -> StoredJob:
        """Completes the job. warning: one line. Raises JobChanged if it was canceled before."""
        done = job.to(JobState.COMPLETE, self._clock(), progress=100, outputs=outputs, warning=warning)
        await self.store.change(done)
        seconds = round(done.updated - done.created)
        log.info("job complete", job=job.id, kind=job.kind, source=job.source, seconds=seconds, warning=warning)
        self._emit(EventType.JOB_DONE, done)
        return done

    async def fail(self, job: StoredJob, error: str) -> StoredJob:
        """Marks the job as failed. error: one line. Raises JobChanged if it was canceled before."""
        failed = job.to(JobState.ERROR, self._clock(), error=" ".join(error.split())[:_MAX_ERROR])
        await self.store.change(failed)
        log.warning("job failed", job=job.id, kind=job.kind, source=job.source, reason=failed.error)
        self._emit(EventType.JOB_FAILED, failed)
        return failed

    async def cancel(self, id: str) -> StoredJob:
        """Cancels the job, also in another process. Raises NoSuchJob, JobFinished."""
        for _ in range(_MAX_ATTEMPTS):  # the owner may change it between `get` and `change`
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
        """During the block, calls `stop` on the event loop if the job is canceled in this process."""
        self._cancels[id] = stop
        try:
            yield
        finally:
            del self._cancels[id]

    def _emit(self, type: EventType, job: StoredJob) -> None:
        data: dict[str, Any] = {"job": job.id, "kind": job.kind, "source": job.source, "state": str(job.state)}
        if type is EventType.JOB_DONE:
            data["outputs"] = dict(job.outputs)
        else:
            data["error"] = job.error
        self._events.emit(Event(type, job.updated, "", data))


def new_id(now: float) -> str:
    """Returns a unique id that sorts by time: milliseconds and random digits, as in ids of MediaConvert."""
    return f"{int(now * 1000)}-{secrets.token_hex(4)}"
