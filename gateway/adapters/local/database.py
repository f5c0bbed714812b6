"""One SQLite file of Millrace. Opening checks it. Every operation is one statement."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import aiosqlite
import structlog

from gateway.adapters.local.data_folder import data_folder
from gateway.adapters.sql.sql_store import SqlStore, Value, storable_values
from gateway.lib.disk import network_file_system
from gateway.ports.errors import StoreUnavailable, StoreUnusable

log = structlog.get_logger(__name__)

APPLICATION: Final = 0x4D494C4C  # "MILL": marks the file as a database of Millrace
_LOCK_WAIT: Final = 2.0  # seconds that SQLite waits for another process
_LOCK_PAUSE: Final = 0.02  # seconds between two attempts to prepare a locked file
# What must be known about a file before it is used.
_FACTS: Final = (
    "PRAGMA application_id",
    "SELECT count(*) FROM sqlite_master",
    "PRAGMA user_version",
    "PRAGMA quick_check(1)",
)
_CACHE_KIB: Final = 256  # of each store, instead of 2 MB: rows are read seldom, and the system caches the file too
_OPEN_AGAIN: Final = 30.0  # seconds after which a file that could not be used is opened again
# Seconds for an operation and its wait for earlier ones. An unavailable store must be detected within 8 s, and the
# caller needs the remaining time.
_TIMEOUT: Final = 6.0
_LEAST_FREE: Final = 65_536  # bytes; the index of the log has 32 kB
_NO_TEXT: Final = "\N{REPLACEMENT CHARACTER}"  # in place of a stored text that is not UTF-8


class Database(SqlStore):
    """A connection; use as `async with`. A cancelled caller or a killed process leaves no partial change.

    CREATE: idempotent statements that create the tables.
    SCHEMA: their version, from 1, stored in `user_version`.
    CHECK: the statement of `check`.
    """

    CREATE: ClassVar[str]
    SCHEMA: ClassVar[int] = 1
    CHECK: ClassVar[str]

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self._database: aiosqlite.Connection | None = None
        self.unusable = ""  # why the file cannot be used, and operations raise StoreUnavailable; "": it can be used
        self._open_again_at = 0.0

    async def __aenter__(self) -> Self:
        """Opens the file. Creates it if it is missing. Raises StoreUnusable if it cannot be used."""
        await asyncio.to_thread(self._make_file)
        try:
            self._database = await aiosqlite.connect(self._path, timeout=_LOCK_WAIT, isolation_level=None)
            self._database.text_factory = _text
            await self._prepare_with_retries(self._database)
            if kind := await asyncio.to_thread(network_file_system, self._path):
                event = "a database is on a network file system, which may damage it: take a local disk, or PostgreSQL"
                log.warning(event, path=str(self._path), file_system=kind)
        except sqlite3.Error as e:
            await self._close()
            reason = await asyncio.to_thread(_cause, self._path, e)
            raise StoreUnusable(f"the database {self._path} cannot be used: {reason}") from None
        except BaseException:
            await self._close()
            raise
        return self

    async def open_if_usable(self, stack: contextlib.AsyncExitStack) -> Self:
        """Opens the file until the stack ends. If it cannot be used, `unusable` says why, and it is opened later."""
        stack.push_async_exit(self)
        await self._try_to_open()
        return self

    async def _try_to_open(self) -> None:
        self._open_again_at = time.monotonic() + _OPEN_AGAIN
        try:
            await self.__aenter__()
            if self.unusable:
                log.info("a database can be used again", path=str(self._path))
            self.unusable = ""
        except StoreUnusable as error:
            self.unusable = str(error)

    async def __aexit__(self, *error: object) -> None:
        await self._close()

    async def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            await database.close()

    def _make_file(self) -> None:
        """Creates the file only for this user, because it contains keys. SQLite's journal files get the same mode."""
        data_folder(self._path.parent)
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as e:
            raise StoreUnusable(f"the database {self._path} cannot be opened: {e.strerror}") from None

    async def _prepare_with_retries(self, database: aiosqlite.Connection) -> None:
        """Prepares the file. Retries while another process opens or closes it, because SQLite does not wait then."""
        deadline = time.monotonic() + _LOCK_WAIT
        while True:
            try:
                return await self._prepare(database)
            except sqlite3.OperationalError as e:
                if e.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
            await database.rollback()
            await asyncio.sleep(_LOCK_PAUSE)

    async def _prepare(self, database: aiosqlite.Connection) -> None:
        await database.execute("BEGIN")  # one consistent read, because another process may be creating the tables
        facts = [await _scalar(database, statement) for statement in _FACTS]
        await database.execute("COMMIT")
        version = self._check(self._path, facts)
        await database.execute("PRAGMA journal_mode = WAL")  # readers and the command line do not wait for a writer
        await database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        await database.execute("PRAGMA synchronous = FULL")  # writes are rare and must not be lost
        if version < self.SCHEMA:
            marks = f"PRAGMA application_id = {APPLICATION};PRAGMA user_version = {self.SCHEMA}"
            await database.executescript(f"BEGIN IMMEDIATE;{self.CREATE};{marks};COMMIT;")

    @classmethod
    def _check(cls, path: Path, facts: Sequence[Any]) -> int:
        """Returns the version of the tables. facts: the answers to `_FACTS`. Raises StoreUnusable."""
        application, tables, version, result = facts[0], facts[1], int(facts[2]), facts[3]
        if application not in (0, APPLICATION) or (application == 0 and tables):
            raise StoreUnusable(f"the database {path} belongs to another program")
        if version > cls.SCHEMA:
            raise StoreUnusable(
                f"the database {path} was written by a newer Millrace: "
                f"its schema is {version}, this one supports {cls.SCHEMA}"
            )
        if result != "ok":
            raise StoreUnusable(f"the database {path} is damaged: {' '.join(result.split())}")
        return version

    @classmethod
    def inspect(cls, path: Path) -> str:
        """Returns what opening the file would do, in words. It changes and creates nothing. Raises StoreUnusable."""
        if not path.exists():
            return f"{path} will be created"
        # SQLite creates the file -shm unless the database is immutable. If it is missing, nobody has it open.
        mode = "mode=ro" if path.with_name(f"{path.name}-shm").exists() else "immutable=1"
        uri = f"{path.absolute().as_uri()}?{mode}"
        try:
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_LOCK_WAIT)) as database:
                facts = [database.execute(statement).fetchone()[0] for statement in _FACTS]
        except sqlite3.Error as e:
            raise StoreUnusable(f"the database {path} cannot be used: {_cause(path, e)}") from None
        version = cls._check(path, facts)
        return (f"{path} will be upgraded" if version < cls.SCHEMA else f"{path} can be read") + _network_hint(path)

    async def rows(self, statement: str, *values: Value) -> Sequence[Any]:
        """Returns the rows of a query. Raises StoreUnavailable."""
        await self._open_again()
        with self._errors():
            async with asyncio.timeout(_TIMEOUT):
                return tuple(await self._connection().execute_fetchall(statement, storable_values(values)))

    async def write(self, statement: str, *values: Value) -> int:
        """Returns the number of rows that a statement changed. Raises StoreUnavailable.

        After StoreUnavailable or a cancellation, only a statement that had begun may still take effect.
        """
        await self._open_again()
        wanted = [storable_values(values)]
        try:
            with self._errors():
                async with asyncio.timeout(_TIMEOUT), self._connection().executemany(statement, wanted) as cursor:
                    return cursor.rowcount
        finally:
            # The thread may run a statement long after its caller has ended. SQLite reads this list only then, so a
            # statement that has not begun has no values and changes nothing.
            wanted.clear()

    async def write_alone(self, table: str, statement: str, *values: Value) -> int:
        return await self.write(statement, *values)  # SQLite runs one writing statement at a time

    async def check(self) -> None:
        """Reads a row. Raises StoreUnavailable if the database does not answer."""
        await self.rows(self.CHECK)

    async def _open_again(self) -> None:
        if self.unusable and time.monotonic() >= self._open_again_at:
            await self._try_to_open()

    def _connection(self) -> aiosqlite.Connection:
        """Returns the open connection. Raises StoreUnavailable if the file is closed or cannot be used."""
        if self.unusable:
            public = f"the database {self._path.name} cannot be used; the log of the gateway says why"
            raise StoreUnavailable(self.unusable, int(_OPEN_AGAIN), public)
        if self._database is None:
            raise StoreUnavailable(f"the database {self._path} is closed")
        return self._database

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises StoreUnavailable for a locked, full or unreadable database: the caller may retry, streams continue."""
        try:
            yield
        except TimeoutError:
            raise StoreUnavailable(f"the database {self._path} does not answer") from None
        except sqlite3.Error as e:
            raise StoreUnavailable(f"the database {self._path} is not available: {_reason(self._path, e)}") from e


def _reason(path: Path, error: sqlite3.Error) -> str:
    """Returns the text of an error. SQLite says "disk I/O error" if the index of its log has no room on a full disk."""
    is_io = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR
    with contextlib.suppress(OSError):  # the folder is gone
        if is_io and shutil.disk_usage(path.parent).free < _LEAST_FREE:
            return "the disk is full"
    return str(error)


def _cause(path: Path, error: sqlite3.Error) -> str:
    return _reason(path, error) + _network_hint(path)


def _network_hint(path: Path) -> str:
    """Returns what to do where SQLite's locks and shared memory may fail (sqlite.org/wal.html); "" elsewhere."""
    kind = network_file_system(path)
    return f"; it is on a network file system ({kind}): take a local disk, or PostgreSQL" if kind else ""


def _text(stored: bytes) -> str:
    """Returns a stored text. An error here would stop the whole query, and leave it open: then no write succeeds."""
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return _NO_TEXT


async def _scalar(database: aiosqlite.Connection, statement: str) -> Any:
    async with database.execute(statement) as cursor:
        row = await cursor.fetchone()
    return row[0] if row else None
