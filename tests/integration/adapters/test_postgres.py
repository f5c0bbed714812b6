"""PostgreSQL that fails: broken connections, crashes, a paused server, other programs' tables, other versions."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.adapters.postgres import connections as connections_module
from gateway.adapters.postgres.connections import SCHEMA, PostgresConnections, connect
from gateway.adapters.postgres.migrations import MIGRATIONS
from gateway.adapters.postgres.notifications import PostgresNotifications
from gateway.adapters.postgres.stores import PostgresChannels, PostgresConsole, PostgresJobs, PostgresRegistry
from gateway.app.doctor import CheckState, check_stores
from gateway.lib.tasks import Tasks
from gateway.ports.errors import HeldByOtherNode, SlugTaken, StoreUnavailable, StoreUnusable
from gateway.ports.nodes import Node, NodeRole, StreamClaim
from gateway.settings import load
from tests.support.authority import self_signed
from tests.support.free_ports import free_ports
from tests.support.postgres import Postgres, pgbouncer, postgres_server
from tests.support.time_outs import at_most


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server that tests stop, so no other file has it."""
    with postgres_server() as server:
        yield server


@pytest_asyncio.fixture
async def connections(server: Postgres) -> AsyncIterator[PostgresConnections]:
    async with PostgresConnections(server.new_database()) as opened:
        yield opened


LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'LISTEN%'"


def claim(node: str, id: str) -> StreamClaim:
    return StreamClaim("foyer", node, f"{node}:8080", id, 1_800_000_000.0)


async def until_it_answers(channels: PostgresChannels) -> float:
    """Returns the seconds until the database answers."""
    began = time.monotonic()
    async with asyncio.timeout(at_most(20)):
        while True:
            try:
                await channels.check()
                return time.monotonic() - began
            except StoreUnavailable:
                await asyncio.sleep(0.05)


async def test_broken_idle_connections_are_replaced_unnoticed(
    server: Postgres, connections: PostgresConnections
) -> None:
    channels = PostgresChannels(connections)
    await asyncio.gather(*(channels.add({"id": f"c{n}"}) for n in range(20)))
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname <> ''")
    await asyncio.gather(*(channels.get(f"c{n}") for n in range(20)))
    await channels.add({"id": "later"})
    assert len(await channels.list()) == 21


async def test_a_connection_that_the_server_has_ended_is_replaced_before_its_end_arrives(server: Postgres) -> None:
    """The server's last message has come, but not the end of the connection: asyncpg refuses each statement."""
    name = server.new_database().rpartition("/")[2]
    async with (
        without_ends(server.port) as (port, ended),
        PostgresConnections(server.url(name, port)) as connections,
    ):
        channels = PostgresChannels(connections)
        await channels.add({"id": "foyer"})
        server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        async with asyncio.timeout(at_most(5)):
            await ended.wait()
        for _ in range(5):  # the message is in the socket; the loop has to read it
            await asyncio.sleep(0)
        assert (await channels.get("foyer")).id == "foyer"


@pytest.mark.parametrize("silent_first", [True, False])
async def test_a_host_that_never_answers_does_not_hide_the_primary(server: Postgres, silent_first: bool) -> None:
    """As a primary whose machine has lost its power, after Patroni has made another one."""
    url = server.new_database()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = [f"127.0.0.1:{silent.getsockname()[1]}", f"127.0.0.1:{server.port}"]
        hosts = hosts if silent_first else hosts[::-1]
        began = time.monotonic()
        async with PostgresConnections(url.replace(f"127.0.0.1:{server.port}", ",".join(hosts))) as connections:
            await PostgresChannels(connections).check()
            assert time.monotonic() - began < at_most(1)


async def test_a_host_that_begins_to_answer_is_used_while_another_one_is_silent(server: Postgres) -> None:
    """As a standby that becomes the primary."""
    url = server.new_database()
    free = free_ports(1)[0]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{free}"
        async with Tasks("test") as tasks:
            opening = tasks.start(connect(url.replace(f"127.0.0.1:{server.port}", hosts), timeout=10))
            await asyncio.wait([opening], timeout=0.5)
            assert not opening.done()
            async with without_ends(server.port, free), asyncio.timeout(at_most(1)):
                (await opening).terminate()


@contextlib.asynccontextmanager
async def without_ends(port: int, own: int = 0) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """Yields a port (`own`) that leads to `port`. The event is set when the server ends a connection, unnoticed."""
    ended = asyncio.Event()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, at_end: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        at_end.set()

    async with Tasks("proxy") as tasks:
        writers: list[asyncio.StreamWriter] = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, to_there = await asyncio.open_connection("127.0.0.1", port)
            writers.extend((writer, to_there))
            tasks.start(pass_on(reader, to_there, asyncio.Event()))
            tasks.start(pass_on(there, writer, ended))

        async with await asyncio.start_server(accept, "127.0.0.1", own) as proxy:
            try:
                yield proxy.sockets[0].getsockname()[1], ended
            finally:
                for one in writers:
                    one.transport.abort()


async def test_a_stopped_server_fails_callers_at_once_and_is_used_again_at_once(
    server: Postgres, connections: PostgresConnections
) -> None:
    channels = PostgresChannels(connections)
    await channels.add({"id": "foyer"})
    server.stop(signal.SIGQUIT)
    try:
        for _ in range(20):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await channels.get("foyer")
            assert time.monotonic() - began < at_most(2)
    finally:
        server.start()
    await until_it_answers(channels)
    assert (await channels.get("foyer")).id == "foyer"


async def test_a_paused_server_delays_one_caller_and_not_all(
    server: Postgres, connections: PostgresConnections
) -> None:
    channels = PostgresChannels(connections)
    await channels.check()
    server.send(signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable):
            await channels.check()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await channels.check()
        assert time.monotonic() - began < at_most(1), "it failed without another try"
    finally:
        server.send(signal.SIGCONT)
    await until_it_answers(channels)


async def test_a_cancelled_write_changes_nothing_and_leaves_no_open_transaction(
    server: Postgres, connections: PostgresConnections
) -> None:
    channels = PostgresChannels(connections)
    await channels.add({"id": "foyer"})
    for n in range(40):
        task = asyncio.create_task(channels.update("foyer", {"number": n, "same": n}))
        await asyncio.sleep(n / 20_000)
        task.cancel()
        await asyncio.wait((task,))
        item = (await channels.get("foyer")).item
        assert item.get("number") == item.get("same")
    open_ones = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    async with asyncio.timeout(at_most(5)):
        while server.sql(open_ones) != "0":
            await asyncio.sleep(0.05)


async def test_a_node_that_lost_its_link_within_a_transaction_blocks_nobody_for_long(
    server: Postgres, connections: PostgresConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server notices the end of such a link after hours, and its locks stay until then."""
    monkeypatch.setattr(connections_module, "HELD_SECONDS", 1.0)
    registry = PostgresRegistry(connections)
    await registry.claim(claim("here", "c1"), {})
    async with PostgresConnections(connections.url) as lost:
        with contextlib.suppress(ConnectionError):
            async with lost._begun("BEGIN") as connection:
                await connection.execute("UPDATE holdings SET started = 1")
                async with asyncio.timeout(at_most(20)):
                    while True:
                        with contextlib.suppress(StoreUnavailable):
                            await registry.claim(claim("here", "c1"), {})
                            break
                raise ConnectionError("the link was lost long ago")
    open_ones = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    assert server.sql(open_ones) == "0", "nobody waits for a lock"


async def test_after_a_crash_of_the_database_no_node_counts_as_dead_before_it_could_report(
    server: Postgres, connections: PostgresConnections
) -> None:
    registry = PostgresRegistry(connections)
    holder, other = Node("a", NodeRole.GATEWAY, "a:8080"), Node("b", NodeRole.GATEWAY, "b:8080")
    await registry.join(holder)
    await registry.claim(claim("a", "1"), {})
    server.stop(signal.SIGQUIT)
    server.start()
    await until_it_answers(PostgresChannels(connections))
    await registry.beat(other)
    with pytest.raises(StoreUnavailable):
        await registry.node("a")
    with pytest.raises(HeldByOtherNode):
        await registry.claim(claim("b", "2"), {})
    await registry.beat(holder)
    assert await registry.node("a") == holder


async def test_many_processes_create_the_tables_together(server: Postgres) -> None:
    url = server.new_database()

    async def add(n: int) -> None:
        async with PostgresConnections(url) as connections:
            await PostgresChannels(connections).add({"id": f"c{n}"})

    await asyncio.gather(*(add(n) for n in range(8)))
    async with PostgresConnections(url) as connections:
        assert len(await PostgresChannels(connections).list()) == 8


async def test_the_next_schema_is_accepted_and_a_newer_one_is_not(server: Postgres) -> None:
    url = server.new_database()
    async with PostgresConnections(url):
        name = url.rpartition("/")[2]
    server.sql(f"INSERT INTO millrace_schema VALUES ({len(MIGRATIONS) + 1})", name)
    async with PostgresConnections(url) as connections:
        await PostgresChannels(connections).add({"id": "foyer"})
    server.sql(f"INSERT INTO millrace_schema VALUES ({len(MIGRATIONS) + 2})", name)
    with pytest.raises(StoreUnusable, match="newer Millrace"):
        await PostgresConnections(url).__aenter__()


def test_doctor_names_an_older_schema_and_upgrades_nothing(server: Postgres) -> None:
    url = server.new_database()
    settings = load(environ={}, overrides=[f"database={url}", "cluster.secret=of-this-test-only"])
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    name = url.rpartition("/")[2]
    (found,) = [result for result in check_stores(settings) if result.name == "channel store"]
    assert (found.state, f"has schema 0, this version needs {SCHEMA}" in found.text) == (CheckState.WARNING, True)
    assert server.sql(tables, name).strip() == "0"
    server.sql(f"CREATE TABLE millrace_schema (version integer); INSERT INTO millrace_schema VALUES ({SCHEMA})", name)
    (found,) = [result for result in check_stores(settings) if result.name == "channel store"]
    assert found.state is CheckState.OK
    server.sql(f"INSERT INTO millrace_schema VALUES ({SCHEMA + 2})", name)
    (found,) = [result for result in check_stores(settings) if result.name == "channel store"]
    assert (found.state, "newer Millrace" in found.text) == (CheckState.MISSING, True)


async def test_a_table_of_another_program_is_not_touched(server: Postgres) -> None:
    url = server.new_database()
    name = url.rpartition("/")[2]
    server.sql("CREATE TABLE events (mine text)", name)
    with pytest.raises(StoreUnusable, match='relation "events" already exists'):
        await PostgresConnections(url).__aenter__()
    tables = (
        "SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    assert server.sql(tables, name) == "events"


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda url: url.replace("millrace:", "millrace:x"), "password authentication failed"),
        (lambda url: f"{url}x", "does not exist"),
        (lambda url: f"{url}?schema=public", 'unrecognized configuration parameter "schema"'),
        (lambda url: f"{url}?sslmode=full", "`sslmode` parameter must be one of"),
    ],
    ids=["password", "database", "parameter of another program", "mode"],
)
async def test_wrong_settings_are_one_clear_line_without_the_password(server: Postgres, wrong, text: str) -> None:
    with pytest.raises(StoreUnusable, match=text) as raised:
        await PostgresConnections(wrong(server.new_database())).__aenter__()
    assert "\n" not in str(raised.value)
    assert "%20" not in str(raised.value)


async def test_stores_open_while_the_server_is_away(server: Postgres) -> None:
    url = server.new_database()
    server.stop()
    try:
        connections = await PostgresConnections(url).__aenter__()
        with pytest.raises(StoreUnavailable):
            await PostgresJobs(connections).unfinished()
    finally:
        server.start()
    try:
        channels = PostgresChannels(connections)
        await until_it_answers(channels)
        await channels.add({"id": "foyer"})
    finally:
        await connections.__aexit__()


async def test_changes_by_other_processes_are_told_also_after_a_broken_connection(
    server: Postgres, connections: PostgresConnections
) -> None:
    notifications = PostgresNotifications(connections)
    told: asyncio.Queue[str] = asyncio.Queue()
    notifications.listen("channels", told.put_nowait)
    async with Tasks("test") as tasks, PostgresConnections(connections.url) as others:
        tasks.start(notifications.run(), "notifications")
        channels = PostgresChannels(others)
        for round in range(2):
            async with asyncio.timeout(at_most(20)):
                while server.sql(LISTENING) != "1":
                    await asyncio.sleep(0.05)
                await channels.add({"id": f"c{round}"})
                assert await told.get() == f"c{round}"
                await channels.update(f"c{round}", {"videoname": "x"})
                assert await told.get() == f"c{round}"
                await channels.delete(f"c{round}", 1.0)
                assert {await told.get(), await told.get()} == {f"c{round}", f"deleted/c{round}"}
            server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE 'LISTEN%'")


async def test_notifications_work_while_they_arrive_and_never_through_a_pooler(
    server: Postgres, connections: PostgresConnections
) -> None:
    database = connections.url.rpartition("/")[2]
    with pgbouncer(server, 2) as port:
        async with PostgresConnections(server.url(database, port)) as pooled, Tasks("test") as tasks:
            direct, behind = PostgresNotifications(connections), PostgresNotifications(pooled)
            told: asyncio.Queue[str] = asyncio.Queue()
            direct.listen("channels", told.put_nowait)
            tasks.start(behind.run(), "behind a pooler")
            async with asyncio.timeout(at_most(30)):
                while server.sql(LISTENING) != "1":
                    await asyncio.sleep(0.05)
                tasks.start(direct.run(), "direct")
                while not direct.works:
                    await asyncio.sleep(0.05)
                await PostgresChannels(connections).add({"id": "c1"})
                assert await told.get() == "c1" and not behind.works
                server.stop()
                while direct.works:
                    await asyncio.sleep(0.05)
                server.start()
                while not direct.works:
                    await asyncio.sleep(0.05)


async def test_of_the_console_only_certificates_and_alarm_rules_are_told(
    server: Postgres, connections: PostgresConnections
) -> None:
    notifications = PostgresNotifications(connections)
    told: asyncio.Queue[str] = asyncio.Queue()
    notifications.listen("people", told.put_nowait)
    async with asyncio.timeout(at_most(20)), Tasks("test") as tasks:
        tasks.start(notifications.run(), "notifications")
        while server.sql(LISTENING) != "1":
            await asyncio.sleep(0.05)
        console = PostgresConsole(connections)
        for kind in ("session", "acme-state", "acme-certificate", "acme-certificate", "alarms"):
            await console.put(kind, "x", {})
        assert [await told.get() for _ in range(3)] == ["acme-certificate/x", "acme-certificate/x", "alarms/x"]


async def test_a_primary_that_became_a_standby_is_left(server: Postgres, connections: PostgresConnections) -> None:
    channels = PostgresChannels(connections)
    name = connections.url.rpartition("/")[2]
    server.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname <> ''")
    with pytest.raises(StoreUnavailable, match="read-only"):
        await channels.add({"id": "foyer"})
    server.sql(
        f"SET default_transaction_read_only = off; ALTER DATABASE {name} SET default_transaction_read_only = off"
    )
    await until_it_answers(channels)
    await channels.add({"id": "foyer"})


async def test_a_pooler_may_change_the_server_process_between_two_operations(server: Postgres) -> None:
    url = server.new_database()
    with pgbouncer(server, 2) as port:
        async with PostgresConnections(server.url(url.rpartition("/")[2], port)) as connections:
            channels, registry = PostgresChannels(connections), PostgresRegistry(connections)
            await asyncio.gather(*(channels.add({"id": f"c{n}", "slug": f"slug-{n}"}) for n in range(30)))
            await asyncio.gather(
                *(channels.update(f"c{n}", {"videoname": "x"}) for n in range(30)),
                *(registry.beat(Node(f"n{n}", NodeRole.GATEWAY, "a:1")) for n in range(30)),
            )
            assert {channel.name for channel in await channels.list()} == {"x"}
            with pytest.raises(SlugTaken):
                await channels.update("c1", {"slug": "slug-2"})
            assert len(await registry.nodes()) == 30


async def test_the_certificate_of_the_server_is_checked(server: Postgres, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "127.0.0.1")
    server.use_tls(certificate, key)
    url = f"{server.new_database()}?sslmode=verify-full&sslrootcert="
    async with PostgresConnections(f"{url}{certificate}") as connections:
        rows = await PostgresChannels(connections).rows("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert [tuple(row) for row in rows] == [(True,)]
    own_authority = url.removesuffix("&sslrootcert=")
    async with PostgresConnections(own_authority, certificate) as connections:
        assert await connections.schema() == SCHEMA
    with pytest.raises(StoreUnusable, match="certificate verify failed"):
        await PostgresConnections(own_authority).__aenter__()
    (tmp_path / "other").mkdir()
    other, _ = self_signed(tmp_path / "other", "127.0.0.1")
    with pytest.raises(StoreUnusable, match="certificate verify failed"):
        await PostgresConnections(f"{url}{other}").__aenter__()
