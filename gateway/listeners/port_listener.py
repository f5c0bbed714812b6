"""The open ports of one protocol."""

import abc
import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from gateway.http.forwarded import plain_address
from gateway.http.request import Request
from gateway.http.response import Answer
from gateway.lib.metric_table import MetricSample
from gateway.lib.sockets import Opener, Transport, port_of
from gateway.lib.tasks import Tasks

# For requests other than GET: respond(request, name of the stream). For WHIP, the name may be "".
SessionResponder: TypeAlias = "Callable[[Request, str], Answer | Coroutine[Any, Any, Answer]]"


def peer_address(peername: Sequence[Any] | None) -> str:
    """Returns the address without its port. None: the peer is already disconnected."""
    return plain_address(str(peername[0])) if peername else "0.0.0.0"


class TimedSession(Protocol):
    """A connection that is checked once a second."""

    def tick(self, now: float) -> None:
        """Ends a session that is late or silent. now: monotonic seconds."""


S = TypeVar("S", bound=TimedSession)


class PortListener(abc.ABC, Generic[S]):
    """One port. `run` must run while it is open. After `close`, the hub ends the sessions.

    name: its name in the ports file and in logs.
    """

    def __init__(self, name: str, host: str, port: int, opener: Opener, transport: Transport = "tcp") -> None:
        """Binds the port. Raises ListenError. An opener without a socket leaves it to the listener, see PortSharing."""
        self.name = name
        self._sockets = opener(name, host, port, transport)
        self.port = port_of(self._sockets) if self._sockets else port
        self._sessions: set[S] = set()

    @property
    def connections(self) -> int:
        return len(self._sessions)

    @abc.abstractmethod
    async def start(self) -> None:
        """Starts accepting."""

    async def run(self) -> None:
        """Checks every connection once a second, until cancelled."""
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for session in list(self._sessions):
                session.tick(now)

    @abc.abstractmethod
    def close(self) -> None:
        """Stops accepting."""

    @abc.abstractmethod
    async def hang_up(self, grace: float) -> None:
        """Closes all remaining connections. Unsent data is sent for at most `grace` seconds."""

    def abort(self) -> None:
        """Closes what is still open, at once."""


@dataclass(slots=True, eq=False)
class OpenListeners:
    """The ports of one protocol: a plain port and, if a certificate is set, a port over TLS.

    sessions: the responders of HTTP requests to the playback port that open sessions, by the name in the path.
    finish: called when all connections are closed, to finish what they have begun. samples: yields their metrics.
    """

    listeners: Sequence[PortListener[Any]]
    tasks: Tasks
    sessions: Mapping[str, SessionResponder] = field(default_factory=dict)
    finish: Callable[[], Awaitable[None]] | None = None
    samples: Callable[[], Iterable[MetricSample]] = tuple
    _running: dict[PortListener[Any], asyncio.Task[Any]] = field(default_factory=dict, init=False)

    @property
    def ports(self) -> dict[str, int]:
        return {listener.name: listener.port for listener in self.listeners}

    async def start(self) -> None:
        """Starts accepting."""
        for listener in self.listeners:
            await self._start(listener)

    def add(self, listener: PortListener[Any]) -> None:
        """Adds a bound port, and starts it."""
        self.listeners = [*self.listeners, listener]
        self._running[listener] = self.tasks.start(self._start(listener), "open a port")

    def remove(self, listener: PortListener[Any]) -> None:
        """Closes a port with its connections."""
        self.listeners = [other for other in self.listeners if other is not listener]
        self._running.pop(listener).cancel()
        listener.abort()

    async def _start(self, listener: PortListener[Any]) -> None:
        await listener.start()
        self._running[listener] = self.tasks.keep(listener.run, "connections")

    def close(self) -> None:
        """Stops accepting. Open connections continue."""
        for listener in self.listeners:
            listener.close()

    async def hang_up(self, grace: float) -> None:
        """Closes all remaining connections, in at most `grace` seconds per port."""
        for listener in self.listeners:
            await listener.hang_up(grace)
        if self.finish is not None:
            await self.finish()

    def abort(self) -> None:
        """Closes what is still open, at once."""
        for listener in self.listeners:
            listener.abort()
