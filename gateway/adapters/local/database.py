"""One SQLite file of Millrace, checked when it is opened. Every operation is one statement."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import aiosqlite

from gateway.adapters.local.data_folder import data_folder
from gateway.ports.errors import StoreUnavailable, StoreUnusable

APPLICATION: Final = 0x4D494C4C  # "MILL", so that no other program's database is used by mistake
_LOCK_WAIT: Final = 2.0  # seconds that SQLite waits for another process
_LOCK_PAUSE: Final = 0.02
_LONGEST: Final = 6.0  # seconds for an operation with its wait for earlier ones; StoreUnavailable has to come within 8


class Database:
    """A connection; use as `async with`.

    CREATE: idempotent statements that create the tables. SCHEMA: their version, from 1, kept in user_version.
    CHECK: the statement of `check`. A cancelled caller or a killed process leaves no half-done change.
    """

    CREATE: ClassVar[str]
    SCHEMA: ClassVar[int] = 1
    CHECK: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: aiosqlite.Connection | None = None

    async def __aenter__(self) -> Self:
        """Opens the file, created where it is missing. Raises StoreUnusable where it cannot be used."""
        await asyncio.to_thread(self._make_file)
        try:
            self._database = await aiosqlite.connect(self._path, timeout=_LOCK_WAIT, isolation_level=None)
            await self._settle(self._database)
        except sqlite3.Error as e:
            await self._close()
            raise StoreUnusable(f"the database {self._path} cannot be used: {e}") from None
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._close()

    async def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            await database.close()

    def _make_file(self) -> None:
        """Creates the file for this user only, because it contains keys.

        SQLite gives its journal files the same mode.
        """
        data_folder(self._path.parent)
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as e:
            raise StoreUnusable(f"the database {self._path} cannot be opened: {e.strerror}") from None

    async def _settle(self, database: aiosqlite.Connection) -> None:
        """Prepares the file, and tries again while another process opens or closes it.

        SQLite itself does not wait for that.
        """
        last = time.monotonic() + _LOCK_WAIT
        while True:
            try:
                return await self._prepare(database)
            except sqlite3.OperationalError as e:
                if e.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= last:
                    raise
            await database.rollback()
            await asyncio.sleep(_LOCK_PAUSE)

    async def _prepare(self, database: aiosqlite.Connection) -> None:
        await database.execute("BEGIN")  # one consistent read: another process may be creating the tables now
        application = await _scalar(database, "PRAGMA application_id")
        tables = await _scalar(database, "SELECT count(*) FROM sqlite_master")
        version = await _scalar(database, "PRAGMA user_version")
        await database.execute("COMMIT")
        if application not in (0, APPLICATION) or (application == 0 and tables):
            raise StoreUnusable(f"the database {self._path} belongs to another program")
        if version > self.SCHEMA:
            raise StoreUnusable(
                f"the database {self._path} was written by a newer Millrace: "
                f"its schema is {version}, this one knows {self.SCHEMA}"
            )
        if (verdict := await _scalar(database, "PRAGMA quick_check(1)")) != "ok":
            raise StoreUnusable(f"the database {self._path} is damaged: {' '.join(verdict.split())}")
        await database.execute("PRAGMA journal_mode = WAL")  # readers and the command line never wait for a writer
        await database.execute("PRAGMA synchronous = FULL")  # writes are rare and must not be lost
        if version < self.SCHEMA:
            marks = f"PRAGMA application_id = {APPLICATION};PRAGMA user_version = {self.SCHEMA}"
            await database.executescript(f"BEGIN IMMEDIATE;{self.CREATE};{marks};COMMIT;")

    async def rows(self, statement: str, *values: str | int | float) -> Sequence[Any]:
        """Returns the rows of a query. Raises StoreUnavailable."""
        with self._errors():
            async with asyncio.timeout(_LONGEST):
                return tuple(await self._open().execute_fetchall(statement, values))

    async def write(self, statement: str, *values: str | int | float) -> int:
        """Returns the number of rows that a statement changed. Raises StoreUnavailable."""
        with self._errors():
            async with asyncio.timeout(_LONGEST), self._open().execute(statement, values) as cursor:
                return cursor.rowcount

    async def check(self) -> None:
        """Reads a row. Raises StoreUnavailable where the database does not answer."""
        await self.rows(self.CHECK)

    def _open(self) -> aiosqlite.Connection:
        if self._database is None:
            raise StoreUnavailable(f"the database {self._path} is closed")
        return self._database

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns a locked, full or unreadable database into StoreUnavailable: the caller may try again, and media goes
        on.
        """
        try:
            yield
        except TimeoutError:
            raise StoreUnavailable(f"the database {self._path} does not answer") from None
        except sqlite3.Error as e:
            raise StoreUnavailable(f"the database {self._path} does not serve: {e}") from e


def to_json(value: Mapping[str, Any]) -> str:
    """Returns the text of a stored value."""
    return json.dumps(dict(value), allow_nan=False, separators=(",", ":"))


async def _scalar(database: aiosqlite.Connection, statement: str) -> Any:
    async with database.execute(statement) as cursor:
        row = await cursor.fetchone()
    return row[0] if row else None
