"""Channels and domains in SQLite. Each channel is one row, with its fields as JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.adapters.local.database import Database, to_json
from gateway.channels.addresses import PublicDomains
from gateway.channels.channel import ID, Channel
from gateway.channels.deleted_channel import DeletedChannel
from gateway.channels.names import is_channel_id
from gateway.channels.slugs import SLUG
from gateway.ports.errors import ChannelExists, NoSuchChannel, SlugTaken

_DELETED: Final = "deleted/"  # prefix of the ids of deleted channels; a channel id has no slash
# Whether another channel than `?` has the slug, or this id. It is part of the statement that writes, so that of two
# writers one is refused. It reads all rows, but only changes of slugs need it.
_TAKEN: Final = (
    "SELECT 1 FROM channels WHERE id <> ? AND substr(id, 1, 8) <> 'deleted/'"
    " AND (id = ? OR json_extract(item, '$.slug') = ?)"
)


class SqliteChannels(Database):
    """A ChannelStore and DomainStore on one connection; use as `async with`."""

    CREATE = """
CREATE TABLE IF NOT EXISTS channels (id TEXT PRIMARY KEY, item TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS domains (name TEXT PRIMARY KEY, value TEXT NOT NULL)
"""
    CHECK = "SELECT 1 FROM channels LIMIT 1"

    async def get(self, id: str) -> Channel:
        return _channel(await self._item(id))

    async def list(self) -> list[Channel]:
        rows = await self.rows("SELECT item FROM channels WHERE substr(id, 1, 8) <> ? ORDER BY rowid", _DELETED)
        return [_channel(text) for (text,) in rows]

    async def add(self, item: Mapping[str, Any]) -> Channel:
        text = to_json(item)
        id, slug = item[ID], _channel(text).slug
        statement = "INSERT OR IGNORE INTO channels SELECT ?, ?"
        values: tuple[str, ...] = (id, text)
        if slug:
            statement, values = f"{statement} WHERE NOT EXISTS ({_TAKEN})", (*values, id, slug, slug)
        if not await self.write(statement, *values):
            await self._check_slug(id, slug)
            raise ChannelExists(id)
        return _channel(text)

    async def update(self, id: str, changes: Mapping[str, Any]) -> Channel:
        # Reads, merges, and writes only if the row is unchanged. If the loop repeats, another writer succeeded.
        while True:
            old = await self._item(id)
            new = to_json({**json.loads(old), **changes, ID: id})
            slug = _channel(new).slug if SLUG in changes else ""
            statement = "UPDATE channels SET item = ? WHERE id = ? AND item = ?"
            values: tuple[str, ...] = (new, id, old)
            if slug:
                statement, values = f"{statement} AND NOT EXISTS ({_TAKEN})", (*values, id, slug, slug)
            if await self.write(statement, *values):
                return _channel(new)
            await self._check_slug(id, slug)

    async def delete(self, id: str, now: float, *, media: bool = False) -> DeletedChannel:
        # One statement replaces the row with the deleted record, if the row is unchanged.
        while True:
            old = await self._item(id)
            deleted = DeletedChannel.of(_channel(old), now, media=media)
            statement = "UPDATE OR REPLACE channels SET id = ?, item = ? WHERE id = ? AND item = ?"
            if await self.write(statement, _DELETED + id, to_json(deleted.item), id, old):
                return deleted

    async def get_deleted(self, id: str) -> DeletedChannel:
        return DeletedChannel(json.loads(await self._item(id, _DELETED)))

    async def list_deleted(self) -> Sequence[DeletedChannel]:
        rows = await self.rows("SELECT item FROM channels WHERE substr(id, 1, 8) = ?", _DELETED)
        return [DeletedChannel(json.loads(text)) for (text,) in rows]

    async def put_deleted(self, deleted: DeletedChannel) -> None:
        await self.write("INSERT OR REPLACE INTO channels VALUES (?, ?)", _DELETED + deleted.id, to_json(deleted.item))

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

    async def _check_slug(self, id: str, slug: str) -> None:
        """Raises SlugTaken if another channel has the slug."""
        if slug and await self.rows(_TAKEN, id, slug, slug):
            raise SlugTaken(slug)

    async def _item(self, id: str, prefix: str = "") -> str:
        rows = await self.rows("SELECT item FROM channels WHERE id = ?", prefix + id) if is_channel_id(id) else ()
        if not rows:
            raise NoSuchChannel(id)
        return str(rows[0][0])


def _channel(text: str) -> Channel:
    return Channel(json.loads(text))
