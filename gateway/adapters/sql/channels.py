"""Channels and domains in a SQL database. Each channel is one row, with its fields as JSON."""

import json
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

from gateway.adapters.sql.sql_store import SqlStore, Value, to_json
from gateway.channels.addresses import PublicDomains
from gateway.channels.channel import ID, Channel
from gateway.channels.channel_list import ChannelOrder, ChannelPage, ChannelQuery, ListEntry
from gateway.channels.deleted_channel import DeletedChannel
from gateway.channels.names import is_channel_id
from gateway.channels.slugs import SLUG
from gateway.ports.errors import ChannelExists, NoSuchChannel, SlugTaken
from gateway.ports.stored_rows import name_unreadable, read_object, read_row, read_rows, read_rows_by_key

_DELETED: Final = "deleted/"  # prefix of the ids of deleted channels; a channel id has no slash
_LIVE: Final = "SELECT id, item FROM channels WHERE substr(id, 1, 8) <> ?"
_OUTDATED: Final = """
SELECT id, item, changed FROM channel_list JOIN channels USING (id) WHERE name IS NULL ORDER BY id LIMIT 200
"""
_LISTED: Final = """
WITH ranks AS ({ranks}), listed AS (
    SELECT channel_list.id, name, search, expires, rank,
        CASE WHEN rank IS NOT NULL THEN 0 WHEN expires < ? THEN 2 ELSE 1 END AS state
    FROM channel_list LEFT JOIN ranks ON ranks.id = channel_list.id
    WHERE name IS NOT NULL AND search IS NOT NULL AND {ids}
)
"""
_COUNTS: Final = "SELECT state, count(*), sum(CASE WHEN {words} THEN 1 ELSE 0 END) FROM listed GROUP BY state"
_PAGE: Final = """
, page AS (
    SELECT id, name, expires, rank, state FROM listed WHERE {words} AND state IN ({states})
    ORDER BY {order} LIMIT ? OFFSET ?
)
SELECT id, item FROM page JOIN channels USING (id) ORDER BY {order}
"""
# Whether a channel has no value for an order, and the value.
_ORDERS: Final = {
    ChannelOrder.NAME: ("name = ''", "name"),
    ChannelOrder.STATE: ("state < 0", "CASE state WHEN 0 THEN rank ELSE 3 + state END"),
    ChannelOrder.VIEWERS: ("rank IS NULL", "rank"),
    ChannelOrder.EXPIRY: ("expires = 0", "expires"),
}
_PUT: Final = "INSERT INTO channels (id, item) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET item = excluded.item"


class ChannelRows(SqlStore):
    """A ChannelStore and DomainStore.

    HAS_SLUG: the condition that the column `item` has the slug `wanted.slug`.
    NUMBER: a column that orders channels by their creation.
    RANKS: the query for `id` and `rank` in a JSON object. ENTER: the statement that writes entries of the list.

    The table `channel_list` has a ListEntry of each channel, without a search text if the channel cannot be read.
    Triggers clear the entry of a changed channel and count its changes, also if another program changed it. `find`
    writes cleared entries first.
    """

    HAS_SLUG: ClassVar[str]
    NUMBER: ClassVar[str]
    RANKS: ClassVar[str]
    ENTER: ClassVar[str]

    async def get(self, id: str) -> Channel:
        return read_row("channel", id, _channel, (id, await self._item(id)))

    async def get_many(self, ids: Collection[str]) -> Mapping[str, Channel | None]:
        marks = ", ".join("?" * len(ids))
        rows = await self.rows(f"SELECT id, item FROM channels WHERE id IN ({marks})", *ids)  # noqa: S608 only marks
        return read_rows_by_key("channel", _channel, ((row[0], row) for row in rows))

    async def list(self) -> list[Channel]:
        rows = await self.rows(f"{_LIVE} ORDER BY {self.NUMBER}", _DELETED)
        return _channels(rows)

    async def find(self, query: ChannelQuery) -> ChannelPage:
        await self._enter_changes()
        ids = "true" if query.ids is None else f"channel_list.id IN (''{', ?' * len(query.ids)})"
        words = " AND ".join(["true", *["replace(search, ?, '') <> search"] * len(query.words)])
        states = ", ".join(str(int(state)) for state in query.states)
        missing, value = _ORDERS[query.order]
        order = f"{missing}, {value} {'DESC' if query.descending else 'ASC'}, name, id"
        parts = {"ranks": self.RANKS, "ids": ids, "words": words, "states": states, "order": order}
        values: tuple[Value, ...] = (to_json(query.live), query.now, *(query.ids or ()), *query.words)
        counts = await self.rows((_LISTED + _COUNTS).format(**parts), *values)
        rows = await self.rows((_LISTED + _PAGE).format(**parts), *values, query.limit, query.offset)
        found = sum(found for state, _, found in counts if state in query.states)
        return ChannelPage(_channels(rows), found, {state: all for state, all, _ in counts})

    async def _enter_changes(self) -> None:
        while rows := await self.rows(_OUTDATED):
            values = [(id, changed, *_entry(id, text)) for id, text, changed in rows]
            if not await self.write(self.ENTER, json.dumps(values)):
                return  # all of them were changed again; the next list has them

    async def add(self, item: Mapping[str, Any]) -> Channel:
        text = to_json(item)
        id, slug = item[ID], Channel(item).slug
        added = await self._write(
            "INSERT INTO channels (id, item) SELECT ?, ? WHERE {} ON CONFLICT DO NOTHING", (id, text), id, slug
        )
        if not added:
            await self._check_slug(id, slug)
            raise ChannelExists(id)
        return _channel((id, text))

    async def update(self, id: str, changes: Mapping[str, Any]) -> Channel:
        # Reads, merges, and writes only if the row is unchanged. If the loop repeats, another writer succeeded.
        while True:
            old = await self._item(id)
            item = {**read_row("channel", id, read_object, old), **changes, ID: id}
            new, slug = to_json(item), Channel(item).slug if SLUG in changes else ""
            statement = "UPDATE channels SET item = ? WHERE id = ? AND item = ? AND {}"
            if await self._write(statement, (new, id, old), id, slug):
                return _channel((id, new))
            await self._check_slug(id, slug)

    async def delete(self, id: str, now: float, *, media: bool = False, restorable: bool = False) -> DeletedChannel:
        # One statement replaces the row with the deleted record, if the row is unchanged. One that cannot be read is
        # not compared: it may be no text.
        while True:
            old = await self._item(id)
            channel = read_rows_by_key("channel", _channel, [(id, (id, old))])[id]
            deleted = DeletedChannel.of(id, channel, now, media=media, restorable=restorable)
            if await self._rename(id, "" if channel is None else old, _DELETED + id, to_json(deleted.item)):
                return deleted

    async def get_deleted(self, id: str) -> DeletedChannel:
        return read_row("deleted channel", id, _deleted, (id, await self._item(id, _DELETED)))

    async def list_deleted(self) -> Sequence[DeletedChannel]:
        rows = await self.rows("SELECT id, item FROM channels WHERE substr(id, 1, 8) = ?", _DELETED)
        return read_rows("deleted channel", _deleted, ((row[0], row) for row in rows))

    async def put_deleted(self, deleted: DeletedChannel) -> None:
        await self.write(_PUT, _DELETED + deleted.id, to_json(deleted.item))

    async def remove_deleted(self, id: str) -> None:
        await self.write("DELETE FROM channels WHERE id = ?", _DELETED + id)

    async def get_domains(self) -> PublicDomains:
        stored: dict[str, str] = dict(await self.rows("SELECT name, value FROM domains"))
        return PublicDomains(stored.get("pushDNS", ""), stored.get("pullDNS", ""))

    async def set_domains(self, domains: PublicDomains) -> None:
        # An empty domain is stored as "". One statement writes both rows.
        await self.write(
            "INSERT INTO domains VALUES ('pushDNS', ?), ('pullDNS', ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            domains.push,
            domains.pull,
        )

    @abstractmethod
    async def _rename(self, id: str, item: str, new_id: str, new_item: str) -> bool:
        """Replaces the row with this id and item, and a row with the new id. Returns False if the row has changed.

        item: "": any.
        """

    async def _write(self, statement: str, values: tuple[str, ...], id: str, slug: str) -> int:
        """Runs a statement whose condition `{}` is that no other channel has the slug. slug: "": any channel may."""
        if not slug:
            return await self.write(statement.format("true"), *values)
        condition = f"NOT EXISTS ({self._taken()})"
        return await self.write_alone("channels", statement.format(condition), *values, slug, id)

    async def _check_slug(self, id: str, slug: str) -> None:
        """Raises SlugTaken if another channel has the slug."""
        if slug and await self.rows(self._taken(), slug, id):
            raise SlugTaken(slug)

    def _taken(self) -> str:
        """Returns the query whether another channel has a slug, or an id equal to it. It reads all rows."""
        others = "SELECT 1 FROM channels, (SELECT CAST(? AS text) AS slug) AS wanted WHERE id <> ?"
        return f"{others} AND substr(id, 1, 8) <> 'deleted/' AND (id = wanted.slug OR {self.HAS_SLUG})"

    async def _item(self, id: str, prefix: str = "") -> str:
        rows = await self.rows("SELECT item FROM channels WHERE id = ?", prefix + id) if is_channel_id(id) else ()
        if not rows:
            raise NoSuchChannel(id)
        return str(rows[0][0])


def _channel(row: tuple[str, str | bytes]) -> Channel:
    """Returns the channel of an id and an item. Raises ValueError, RecursionError."""
    id, text = row
    if isinstance(text, bytes):  # a BLOB of SQLite; no condition of a statement finds it equal to a text
        raise ValueError("it is no text")
    item = read_object(text)
    if item.get(ID) != id:
        raise ValueError("its field `id` is missing, or another one")
    return Channel(item)


def _channels(rows: Iterable[tuple[str, str]]) -> list[Channel]:
    return read_rows("channel", _channel, ((row[0], row) for row in rows))


def _deleted(row: tuple[str, str]) -> DeletedChannel:
    id, text = row
    return DeletedChannel({**read_object(text), ID: id.removeprefix(_DELETED)})


def _entry(id: str, text: str) -> tuple[str, str | None, int]:
    """Returns name, search text and expiry of a ListEntry. A row that cannot be read has no search text."""
    try:
        entry = ListEntry.of(_channel((id, text)))
    except (ValueError, RecursionError) as error:
        name_unreadable("channel", id, error)
        return "", None, 0
    return entry.name, entry.search, entry.expires
