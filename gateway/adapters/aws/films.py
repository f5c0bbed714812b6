"""Films in DynamoDB: partition key `kind`, sort key `key`, and a local index `position` for lists by time."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.adapters.aws.attributes import from_item, to_item
from gateway.adapters.aws.dynamo_table import DynamoStore
from gateway.ports.errors import NoSuchFilm
from gateway.ports.films import LISTED, Film, FilmState, search_form
from gateway.ports.stored_rows import read_row, read_rows

_FILM: Final = "film"  # the value of `kind`
_INDEX: Final = "position"
_SAME_VERSION: Final = "#version = :version"
_PAGE: Final = 250  # items that one request of a search reads at most


class DynamoFilms(DynamoStore):
    """A FilmStore in one table. A list reads only its page; a search reads all films, 1 MB of them a request."""

    KEY = ("kind", "key")

    async def add(self, film: Film) -> bool:
        return await self._table.write("put_item", Item=_item(film), ConditionExpression="attribute_not_exists(kind)")

    async def get(self, key: str) -> Film:
        item = await self._table.get(_key(key))
        if item is None:
            raise NoSuchFilm(key)
        return read_row("film", key, _film, item)

    async def change(self, film: Film) -> bool:
        expected = {"version": film.version - 1}
        return await self._table.write("put_item", expected, Item=_item(film), ConditionExpression=_SAME_VERSION)

    async def delete(self, film: Film) -> bool:
        expected, key = {"version": film.version}, _key(film.key)
        return await self._table.write("delete_item", expected, Key=key, ConditionExpression=_SAME_VERSION)

    async def discard(self, key: str) -> None:
        await self._table.call("delete_item", Key=_key(key))

    async def newest(self, limit: int, after: tuple[int, str] | None = None, search: str = "") -> list[Film]:
        wanted = search_form(search)
        values: dict[str, Any] = {"kind": _FILM, "listed": True}
        key, listed = "kind = :kind", "listed = :listed"
        if after is not None:
            values["after"] = _position(after)
            key += " AND #position < :after"
        if wanted:
            values["search"] = wanted
            listed += " AND contains(#search, :search)"
        # `Limit` counts items before the filter, so a page may have fewer.
        options = {"IndexName": _INDEX, "ConsistentRead": True, "Limit": _PAGE if wanted else limit + 1}
        conditions = {"KeyConditionExpression": key, "FilterExpression": listed}
        found: list[Film] = []
        async for page in self._table.pages("query", values, ScanIndexForward=False, **options, **conditions):
            found += _films(page)
            if len(found) >= limit:
                break
        return found[:limit]

    async def in_state(self, state: FilmState) -> list[Film]:
        conditions = {"KeyConditionExpression": "kind = :kind", "FilterExpression": "#state = :state"}
        items = await self._table.read_all("query", {"kind": _FILM, "state": str(state)}, **conditions)
        return sorted(_films(items), key=lambda film: film.order)


def _key(key: str) -> dict[str, Any]:
    return {"kind": {"S": _FILM}, "key": {"S": key}}


def _position(order: tuple[int, str]) -> str:
    """Returns the sort key of the index: at most 1,024 bytes, because a film's files have longer keys than the film."""
    return f"{order[0]:015d}#{order[1]}"


def _item(film: Film) -> dict[str, Any]:
    position, listed = _position(film.order), film.state in LISTED
    index = {"kind": _FILM, "position": position, "listed": listed, "search": film.search_text}
    return to_item(film.as_item() | index)


def _film(item: Mapping[str, Any]) -> Film:
    return Film.of_item(from_item(item))


def _films(items: Iterable[Mapping[str, Any]]) -> list[Film]:
    return read_rows("film", _film, ((item["key"]["S"], item) for item in items))
