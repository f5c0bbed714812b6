"""An older process and a newer one use one database: the newer one adds what it needs, and both go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from gateway.adapters.local.stores import SqliteChannels
from gateway.adapters.postgres import connections
from gateway.adapters.postgres.connections import PostgresConnections
from gateway.adapters.postgres.migrations import MIGRATIONS
from gateway.adapters.postgres.stores import PostgresChannels
from gateway.adapters.sql.channels import ChannelRows
from gateway.channels.channel_list import ChannelQuery
from gateway.ports.errors import StoreUnusable

# Opens the channels like a process of this schema.
OpenAs: TypeAlias = Callable[[int], AbstractAsyncContextManager[ChannelRows]]


class FirstSchema(SqliteChannels):
    CREATE = SqliteChannels.CREATE.partition("CREATE TABLE IF NOT EXISTS channel_list")[0]
    SCHEMA = 1


class NextSchema(SqliteChannels):
    CREATE = f"{SqliteChannels.CREATE}; CREATE TABLE IF NOT EXISTS later (id TEXT PRIMARY KEY)"
    SCHEMA = SqliteChannels.SCHEMA + 1


@pytest.fixture(params=["sqlite", "postgres"])
def open_as(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenAs:
    if request.param == "sqlite":
        kinds = {kind.SCHEMA: kind for kind in (FirstSchema, SqliteChannels, NextSchema)}
        return lambda schema: kinds[schema](tmp_path / "m.db")
    url = request.getfixturevalue("postgres").new_database()

    @asynccontextmanager
    async def opened(schema: int) -> AsyncIterator[ChannelRows]:
        monkeypatch.setattr(connections, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE later (id text)")[:schema])
        monkeypatch.setattr(connections, "SCHEMA", schema)
        async with PostgresConnections(url) as database:
            yield PostgresChannels(database)

    return opened


@pytest.mark.parametrize("step", ["from the first schema", "to the next schema"])
async def test_an_older_process_goes_on_while_a_newer_one_adds_its_tables(
    open_as: OpenAs, request: pytest.FixtureRequest, step: str
) -> None:
    newest = len(MIGRATIONS) if "postgres" in request.node.name else SqliteChannels.SCHEMA
    old, new = (1, newest) if step == "from the first schema" else (newest, newest + 1)
    async with open_as(old) as older:
        await older.add({"id": "a", "videoname": "first"})
        async with open_as(new) as newer:
            await older.add({"id": "b", "videoname": "second"})
            await newer.add({"id": "c", "videoname": "third"})
            await older.update("c", {"videoname": "fourth"})
            await newer.update("a", {"videoname": "fifth"})
            await older.delete("b", 1.0)
            for each in (older, newer):
                assert {one.id: one.name for one in await each.list()} == {"a": "fifth", "c": "fourth"}
                assert [one.id for one in await each.list_deleted()] == ["b"]
            page = await newer.find(ChannelQuery(0, {}, words=["fourth"]))
            assert ([one.id for one in page.channels], sum(page.states.values())) == (["c"], 2)
        assert (await older.get("a")).name == "fifth"
        await older.update("a", {"videoname": "sixth"})
    async with open_as(new) as newer:
        assert [one.id for one in (await newer.find(ChannelQuery(0, {}, words=["sixth"]))).channels] == ["a"]


async def test_an_older_command_refuses_the_database_of_a_newer_version_and_changes_nothing(open_as: OpenAs) -> None:
    async with open_as(2) as newer, open_as(3):
        await newer.add({"id": "a"})
        with pytest.raises(StoreUnusable, match="was written by a newer Millrace"):
            async with open_as(1):
                pass
        assert [one.id for one in await newer.list()] == ["a"]
