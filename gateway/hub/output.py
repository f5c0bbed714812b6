"""Outputs: consumers of one stream, switched and supervised while it is live."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import structlog

from gateway.hub.errors import OutputTrouble, OutputUnsupported
from gateway.hub.events import Event, Events, EventType
from gateway.lib.aio import Tasks
from gateway.lib.backoff import Backoff

if TYPE_CHECKING:
    from gateway.hub.channel import Channel
    from gateway.hub.stream import Stream

log = structlog.get_logger(__name__)

FINISH_SECONDS = 20.0  # what an output has to finish its files after the stream's end


class Output(Protocol):
    """Consumes one stream until it ends. Returning means done, raising means "start me again later".

    Raising OutputTrouble means that too, with a reason that is the world's fault. Raising OutputUnsupported means "not
    this stream": the output stays failed until it is switched off and on.
    """

    async def run(self, stream: Stream) -> None: ...


@runtime_checkable
class Prompt(Protocol):
    """An Output that must not miss the first units: `begin` is called at once, `run` a little later."""

    def begin(self, stream: Stream) -> None: ...


@runtime_checkable
class Reporting(Protocol):
    """An Output that has more to tell: `report` is merged into its entry of the session; JSON, free of secrets.

    An "error" in it is shown where the output as a whole has none."""

    def report(self) -> dict[str, Any]: ...


@runtime_checkable
class ChannelAware(Protocol):
    """An Output that follows the stored channel while it runs: called when that changed and it stays enabled."""

    def channel_changed(self, channel: Channel) -> None: ...


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What an output is called, how it is made, and for which streams it is on.

    on_demand: made at the first request instead of with the stream. listed: shown in a session's status.
    """

    name: str
    make: Callable[[Stream], Output]
    wanted: Callable[[Stream], bool]
    on_demand: bool = False
    listed: bool = True


class OutputState(StrEnum):
    OFF = "off"
    WAITING = "waiting"  # enabled, made at the first request
    RUNNING = "running"
    RETRYING = "retrying"
    FAILED = "failed"  # for as long as this stream lives: another try would end the same way
    DONE = "done"


class _Handle:
    def __init__(self, spec: OutputSpec, wanted: bool) -> None:
        self.spec = spec
        self.wanted = self.enabled = wanted
        self.demanded = not spec.on_demand
        self.state = OutputState.OFF
        self.error: str | None = None
        self.output: Output | None = None
        self.task: asyncio.Task[object] | None = None

    def status(self) -> dict[str, object]:
        told: dict[str, Any] = self.output.report() if isinstance(self.output, Reporting) else {}
        error = self.error if self.error is not None else told.get("error")
        return {**told, "name": self.spec.name, "enabled": self.enabled, "state": str(self.state), "error": error}


class Outputs:
    """The outputs of one stream. `run` owns their tasks and lives as long as the stream."""

    def __init__(self, stream: Stream, specs: Iterable[OutputSpec], events: Events) -> None:
        self._stream = stream
        self._events = events
        self._handles = {s.name: _Handle(s, s.wanted(stream)) for s in specs}
        self._tasks: Tasks | None = None

    def names(self) -> list[str]:
        return [h.spec.name for h in self._handles.values() if h.spec.listed]

    def enabled(self, name: str) -> bool:
        handle = self._handles.get(name)
        return handle is not None and handle.enabled

    def get(self, name: str) -> Output | None:
        """The running (or, after the stream's end, the finished) output; starts one that waits for demand.

        None while it is off; between two tries the one that failed."""
        handle = self._handles.get(name)
        if handle is None or not handle.enabled:
            return None
        if not handle.demanded:
            handle.demanded = True
            self._reconcile(handle)
        return handle.output

    def switch(self, name: str, enabled: bool) -> None:
        """Turns an output on or off while live. KeyError for a name that no output has."""
        handle = self._handles[name]
        if handle.enabled != enabled:
            handle.enabled = enabled
            self._reconcile(handle)

    def channel_changed(self) -> None:
        """Follows the channel's flags where they changed; what was switched live stays so otherwise."""
        for name, handle in self._handles.items():
            wanted = handle.spec.wanted(self._stream)
            if wanted != handle.wanted:
                handle.wanted = wanted
                self.switch(name, wanted)
            if handle.enabled and isinstance(handle.output, ChannelAware):
                handle.output.channel_changed(self._stream.channel)

    def status(self) -> list[dict[str, object]]:
        """`[{"name", "enabled", "state", "error", and what it reports}]` for the API."""
        return [h.status() for h in self._handles.values() if h.spec.listed]

    def open(self) -> None:
        """Makes what is enabled from the start, before the first unit; `run` follows."""
        for handle in self._handles.values():
            if handle.enabled and handle.demanded:
                self._make(handle)

    async def run(self) -> None:
        """Runs what is enabled until the stream has ended and every output has finished (at most FINISH_SECONDS)."""
        async with Tasks(f"outputs of {self._stream.name}", self._crashed) as tasks:
            self._tasks = tasks
            for handle in self._handles.values():
                self._reconcile(handle)
            await self._stream.over()
            running = [h.task for h in self._handles.values() if h.task is not None and not h.task.done()]
            if running:
                await asyncio.wait(running, timeout=FINISH_SECONDS)
            self._tasks = None

    def _reconcile(self, handle: _Handle) -> None:
        if self._tasks is None:
            return
        if handle.enabled and handle.demanded:
            if handle.task is None or handle.task.done():
                # Made here, not in the task: a request that comes in the same turn finds it.
                output = handle.output if handle.task is None and handle.output is not None else self._make(handle)
                handle.task = self._tasks.start(self._supervise(handle, output), handle.spec.name)
        elif handle.enabled:
            handle.state = OutputState.WAITING
        else:
            if handle.task is not None:
                handle.task.cancel()
                handle.task = None
            handle.output = None
            handle.demanded = not handle.spec.on_demand
            handle.state, handle.error = OutputState.OFF, None

    def _make(self, handle: _Handle) -> Output:
        output = handle.output = handle.spec.make(self._stream)
        handle.state = OutputState.RUNNING
        if isinstance(output, Prompt):
            output.begin(self._stream)
        return output

    async def _supervise(self, handle: _Handle, output: Output) -> None:
        stream, name, backoff = self._stream, handle.spec.name, Backoff()
        while True:
            handle.output, handle.state = output, OutputState.RUNNING
            started = time.monotonic()
            try:
                await output.run(stream)
            except OutputUnsupported as error:
                log.warning("output cannot carry this stream", stream=stream.name, output=name, reason=str(error))
                handle.state, handle.error = OutputState.FAILED, str(error)[:300]
                self._emit(EventType.OUTPUT_FAILED, output=name, error=handle.error)
                return
            except OutputTrouble as error:
                log.warning("output is hindered", stream=stream.name, output=name, reason=str(error))
                handle.state, handle.error = OutputState.RETRYING, str(error)[:300]
                self._emit(EventType.OUTPUT_FAILED, output=name, error=handle.error)
            except Exception as error:
                log.error("output failed", stream=stream.name, output=name, exc_info=error)
                handle.state, handle.error = OutputState.RETRYING, f"{type(error).__name__}: {error}"[:300]
                self._emit(EventType.OUTPUT_FAILED, output=name, error=handle.error)
            else:
                handle.state = OutputState.DONE
                return
            if stream.original.ended is not None:
                return
            if time.monotonic() - started > 30:
                backoff.reset()
            await asyncio.sleep(backoff.next())
            output = handle.spec.make(stream)
            self._emit(EventType.OUTPUT_RECOVERED, output=name)
            handle.error = None

    def _emit(self, kind: EventType, **data: object) -> None:
        self._events.emit(Event(kind, time.time(), self._stream.channel.id, data))

    def _crashed(self, name: str, error: BaseException) -> None:
        log.error("output's supervisor failed", stream=self._stream.name, task=name, exc_info=error)
