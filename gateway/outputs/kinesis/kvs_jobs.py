"""Jobs that send stored objects to a Kinesis stream, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from gateway.lib import process
from gateway.lib.tasks import Tasks
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog
from gateway.outputs.kinesis.fragmenter import Fragmenter
from gateway.outputs.kinesis.kvs_delivery import KvsDelivery
from gateway.outputs.kinesis.kvs_streams import KvsStreams
from gateway.ports.errors import (
    GatewayError,
    JobChanged,
    NoSuchJob,
    NoSuchObject,
    OutputError,
    OutputUnsupported,
    StoreUnavailable,
)
from gateway.ports.job_queue import JobQueue
from gateway.ports.jobs import KVS, JobState, StoredJob
from gateway.ports.stores import Object

log = structlog.get_logger(__name__)

_UPDATE_SECONDS: Final = 5.0  # between updates of a running job in the store
_ABANDONED_SECONDS: Final = 120.0  # without an update, after which a running job counts as abandoned
_FINISH_SECONDS: Final = 60.0  # for storing the last fragments after the object has been read
_MAX_QUEUED_SECONDS: Final = 86_400.0  # after which a job that has not begun counts as abandoned
_PROCESS_ENDED: Final = "the gateway that did it has ended"


class Player(Protocol):
    """Reads media from stored objects; implemented by `gateway.vod.object_player`."""

    async def find(self, bucket: str, key: str, *, encoded: bool) -> Object: ...

    def play(
        self, bucket: str, key: str, on_progress: Callable[[float], None]
    ) -> AsyncGenerator[Tracks | AccessUnit, None]: ...


@dataclass(frozen=True, slots=True)
class ObjectRequest:
    """An object. encoded: whether the key is URL-encoded, as in S3 events."""

    bucket: str
    key: str
    encoded: bool = False


@dataclass(frozen=True, slots=True)
class StartedJobs:
    """The started jobs. arn: of the Kinesis stream. jobs: ids, in order.

    fragment: number of the first fragment, None before an acknowledgement.
    """

    arn: str
    fragment: str | None
    jobs: tuple[str, ...]


class KvsJobs:
    """Runs the jobs in `tasks` of the application. They continue if the caller of `begin` stops waiting.

    A running job claims the Kinesis stream: another request raises NameInUse.
    The objects of one request are sent one after the other.
    """

    def __init__(self, streams: KvsStreams, player: Player, queue: JobQueue, tasks: Tasks) -> None:
        self._streams = streams
        self._player = player
        self._queue = queue
        self._tasks = tasks
        self._owner = process.owner()

    async def begin(self, requested: Sequence[ObjectRequest], wait_seconds: float) -> StartedJobs:
        """Sends the objects to `kvs.stream`; returns at the first acknowledgement, or after `wait_seconds`.

        Missing objects are skipped if others exist.
        Raises NameInUse, NoSuchObject (if none exists), TooLarge and StoreUnavailable.
        Raises OutputError if Kinesis or the media prevent it.
        """
        stream = self._streams.default_stream
        if not stream:
            raise OutputError("no Kinesis stream is set: kvs.stream, or the variable KVS_STREAM_ARN")
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._streams.claim(stream, "POST /processObject"))
            await self._fail_abandoned()
            found = await self._find(requested)
            jobs = []
            for bucket, key in found:
                job, _ = await self._queue.submit(KVS, f"s3://{bucket}/{key}", detail={"owner": self._owner})
                jobs.append(job)
            claim = stack.pop_all()
        started: asyncio.Future[tuple[str, str]] = loop.create_future()
        self._tasks.start(self._run_all(stream, found, jobs, started, claim), "kvs jobs")
        ids = tuple(job.id for job in jobs)
        await asyncio.wait({started}, timeout=wait_seconds)
        if not started.done():
            return StartedJobs(stream, None, ids)
        arn, number = started.result()
        return StartedJobs(arn, number, ids)

    async def _find(self, requested: Sequence[ObjectRequest]) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        missing: NoSuchObject | None = None
        for request in requested:
            try:
                object = await self._player.find(request.bucket, request.key, encoded=request.encoded)
            except NoSuchObject as error:
                log.info("a requested object does not exist", bucket=request.bucket, object=request.key[:200])
                missing = error
                continue
            found.append((request.bucket, object.key))
        if not found:
            assert missing is not None, "at least one object is requested"
            raise missing
        return found

    async def _run_all(
        self,
        stream: str,
        found: Sequence[tuple[str, str]],
        jobs: Sequence[StoredJob],
        started: asyncio.Future[tuple[str, str]],
        claim: contextlib.ExitStack,
    ) -> None:
        """Runs the jobs one after the other. Sets `started` to the first fragment or the first job's error."""
        with claim:
            try:
                for (bucket, key), job in zip(found, jobs, strict=True):
                    sent = claim.close if job is jobs[-1] else lambda: None
                    with contextlib.suppress(JobChanged, NoSuchJob):  # the job was cancelled before it began
                        started_job = await self._queue.begin(job, self._owner)
                        running_job = _RunningJob(self._streams, self._player, self._queue, started_job, started, sent)
                        await running_job.run(stream, bucket, key)
            except asyncio.CancelledError:
                await self._fail_unfinished(jobs)
                raise
            except StoreUnavailable as error:
                log.warning("kinesis jobs ended: the job store is unavailable", reason=str(error))
            finally:
                _set_error(started, OutputError("the job was ended before it began"))

    async def _fail_unfinished(self, jobs: Sequence[StoredJob]) -> None:
        """Marks unfinished jobs as failed, because the process ends."""
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(3):
                for job in jobs:
                    with contextlib.suppress(JobChanged, NoSuchJob):
                        current = await self._queue.store.get(job.id)
                        if not current.state.finished:
                            await self._queue.fail(current, _PROCESS_ENDED)

    async def _fail_abandoned(self) -> None:
        """Marks the jobs of dead processes as failed, because a partly sent object is not sent again."""
        for job in await self._queue.store.unfinished():
            if job.kind == KVS and self._abandoned(job):
                with contextlib.suppress(JobChanged, NoSuchJob):
                    await self._queue.fail(job, _PROCESS_ENDED)

    def _abandoned(self, job: StoredJob) -> bool:
        owner = job.owner or str(job.detail.get("owner", ""))
        if owner == self._owner:
            return False
        if process.is_dead(owner, self._owner):
            return True
        silence = time.time() - job.updated
        return silence > (_ABANDONED_SECONDS if job.state is JobState.PROGRESSING else _MAX_QUEUED_SECONDS)


@dataclass(slots=True)
class _RunningJob:
    """One job. sent: called when sending has ended, before the result is stored."""

    streams: KvsStreams
    player: Player
    queue: JobQueue
    job: StoredJob
    started: asyncio.Future[tuple[str, str]]
    sent: Callable[[], None]
    number: str = ""
    progress: float = 0.0
    stopped: bool = False
    task: asyncio.Task[Any] | None = field(default_factory=asyncio.current_task)

    async def run(self, stream: str, bucket: str, key: str) -> None:
        """Runs the job and stores its result. Raises only cancellation, JobChanged and NoSuchJob."""
        backlog = self.streams.backlog()
        delivery = self.streams.delivery(stream, backlog)
        try:
            with self.queue.cancelling(self.job.id, self._stop):
                error = await self._outcome(bucket, key, backlog, delivery)
                self.sent()
                await self._conclude(error, delivery)
        except asyncio.CancelledError:
            _set_error(self.started, OutputError("the job was cancelled"))
            if not self.stopped:
                raise
            log.info("a kinesis job was stopped", job=self.job.id)

    async def _outcome(
        self, bucket: str, key: str, backlog: FragmentBacklog, delivery: KvsDelivery
    ) -> GatewayError | OSError | None:
        """Sends the object. Returns the error, or None if it is completely stored."""
        async with Tasks(f"kvs job {self.job.id}") as tasks:
            tasks.start(self._update(), "beat")
            first = tasks.start(self._wait_for_first(delivery), "first")
            sending = tasks.start(delivery.run(), "delivery")
            reading = tasks.start(self._read(bucket, key, backlog), "reading")
            await self._wait_for_end(first, sending, reading)
            # An error before the first acknowledgement ends the job, because the caller still waits for it.
            if first.done() and (first_error := first.exception()) is not None:
                if isinstance(first_error, OutputError):
                    return first_error
                raise first_error
            if not reading.done():
                sending.result()  # only an internal error ends it first; this raises it
            error = reading.exception()
            if error is not None:
                if isinstance(error, GatewayError | OSError):
                    return error
                raise error
            if not sending.done():
                return OutputError(delivery.error or f"{len(backlog)} fragments were not stored")
            sending.result()
            return None if backlog.counts.persisted else OutputUnsupported("nothing of it could be sent")

    @staticmethod
    async def _wait_for_end(
        first: asyncio.Task[None], sending: asyncio.Task[None], reading: asyncio.Task[None]
    ) -> None:
        """Waits for the delivery's end, an error before the first acknowledgement, or the time limit."""
        loop = asyncio.get_running_loop()
        until: float | None = None
        while not sending.done() and not (first.done() and first.exception() is not None):
            if until is None and reading.done():
                until = loop.time() + (_FINISH_SECONDS if reading.exception() is None else _FINISH_SECONDS / 6)
            if until is not None and loop.time() >= until:
                return
            waiting = {task for task in (first, sending, reading) if not task.done()}
            remaining = None if until is None else until - loop.time()
            await asyncio.wait(waiting, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)

    async def _wait_for_first(self, delivery: KvsDelivery) -> None:
        self.number = await delivery.started()
        if not self.started.done():
            self.started.set_result((delivery.arn, self.number))

    async def _read(self, bucket: str, key: str, backlog: FragmentBacklog) -> None:
        fragmenter = Fragmenter(backlog)
        try:
            async with contextlib.aclosing(self.player.play(bucket, key, self._on_progress)) as items:
                async for item in items:
                    if isinstance(item, AccessUnit):
                        fragmenter.add(item)
                    else:
                        fragmenter.start(item)
                    while backlog.half_full:
                        # Reading a stored object can wait, so no fragment is dropped.
                        await backlog.changed()
        finally:
            fragmenter.finish()
            backlog.close()

    def _on_progress(self, progress: float) -> None:
        self.progress = progress

    async def _update(self) -> None:
        """Stores the progress. Stops the job if another process owns it now."""
        while True:
            await asyncio.sleep(_UPDATE_SECONDS)
            try:
                self.job = await self.queue.advance(self.job, min(99, int(self.progress * 100)))
            except StoreUnavailable:
                continue
            except (JobChanged, NoSuchJob):
                self._stop()
                return

    def _stop(self) -> None:
        self.stopped = True
        if self.task is not None:
            self.task.cancel()

    async def _conclude(self, error: Exception | None, delivery: KvsDelivery) -> None:
        try:
            if error is None:
                fragments = str(delivery.report()["fragments"]["persisted"])
                outputs = {"streamArn": delivery.arn, "startFragmentNumber": self.number, "fragments": fragments}
                await self.queue.complete(self.job, outputs)
            else:
                message = error.strerror or str(error) if isinstance(error, OSError) else str(error)
                _set_error(self.started, error if isinstance(error, GatewayError) else OutputError(message))
                await self.queue.fail(self.job, message)
        except StoreUnavailable as unavailable:
            log.warning("a job's end could not be stored", job=self.job.id, reason=str(unavailable))


def _set_error(started: asyncio.Future[tuple[str, str]], error: GatewayError) -> None:
    if not started.done():
        started.set_exception(error)
        started.exception()  # marked as read: the caller may have stopped waiting
