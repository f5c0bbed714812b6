"""The queue of jobs that send stored objects to Kinesis streams, one after the other."""

import asyncio
import hashlib
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

import structlog

from gateway.lib import process
from gateway.lib.waiting import wait_at_most
from gateway.outputs.kinesis.kvs_running_job import FirstFragment, KvsRunningJob
from gateway.outputs.kinesis.kvs_streams import KvsStreams
from gateway.ports import media_keys
from gateway.ports.errors import (
    AtCapacity,
    JobChanged,
    NoSuchJob,
    NoSuchObject,
    OutputError,
    StoreUnavailable,
    TooLarge,
)
from gateway.ports.job_queue import FINISHED_JOBS, JobQueue
from gateway.ports.jobs import KVS, JobState, StoredJob
from gateway.ports.store_outage import StoreOutage
from gateway.ports.vod_names import is_vod_file
from gateway.vod.abandoned_jobs import AbandonedJobs
from gateway.vod.object_player import ObjectPlayer

log = structlog.get_logger(__name__)

MOST_WAITING: Final = 100  # jobs: they are played in real time, so the last one waits for days
_ABANDONED_SECONDS: Final = 120.0  # without an update, after which a running job counts as abandoned
_POLL_SECONDS: Final = 5.0  # between reads of the store while jobs wait
_IDLE_POLL_SECONDS: Final = 30.0  # between reads without waiting jobs; an ended process may leave some
_CALLER_POLL_SECONDS: Final = 1.0  # a waiting caller's job may run on another node
_TRIM_INTERVAL: Final = 50
_PROCESS_ENDED: Final = "the gateway that ran this job has ended"


@dataclass(frozen=True, slots=True)
class ObjectRequest:
    """An object. encoded: whether the key is URL-encoded, as in S3 events."""

    bucket: str
    key: str
    encoded: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The keys that the object may have, the most likely first."""
        decoded = unquote_plus(self.key)
        return (decoded,) if self.encoded else tuple(dict.fromkeys((self.key, decoded)))


@dataclass(frozen=True, slots=True)
class SubmittedJobs:
    """Submitted jobs, in order. arn: of the Kinesis stream, or the name that the settings have.

    fragment: number of the first fragment; None before an acknowledgement.
    """

    arn: str
    fragment: str | None
    jobs: tuple[StoredJob, ...]


class KvsJobs:
    """The queue of Kinesis jobs. Gateways with one job store share it: start `run` in one process of each.

    At most one job of all gateways sends to a stream. The oldest begins first. A live channel of this process that uses
    the stream delays it too. Jobs that have not begun survive the end of their process. A partly sent object is not
    sent again.

    most: maximum number of waiting jobs.
    """

    def __init__(self, streams: KvsStreams, player: ObjectPlayer, queue: JobQueue, *, most: int = MOST_WAITING) -> None:
        self._streams = streams
        self._player = player
        self._queue = queue
        self._most = most
        self._added = 0
        self._owner = process.owner()
        self._abandoned = AbandonedJobs(self._owner, _ABANDONED_SECONDS)
        self._submitting = asyncio.Lock()  # one at a time, so that they count the waiting jobs correctly
        self._callers: dict[str, FirstFragment] = {}  # by job id
        self._woken = asyncio.Event()
        self._retired = False

    # ---- submitting ----

    async def submit(self, requested: Sequence[ObjectRequest], wait_seconds: float) -> SubmittedJobs:
        """Queues jobs for objects. Returns at the first acknowledgement of the first job, or after `wait_seconds`.

        Missing objects are skipped if others exist.
        Raises NoSuchObject (if none exists), TooLarge, AtCapacity and StoreUnavailable.
        Raises OutputError if the first job fails in this time.
        """
        stream = self._stream()
        found = await self._find(requested)
        async with self._submitting:
            if await self._waiting() + len(found) > self._most:
                raise AtCapacity(f"{self._most} Kinesis jobs wait already")
            jobs = tuple([await self._add(stream, source) for source in found])
        self._woken.set()
        if wait_seconds <= 0:
            return SubmittedJobs(stream, None, jobs)
        arn, fragment = await self._first_fragment(jobs[0].id, wait_seconds) or (stream, None)
        return SubmittedJobs(arn, fragment, jobs)

    async def submit_object(self, bucket: str, key: str) -> None:
        """Queues a job for an object in an event of a bucket. Raises StoreUnavailable.

        The job's id depends on key, size and time of the object, so a repeated event creates no second job. Media that
        Millrace recorded or converted are ignored. See `wait_for_room` for the bound.
        """
        if media_keys.parse(key) is not None or is_vod_file(key):
            return
        stream, source = self._stream(), f"s3://{bucket}/{key}"
        try:
            found = await self._player.find(bucket, (key,))
        except NoSuchObject:
            log.info("an event has no object", bucket=bucket, object=key[:200])
            return
        except TooLarge as error:
            with suppress(JobChanged):  # it began already, and fails for the same reason
                await self._queue.fail(await self._add(stream, source), str(error))
            return
        except OutputError as error:
            raise StoreUnavailable(str(error)) from None
        text = f"kvs\n{source}\n{found.size}\n{found.modified}"
        fingerprint = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
        await self._add(stream, source, f"{int(found.modified * 1000)}-{fingerprint}")
        self._woken.set()

    async def wait_for_room(self) -> None:
        """Waits until a job may be queued. Events wait in their queue meanwhile. Each call admits one batch of them."""
        while True:
            with suppress(StoreUnavailable):
                if await self._waiting() < self._most:
                    return
            await asyncio.sleep(_POLL_SECONDS)

    def _stream(self) -> str:
        if not self._streams.default_stream:
            raise OutputError("no Kinesis stream is set: kvs.stream, or the variable KVS_STREAM_ARN")
        return self._streams.default_stream

    async def _find(self, requested: Sequence[ObjectRequest]) -> list[str]:
        """Returns the objects that exist, as s3://bucket/key."""
        found: list[str] = []
        missing: NoSuchObject | None = None
        for request in requested:
            try:
                object = await self._player.find(request.bucket, request.names)
            except NoSuchObject as error:
                log.info("a requested object does not exist", bucket=request.bucket, object=request.key[:200])
                missing = error
                continue
            found.append(f"s3://{request.bucket}/{object.key}")
        if not found:
            assert missing is not None, "at least one object is requested"
            raise missing
        return found

    async def _waiting(self) -> int:
        unfinished = await self._queue.store.unfinished()
        return sum(job.kind == KVS and job.state is JobState.SUBMITTED for job in unfinished)

    async def _add(self, stream: str, source: str, id: str = "") -> StoredJob:
        job, _ = await self._queue.submit(KVS, source, id=id, detail={"stream": stream})
        self._added += 1
        if self._added % _TRIM_INTERVAL == 0:
            await self._queue.store.trim(FINISHED_JOBS)
        return job

    # ---- callers that wait ----

    async def _first_fragment(self, id: str, seconds: float) -> tuple[str, str] | None:
        """Returns ARN and number of a job's first fragment; None if there is none within `seconds`."""
        started: FirstFragment = asyncio.get_running_loop().create_future()
        self._callers[id] = started
        until = time.monotonic() + seconds
        try:
            while (remaining := until - time.monotonic()) > 0:
                await asyncio.wait({started}, timeout=min(remaining, _CALLER_POLL_SECONDS))
                if started.done():
                    return started.result()
                with suppress(StoreUnavailable):
                    if (first := _first_of(await self._queue.store.get(id))) is not None:
                        return first
            return None
        finally:
            del self._callers[id]
            started.cancel()

    # ---- running ----

    async def run(self) -> None:
        """Runs jobs until cancelled. A running job then fails; the others wait for another process."""
        outage = StoreOutage("kinesis jobs have to wait")
        while not self._retired:
            self._woken.clear()
            pause = _POLL_SECONDS
            with outage:
                pause = await self._run_next()
            if outage.lasts:
                self._abandoned.reset()
            if pause:
                await wait_at_most(pause, self._woken)

    def retire(self) -> None:
        """Begins no more jobs, because another process replaces this one. A running job continues."""
        self._retired = True
        self._woken.set()

    async def _run_next(self) -> float:
        """Runs the oldest job, if one may begin. Returns the seconds until the next attempt."""
        jobs = await self._unfinished()
        if not jobs:
            return _IDLE_POLL_SECONDS
        stream = _stream_of(jobs[0], self._streams.default_stream)

        def on_waiting(reason: str | None) -> None:
            if reason is not None:
                log.info("a kinesis job waits", job=jobs[0].id, reason=reason)

        async with self._streams.wait_and_claim(lambda: stream, "a job of POST /processObject", on_waiting):
            begun = await self._begin(stream)
            if begun is None:
                return _POLL_SECONDS * random.uniform(0.5, 1)  # noqa: S311
            job = KvsRunningJob(self._streams, self._player, self._queue, begun, self._callers.get(begun.id))
            try:
                with suppress(JobChanged, NoSuchJob):  # it was cancelled, or another process changed it
                    await job.run(stream)
            except asyncio.CancelledError:
                await self._fail(begun.id)
                raise
        return 0

    async def _begin(self, stream: str) -> StoredJob | None:
        """Begins the oldest job for the claimed stream; None if another process has one for it."""
        jobs = [job for job in await self._unfinished() if _stream_of(job, stream) == stream]
        if self._retired or not jobs or any(job.state is JobState.PROGRESSING for job in jobs):
            return None
        try:
            begun = await self._queue.begin(jobs[0], self._owner)
        except (JobChanged, NoSuchJob):
            return None
        for other in await self._unfinished():
            # Another process began one at the same time. Each that sees the other gives its own job back.
            if other.id != begun.id and other.state is JobState.PROGRESSING and _stream_of(other, stream) == stream:
                with suppress(JobChanged, NoSuchJob):
                    await self._queue.requeue(begun)
                return None
        return begun

    async def _unfinished(self) -> list[StoredJob]:
        """Returns the unfinished jobs, the oldest first. Marks abandoned jobs as failed."""
        jobs = [job for job in await self._queue.store.unfinished() if job.kind == KVS]
        abandoned = self._abandoned.find(jobs, time.monotonic())
        for job in jobs:
            if job.id in abandoned:
                with suppress(JobChanged, NoSuchJob):
                    await self._queue.fail(job, _PROCESS_ENDED)
        return [job for job in jobs if job.id not in abandoned]

    async def _fail(self, id: str) -> None:
        """Marks a job as failed, because the process ends."""
        with suppress(StoreUnavailable, TimeoutError, JobChanged, NoSuchJob):
            async with asyncio.timeout(3):
                current = await self._queue.store.get(id)
                if not current.state.finished:
                    await self._queue.fail(current, _PROCESS_ENDED)


def _stream_of(job: StoredJob, default: str) -> str:
    return str(job.detail.get("stream") or default)


def _first_of(job: StoredJob) -> tuple[str, str] | None:
    """Returns ARN and number of the first fragment of a stored job, if it has one. Raises OutputError if it failed."""
    if number := job.outputs.get("startFragmentNumber"):
        return job.outputs.get("streamArn", ""), number
    if job.state.finished:
        raise OutputError(job.error or "the job was cancelled")
    return None
