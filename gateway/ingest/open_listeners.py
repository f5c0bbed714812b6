"""The open ports of one ingest protocol."""

from __future__ import annotations

import abc
import asyncio
import time
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

from gateway.lib.sockets import Opener, port_of
from gateway.lib.tasks import Tasks


class TimedSession(Protocol):
    """A connection that is checked once a second."""

    def tick(self, now: float) -> None:
        """Ends a session that is late or silent. now: monotonic."""


S = TypeVar("S", bound=TimedSession)


class PortListener(abc.ABC, Generic[S]):
    """One port. `run` must run while it is open; after `close`, the hub ends the sessions.

    name: in the ports file and in logs.
    """

    def __init__(self, name: str, host: str, port: int, opener: Opener) -> None:
        """Binds the port. Raises ListenError."""
        self.name = name
        self._sockets = opener(name, host, port)
        self.port = port_of(self._sockets)
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
        """Closes all remaining connections; unsent data has `grace` seconds to be sent."""


class OpenListeners:
    """The ports of one protocol: the plain one and, where a certificate is set, the one over TLS."""

    def __init__(self, listeners: Sequence[PortListener[Any]], tasks: Tasks) -> None:
        self._listeners = listeners
        self._tasks = tasks

    @property
    def ports(self) -> dict[str, int]:
        return {listener.name: listener.port for listener in self._listeners}

    async def start(self) -> None:
        """Starts accepting."""
        for listener in self._listeners:
            await listener.start()
            self._tasks.start(listener.run(), "connections")

    def close(self) -> None:
        """Stops accepting. Connections go on."""
        for listener in self._listeners:
            listener.close()

    async def hang_up(self, grace: float) -> None:
        """Closes all remaining connections; each port has `grace` seconds."""
        for listener in self._listeners:
            await listener.hang_up(grace)
