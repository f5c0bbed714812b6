"""The tasks on other machines (ECS) that work for streams. They run while the streams are live."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final

import structlog

from gateway.lib.backoff import Backoff
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.ports.errors import OutputError, StoreUnavailable
from gateway.ports.stores import RunningTask, TaskRequest, TaskRunner

log = structlog.get_logger(__name__)

POLL_SECONDS: Final = 10.0  # between two checks for tasks that have ended
_STOP_SECONDS: Final = 12.0  # less than FINISH_SECONDS of outputs

# Called with a channel and the ARNs of its tasks, whenever they change.
Listener = Callable[[str, tuple[str, ...]], None]


@dataclass(slots=True, eq=False)
class TaskSets:
    """The tasks of each channel, for the attribute `taskARN` of its session.

    runner: opens the service that runs them.
    """

    runner: Callable[[], Awaitable[TaskRunner]]
    # By channel and by kind of task.
    _arns: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict, init=False)
    _listeners: list[Listener] = field(default_factory=list, init=False)

    def listen(self, listener: Listener) -> None:
        """Adds a listener. It is called on the event loop and must not block."""
        self._listeners.append(listener)

    def of(self, channel: str) -> tuple[str, ...]:
        """Returns the ARNs of a channel's tasks, ordered by kind."""
        return tuple(arn for _, arns in sorted(self._arns.get(channel, {}).items()) for arn in arns)

    def put(self, channel: str, kind: str, arns: tuple[str, ...]) -> None:
        """Sets the current tasks of one kind."""
        before = self.of(channel)
        kinds = self._arns.setdefault(channel, {})
        kinds.pop(kind, None)
        if arns:
            kinds[kind] = arns
        if not kinds:
            del self._arns[channel]
        if (now := self.of(channel)) != before:
            for listener in self._listeners:
                listener(channel, now)


@dataclass(slots=True, eq=False)
class TaskSet:
    """The tasks of one kind for one stream.

    While the runner does not answer, running tasks continue. If it cannot start a task, this class tries again after a
    pause.
    request: returns the tasks that are needed now.
    wait_finished: waits until the tasks have processed the end of a stream.
    keep_running_after: reasons for the end of the stream after which the tasks are not stopped. The next node that
    holds the stream takes them over.
    replaced: number of tasks that ended while the stream was live, and were started again.
    """

    request: Callable[[], TaskRequest]
    task_sets: TaskSets
    _: KW_ONLY
    wait_finished: Callable[[], Awaitable[None]] | None = None
    keep_running_after: frozenset[EndReason] = frozenset()
    poll_seconds: float = POLL_SECONDS
    backoff: Backoff = field(default_factory=lambda: Backoff(2, 60))
    tasks: list[RunningTask] = field(default_factory=list, init=False)
    error: str | None = field(default=None, init=False)
    replaced: int = field(default=0, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def changed(self) -> None:
        """Must be called when the result of `request` has changed."""
        self._wake.set()

    async def run(self, stream: Stream) -> None:
        """Runs until the stream ends. Raises OutputError if no task can be started."""
        runner = await self.task_sets.runner()
        request = self.request()
        stream.when_ended(lambda reason: self._wake.set())
        try:
            while stream.original.ended is None:
                request = self.request()
                await self._sleep(await self._start_missing(runner, request))
            if self.wait_finished is not None:
                await self.wait_finished()
        finally:
            reason = stream.original.ended
            if reason is None or reason not in self.keep_running_after:
                await self._stop(runner, request, str(reason or "output switched off"))
            self.tasks = []
            self.task_sets.put(request.channel, request.kind, ())

    async def _start_missing(self, runner: TaskRunner, request: TaskRequest) -> float:
        """Starts missing tasks. Returns the seconds until the next check."""
        try:
            tasks = await runner.reconcile(request)
        except StoreUnavailable as error:
            self._set_error(request, str(error))
            return self.backoff.next()
        except OutputError as error:
            if not self.tasks:
                raise
            self._set_error(request, str(error))
            return self.backoff.next()
        before, now = {task.arn for task in self.tasks}, tuple(task.arn for task in tasks)
        self.replaced += len(before - set(now)) if len(now) >= len(before) else 0
        self.tasks, self.error = tasks, None
        self.backoff.reset()
        self.task_sets.put(request.channel, request.kind, now)
        return self.poll_seconds

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    async def _stop(self, runner: TaskRunner, request: TaskRequest, reason: str) -> None:
        """Stops the tasks. If a task cannot be stopped now, it ends by itself, because it finds no stream."""
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await runner.stop(request.channel, request.kind, request.address, reason)
        except (StoreUnavailable, OutputError, TimeoutError) as error:
            log.warning("tasks could not be stopped", stream=request.channel, kind=request.kind, reason=str(error))

    def _set_error(self, request: TaskRequest, error: str) -> None:
        if self.error is None:
            log.warning("tasks cannot be checked now", stream=request.channel, kind=request.kind, reason=error)
        self.error = error[:300]

    def report(self) -> dict[str, Any]:
        """Returns `tasks` with their ARN and state, the number `replaced`, and `error`."""
        tasks = [{"arn": task.arn, "state": task.state} for task in self.tasks]
        return {"tasks": tasks, "replaced": self.replaced, "error": self.error}
