"""The open ports of one ingest protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.lib.tasks import Tasks


class PortListener(Protocol):
    """One port. `run` runs while it is open."""

    @property
    def name(self) -> str:
        """Its name in the ports file and in logs."""

    @property
    def port(self) -> int: ...

    async def start(self) -> None:
        """Starts accepting."""

    async def run(self) -> None:
        """Checks the connections until cancelled."""

    def close(self) -> None:
        """Stops accepting."""

    async def hang_up(self, grace: float) -> None:
        """Closes all remaining connections; unsent data has `grace` seconds to be sent."""


class OpenListeners:
    """The ports of one protocol: the plain one and, where a certificate is set, the one over TLS."""

    def __init__(self, listeners: Sequence[PortListener], tasks: Tasks) -> None:
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
