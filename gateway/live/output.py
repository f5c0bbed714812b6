"""Outputs: consumers of one stream, switched and supervised while it is live."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import structlog

from gateway.channels.channel import Channel
from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks
from gateway.lib.waiting import wait_at_most
from gateway.live.output_fault import OutputFault
from gateway.live.stream import Stream
from gateway.ports.errors import INTERNAL_ERROR, OutputError, OutputUnsupported
from gateway.ports.events import Events

log = structlog.get_logger(__name__)

FINISH_SECONDS = 20.0  # time for an output to finish its files after the stream's end


class StreamOutput(Protocol):
    """Consumes one stream until it ends.

    If `run` returns, the output is done. If it raises, the output is started again later.
    OutputError means an external reason. OutputUnsupported means that the output cannot process the stream's tracks: it
    stays failed until other tracks follow, or it is switched off and on.
    """

    async def run(self, stream: Stream) -> None: ...


@runtime_checkable
class StartsWithStream(Protocol):
    """An output that needs the first units. `begin` is called before the first unit, `run` a little later."""

    def begin(self, stream: Stream) -> None: ...


class ReportsStatus(Protocol):
    """An output with more status. `report` is added to its entry of the session: JSON values, without secrets.

    Three members are read while the output runs. "error": a problem; the output's state is then `degraded`.
    "state": an OutputState, which replaces `running`. "faults": the parts that fail, `{name: reason}`; it is not added.
    """

    def report(self) -> dict[str, Any]: ...


@runtime_checkable
class ChannelAware(Protocol):
    """An output that follows the stored channel while it runs. It is called after each change while it is enabled."""

    def channel_changed(self, channel: Channel) -> None: ...


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """Describes an output.

    make: creates the output of one stream. wanted: whether a stream has the output.
    on_demand: whether it is created at the first request, not with the stream.
    listed: whether it is in the status of a session.
    """

    name: str
    make: Callable[[Stream], StreamOutput]
    wanted: Callable[[Stream], bool]
    on_demand: bool = False
    listed: bool = True


class OutputState(StrEnum):
    OFF = "off"
    WAITING = "waiting"  # enabled, but created only at the first request
    RUNNING = "running"
    DEGRADED = "degraded"  # runs, but a part of it fails
    RETRYING = "retrying"
    FAILED = "failed"  # until other tracks follow, because another try would fail too
    DONE = "done"


class _Handle:
    """One output and its state.

    wanted: whether the channel has the output. enabled: the same, unless it was switched by hand.
    demanded: whether the output is created: at once, or after its first request.
    epochs: those of the stream when the output was created.
    """

    def __init__(self, spec: OutputSpec, wanted: bool, fault: OutputFault) -> None:
        self.spec = spec
        self.wanted = self.enabled = wanted
        self.demanded = not spec.on_demand
        self.epochs = [0, 0]
        self.state = OutputState.OFF
        self.reported = OutputState.RUNNING  # by the output itself, at its last report
        self.fault = fault
        self.output: StreamOutput | None = None
        self.task: asyncio.Task[object] | None = None

    def read_report(self) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Returns the output's entry of the session, and what fails of it: the reasons by the name of the part.

        The name of the whole output is "".
        """
        # isinstance(output, ReportsStatus) is 30 times slower, and the health of a stream asks all outputs.
        read = getattr(self.output, "report", None)
        report: dict[str, Any] = {}
        if read is not None:
            try:
                report = dict(read())
            except Exception as error:  # an installed output may have any fault
                report = {"error": f"its report failed ({type(error).__name__})"}
        faults: Mapping[str, str] = report.pop("faults", {})
        reason = report.get("error")
        if reason is not None and not faults:
            faults = {"": str(reason)}
        self.reported = report.get("state", OutputState.DEGRADED if faults else OutputState.RUNNING)
        if self.fault.error is not None:
            reason, faults = self.fault.error, {"": self.fault.error}
        known = {"name": self.spec.name, "enabled": self.enabled, "state": str(self.shown_state), "error": reason}
        return {**report, **known}, faults

    @property
    def shown_state(self) -> OutputState:
        """The state for clients and metrics. After a failure it is not RUNNING until it has worked for a while."""
        if self.state is not OutputState.RUNNING:
            return self.state
        return self.reported if self.fault.error is None else OutputState.RETRYING


class Outputs:
    """The outputs of one stream. `run` owns their tasks, and ends with the stream."""

    def __init__(self, stream: Stream, specs: Iterable[OutputSpec], events: Events) -> None:
        self._stream = stream
        self._handles = {
            s.name: _Handle(s, s.wanted(stream), OutputFault(events, stream.channel.id, s.name)) for s in specs
        }
        self._tasks: Tasks | None = None
        self._over = asyncio.Event()

    def names(self) -> list[str]:
        return [h.spec.name for h in self._handles.values() if h.spec.listed]

    def enabled(self, name: str) -> bool:
        handle = self._handles.get(name)
        return handle is not None and handle.enabled

    def get(self, name: str) -> StreamOutput | None:
        """Returns the output: running, or finished after the end of the stream.

        Starts an output that waits for its first request. Between two tries, returns the output that failed.
        Returns None if the output is off or unknown.
        """
        handle = self._handles.get(name)
        if handle is None or not handle.enabled:
            return None
        if not handle.demanded:
            handle.demanded = True
            self._reconcile(handle)
        return handle.output

    def switch(self, name: str, enabled: bool) -> None:
        """Switches an output on or off while live. Raises KeyError for an unknown name."""
        handle = self._handles[name]
        if handle.enabled != enabled:
            handle.enabled = enabled
            self._reconcile(handle)

    def channel_changed(self) -> None:
        """Switches the outputs whose flags in the channel changed. Other outputs keep their state."""
        for name, handle in self._handles.items():
            wanted = handle.spec.wanted(self._stream)
            if wanted != handle.wanted:
                handle.wanted = wanted
                self.switch(name, wanted)
            if handle.enabled and isinstance(handle.output, ChannelAware):
                try:
                    handle.output.channel_changed(self._stream.channel)
                except Exception as error:  # it continues with the channel that it had
                    log.error("output failed", stream=self._stream.name, output=name, exc_info=error)
                    handle.fault.failed(INTERNAL_ERROR)
                else:
                    if handle.state is OutputState.RUNNING:
                        handle.fault.works()

    def tracks_changed(self) -> None:
        """Starts the outputs again that could not process the earlier tracks."""
        for handle in self._handles.values():
            if handle.state is OutputState.FAILED and handle.epochs != self._epochs:
                self._reconcile(handle)

    def status(self) -> list[dict[str, object]]:
        """Returns `[{"name", "enabled", "state", "error", and the output's report}]` for the API."""
        return [h.read_report()[0] for h in self._handles.values() if h.spec.listed]

    def faults(self) -> dict[str, str]:
        """Returns what fails: the reasons by the name of the output, and of its part if it has one."""
        found: dict[str, str] = {}
        for handle in self._handles.values():
            # Most outputs report nothing, and this is called once a second for each stream.
            may_fail = handle.fault.error is not None or hasattr(handle.output, "report")
            if may_fail and handle.enabled and handle.spec.listed:
                parts = handle.read_report()[1]
                found |= {f"{handle.spec.name} {part}".rstrip(): reason for part, reason in parts.items()}
        return found

    def states(self) -> list[tuple[str, str]]:
        """Returns the names and states of `status`, with the reports of the last `faults` or `status`."""
        return [(h.spec.name, str(h.shown_state)) for h in self._handles.values() if h.spec.listed]

    def open(self) -> None:
        """Creates the outputs that are enabled from the start, before the first unit. `run` must follow."""
        for handle in self._handles.values():
            if handle.enabled and handle.demanded:
                self._make(handle)

    async def run(self) -> None:
        """Runs the enabled outputs until the stream has ended and all have finished, at most FINISH_SECONDS later."""
        async with Tasks(f"outputs of {self._stream.name}") as tasks:
            self._tasks = tasks
            for handle in self._handles.values():
                self._reconcile(handle)
            await self._stream.over()
            self._over.set()
            running = [h.task for h in self._handles.values() if h.task is not None and not h.task.done()]
            if running:
                await asyncio.wait(running, timeout=FINISH_SECONDS)
            self._tasks = None
            for handle in self._handles.values():
                handle.fault.stop()

    @property
    def _epochs(self) -> list[int]:
        """The epochs of the original and of what viewers get. The first one is 0, also before its tracks are known."""
        shown = self._stream
        return [tracks.epoch if tracks is not None else 0 for tracks in (shown.original.tracks, shown.tracks)]

    def _reconcile(self, handle: _Handle) -> None:
        if self._tasks is None:
            return
        if handle.enabled and handle.demanded:
            if handle.task is None or handle.task.done():
                # Created here, not in the task: a request in this turn of the loop must find it.
                output = handle.output if handle.task is None and handle.output is not None else self._make(handle)
                if output is not None:
                    handle.fault.works()
                handle.task = self._tasks.start(self._supervise(handle, output), handle.spec.name)
        elif handle.enabled:
            handle.state = OutputState.WAITING
        else:
            if handle.task is not None:
                handle.task.cancel()
                handle.task = None
            handle.output = None
            handle.demanded = not handle.spec.on_demand
            handle.state = OutputState.OFF
            handle.fault.clear()

    def _make(self, handle: _Handle, *, begins: bool = True) -> StreamOutput | None:
        """Creates an output. Returns None if that failed: an installed output may have any fault.

        begins: whether the output is told about the units that follow. One that starts again joins without it.
        """
        handle.output, handle.state, handle.reported = None, OutputState.RUNNING, OutputState.RUNNING
        handle.epochs = self._epochs
        try:
            output = handle.spec.make(self._stream)
            if begins and isinstance(output, StartsWithStream):
                output.begin(self._stream)
        except Exception as error:
            self._note_failure(handle, error)
            return None
        handle.output = output
        return output

    async def _supervise(self, handle: _Handle, output: StreamOutput | None) -> None:
        """Runs an output, and starts it again after each failure. output: the first one; None: it could not be made."""
        stream, backoff = self._stream, Backoff()
        while True:
            started = time.monotonic()
            if output is not None:
                handle.output, handle.state = output, OutputState.RUNNING
                try:
                    await output.run(stream)
                except Exception as error:
                    self._note_failure(handle, error)
                else:
                    handle.state = OutputState.DONE
                    handle.fault.clear()
                    return
            # If the tracks changed since it was created, it may have failed for the earlier ones.
            is_final = handle.state is OutputState.FAILED and handle.epochs == self._epochs
            if is_final or stream.original.ended is not None:
                return
            if time.monotonic() - started > 30:
                backoff.reset()
            if await wait_at_most(backoff.next(), self._over):  # the stream's end waits for no pause
                return
            output = self._make(handle, begins=False)
            if output is not None:
                handle.fault.works()

    def _note_failure(self, handle: _Handle, error: Exception) -> None:
        """Logs why an output does not run, and sets its state: FAILED if it cannot work with the stream's tracks."""
        stream, name, reason = self._stream.name, handle.spec.name, str(error)
        handle.state = OutputState.RETRYING
        if isinstance(error, OutputUnsupported):
            log.warning("output does not support this stream", stream=stream, output=name, reason=reason)
            handle.state = OutputState.FAILED
        elif isinstance(error, OutputError):
            log.warning("output is started again later", stream=stream, output=name, reason=reason)
        else:
            log.error("output failed", stream=stream, output=name, exc_info=error)
            reason = INTERNAL_ERROR
        handle.fault.failed(reason[:300])
