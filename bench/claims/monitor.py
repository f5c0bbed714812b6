"""Tells when a database answered: a synchronous write many times a second, on connections that pass no fault."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

import asyncpg

PERIOD = 0.05  # seconds between two writes
_PATIENCE = 0.4  # seconds for a write; a server that needs more does not answer
_GAP = 0.3  # seconds without an answer that count as an outage
_TABLE = "CREATE TABLE IF NOT EXISTS bench_writes (number bigint)"
_WRITE = "INSERT INTO bench_writes VALUES (1)"


class Monitor:
    """Writes to a database of one or more servers. `run` must be running.

    urls: one for each server. Standbys are asked whether they have become the primary.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._last, self._last_began = time.monotonic(), 0.0
        self._gaps: list[tuple[float, float]] = []
        self._answered = asyncio.Condition()
        self.server = ""  # url of the one that answered last

    @property
    def away(self) -> list[tuple[float, float]]:
        """The outages: last answer before it, first one after it. The present one has no end."""
        present = [(self._last, float("inf"))] if time.monotonic() - self._last > _GAP else []
        return self._gaps + present

    async def answer_after(self, moment: float) -> float:
        """Waits for a write that began after a moment, and returns when it was answered."""
        async with self._answered:
            await self._answered.wait_for(lambda: self._last_began > moment)
            return self._last

    async def answer_of_other_than(self, url: str) -> float:
        """Waits for a write of another server, and returns when it was answered."""
        async with self._answered:
            await self._answered.wait_for(lambda: self.server not in ("", url))
            return self._last

    async def run(self) -> None:
        """Writes until it is cancelled."""
        await asyncio.gather(*(self._ask(url) for url in self._urls))

    async def _ask(self, url: str) -> None:
        connection: Any = None
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(_PATIENCE):
                    connection = connection or await asyncpg.connect(url, timeout=_PATIENCE)
                    if not await connection.fetchval("SELECT pg_is_in_recovery()"):
                        await connection.execute(_WRITE)
                        await self._note(url, began)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                with contextlib.suppress(asyncpg.InterfaceError):
                    if connection is not None:
                        connection.terminate()
                connection = None
            await asyncio.sleep(PERIOD)

    async def _note(self, url: str, began: float) -> None:
        async with self._answered:
            now = time.monotonic()
            if now - self._last > _GAP:
                self._gaps.append((self._last, now))
            self._last, self._last_began, self.server = now, began, url
            self._answered.notify_all()


async def is_primary(url: str) -> bool:
    """Whether a server answers and is no standby."""
    try:
        connection = await asyncpg.connect(url, timeout=_PATIENCE)
        try:
            return not await connection.fetchval("SELECT pg_is_in_recovery()", timeout=_PATIENCE)
        finally:
            connection.terminate()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        return False


async def prepare(url: str) -> None:
    """Creates the table of the writes."""
    connection = await asyncpg.connect(url, timeout=5)
    try:
        await connection.execute(_TABLE)
    finally:
        await connection.close()
