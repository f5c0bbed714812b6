"""The contract of all event stores: SQLite and the DynamoDB doubles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.adapters.local.stores import SqliteEvents
from gateway.adapters.stores import open_stores
from gateway.ports.errors import StoreUnavailable
from gateway.ports.events import EventType, StoredEvent
from gateway.ports.stores import EventQuery, EventStore
from gateway.settings import load
from tests.integration.adapters.conftest import CONTRACT_DOUBLES, DOUBLES, dynamodb

TABLE = "video-events"
NOW = 1_700_000_000.25


def make_table(table: str = TABLE) -> None:
    """Creates the table of deploy/aws/data.yaml."""
    dynamodb().create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("type", "id", "channel")],
        KeySchema=[{"AttributeName": "type", "KeyType": "HASH"}, {"AttributeName": "id", "KeyType": "RANGE"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "channel",
                "KeySchema": [
                    {"AttributeName": "channel", "KeyType": "HASH"},
                    {"AttributeName": "id", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )


@pytest_asyncio.fixture(params=["sqlite", "postgres", *CONTRACT_DOUBLES])
async def events(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventStore]:
    environ = {"MILLRACE_DATA": str(tmp_path)}
    if request.param in DOUBLES:
        request.getfixturevalue(DOUBLES[request.param])
        make_table()
        environ["MILLRACE_EVENTS__STORE"] = f"dynamodb://{TABLE}"
    elif request.param == "postgres":
        environ["MILLRACE_DATABASE"] = request.getfixturevalue("postgres").new_database()
    async with open_stores(load(environ=environ)) as opened:
        yield opened.events


def event(n: int, type: str = "stream.started", channel: str = "c1", **data: object) -> StoredEvent:
    return StoredEvent(f"{n:024x}", type, NOW + n, channel, "n1", {"n": n, **data})


async def test_the_store_returns_an_event_unchanged(events: EventStore) -> None:
    stored = event(1, error="Übertragung „abgebrochen“ \U0001f600", numbers=[1, 2.5, None], nested={"a": True})
    await events.append([stored])
    assert await events.newest(EventQuery(10)) == [stored]


async def test_events_of_all_types_and_channels_are_returned_in_one_order(events: EventStore) -> None:
    types = list(EventType)
    stored = [event(n, str(types[n % len(types)]), ("c1", "c2", "")[n % 3]) for n in range(60)]
    await events.append(stored)
    assert await events.newest(EventQuery(100)) == stored[::-1]
    assert await events.newest(EventQuery(7)) == stored[:-8:-1]


async def test_events_can_be_selected_by_channel_and_type(events: EventStore) -> None:
    stored = [
        event(n, ("stream.started", "publish.refused", "output.failed")[n % 3], ("c1", "c2")[n % 2]) for n in range(30)
    ]
    await events.append(stored)
    for channel in ("", "c1", "c2", "c3"):
        for type in ("", "publish.refused", "worker.died"):
            wanted = [e for e in stored[::-1] if channel in ("", e.channel) and type in ("", e.type)]
            assert await events.newest(EventQuery(100, channel, type)) == wanted
            assert await events.newest(EventQuery(3, channel, type)) == wanted[:3]


@pytest.mark.parametrize(("channel", "type"), [("", ""), ("c1", ""), ("", "stream.started"), ("c1", "stream.started")])
async def test_pages_are_complete_and_do_not_overlap(events: EventStore, channel: str, type: str) -> None:
    stored = [event(n) for n in range(25)]
    await events.append(stored)
    found: list[StoredEvent] = []
    while page := await events.newest(EventQuery(10, channel, type, before=found[-1].id if found else "")):
        assert len(page) <= 10
        found += page
    assert found == stored[::-1]
    since = await events.newest(EventQuery(100, channel, type, since=stored[20].id, before=stored[23].id))
    assert since == [stored[22], stored[21], stored[20]]


@pytest.mark.parametrize(("channel", "type"), [("", ""), ("c1", ""), ("", "stream.started"), ("c1", "stream.started")])
async def test_an_empty_range_has_no_events(events: EventStore, channel: str, type: str) -> None:
    await events.append([event(n) for n in range(5)])
    for since, before in ((event(3).id, event(1).id), (event(3).id, event(3).id), ("f" * 12, "0" * 12)):
        assert await events.newest(EventQuery(10, channel, type, since=since, before=before)) == []


async def test_the_same_event_is_stored_once(events: EventStore) -> None:
    await events.append([event(1), event(2)])
    await events.append([event(2), event(3)])
    assert await events.newest(EventQuery(10)) == [event(3), event(2), event(1)]


async def test_nothing_is_found_in_an_empty_store(events: EventStore) -> None:
    assert await events.newest(EventQuery(10)) == []
    assert await events.newest(EventQuery(10, "c1", "publish.refused", "1", "2")) == []
    await events.trim("f", 1)


# ---- SQLite alone ----


async def test_sqlite_deletes_by_age_and_by_number(tmp_path: Path) -> None:
    async with SqliteEvents(tmp_path / "events.db") as events:
        stored = [event(n) for n in range(20)]
        await events.append(stored)
        await events.trim(stored[5].id, 100)
        assert await events.newest(EventQuery(100)) == stored[:4:-1]
        await events.trim("", 10)
        assert await events.newest(EventQuery(100)) == stored[:9:-1]


async def test_refusals_fill_at_most_half_of_sqlite(tmp_path: Path) -> None:
    async with SqliteEvents(tmp_path / "events.db") as events:
        others = [event(n) for n in range(5)]
        refused = [event(n, "publish.refused") for n in range(5, 50)]
        await events.append([*others, *refused])
        await events.trim("", 20)
        assert await events.newest(EventQuery(100)) == [*refused[:-11:-1], *others[::-1]]


async def test_two_processes_share_the_file(tmp_path: Path) -> None:
    async with SqliteEvents(tmp_path / "events.db") as one, SqliteEvents(tmp_path / "events.db") as two:
        await one.append([event(1)])
        await two.append([replace(event(2), node="n2")])
        assert [e.node for e in await one.newest(EventQuery(10))] == ["n2", "n1"]


# ---- DynamoDB alone ----


async def test_dynamodb_gets_the_time_when_to_delete(aws: str, tmp_path: Path) -> None:
    make_table()
    environ = {
        "MILLRACE_DATA": str(tmp_path),
        "MILLRACE_EVENTS__STORE": f"dynamodb://{TABLE}",
        "MILLRACE_EVENTS__DAYS": "3",
    }
    async with open_stores(load(environ=environ)) as stores:
        await stores.events.append([event(1), event(2, "job.done", channel="")])
    items = dynamodb().scan(TableName=TABLE)["Items"]
    assert {item["expires"]["N"] for item in items} == {str(int(NOW + n + 3 * 86_400)) for n in (1, 2)}
    assert ["channel" in item for item in sorted(items, key=lambda item: item["id"]["S"])] == [True, False]


async def test_a_missing_table_raises_store_unavailable(aws: str, tmp_path: Path) -> None:
    environ = {"MILLRACE_DATA": str(tmp_path), "MILLRACE_EVENTS__STORE": "dynamodb://nothing"}
    async with open_stores(load(environ=environ)) as stores:
        with pytest.raises(StoreUnavailable):
            await stores.events.append([event(1)])
        with pytest.raises(StoreUnavailable):
            await stores.events.newest(EventQuery(10))
