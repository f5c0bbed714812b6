"""Plays stored objects into a Kinesis stream, one after the other, each as a job whose state can be read."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

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

_BEAT: Final = 5.0  # seconds between updates of a running job in the store
_SILENT: Final = 120.0  # seconds; a running job without an update for this long was abandoned by its process
_FINISH: Final = 60.0  # seconds for fragments that are not stored yet when the object has been read
_LONGEST_WAIT: Final = 86_400.0  # seconds; a job that has not begun within a day never will
_ENDED: Final = "the gateway that did it has ended"


class Player(Protocol):
    """The source of the media; `gateway.vod.object_player` is one."""

    async def find(self, bucket: str, key: str, *, encoded: bool) -> Object: ...

    def play(
        self, bucket: str, key: str, told: Callable[[float], None]
    ) -> AsyncGenerator[Tracks | AccessUnit, None]: ...


@dataclass(frozen=True, slots=True)
class ObjectRequest:
    """An object. encoded: the key is encoded as S3 writes it in events."""

    bucket: str
    key: str
    encoded: bool = False


@dataclass(frozen=True, slots=True)
class StartedJobs:
    """The jobs that were started. fragment: number of the first one, None before an acknowledgement. jobs: ids, in
    order.
    """

    arn: str
    fragment: str | None
    jobs: tuple[str, ...]


class KvsJobs:
    """Runs the jobs in `tasks` of the application, which owns it; they continue when no caller waits for them.

    While a job runs, it owns the Kinesis stream: another request is refused with NameInUse.
    The objects of one request follow each other.
    """

    def __init__(self, streams: KvsStreams, player: Player, queue: JobQueue, tasks: Tasks) -> None:
        self._streams = streams
        self._player = player
        self._queue = queue
        self._tasks = tasks
        self._owner = process.owner()

    async def begin(self, requested: Sequence[ObjectRequest], patience: float) -> StartedJobs:
        """Plays the objects into `kvs.stream`; returns at the first acknowledgement, or after `patience` seconds.

        If several objects are requested, missing ones are left out.
        Raises NameInUse, NoSuchObject (if none exists), TooLarge, StoreUnavailable, and OutputError if Kinesis or the
        media prevent it.
        """
        stream = self._streams.default
        if not stream:
            raise OutputError("no Kinesis stream is set: kvs.stream, or the variable KVS_STREAM_ARN")
        loop = asyncio.get_running_loop()
        held = contextlib.ExitStack()
        held.enter_context(self._streams.claim(stream, "POST /processObject"))
        with contextlib.ExitStack() as undo:
            undo.push(held)
            await self._sweep()
            found = await self._find(requested)
            jobs = []
            for bucket, key in found:
                job, _ = await self._queue.submit(KVS, f"s3://{bucket}/{key}", detail={"owner": self._owner})
                jobs.append(job)
            undo.pop_all()
        started: asyncio.Future[tuple[str, str]] = loop.create_future()
        self._tasks.start(self._all(stream, found, jobs, started, held), "kvs jobs")
        ids = tuple(job.id for job in jobs)
        await asyncio.wait({started}, timeout=patience)
        if not started.done():
            return StartedJobs(stream, None, ids)
        arn, number = started.result()
        return StartedJobs(arn, number, ids)

    async def _find(self, requested: Sequence[ObjectRequest]) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        missing: NoSuchObject | None = None
        for one in requested:
            try:
                object = await self._player.find(one.bucket, one.key, encoded=one.encoded)
            except NoSuchObject as error:
                log.info("an object is not there (any more)", bucket=one.bucket, object=one.key[:200])
                missing = error
                continue
            found.append((one.bucket, object.key))
        if not found:
            assert missing is not None, "nothing was asked for"
            raise missing
        return found

    async def _all(
        self,
        stream: str,
        found: Sequence[tuple[str, str]],
        jobs: Sequence[StoredJob],
        started: asyncio.Future[tuple[str, str]],
        held: contextlib.ExitStack,
    ) -> None:
        """Runs the jobs one after the other; `started` gets the first fragment, or the first job's error."""
        with held:
            try:
                for (bucket, key), job in zip(found, jobs, strict=True):
                    sent = held.close if job is jobs[-1] else lambda: None
                    with contextlib.suppress(JobChanged, NoSuchJob):  # the job was cancelled while it waited
                        begun = await self._queue.begin(job, self._owner)
                        work = _Work(self._streams, self._player, self._queue, begun, started, sent)
                        await work.run(stream, bucket, key)
            except asyncio.CancelledError:
                await self._give_up(jobs)
                raise
            except StoreUnavailable as away:
                log.warning("kinesis jobs were given up: they cannot be written down", reason=str(away))
            finally:
                _report(started, OutputError("the job was ended before it began"))

    async def _give_up(self, jobs: Sequence[StoredJob]) -> None:
        """Marks jobs that have not finished as failed, because the process ends."""
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(3):
                for job in jobs:
                    with contextlib.suppress(JobChanged, NoSuchJob):
                        now = await self._queue.store.get(job.id)
                        if not now.state.finished:
                            await self._queue.fail(now, _ENDED)

    async def _sweep(self) -> None:
        """Marks jobs that a dead process left as failed: half an object is not sent a second time."""
        for job in await self._queue.store.unfinished():
            if job.kind == KVS and self._abandoned(job):
                with contextlib.suppress(JobChanged, NoSuchJob):
                    await self._queue.fail(job, _ENDED)

    def _abandoned(self, job: StoredJob) -> bool:
        owner = job.owner or str(job.detail.get("owner", ""))
        if owner == self._owner:
            return False
        if process.is_dead(owner, self._owner):
            return True
        quiet = time.time() - job.updated
        return quiet > (_SILENT if job.state is JobState.PROGRESSING else _LONGEST_WAIT)


class _Work:
    """One job from its beginning to its end. sent: called when nothing more is sent, before the result is reported."""

    def __init__(
        self,
        streams: KvsStreams,
        player: Player,
        queue: JobQueue,
        job: StoredJob,
        started: asyncio.Future[tuple[str, str]],
        sent: Callable[[], None],
    ) -> None:
        self._streams = streams
        self._player = player
        self._queue = queue
        self._job = job
        self._started = started
        self._sent = sent
        self._done = 0.0
        self._number = ""
        self._stopped = False
        self._task = asyncio.current_task()

    async def run(self, stream: str, bucket: str, key: str) -> None:
        """Runs the job and stores its result. Raises only cancellation, JobChanged and NoSuchJob."""
        backlog = self._streams.backlog()
        delivery = self._streams.delivery(stream, backlog)
        try:
            with self._queue.cancelling(self._job.id, self._stop):
                error = await self._outcome(bucket, key, backlog, delivery)
                self._sent()
                await self._conclude(error, delivery)
        except asyncio.CancelledError:
            self._report(OutputError("the job was cancelled"))
            if not self._stopped:
                raise
            log.info("a kinesis job was stopped", job=self._job.id)

    async def _outcome(
        self, bucket: str, key: str, backlog: FragmentBacklog, delivery: KvsDelivery
    ) -> GatewayError | OSError | None:
        """Sends the object. Returns the error, or None if all of it is stored."""
        async with Tasks(f"kvs job {self._job.id}") as tasks:
            tasks.start(self._beat(), "beat")
            first = tasks.start(self._first(delivery), "first")
            sending = tasks.start(delivery.run(), "delivery")
            reading = tasks.start(self._read(bucket, key, backlog), "reading")
            await self._until_over(first, sending, reading)
            # An error before the first acknowledgement ends the job, because its caller still waits for the answer.
            if first.done() and (trouble := first.exception()) is not None:
                if isinstance(trouble, OutputError):
                    return trouble
                raise trouble
            if not reading.done():
                sending.result()  # it ends first only by an internal error, which this raises
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
    async def _until_over(first: asyncio.Task[None], sending: asyncio.Task[None], reading: asyncio.Task[None]) -> None:
        """Waits for the end of the delivery, for an error before it began, or until the time limit."""
        loop = asyncio.get_running_loop()
        until: float | None = None
        while not sending.done() and not (first.done() and first.exception() is not None):
            if until is None and reading.done():
                until = loop.time() + (_FINISH if reading.exception() is None else _FINISH / 6)
            if until is not None and loop.time() >= until:
                return
            waiting = {task for task in (first, sending, reading) if not task.done()}
            left = None if until is None else until - loop.time()
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    async def _first(self, delivery: KvsDelivery) -> None:
        self._number = await delivery.started()
        if not self._started.done():
            self._started.set_result((delivery.arn, self._number))

    async def _read(self, bucket: str, key: str, backlog: FragmentBacklog) -> None:
        fragmenter = Fragmenter(backlog)
        try:
            async with contextlib.aclosing(self._player.play(bucket, key, self._advanced)) as items:
                async for item in items:
                    if isinstance(item, AccessUnit):
                        fragmenter.add(item)
                    else:
                        fragmenter.start(item)
                    while backlog.half_full:
                        # A stored object waits here, where a live stream would drop fragments.
                        await backlog.changed()
        finally:
            fragmenter.finish()
            backlog.close()

    def _advanced(self, done: float) -> None:
        self._done = done

    def _report(self, error: GatewayError) -> None:
        _report(self._started, error)

    async def _beat(self) -> None:
        """Stores the progress; stops the work if the job no longer belongs to this process."""
        while True:
            await asyncio.sleep(_BEAT)
            try:
                self._job = await self._queue.advance(self._job, min(99, int(self._done * 100)))
            except StoreUnavailable:
                continue
            except (JobChanged, NoSuchJob):
                self._stop()
                return

    def _stop(self) -> None:
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def _conclude(self, error: Exception | None, delivery: KvsDelivery) -> None:
        try:
            if error is None:
                fragments = str(delivery.report()["fragments"]["persisted"])
                outputs = {"streamArn": delivery.arn, "startFragmentNumber": self._number, "fragments": fragments}
                await self._queue.complete(self._job, outputs)
            else:
                words = error.strerror or str(error) if isinstance(error, OSError) else str(error)
                self._report(error if isinstance(error, GatewayError) else OutputError(words))
                await self._queue.fail(self._job, words)
        except StoreUnavailable as away:
            log.warning("a job's end could not be stored", job=self._job.id, reason=str(away))


def _report(started: asyncio.Future[tuple[str, str]], error: GatewayError) -> None:
    if not started.done():
        started.set_exception(error)
        started.exception()  # marked as read: the caller may be gone
