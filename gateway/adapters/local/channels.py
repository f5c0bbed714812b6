"""Channels and domains in SQLite: one row per channel, its item as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiosqlite

from gateway.adapters.local.folder import data_folder
from gateway.hub.addresses import Domains
from gateway.hub.channel import ID, Channel
from gateway.hub.errors import ChannelExists, NoSuchChannel, StoreAway, StoreUnusable
from gateway.hub.names import is_channel_id

_SCHEMA: Final = 1  # kept in user_version
_APPLICATION: Final = 0x4D494C4C  # "MILL", so that no other program's database is taken for ours
_LOCK_WAIT: Final = 2.0  # seconds that SQLite waits for another process
_LONGEST: Final = 6.0  # seconds of a whole operation, with its wait for earlier ones; the contract's bound is 8
_CREATE: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS channels (id TEXT PRIMARY KEY, item TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS domains (name TEXT PRIMARY KEY, value TEXT NOT NULL);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_SCHEMA};
COMMIT;
"""


class SqliteChannels:
    """A ChannelStore and DomainStore over one connection; use as `async with`.

    Every operation is one statement, so nothing is left half-done by a cancelled caller or a killed process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: aiosqlite.Connection | None = None

    async def __aenter__(self) -> Self:
        """Open the file, made where it is missing; StoreUnusable where it cannot be used."""
        await asyncio.to_thread(self._make_file)
        try:
            self._database = await aiosqlite.connect(self._path, timeout=_LOCK_WAIT, isolation_level=None)
            await self._prepare(self._database)
        except sqlite3.Error as e:
            await self._close()
            raise StoreUnusable(f"the database {self._path} cannot be used: {e}") from None
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            await database.close()

    def _make_file(self) -> None:
        """Keys are inside: nobody else may read it (SQLite gives its journal files the same mode)."""
        data_folder(self._path.parent)
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as e:
            raise StoreUnusable(f"the database {self._path} cannot be opened: {e.strerror}") from None

    async def _prepare(self, database: aiosqlite.Connection) -> None:
        application = await _scalar(database, "PRAGMA application_id")
        tables = await _scalar(database, "SELECT count(*) FROM sqlite_master")
        if application not in (0, _APPLICATION) or (application == 0 and tables):
            raise StoreUnusable(f"the database {self._path} belongs to another program")
        version = await _scalar(database, "PRAGMA user_version")
        if version > _SCHEMA:
            raise StoreUnusable(
                f"the database {self._path} was written by a newer Millrace: "
                f"its schema is {version}, this one knows {_SCHEMA}"
            )
        if (verdict := await _scalar(database, "PRAGMA quick_check(1)")) != "ok":
            raise StoreUnusable(f"the database {self._path} is damaged: {' '.join(verdict.split())}")
        await database.execute("PRAGMA journal_mode = WAL")  # readers and the command line never wait for a writer
        await database.execute("PRAGMA synchronous = FULL")  # channels are written rarely and must not be lost
        if version < _SCHEMA:
            await database.executescript(_CREATE)

    async def get(self, id: str) -> Channel:
        return _channel(await self._item(id))

    async def list(self) -> list[Channel]:
        return [_channel(text) for (text,) in await self._run("SELECT item FROM channels ORDER BY rowid")]

    async def add(self, item: Mapping[str, Any]) -> Channel:
        text = _text(item)
        if not await self._write("INSERT OR IGNORE INTO channels VALUES (?, ?)", item[ID], text):
            raise ChannelExists(item[ID])
        return _channel(text)

    async def update(self, id: str, changes: Mapping[str, Any]) -> Channel:
        # Read, merge, and write only if nobody wrote meanwhile: somebody's success is the reason for every repetition.
        while True:
            old = await self._item(id)
            new = _text({**json.loads(old), **changes, ID: id})
            if await self._write("UPDATE channels SET item = ? WHERE id = ? AND item = ?", new, id, old):
                return _channel(new)

    async def delete(self, id: str) -> None:
        if not is_channel_id(id) or not await self._write("DELETE FROM channels WHERE id = ?", id):
            raise NoSuchChannel(id)

    async def check(self) -> None:
        await self._run("SELECT 1 FROM channels LIMIT 1")

    async def get_domains(self) -> Domains:
        stored: dict[str, str] = dict(await self._run("SELECT name, value FROM domains"))
        return Domains(stored.get("pushDNS", ""), stored.get("pullDNS", ""))

    async def set_domains(self, domains: Domains) -> None:
        # An empty one is stored as such: two rows in one statement.
        await self._write(
            "INSERT INTO domains VALUES ('pushDNS', ?), ('pullDNS', ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            domains.push,
            domains.pull,
        )

    async def _item(self, id: str) -> str:
        rows = await self._run("SELECT item FROM channels WHERE id = ?", id) if is_channel_id(id) else ()
        if not rows:
            raise NoSuchChannel(id)
        return str(rows[0][0])

    async def _run(self, statement: str, *values: str) -> Sequence[Any]:
        """The rows of a query."""
        with self._errors():
            async with asyncio.timeout(_LONGEST):
                return tuple(await self._open().execute_fetchall(statement, values))

    async def _write(self, statement: str, *values: str) -> int:
        """The number of rows that a statement changed."""
        with self._errors():
            async with asyncio.timeout(_LONGEST), self._open().execute(statement, values) as cursor:
                return cursor.rowcount

    def _open(self) -> aiosqlite.Connection:
        if self._database is None:
            raise StoreAway(f"the database {self._path} is closed")
        return self._database

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Locked, full, unreadable: the caller may come again, and no media stops for it."""
        try:
            yield
        except TimeoutError:
            raise StoreAway(f"the database {self._path} does not answer") from None
        except sqlite3.Error as e:
            raise StoreAway(f"the database {self._path} does not serve: {e}") from e


async def _scalar(database: aiosqlite.Connection, statement: str) -> Any:
    async with database.execute(statement) as cursor:
        row = await cursor.fetchone()
    return row[0] if row else None


def _text(item: Mapping[str, Any]) -> str:
    return json.dumps(item, allow_nan=False, separators=(",", ":"))


def _channel(text: str) -> Channel:
    return Channel(json.loads(text))
