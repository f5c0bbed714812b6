"""The contract of all console stores: SQLite and the DynamoDB doubles."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.adapters.acme.renewal import Order
from gateway.adapters.acme.shared_entries import CERTIFICATE, SharedEntries
from gateway.adapters.local.stores import SqliteConsole
from gateway.adapters.postgres.connections import PostgresConnections
from gateway.adapters.postgres.stores import PostgresConsole
from gateway.adapters.stores import open_aws, open_console
from gateway.diagnosis.daily_traffic import DailyTraffic
from gateway.lib.traffic import TrafficCounts
from gateway.ports.errors import StoreUnavailable
from gateway.ports.stores import ConsoleStore
from gateway.settings import load
from tests.integration.adapters.conftest import CONTRACT_DOUBLES, DOUBLES, dynamodb
from tests.support.clock import Clock

TABLE = "millrace-console"
NOW = 1_800_000_000.0


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


def make_table(table: str = TABLE) -> None:
    dynamodb().create_table(
        TableName=table,
        KeySchema=[
            {"AttributeName": "kind", "KeyType": "HASH"},
            {"AttributeName": "key", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "kind", "AttributeType": "S"},
            {"AttributeName": "key", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )


@pytest_asyncio.fixture(params=["sqlite", "postgres", *CONTRACT_DOUBLES])
async def console(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[ConsoleStore]:
    if request.param == "sqlite":
        async with SqliteConsole(tmp_path / "console.db", clock) as store:
            yield store
        return
    if request.param == "postgres":
        async with PostgresConnections(request.getfixturevalue("postgres").new_database()) as database:
            yield PostgresConsole(database, clock)
        return
    request.getfixturevalue(DOUBLES[request.param])
    make_table()
    from gateway.adapters.aws.console import DynamoConsole

    async with open_aws("this test") as session:
        yield DynamoConsole(session, TABLE, clock)


VALUE = {"name": "Éva 中", "n": [1, 2.5, None, True], "deep": {"a": {"b": "c"}}, "empty": {}, "": ""}


async def test_the_store_returns_a_value_unchanged(console: ConsoleStore) -> None:
    await console.put("profile", "user:Éva 中", VALUE)
    assert await console.get("profile", "user:Éva 中") == VALUE


async def test_an_unknown_key_gives_none_and_cannot_be_deleted(console: ConsoleStore) -> None:
    assert await console.get("user", "nobody") is None
    assert await console.list("user") == {}
    assert await console.delete("user", "nobody") is False


async def test_a_later_put_replaces_an_earlier_one(console: ConsoleStore) -> None:
    await console.put("profile", "a", {"n": 1})
    await console.put("profile", "a", {"m": 2})
    assert await console.get("profile", "a") == {"m": 2}


async def test_a_key_can_be_added_only_once(console: ConsoleStore) -> None:
    assert await console.add("user", "eva", {"n": 1}) is True
    assert await console.add("user", "eva", {"n": 2}) is False
    assert await console.get("user", "eva") == {"n": 1}


async def test_only_one_of_several_simultaneous_adds_of_a_key_succeeds(console: ConsoleStore) -> None:
    added = await asyncio.gather(*(console.add("user", "eva", {"n": n}) for n in range(20)))
    assert sum(added) == 1


async def test_only_an_existing_key_is_replaced(console: ConsoleStore) -> None:
    assert await console.replace("session", "a", {"n": 1}) is False
    assert await console.get("session", "a") is None
    await console.put("session", "a", {"n": 1})
    assert await console.replace("session", "a", {"n": 2}) is True
    assert await console.get("session", "a") == {"n": 2}


async def test_keys_of_different_kinds_do_not_conflict(console: ConsoleStore) -> None:
    await console.put("user", "a", {"n": 1})
    await console.put("profile", "a", {"n": 2})
    assert await console.list("user") == {"a": {"n": 1}}
    assert await console.delete("profile", "a") is True
    assert await console.get("user", "a") == {"n": 1}


async def test_the_list_of_a_kind_is_complete(console: ConsoleStore) -> None:
    wanted = {f"user-{n:03}": {"n": n, "pad": "x" * 20_000} for n in range(80)}  # more than a page of DynamoDB's
    for key, value in wanted.items():
        await console.put("user", key, value)
    assert await console.list("user") == wanted


async def test_an_expired_entry_does_not_exist_for_any_operation(console: ConsoleStore, clock: Clock) -> None:
    await console.put("session", "a", {"n": 1}, NOW + 10)
    await console.put("session", "b", {"n": 2})
    assert await console.get("session", "a") == {"n": 1}
    clock.now = NOW + 11
    assert await console.get("session", "a") is None
    assert await console.list("session") == {"b": {"n": 2}}
    assert await console.replace("session", "a", {"n": 3}) is False
    assert await console.delete("session", "a") is False
    assert await console.add("session", "a", {"n": 4}) is True
    assert await console.get("session", "a") == {"n": 4}


async def test_a_replaced_entry_has_the_new_expiry(console: ConsoleStore, clock: Clock) -> None:
    await console.put("session", "a", {"n": 1}, NOW + 10)
    assert await console.replace("session", "a", {"n": 2}, NOW + 100) is True
    clock.now = NOW + 50
    assert await console.get("session", "a") == {"n": 2}


async def test_nodes_share_a_certificate_and_take_turns(console: ConsoleStore, clock: Clock) -> None:
    order = Order(("live.example.com",), "https://ca.example/dir")
    first, second = (SharedEntries(console, "what all nodes share", order, clock) for _ in range(2))
    await first.save(CERTIFICATE, "x" * 20_000)
    assert await second.load(CERTIFICATE) == "x" * 20_000
    async with first.turn() as mine, second.turn() as other:
        assert (mine, other) == (True, False)
        clock.now += 301  # as if the first one had crashed
        async with second.turn() as other:
            assert other
    async with first.turn() as mine:
        assert mine


async def test_the_check_of_a_reachable_store_succeeds(console: ConsoleStore) -> None:
    await console.check()


# ---- each by itself ----


async def test_sqlite_removes_expired_entries(tmp_path: Path, clock: Clock) -> None:
    async with SqliteConsole(tmp_path / "console.db", clock) as store:
        for n in range(5):
            await store.put("session", str(n), {}, NOW + 10)
        clock.now = NOW + 60
        await store.put("session", "new", {})
        assert [row[0] for row in await store.rows("SELECT key FROM people")] == ["new"]


async def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    async with SqliteConsole(tmp_path / "console.db"):
        pass
    assert stat.S_IMODE((tmp_path / "console.db").stat().st_mode) == 0o600


async def test_stored_entries_exist_after_a_restart(tmp_path: Path) -> None:
    settings = load(environ={"MILLRACE_DATA": str(tmp_path)})
    async with open_console(settings) as store:
        await store.put("user", "eva", {"n": 1})
    async with open_console(settings) as store:
        assert await store.get("user", "eva") == {"n": 1}
    assert (tmp_path / "console.db").is_file()


async def test_a_missing_table_raises_store_unavailable(aws: str) -> None:
    settings = load(environ={"MILLRACE_ADMIN__STORE": "dynamodb://not-there"})
    async with open_console(settings) as store:
        asked: list[Callable[[], Awaitable[Any]]] = [
            lambda: store.get("user", "a"),
            lambda: store.put("user", "a", {}),
            lambda: store.add("user", "a", {}),
            lambda: store.list("user"),
            store.check,
        ]
        for ask in asked:
            with pytest.raises(StoreUnavailable):
                await ask()


async def test_the_traffic_of_several_processes_adds_up_and_2000_long_ids_fit_an_entry(
    console: ConsoleStore, clock: Clock
) -> None:
    processes = [(counts := TrafficCounts(), DailyTraffic(counts, console, clock)) for _ in range(2)]
    for counts, traffic in processes:
        for number in range(2_000):
            tally = counts.of(f"{number:x>128}")
            tally.received += 10**11 + number
            tally.sent += 10**13 + number
        await traffic.save()
    later = DailyTraffic(TrafficCounts(), console, clock)
    (day, received, sent), *earlier = await later.by_day(f"{7:x>128}")
    assert (day, received, sent, earlier) == ("2027-01-15", 2 * 10**11 + 14, 2 * 10**13 + 14, [])
    clock.now += 33 * 86_400
    assert [entry.kind for entry in await console.entries()] == []
