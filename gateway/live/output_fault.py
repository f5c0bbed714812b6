"""The fault of an output, or of one of its targets: reported once, and withdrawn when it has worked for a while."""

import asyncio
import time
from typing import Final

from gateway.ports.events import Event, Events, EventType

WORKED_SECONDS: Final = 10.0  # for which an output must work until its fault is over


class OutputFault:
    """Emits `output.failed` at the first failure, and `output.recovered` after WORKED_SECONDS of work.

    An output that fails again and again soon after its start has one fault.

    error: the reason of the last failure; None: there is no fault. target: of a relay, without secrets.
    """

    def __init__(self, events: Events, channel: str, output: str, target: str | None = None) -> None:
        self.error: str | None = None
        self._events, self._channel = events, channel
        self._data = {"output": output} if target is None else {"output": output, "target": target}
        self._timer: asyncio.TimerHandle | None = None

    def failed(self, error: str) -> None:
        self.stop()
        is_new, self.error = self.error is None, error
        if is_new:
            self._emit(EventType.OUTPUT_FAILED, error=error)

    def works(self) -> None:
        """Called when it has begun to work."""
        if self.error is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WORKED_SECONDS, self._recover)

    def clear(self) -> None:
        """Forgets the fault without an event: the output is off, or has ended."""
        self.stop()
        self.error = None

    def _recover(self) -> None:
        self.clear()
        self._emit(EventType.OUTPUT_RECOVERED)

    def stop(self) -> None:
        """Reports nothing more by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _emit(self, kind: EventType, **more: str) -> None:
        self._events.emit(Event(kind, time.time(), self._channel, {**self._data, **more}))
