"""One job that sends a stored object to a Kinesis stream."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import structlog

from gateway.lib.tasks import Tasks, awaited
from gateway.media.track import AccessUnit
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog
from gateway.outputs.kinesis.fragmenter import Fragmenter
from gateway.outputs.kinesis.kvs_delivery import KvsDelivery
from gateway.outputs.kinesis.kvs_streams import KvsStreams
from gateway.ports.errors import GatewayError, JobChanged, NoSuchJob, OutputError, OutputUnsupported, StoreUnavailable
from gateway.ports.job_queue import JobQueue
from gateway.ports.jobs import StoredJob
from gateway.vod.object_player import ObjectPlayer

log = structlog.get_logger(__name__)

_UPDATE_SECONDS: Final = 5.0  # between updates of the job in the store
_FINISH_SECONDS: Final = 60.0  # for storing the last fragments after the object has been read
_STALL_SECONDS: Final = 600.0  # without a stored fragment, after which the job fails, so that the next one can begin
_CHECK_SECONDS: Final = 10.0  # between checks of these limits

# The stream's ARN and the number of the first fragment, or the job's error.
FirstFragment: TypeAlias = "asyncio.Future[tuple[str, str]]"


@dataclass(slots=True)
class KvsRunningJob:
    """A job that has begun. started: set for a caller that waits for the first fragment; None if nobody waits.

    number: of the first fragment; empty before its acknowledgement. progress: 0 to 1. stopped: whether `_stop` has
    cancelled it. task: runs the job.
    An error before the first acknowledgement ends the job if a caller waits. Otherwise sending is retried.
    """

    streams: KvsStreams
    player: ObjectPlayer
    queue: JobQueue
    job: StoredJob
    started: FirstFragment | None
    number: str = ""
    arn: str = ""
    progress: float = 0.0
    stopped: bool = False
    task: asyncio.Task[Any] | None = field(default_factory=asyncio.current_task)

    async def run(self, stream: str) -> None:
        """Runs the job and stores its result. Raises only cancellation, JobChanged and NoSuchJob."""
        bucket, _, key = self.job.source.removeprefix("s3://").partition("/")
        backlog = self.streams.make_backlog()
        delivery = self.streams.make_delivery(stream, backlog)
        try:
            with self.queue.cancelling(self.job.id, self._stop):
                await self._conclude(await self._send(bucket, key, backlog, delivery), delivery)
        except asyncio.CancelledError:
            self._tell_error(OutputError("the job was cancelled"))
            if not self.stopped:
                raise
            log.info("a kinesis job was stopped", job=self.job.id)

    async def _send(
        self, bucket: str, key: str, backlog: FragmentBacklog, delivery: KvsDelivery
    ) -> GatewayError | OSError | None:
        """Sends the object. Returns the error, or None if it is completely stored."""
        async with Tasks(f"kvs job {self.job.id}", awaited) as tasks:
            tasks.start(self._update(), "updates")
            first = tasks.start(self._wait_for_first(delivery), "first")
            sending = tasks.start(delivery.run(), "delivery")
            reading = tasks.start(self._read(bucket, key, backlog), "reading")
            await self._wait_for_end(first, sending, reading, backlog)
            for task in (first, reading):
                if task.done() and (error := task.exception()) is not None:
                    if isinstance(error, GatewayError | OSError):
                        return error
                    raise error
            if sending.done():
                sending.result()  # raises an internal error, which may end it first
            if not reading.done():
                return OutputError(delivery.error or f"Kinesis stored nothing for {_STALL_SECONDS:g} s")
            if not sending.done():
                return OutputError(delivery.error or f"{len(backlog)} fragments were not stored")
            return None if backlog.counts.persisted else OutputUnsupported("nothing of it could be sent")

    async def _wait_for_end(
        self,
        first: asyncio.Task[None],
        sending: asyncio.Task[None],
        reading: asyncio.Task[None],
        backlog: FragmentBacklog,
    ) -> None:
        """Waits for the delivery's end, an error that ends the job, or a time limit."""
        loop = asyncio.get_running_loop()
        until: float | None = None
        stored, moved_at = 0, loop.time()
        while not sending.done() and not (first.done() and first.exception() is not None):
            now = loop.time()
            if backlog.counts.persisted != stored or not len(backlog):
                stored, moved_at = backlog.counts.persisted, now
            if until is None and reading.done():
                seconds = _FINISH_SECONDS if self.number or self._is_awaited else _STALL_SECONDS
                until = now + (seconds if reading.exception() is None else _FINISH_SECONDS / 6)
            deadline = until if until is not None else moved_at + _STALL_SECONDS
            if now >= deadline:
                return
            waiting = {task for task in (first, sending, reading) if not task.done()}
            timeout = min(deadline - now, _CHECK_SECONDS)
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    @property
    def _is_awaited(self) -> bool:
        return self.started is not None and not self.started.done()

    async def _wait_for_first(self, delivery: KvsDelivery) -> None:
        while True:
            try:
                self.number = await delivery.wait_for_first_fragment()
                break
            except OutputError:
                # The delivery has logged it and tries again. A caller gets the error at once.
                if self._is_awaited:
                    raise
        self.arn = delivery.arn
        if self.started is not None and not self.started.done():
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
                        await backlog.wait_for_change()
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
                outputs = {"streamArn": self.arn, "startFragmentNumber": self.number} if self.number else None
                self.job = await self.queue.advance(self.job, min(99, int(self.progress * 100)), outputs)
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
                self._tell_error(error if isinstance(error, GatewayError) else OutputError(message))
                await self.queue.fail(self.job, message)
        except StoreUnavailable as unavailable:
            log.warning("a job's end could not be stored", job=self.job.id, reason=str(unavailable))

    def _tell_error(self, error: GatewayError) -> None:
        if self.started is not None and not self.started.done():
            self.started.set_exception(error)
            self.started.exception()  # marked as read: the caller may have stopped waiting
