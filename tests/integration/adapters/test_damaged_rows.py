"""Rows that nobody can read, in every store: lists go on without them, and the record itself says what is wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog

from gateway.adapters.aws.channels import DynamoChannels
from gateway.adapters.aws.registry import DynamoRegistry
from gateway.adapters.local.objects import LocalObjects
from gateway.adapters.local.stores import SqliteChannels, SqliteConsole, SqliteEvents, SqliteFilms, SqliteJobs
from gateway.adapters.local.stores import SqliteRegistry as SqliteRows
from gateway.adapters.postgres.connections import PostgresConnections
from gateway.adapters.postgres.stores import (
    PostgresChannels,
    PostgresConsole,
    PostgresEvents,
    PostgresFilms,
    PostgresJobs,
    PostgresRegistry,
)
from gateway.adapters.stores import open_aws
from gateway.channels.channel_changes import ChangeEffects, ChannelChanges
from gateway.channels.channel_list import ChannelQuery
from gateway.channels.deleted_channel import RECORD_FIELDS
from gateway.channels.fields import invalid_protection_fields
from gateway.lib.attempt_limiter import Attempt
from gateway.ports import stored_rows
from gateway.ports.api_tokens import ApiTokens
from gateway.ports.errors import NoSuchChannel, SlugTaken, StoreUnavailable
from gateway.ports.events import Event, StoredEvent
from gateway.ports.films import FilmState
from gateway.ports.nodes import Node, NodeRole
from gateway.ports.stores import EventQuery
from gateway.ports.users import ADMINISTRATOR, Users
from tests.integration.adapters.conftest import SESSIONS, TABLE
from tests.support.postgres import Postgres

NOW = 1_790_000_000
TEXTS = ("nonsense", "[]", "5", "{}", '{"id": 5}', '{"id": "another"}', '{"id": "c0", "x": NaN}', "[" * 100_000, "")


@pytest.fixture(autouse=True)
def nothing_named() -> None:
    stored_rows._named.clear()


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def tables(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[dict[str, Any]]:
    """Yields the stores of an engine."""
    kinds: dict[str, tuple[Any, Any]] = {
        "channels": (SqliteChannels, PostgresChannels),
        "console": (SqliteConsole, PostgresConsole),
        "events": (SqliteEvents, PostgresEvents),
        "films": (SqliteFilms, PostgresFilms),
        "jobs": (SqliteJobs, PostgresJobs),
        "nodes": (SqliteRows, PostgresRegistry),
    }
    if engine == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        async with PostgresConnections(server.new_database()) as database:
            yield {name: kind[1](database, lambda: NOW) for name, kind in kinds.items()}
        return
    opened = {name: kind[0](tmp_path / f"{name}.db", lambda: NOW) for name, kind in kinds.items()}
    for store in opened.values():
        await store.__aenter__()
    try:
        yield opened
    finally:
        for store in opened.values():
            await store.__aexit__(None, None, None)


async def damage(channels: Any) -> list[str]:
    """Stores channels that cannot be read. Returns their ids."""
    values: list[tuple[str, str | bytes]] = [("?", text) for text in TEXTS]
    if isinstance(channels, SqliteChannels):  # its columns also take bytes, and texts that are not UTF-8
        values += [("?", b'{"id": "c9"}'), ("CAST(? AS TEXT)", b'{"id": "c10", "videoname": "caf\xe9"}')]
    for number, (mark, text) in enumerate(values):
        await channels.write(f"INSERT INTO channels (id, item) VALUES (?, {mark})", f"c{number}", text)
    return [f"c{number}" for number in range(len(values))]


async def test_damaged_channels_leave_lists_slugs_and_the_others_alone(
    tables: dict[str, Any],
) -> None:
    channels = tables["channels"]
    await channels.add({"id": "good", "videoname": "Good", "outdate": "2099-01-01", "slug": "stage"})
    await damage(channels)
    for number, text in enumerate(TEXTS):
        await channels.write("INSERT INTO channels (id, item) VALUES (?, ?)", f"deleted/c{number}", text)
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert [one.id for one in await channels.list()] == ["good"]
    assert [line["log_level"] for line in logs if line.get("key") == "c0"] == ["warning"], "the log names it once"
    assert {one.id for one in await channels.list_deleted()} == {
        "c3",
        "c4",
        "c5",
    }  # objects, whose id is that of the row
    page = await channels.find(ChannelQuery(NOW, {}))
    assert ([one.id for one in page.channels], page.found, dict(page.states)) == (["good"], 1, {1: 1})
    assert [one.id for one in (await channels.find(ChannelQuery(NOW, {}))).channels] == ["good"]
    with pytest.raises(StoreUnavailable, match="the channel c0 cannot be read") as refused:
        await channels.get("c0")
    assert "damaged, or of a newer version" in refused.value.public
    with pytest.raises(StoreUnavailable):
        await channels.update("c0", {"videoname": "x"})
    await channels.add({"id": "second", "slug": "another"})
    with pytest.raises(SlugTaken):
        await channels.update("second", {"slug": "stage"})


async def test_a_damaged_channel_is_deleted_and_nobody_plays_its_media(tables: dict[str, Any], tmp_path: Path) -> None:
    channels = tables["channels"]
    ids = await damage(channels)
    recorded: list[Event] = []

    async def record(event: Event) -> None:
        recorded.append(event)

    changes = ChannelChanges(channels, LocalObjects(tmp_path / "objects"), ChangeEffects(record), lambda: NOW)
    for id in ids:
        deleted = await changes.delete(id, {}, media=False)
        assert invalid_protection_fields(deleted.item), "invalid protection: nobody may play"
        assert (await channels.get_deleted(id)).item == deleted.item
        with pytest.raises(NoSuchChannel):
            await channels.get(id)
    assert [event.channel for event in recorded] == ids


ODD_VALUES: list[dict[str, Any]] = [
    {"B": b"\xff"}, {"BS": [b"a"]}, {"NS": ["1", "2.5"]}, {"SS": ["a"]}, {"NULL": True}, {"N": "1E+125"},
    {"M": {"a": {"L": [{"B": b"\0"}]}}}, {"BOOL": False}, {"S": ""},
]  # fmt: skip


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: str(next(iter(value))))
async def test_a_channel_with_values_of_any_kind_in_dynamodb_is_deleted(aws: str, value: dict[str, Any]) -> None:
    item = dict.fromkeys((*RECORD_FIELDS, "key", "outdate", "inputs", "oldSlugs", "poster"), value)
    async with open_aws("this test") as session:
        channels = DynamoChannels(session, TABLE)
        await channels._table.call("put_item", Item={"id": {"S": "c1"}, "slug": {"S": "stage"}, **item})
        await channels._table.call("put_item", Item={"id": {"S": "slug/stage"}, "channel": value})
        assert [one.id for one in await channels.list()] == ["c1"]
        deleted = await channels.delete("c1", NOW)
        assert (await channels.get_deleted("c1")).item == deleted.item
        with pytest.raises(NoSuchChannel):
            await channels.get("c1")
        await channels.add({"id": "c2", "slug": "stage"})


@pytest.mark.parametrize("title", ["a\0b", "\ud800", "\udfff\ud800", "😀", "\\u0000", "\\\\u0000\0"])
async def test_a_stored_title_that_the_database_cannot_read_blocks_no_slug(tables: dict[str, Any], title: str) -> None:
    """Such titles were accepted once. A row with a title and a slug still has its slug."""
    channels = tables["channels"]
    for id, slug in (("first", "stage"), ("second", "")):
        text = json.dumps({"id": id, "videoname": title, "slug": slug}, separators=(",", ":"))
        await channels.write("INSERT INTO channels (id, item) VALUES (?, ?)", id, text)
    await channels.add({"id": "third", "slug": "another"})
    with pytest.raises(SlugTaken):
        await channels.update("third", {"slug": "stage"})
    await channels.update("first", {"slug": "stage"})
    page = await channels.find(ChannelQuery(NOW, {}))
    assert {one.id for one in page.channels} == {"first", "second", "third"}


async def test_a_text_that_looks_like_a_slug_is_none(tables: dict[str, Any]) -> None:
    channels = tables["channels"]
    await channels.add({"id": "first", "videoname": '"slug":"stage"', "about": {"slug": "stage"}})
    await channels.add({"id": "second", "slug": "stage"})
    assert (await channels.get("second")).slug == "stage"


async def test_nodes_of_a_newer_version_are_skipped(tables: dict[str, Any]) -> None:
    nodes, later = tables["nodes"], NOW + 60
    own = Node("own", NodeRole.GATEWAY, "10.0.0.1:80", 1)
    await nodes.join(own)
    for id, role, shown in (("a", "future", "{}"), ("b", "gateway", "nonsense"), ("c", "gateway", "[]")):
        values = (id, role, "10.0.0.2:80", 1, "", shown, later)
        await nodes.write("INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?)", *values)
    assert await nodes.nodes() == [own]
    assert await nodes.beat(own) in (None, [own])
    with pytest.raises(StoreUnavailable, match="the node a cannot be read"):
        await nodes.node("a")  # not None: nobody may take over its streams


async def test_other_damaged_rows_are_skipped(tables: dict[str, Any]) -> None:
    console, events, films, jobs = (tables[name] for name in ("console", "events", "films", "jobs"))
    await console.put("user", "good", {"name": "good"})
    await events.append([StoredEvent("1", "stream.started", 1.5, "c", "n", {"a": 1})])
    for number, text in enumerate(TEXTS):
        if text not in ("{}", '{"id": 5}', '{"id": "another"}'):
            await console.write("INSERT INTO people VALUES ('user', ?, 0, ?)", f"u{number}", text)
            await events.write("INSERT INTO events VALUES (?, 'x', 1.5, 'c', 'n', ?)", f"2{number}", text)
        await films.write("INSERT INTO films VALUES (?, 'READY', 1, 5, 1, 'x', ?)", f"f{number}", text)
        await jobs.write("INSERT INTO jobs VALUES (?, 0, 1, ?)", f"j{number}", text)
    assert await console.list("user") == {"good": {"name": "good"}}
    assert [entry.key for entry in await console.entries()] == ["good"]
    assert [event.id for event in await events.newest(EventQuery(100))] == ["1"]
    assert (await films.newest(10), await films.in_state(FilmState.READY)) == ([], [])
    assert (await jobs.newest(10), await jobs.unfinished()) == ([], [])
    for read in (console.get("user", "u0"), films.get("f0"), jobs.get("j0")):
        with pytest.raises(StoreUnavailable, match="cannot be read: its row in the database is damaged"):
            await read


async def test_nodes_of_a_newer_version_in_dynamodb_are_skipped(aws: str) -> None:
    async with open_aws("this test") as session:
        registry = DynamoRegistry(session, SESSIONS, lambda: NOW)
        own, newer = Node("own", NodeRole.GATEWAY, "10.0.0.1:80", 1), Node("newer", NodeRole.EDGE, "10.0.0.2:80", 1)
        await registry.join(own)
        await registry.join(newer)
        key, role = {"UUID": {"S": "/node/newer"}}, {"role": {"Value": {"S": "future"}, "Action": "PUT"}}
        await registry._table.call("update_item", Key=key, AttributeUpdates=role)
        assert await registry.nodes() == [own]
        with pytest.raises(StoreUnavailable, match="the node newer cannot be read"):
            await registry.node("newer")


async def test_users_and_tokens_of_another_form_are_skipped(tables: dict[str, Any]) -> None:
    console = tables["console"]
    users, tokens = Users(console), ApiTokens(console)
    await users.add("good", "correct horse battery", NOW)
    secret, token = await tokens.add("script", ADMINISTRATOR, 0)
    for number, value in enumerate(({}, {"created": "x"}, {"name": 5, "created": None})):
        await console.put("user", f"odd{number}", value)
        await console.put("apitoken", f"{number}" * 64, value)
    assert [user.name for user in await users.list()] == ["good"]
    assert [one.id for one in await tokens.list()] == [token.id]
    assert await tokens.find(secret) is not None
    with pytest.raises(StoreUnavailable, match="the user odd0 cannot be read"):
        await users.find("odd0")
    attempt = Attempt("192.0.2.1", "odd0")
    assert await users.check("odd0", "correct horse battery", attempt) is None
