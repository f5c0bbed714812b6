"""The tasks on other machines that work for streams. They run while the streams are live."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
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


class TaskSets:
    """Knows which tasks each channel has: `taskARN` of a session's row. runner: opens the service that runs them."""

    def __init__(self, runner: Callable[[], Awaitable[TaskRunner]]) -> None:
        self.runner = runner
        self._arns: dict[str, dict[str, tuple[str, ...]]] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Adds a listener. It is called on the event loop and must not wait."""
        self._listeners.append(listener)

    def of(self, channel: str) -> tuple[str, ...]:
        """Returns the ARNs of a channel's tasks, ordered by kind."""
        return tuple(arn for _, arns in sorted(self._arns.get(channel, {}).items()) for arn in arns)

    def put(self, channel: str, kind: str, arns: tuple[str, ...]) -> None:
        """Sets the present tasks of one kind."""
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


class TaskSet:
    """The tasks of one kind for one stream.

    While the runner does not answer, running tasks go on. If it starts no task, it is asked again after a pause.
    """

    def __init__(
        self,
        order: Callable[[], TaskRequest],
        crews: TaskSets,
        *,
        finished: Callable[[], Awaitable[None]] | None = None,
        stays: frozenset[EndReason] = frozenset(),
        look: float = POLL_SECONDS,
        backoff: Backoff | None = None,
    ) -> None:
        """order: what is wanted now. finished: waits until the tasks have done their
        last for a stream that ended. stays: after these ends of the stream the tasks are left to a successor."""
        self._order = order
        self._crews = crews
        self._finished = finished
        self._stays = stays
        self._look = look
        self._backoff = backoff or Backoff(2, 60)
        self._wake = asyncio.Event()
        self.tasks: list[RunningTask] = []
        self.error: str | None = None
        self.replaced = 0

    def changed(self) -> None:
        """Must be called when the result of `order` has changed."""
        self._wake.set()

    async def run(self, stream: Stream) -> None:
        """Runs until the stream ends. Raises OutputError if not a single task can be started."""
        runner = await self._crews.runner()
        order = self._order()
        stream.when_ended(lambda reason: self._wake.set())
        try:
            while stream.original.ended is None:
                order = self._order()
                await self._sleep(await self._keep(runner, order))
            if self._finished is not None:
                await self._finished()
        finally:
            reason = stream.original.ended
            if reason is None or reason not in self._stays:
                await self._stop(runner, order, str(reason or "output switched off"))
            self.tasks = []
            self._crews.put(order.channel, order.kind, ())

    async def _keep(self, runner: TaskRunner, order: TaskRequest) -> float:
        """Starts missing tasks. Returns the seconds until the next check."""
        try:
            tasks = await runner.reconcile(order)
        except StoreUnavailable as away:
            self._say(order, str(away))
            return self._backoff.next()
        except OutputError as trouble:
            if not self.tasks:
                raise
            self._say(order, str(trouble))
            return self._backoff.next()
        before, now = {task.arn for task in self.tasks}, tuple(task.arn for task in tasks)
        self.replaced += len(before - set(now)) if len(now) >= len(before) else 0
        self.tasks, self.error = tasks, None
        self._backoff.reset()
        self._crews.put(order.channel, order.kind, now)
        return self._look

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    async def _stop(self, runner: TaskRunner, order: TaskRequest, reason: str) -> None:
        """Stops the tasks. A task that cannot be stopped now ends by itself, because it finds no stream."""
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await runner.stop(order.channel, order.kind, order.address, reason)
        except (StoreUnavailable, OutputError, TimeoutError) as error:
            log.warning("tasks could not be ended", stream=order.channel, kind=order.kind, reason=str(error))

    def _say(self, order: TaskRequest, error: str) -> None:
        if self.error is None:
            log.warning("tasks cannot be looked after now", stream=order.channel, kind=order.kind, reason=error)
        self.error = error[:300]

    def report(self) -> dict[str, Any]:
        """Returns `tasks` with arn and state, the number `replaced`, and `error`."""
        return {
            "tasks": [{"arn": task.arn, "state": task.state} for task in self.tasks],
            "replaced": self.replaced,
            "error": self.error,
        }
