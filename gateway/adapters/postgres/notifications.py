"""Notifications of PostgreSQL: rows that any process has changed."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog

from gateway.adapters.postgres.connections import CONNECT_SECONDS, LOST, PostgresConnections, connect
from gateway.adapters.postgres.migrations import CHANNEL
from gateway.lib.backoff import Backoff
from gateway.lib.waiting import wait_at_most

log = structlog.get_logger(__name__)

_CHECK_SECONDS: Final = 30.0  # between two checks whether the connection lives


class PostgresNotifications:
    """Listens on a connection of its own. `run` must be running. Implements StoreChanges.

    Notifications are lost while the connection is broken, and never arrive through a pooler in transaction mode.
    """

    def __init__(self, connections: PostgresConnections) -> None:
        self._connections = connections
        self._listeners: dict[str, list[Callable[[str], None]]] = {}
        self.works = False

    def listen(self, table: str, callback: Callable[[str], None]) -> None:
        """Calls `callback` with the key of each row of a table that has changed."""
        self._listeners.setdefault(table, []).append(callback)

    async def run(self) -> None:
        """Listens until cancelled. A lost connection is opened again."""
        backoff = Backoff(0.5, 10)
        while True:
            try:
                connection = await connect(**self._connections.arguments())
            except LOST as error:
                log.debug("the database sends no notifications", reason=str(error))
            else:
                backoff.reset()
                try:
                    await self._receive(connection)
                except LOST as error:
                    log.debug("the notifications of the database have ended", reason=str(error))
                finally:
                    self.works = False
                    connection.terminate()
            await asyncio.sleep(backoff.next())

    async def _receive(self, connection: Any) -> None:
        """Returns when the connection has ended."""
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        async with asyncio.timeout(CONNECT_SECONDS):
            process = await connection.fetchval("SELECT pg_backend_pid()")
        await connection.add_listener(CHANNEL, self._on_notification)
        # A pooler has told a number of its own. The process that listens may soon serve another client.
        self.works = process == connection.get_server_pid()
        while not await wait_at_most(_CHECK_SECONDS, ended):
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.execute("SELECT 1")

    def _on_notification(self, connection: object, pid: int, channel: str, payload: str) -> None:
        table, _, key = payload.partition("/")
        for callback in self._listeners.get(table, ()):
            callback(key)
