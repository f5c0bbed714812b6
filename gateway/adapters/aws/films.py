"""Films in DynamoDB: partition key `kind`, sort key `key`, and a local index `position` for lists by time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.adapters.aws.attributes import from_item, to_item
from gateway.adapters.aws.dynamo_table import DynamoTable
from gateway.adapters.aws.session import AwsSession
from gateway.ports.errors import NoSuchFilm
from gateway.ports.films import LISTED, Film, FilmState, search_form

_FILM, _MARK = "film", "mark"  # values of `kind`
_INDEX: Final = "position"
_PAGE: Final = 250  # items that one request of a search reads at most


class DynamoFilms:
    """A FilmStore in one table. A list reads only its page; a search reads all films, 1 MB of them a request."""

    def __init__(self, session: AwsSession, table: str) -> None:
        self._table = DynamoTable(session, table)

    async def add(self, film: Film) -> bool:
        condition = "attribute_not_exists(kind)"
        return await self._table.write("put_item", Item=_item(film), ConditionExpression=condition)

    async def get(self, key: str) -> Film:
        item = await self._table.get(_key(_FILM, key))
        if item is None:
            raise NoSuchFilm(key)
        return _film(item)

    async def change(self, film: Film) -> bool:
        return await self._table.write("put_item", Item=_item(film), **_same_version(film.version - 1))

    async def delete(self, film: Film) -> bool:
        return await self._table.write("delete_item", Key=_key(_FILM, film.key), **_same_version(film.version))

    async def newest(self, limit: int, after: tuple[int, str] | None = None, search: str = "") -> list[Film]:
        wanted = search_form(search)
        values = {":kind": {"S": _FILM}, ":listed": {"BOOL": True}}
        parameters: dict[str, Any] = {
            "IndexName": _INDEX,
            "ConsistentRead": True,
            "ScanIndexForward": False,
            "KeyConditionExpression": "kind = :kind",
            "FilterExpression": "listed = :listed",
            "ExpressionAttributeValues": values,
        }
        names: dict[str, str] = {}  # `position` and `search` are reserved words
        if after is not None:
            names["#position"], values[":after"] = "position", {"S": _position(after)}
            parameters["KeyConditionExpression"] += " AND #position < :after"
        if wanted:
            names["#search"], values[":search"] = "search", {"S": wanted}
            parameters["FilterExpression"] += " AND contains(#search, :search)"
        if names:
            parameters["ExpressionAttributeNames"] = names
        found: list[Film] = []
        # `Limit` counts items before the filter, so a page may have fewer.
        async for page in self._table.pages("query", Limit=_PAGE if wanted else limit + 1, **parameters):
            found += map(_film, page)
            if len(found) >= limit:
                break
        return found[:limit]

    async def in_state(self, state: FilmState) -> list[Film]:
        items = await self._table.read_all(
            "query",
            KeyConditionExpression="kind = :kind",
            FilterExpression="#state = :state",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues={":kind": {"S": _FILM}, ":state": {"S": str(state)}},
        )
        return sorted((_film(item) for item in items), key=lambda film: film.order)

    async def marked(self, name: str) -> bool:
        return await self._table.get(_key(_MARK, name)) is not None

    async def mark(self, name: str) -> None:
        await self._table.call("put_item", Item=_key(_MARK, name))

    async def check(self) -> None:
        await self._table.get(_key("-", "-"))


def _same_version(version: int) -> dict[str, Any]:
    return {
        "ConditionExpression": "#version = :version",
        "ExpressionAttributeNames": {"#version": "version"},
        "ExpressionAttributeValues": {":version": {"N": str(version)}},
    }


def _key(kind: str, key: str) -> dict[str, Any]:
    return {"kind": {"S": kind}, "key": {"S": key}}


def _position(order: tuple[int, str]) -> str:
    """Returns the sort key of the index: at most 1,024 bytes, because a film's files have longer keys than the film."""
    return f"{order[0]:015d}#{order[1]}"


def _item(film: Film) -> dict[str, Any]:
    position, listed = _position(film.order), film.state in LISTED
    index = {"kind": _FILM, "position": position, "listed": listed, "search": film.search_text}
    return to_item(film.as_item() | index)


def _film(item: Mapping[str, Any]) -> Film:
    return Film.of_item(from_item(item))
