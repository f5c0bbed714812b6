"""The contract of all film stores: SQLite and the DynamoDB doubles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from gateway.adapters.stores import open_stores
from gateway.ports.errors import NoSuchFilm
from gateway.ports.films import Film, FilmState, FilmStore
from gateway.settings import load
from tests.integration.adapters.conftest import CONTRACT_DOUBLES, DOUBLES, dynamodb

TABLE = "video-films"


def make_films_table(table: str = TABLE) -> None:
    """Creates the table like deploy/aws."""
    dynamodb().create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("kind", "key", "position")],
        KeySchema=[{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "key", "KeyType": "RANGE"}],
        LocalSecondaryIndexes=[
            {
                "IndexName": "position",
                "KeySchema": [
                    {"AttributeName": "kind", "KeyType": "HASH"},
                    {"AttributeName": "position", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )


@pytest_asyncio.fixture(params=["sqlite", "postgres", *CONTRACT_DOUBLES])
async def films(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[FilmStore]:
    environ = {"MILLRACE_DATA": str(tmp_path)}
    if request.param in DOUBLES:
        request.getfixturevalue(DOUBLES[request.param])
        make_films_table()
        environ["MILLRACE_VOD__FILMS"] = f"dynamodb://{TABLE}"
    elif request.param == "postgres":
        environ["MILLRACE_DATABASE"] = request.getfixturevalue("postgres").new_database()
    async with open_stores(load(environ=environ)) as opened:
        yield opened.films


def film(key: str = "holiday", created: float = 1700000000.25, **fields: object) -> Film:
    return replace(Film(key, f"Title of {key}", created, state=FilmState.READY), **fields)  # type: ignore[arg-type]


def keys(found: list[Film]) -> list[str]:
    return [one.key for one in found]


async def test_the_store_returns_a_film_unchanged(films: FilmStore) -> None:
    stored = film(
        "a b/ü", description="two\nlines <b>", source="s3://b/ü.mp4", duration=40.04, size=5 << 40,
        files={"hls": "a b/ü/x.m3u8"}, error="it is text",
    )  # fmt: skip
    assert await films.add(stored)
    assert await films.get(stored.key) == stored
    assert not await films.add(film("a b/ü", title="another"))
    assert (await films.get(stored.key)).title == stored.title


async def test_an_unknown_film_raises_no_such_film(films: FilmStore) -> None:
    with pytest.raises(NoSuchFilm):
        await films.get("nothing")
    assert not await films.change(film(version=2))
    assert not await films.delete(film())


async def test_a_change_of_an_outdated_version_is_refused(films: FilmStore) -> None:
    first = film()
    await films.add(first)
    renamed = first.to(title="Renamed")
    assert await films.change(renamed)
    assert not await films.change(first.to(title="Too late"))
    assert not await films.delete(first)
    assert await films.get(first.key) == renamed
    assert await films.delete(renamed)
    with pytest.raises(NoSuchFilm):
        await films.get(first.key)


async def test_any_version_of_a_film_can_be_discarded(films: FilmStore) -> None:
    await films.add(film(version=7))
    for _ in range(2):
        await films.discard("holiday")
        with pytest.raises(NoSuchFilm):
            await films.get("holiday")


async def test_lists_have_the_newest_first_and_continue_after_a_film(films: FilmStore) -> None:
    for i in range(7):
        await films.add(film(f"f{i}", 1700000000 + i // 2))  # some at the same time
    await films.add(film("hidden", 1800000000, state=FilmState.UPLOADING))
    await films.add(film("gone", 1800000000, state=FilmState.DELETING))
    await films.add(film("failed", 1600000000, state=FilmState.ERROR))
    first = await films.newest(3)
    assert keys(first) == ["f6", "f5", "f4"]
    second = await films.newest(4, first[-1].order)
    assert keys(second) == ["f3", "f2", "f1", "f0"]
    assert keys(await films.newest(4, second[-1].order)) == ["failed"]


async def test_a_film_in_deletion_leaves_the_lists_at_once(films: FilmStore) -> None:
    await films.add(film("a"))
    await films.change(film("a").to(state=FilmState.DELETING))
    assert await films.newest(10) == []
    assert keys(await films.in_state(FilmState.DELETING)) == ["a"]


async def test_a_search_finds_parts_of_texts_in_any_case(films: FilmStore) -> None:
    await films.add(film("k1", 1, title="ÜBER den Wolken"))
    await films.add(film("k2", 2, title="100%_sure", description="with Clouds"))
    await films.add(film("K3", 3, title="50 percent"))
    assert keys(await films.newest(10, search="über")) == ["k1"]
    assert keys(await films.newest(10, search="CLOUD")) == ["k2"]
    assert keys(await films.newest(10, search="%_")) == ["k2"]
    assert keys(await films.newest(10, search="k")) == ["K3", "k2", "k1"]
    assert keys(await films.newest(1, search="k")) == ["K3"]
    assert keys(await films.newest(10, film("K3", 3).order, "k")) == ["k2", "k1"]
    assert await films.newest(10, search="' OR 1=1 --") == []


async def test_a_search_continues_over_many_films_that_do_not_match(films: FilmStore) -> None:
    await films.add(film("oldest", 1, title="needle"))
    for i in range(300):
        await films.add(film(f"n{i:03d}", 2 + i))
    assert keys(await films.newest(5, search="needle")) == ["oldest"]
