"""Channels and domains in SQLite: one row per channel, its item as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.adapters.local.database import Database
from gateway.hub.addresses import Domains
from gateway.hub.channel import ID, Channel
from gateway.hub.errors import ChannelExists, NoSuchChannel
from gateway.hub.names import is_channel_id

_SCHEMA: Final = 1
_CREATE: Final = """
CREATE TABLE IF NOT EXISTS channels (id TEXT PRIMARY KEY, item TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS domains (name TEXT PRIMARY KEY, value TEXT NOT NULL)
"""


class SqliteChannels(Database):
    """A ChannelStore and DomainStore over one connection; use as `async with`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _CREATE, _SCHEMA)

    async def get(self, id: str) -> Channel:
        return _channel(await self._item(id))

    async def list(self) -> list[Channel]:
        return [_channel(text) for (text,) in await self.rows("SELECT item FROM channels ORDER BY rowid")]

    async def add(self, item: Mapping[str, Any]) -> Channel:
        text = _text(item)
        if not await self.write("INSERT OR IGNORE INTO channels VALUES (?, ?)", item[ID], text):
            raise ChannelExists(item[ID])
        return _channel(text)

    async def update(self, id: str, changes: Mapping[str, Any]) -> Channel:
        # Read, merge, and write only if nobody wrote meanwhile: somebody's success is the reason for every repetition.
        while True:
            old = await self._item(id)
            new = _text({**json.loads(old), **changes, ID: id})
            if await self.write("UPDATE channels SET item = ? WHERE id = ? AND item = ?", new, id, old):
                return _channel(new)

    async def delete(self, id: str) -> None:
        if not is_channel_id(id) or not await self.write("DELETE FROM channels WHERE id = ?", id):
            raise NoSuchChannel(id)

    async def check(self) -> None:
        await self.rows("SELECT 1 FROM channels LIMIT 1")

    async def get_domains(self) -> Domains:
        stored: dict[str, str] = dict(await self.rows("SELECT name, value FROM domains"))
        return Domains(stored.get("pushDNS", ""), stored.get("pullDNS", ""))

    async def set_domains(self, domains: Domains) -> None:
        # An empty one is stored as such: two rows in one statement.
        await self.write(
            "INSERT INTO domains VALUES ('pushDNS', ?), ('pullDNS', ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            domains.push,
            domains.pull,
        )

    async def _item(self, id: str) -> str:
        rows = await self.rows("SELECT item FROM channels WHERE id = ?", id) if is_channel_id(id) else ()
        if not rows:
            raise NoSuchChannel(id)
        return str(rows[0][0])


def _text(item: Mapping[str, Any]) -> str:
    return json.dumps(item, allow_nan=False, separators=(",", ":"))


def _channel(text: str) -> Channel:
    return Channel(json.loads(text))
