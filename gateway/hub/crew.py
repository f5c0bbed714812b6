"""Crews: the tasks that streams have on other machines, kept there while the streams live."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.hub.errors import OutputTrouble, StoreAway
from gateway.lib.backoff import Backoff

if TYPE_CHECKING:
    from gateway.hub.fanout import EndReason
    from gateway.hub.ports import RunningTask, TaskOrder, TaskRunner
    from gateway.hub.stream import Stream

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 10.0  # how soon a task that has ended is missed
_STOP_SECONDS: Final = 12.0  # less than an output has to finish

# channel, ARNs of its tasks: told whenever they change.
Listener = Callable[[str, tuple[str, ...]], None]


class Crews:
    """What tasks there are for which channel; what a session's row tells as `taskARN`."""

    def __init__(self) -> None:
        self._arns: dict[str, dict[str, tuple[str, ...]]] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Called on the loop; must not wait."""
        self._listeners.append(listener)

    def of(self, channel: str) -> tuple[str, ...]:
        """The ARNs of a channel's tasks, in the order of their kinds."""
        return tuple(arn for _, arns in sorted(self._arns.get(channel, {}).items()) for arn in arns)

    def put(self, channel: str, kind: str, arns: tuple[str, ...]) -> None:
        """These are the tasks of one kind now."""
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


class Crew:
    """The tasks of one kind that one stream has. While the runner does not answer, what runs goes on; where it starts
    nothing, it is asked again after a pause."""

    def __init__(
        self,
        runner: Callable[[], Awaitable[TaskRunner]],
        order: Callable[[], TaskOrder],
        crews: Crews,
        *,
        finished: Callable[[], Awaitable[None]] | None = None,
        stays: frozenset[EndReason] = frozenset(),
        look: float = LOOK_SECONDS,
        backoff: Backoff | None = None,
    ) -> None:
        """runner: opens who runs them. order: what is wanted now. finished: waits until the tasks have done their
        last for a stream that ended. stays: after these ends of the stream the tasks are left to a successor."""
        self._runner = runner
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
        """The order is another now."""
        self._wake.set()

    async def run(self, stream: Stream) -> None:
        """Until the stream ends. Raises OutputTrouble where not a single task can be had."""
        runner = await self._runner()
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

    async def _keep(self, runner: TaskRunner, order: TaskOrder) -> float:
        """Seconds until the next look."""
        try:
            tasks = await runner.keep(order)
        except StoreAway as away:
            self._say(order, str(away))
            return self._backoff.next()
        except OutputTrouble as trouble:
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

    async def _stop(self, runner: TaskRunner, order: TaskOrder, reason: str) -> None:
        """What cannot be stopped now ends itself: it finds no stream."""
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await runner.stop(order.channel, order.kind, order.address, reason)
        except (StoreAway, OutputTrouble, TimeoutError) as error:
            log.warning("tasks could not be ended", stream=order.channel, kind=order.kind, reason=str(error))

    def _say(self, order: TaskOrder, error: str) -> None:
        if self.error is None:
            log.warning("tasks cannot be looked after now", stream=order.channel, kind=order.kind, reason=error)
        self.error = error[:300]

    def report(self) -> dict[str, Any]:
        """`tasks` with arn and state, how many were `replaced`, `error`."""
        return {
            "tasks": [{"arn": task.arn, "state": task.state} for task in self.tasks],
            "replaced": self.replaced,
            "error": self.error,
        }
