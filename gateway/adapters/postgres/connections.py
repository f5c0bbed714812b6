"""The connections of this process to a PostgreSQL database.

Every statement runs in a transaction of its own, begun and committed in so many words: a pooler such as PgBouncer then
keeps it on one server, and a connection that has died is noticed by its BEGIN, when it is still safe to take another.
A process that dies without a word within a transaction keeps its locks for seconds only.
Only the primary is used. After a failure, callers fail at once for a moment, so that an outage costs viewers no time.
"""

import asyncio
import contextlib
import functools
import getpass
import os
import re
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeAlias
from urllib.parse import parse_qs, urlsplit

import asyncpg
import structlog

from gateway.adapters.postgres.migrations import MIGRATIONS
from gateway.adapters.sql.sql_store import Value, storable_values
from gateway.lib.certificates import outgoing_tls
from gateway.lib.tasks import Tasks, awaited
from gateway.ports.errors import StoreUnavailable, StoreUnusable

log = structlog.get_logger(__name__)

CONNECT_SECONDS: Final = 2.0  # also for the BEGIN on a connection that was idle
_TIMEOUT: Final = 6.0  # seconds for an operation and its wait for a connection, as for SQLite
# For which the server keeps the locks of a process that says nothing within a transaction. It would notice only after
# hours that a machine is gone.
HELD_SECONDS: Final = 4.0
_MOST: Final = 5  # connections of one process
_FAIL_SECONDS: Final = 0.2  # after a failure, for which no connection is tried
_LOCK: Final = 0x4D494C4C  # of the migrations: "MILL"
SCHEMA: Final = len(MIGRATIONS)  # the version of the tables that this program makes
_SCHEMA_TABLE: Final = "millrace_schema"
# Parameters that libpq keeps for itself, as providers write them. asyncpg would send them, and servers refuse them.
_OF_LIBPQ: Final = re.compile(
    "(channel_binding|connect_timeout|fallback_application_name|gssencmode|keepalives\\w*|load_balance_hosts"
    "|pgbouncer|sslcompression|sslsni|tcp_user_timeout)="
)
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")  # parameters that name a file
# Faults of the settings or of the database that no retry mends: authentication, a missing database or permission.
_SETUP_FAULTS: Final = (
    ssl.SSLCertVerificationError,
    asyncpg.ClientConfigurationError,
    asyncpg.UndefinedObjectError,  # a parameter of the URL that the server does not know
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.DuplicateObjectError,
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateFunctionError,
)
# The server or the connection has failed. InternalClientError: the server's last message has come, and not yet the end.
LOST: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_Connection: TypeAlias = Any  # asyncpg has no types


class PostgresConnections(contextlib.AbstractAsyncContextManager["PostgresConnections"]):
    """A pool of at most five connections. Use as `async with`. It opens also while the server does not answer.

    ca: authorities (PEM) that are trusted besides those of the system, if the URL checks the server without naming any.
    Raises StoreUnusable for a URL without a user or with a file that cannot be read, ListenError for an unusable `ca`.
    """

    def __init__(self, url: str, ca: Path | None = None) -> None:
        _check_user(url)
        self.url = url
        self._name = _without_password(url)
        self._tls = _tls(url, ca)
        self._pool: asyncpg.Pool | None = None
        self._is_prepared = False
        self._preparing = asyncio.Lock()
        self._unusable = ""
        self._retry_at = 0.0
        self._failure = ""
        self._ahead = 0.0  # seconds that the server's clock is ahead of the monotonic clock of this process

    async def __aenter__(self) -> Self:
        """Applies the migrations. Raises StoreUnusable for faults that an operator must mend."""
        self._ahead = time.time() - time.monotonic()
        self._pool = asyncpg.create_pool(**self.arguments(), connect=connect, min_size=0, max_size=_MOST, reset=_keep)
        await self._pool
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._prepare()
        except (StoreUnavailable, TimeoutError) as error:
            if self._unusable:
                await self.__aexit__()
                raise StoreUnusable(self._unusable) from None
            log.warning("the database does not answer", database=self._name, reason=str(error) or "no answer in time")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()  # every transaction is complete or unwanted; a dead server would delay `close`

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of a connection. Without prepared statements, a pooler may change the server."""
        parts = urlsplit(self.url)
        query = "&".join(pair for pair in parts.query.split("&") if not _OF_LIBPQ.match(pair))
        primary = {} if "target_session_attrs" in parse_qs(query) else {"target_session_attrs": "primary"}
        dsn = parts._replace(query=query).geturl()
        return {"dsn": dsn, "ssl": self._tls, "timeout": CONNECT_SECONDS, "statement_cache_size": 0, **primary}

    def now(self) -> float:
        """Returns the time of the server, seconds since 1970. Changes of this machine's clock do not matter."""
        return time.monotonic() + self._ahead

    async def fetch(self, begin: str, statement: str, values: Sequence[Value]) -> list[Any]:
        """Returns the rows of a query. begin: the statement that begins the transaction. Raises StoreUnavailable."""
        async with self._transaction(begin) as connection:
            return list(await connection.fetch(_numbered(statement), *storable_values(values)))

    async def execute(self, begin: str, statement: str, values: Sequence[Value], lock: str = "") -> int:
        """Returns the number of rows that a statement changed. Raises StoreUnavailable.

        lock: a statement that waits for a lock first.
        """
        async with self._transaction(begin) as connection:
            if lock:
                await connection.execute(lock)
            status = await connection.execute(_numbered(statement), *storable_values(values))
        return int(status.rpartition(" ")[2])

    # ---- transactions ----

    @contextlib.asynccontextmanager
    async def _transaction(self, begin: str) -> AsyncIterator[_Connection]:
        """Commits at the end of the block. Raises StoreUnavailable; an error of the block rolls back."""
        if time.monotonic() < self._retry_at:
            raise self._unavailable(self._failure)
        try:
            async with asyncio.timeout(_TIMEOUT):
                if not self._is_prepared:
                    await self._prepare()
                async with self._begun(begin) as connection:
                    yield connection
                    await connection.execute("COMMIT")
        except LOST as error:
            raise await self._lost(error) from None

    @contextlib.asynccontextmanager
    async def _begun(self, begin: str) -> AsyncIterator[_Connection]:
        """Yields a connection in a transaction, which ends without effect if the block raises."""
        try:
            connection = await self._begin(begin)
        except LOST:  # the connection died while it was idle: nothing was sent, so another one may be taken
            await self._expire()
            connection = await self._begin(begin)
        try:
            yield connection
        except BaseException:
            await self._release(connection, broken=True)
            raise
        await self._release(connection)

    async def _begin(self, begin: str) -> _Connection:
        """Returns a connection in a transaction."""
        if self._pool is None:
            raise StoreUnavailable(f"the database {self._name} is closed")
        connection = await self._pool.acquire()
        held, wait = round(HELD_SECONDS * 1000), round(_TIMEOUT * 1000)  # nobody reads a later answer
        bounds = f"SET LOCAL idle_in_transaction_session_timeout = {held}; SET LOCAL lock_timeout = {wait}"
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.execute(f"{begin}; {bounds}")
        except BaseException:
            await self._release(connection, broken=True)
            raise
        return connection

    async def _release(self, connection: _Connection, *, broken: bool = False) -> None:
        """Returns a connection to the pool. broken: ends its transaction, also one that was cancelled."""
        if broken:
            with contextlib.suppress(asyncpg.InterfaceError):  # the pool has noticed the end of the connection
                connection.terminate()
        if self._pool is not None:
            await self._pool.release(connection)

    async def _expire(self) -> None:
        """Replaces all connections at their next use: the server may have ended, or become a standby."""
        if self._pool is not None:
            await self._pool.expire_connections()

    async def _lost(self, error: Exception) -> StoreUnavailable:
        """Returns the error for the caller, and makes the next callers wait if the server is not there."""
        reason = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
        if isinstance(
            error, asyncpg.DataError | asyncpg.IntegrityConstraintViolationError | asyncpg.SyntaxOrAccessError
        ):
            log.error("the database refuses a statement", database=self._name, reason=reason)
            return self._unavailable(reason)
        await self._expire()
        self._retry_at, self._failure = time.monotonic() + _FAIL_SECONDS, reason
        return self._unavailable(reason)

    def _unavailable(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"the database {self._name} is not available: {reason}", 1, "the database is unavailable"
        )

    # ---- the tables ----

    async def _prepare(self) -> None:
        """Applies the migrations once. Raises StoreUnavailable; then `_unusable` says what an operator must mend."""
        async with self._preparing:
            if self._is_prepared:
                return
            try:
                async with self._begun("BEGIN") as connection:
                    await self._migrate(connection)
                    moment = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
                    await connection.execute("COMMIT")
            except _SETUP_FAULTS as error:
                self._unusable = f"the database {self._name} cannot be used: {error}"
            except StoreUnusable as error:
                self._unusable = str(error)
            except LOST as error:
                raise await self._lost(error) from None
            else:
                self._ahead, self._is_prepared, self._unusable = moment - time.monotonic(), True, ""
                return
            self._retry_at, self._failure = time.monotonic() + CONNECT_SECONDS, self._unusable
            raise self._unavailable(self._unusable)

    async def _migrate(self, connection: _Connection) -> None:
        await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        version = await self._stored_schema(connection)
        if not version:
            await connection.execute(f"CREATE TABLE IF NOT EXISTS {_SCHEMA_TABLE} (version integer PRIMARY KEY)")
        for number, statements in enumerate(MIGRATIONS[version:], version + 1):
            await connection.execute(statements)
            await connection.execute(f"INSERT INTO {_SCHEMA_TABLE} VALUES ($1)", number)  # noqa: S608 a constant
            log.info("the tables of the database were made", database=self._name, schema=number)

    async def _stored_schema(self, connection: _Connection) -> int:
        """Returns the version of the tables; 0: there are none. Raises StoreUnusable if they are too new."""
        version = 0
        if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", _SCHEMA_TABLE):
            version = await connection.fetchval(f"SELECT max(version) FROM {_SCHEMA_TABLE}") or 0  # noqa: S608 a constant
        # The next version keeps its tables usable for this one, so that a rolling upgrade has both.
        if version > SCHEMA + 1:
            raise StoreUnusable(
                f"the database {self._name} was written by a newer Millrace: "
                f"its schema is {version}, this one supports {SCHEMA + 1}"
            )
        return version

    async def schema(self) -> int:
        """Returns the version of the tables; 0: there are none. It changes nothing, and the pool may be closed.

        Raises StoreUnusable.
        """
        try:
            async with asyncio.timeout(_TIMEOUT):
                connection = await connect(**self.arguments())
                try:
                    return await self._stored_schema(connection)
                finally:
                    connection.terminate()
        except LOST as error:
            raise StoreUnusable(f"the database {self._name} cannot be used: {error or 'no answer in time'}") from None


async def connect(dsn: str, **arguments: Any) -> _Connection:
    """Returns the first connection to a suitable server, of all hosts of a URL.

    It tries all of them at once, because a dead machine never answers. While one is silent, the others are tried again:
    one of them may become the primary. arguments: of asyncpg. Raises LOST.
    """
    urls = _urls(dsn)
    if len(urls) == 1:
        return await asyncpg.connect(dsn, **arguments)
    errors: dict[str, Exception] = {}

    async def attempt(url: str) -> _Connection:
        while True:
            try:
                return await asyncpg.connect(url, **arguments)
            except LOST as error:
                errors[url] = error
                if len(errors) == len(urls):
                    raise
            await asyncio.sleep(_FAIL_SECONDS)

    chosen: _Connection | None = None
    async with Tasks("connecting", awaited) as tasks:
        attempts = [tasks.start(attempt(url), str(number)) for number, url in enumerate(urls)]
        try:
            for one in asyncio.as_completed(attempts):
                with contextlib.suppress(*LOST):
                    chosen = await one
                    return chosen
        finally:
            for other in attempts:
                other.add_done_callback(functools.partial(_terminate_unless, chosen))
    # A fault of the settings, if there is one, and not that another host is a standby.
    found = [*errors.values()]
    raise next((error for error in found if isinstance(error, _SETUP_FAULTS)), found[-1])


def _terminate_unless(chosen: _Connection, attempt: asyncio.Task[_Connection]) -> None:
    if not attempt.cancelled() and attempt.exception() is None and attempt.result() is not chosen:
        attempt.result().terminate()


def _urls(url: str) -> list[str]:
    """Returns a URL for each host."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return [parts._replace(netloc=f"{user}{at}{host}").geturl() for host in hosts.split(",")]


def _check_user(url: str) -> None:
    """Raises StoreUnusable if nothing names the user, as in a container whose user id has no name."""
    parts = urlsplit(url)
    if parts.username or "user" in parse_qs(parts.query) or os.environ.get("PGUSER"):
        return
    try:
        getpass.getuser()  # what the driver and libpq take
    except (KeyError, OSError):
        raise StoreUnusable("the database URL has no user: write postgresql://<user>:<password>@<host>/…") from None


def _tls(url: str, ca: Path | None) -> ssl.SSLContext | None:
    """Returns the TLS context for a URL that trusts the system's authorities; None: asyncpg follows the URL.

    libpq has `sslrootcert=system` for them. asyncpg would search `root.crt` in the home, which a server seldom has.
    Raises StoreUnusable, ListenError.
    """
    query = {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
    files = {name: query[name] for name in _FILES if name in query}
    mode = query.get("sslmode", "")
    if files == {"sslrootcert": "system"} or (not files and mode.startswith("verify-")):
        context = outgoing_tls(ca) or ssl.create_default_context()
        context.check_hostname = mode != "verify-ca"
        context.set_alpn_protocols(["postgresql"])  # PostgreSQL 17 requires it with sslnegotiation=direct
        return context
    for name, path in files.items():
        try:
            Path(path).open("rb").close()
        except OSError as error:
            raise StoreUnusable(f"database: {name} names {path}, which cannot be read: {error.strerror}") from None
    return None


async def _keep(connection: object) -> None:
    """Resets nothing when a connection returns: transactions leave nothing behind."""


@functools.cache
def _numbered(statement: str) -> str:
    """Returns the statement with $1, $2, … in place of each `?`."""
    first, *rest = statement.split("?")
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))


def _without_password(url: str) -> str:
    """Returns host and name of the database, for messages."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"
