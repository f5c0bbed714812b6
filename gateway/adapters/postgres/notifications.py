"""Notifications of PostgreSQL: rows that any process has changed."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Final

import structlog

from gateway.adapters.postgres.connections import CONNECT_SECONDS, LOST, PostgresConnections, connect
from gateway.adapters.postgres.migrations import CHANNEL
from gateway.lib.backoff import Backoff
from gateway.lib.waiting import wait_at_most
from gateway.ports.errors import StoreUnavailable

log = structlog.get_logger(__name__)

_CHECK_SECONDS: Final = 30.0  # between two checks whether notifications arrive
_CHECK: Final = "check"  # takes the place of the table in the payload of a check


class PostgresNotifications:
    """Listens on a connection of its own. `run` must be running. Implements StoreChanges.

    Notifications are lost while the connection is broken, and never arrive through a pooler in transaction mode. So
    `works` tells whether one that another connection has sent has arrived.
    """

    def __init__(self, connections: PostgresConnections) -> None:
        self._connections = connections
        self._listeners: dict[str, list[Callable[[str], None]]] = {}
        self.works = False
        self._checks: dict[str, asyncio.Event] = {}  # by the key of a notification: set when it arrives

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
        await connection.add_listener(CHANNEL, self._on_notification)
        while not ended.is_set():
            self.works = await self._check()
            if not self.works:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await connection.execute("SELECT 1")
            await wait_at_most(_CHECK_SECONDS, ended)

    async def _check(self) -> bool:
        """Returns whether a notification of another connection arrives."""
        key = secrets.token_hex(8)
        arrived = self._checks[key] = asyncio.Event()
        try:
            payload = f"{_CHECK}/{key}"
            await self._connections.fetch("BEGIN", "SELECT pg_notify(?, ?)", (CHANNEL, payload))
            return await wait_at_most(CONNECT_SECONDS, arrived)
        except StoreUnavailable:
            return False
        finally:
            del self._checks[key]

    def _on_notification(self, connection: object, pid: int, channel: str, payload: str) -> None:
        table, _, key = payload.partition("/")
        if table == _CHECK and key in self._checks:
            self._checks[key].set()
        for callback in self._listeners.get(table, ()):
            callback(key)
