"""The events log in SQLite. Each event is one row. Several processes may share the file."""

import json
from collections.abc import Sequence
from typing import Final

from gateway.adapters.local.database import Database, to_json
from gateway.ports.events import EventType, StoredEvent
from gateway.ports.stores import EventQuery

_MAX_DELETED: Final = 10_000  # rows that one statement deletes, so that other processes wait only for milliseconds
# One statement for all events: they are stored together, with one write to the disk.
_APPEND: Final = """
INSERT OR IGNORE INTO events
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]')
FROM json_each(?)
"""
_TRIM: Final = """
DELETE FROM events WHERE id IN (
    SELECT id FROM events WHERE id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?) ORDER BY id LIMIT ?
)
"""
_TRIM_TYPE: Final = """
DELETE FROM events WHERE id IN (
    SELECT id FROM events WHERE type = ?1 AND id <= (
        SELECT id FROM events WHERE type = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2
    ) ORDER BY id LIMIT ?3
)
"""


class SqliteEvents(Database):
    """An EventStore on one connection; use as `async with`."""

    CREATE = """
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, type TEXT NOT NULL, time REAL NOT NULL, channel TEXT NOT NULL, node TEXT NOT NULL,
    data TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_channel ON events (channel, id);
CREATE INDEX IF NOT EXISTS events_type ON events (type, id)
"""
    CHECK = "SELECT 1 FROM events LIMIT 1"

    async def append(self, events: Sequence[StoredEvent]) -> None:
        rows = [(event.id, event.type, event.time, event.channel, event.node, to_json(event.data)) for event in events]
        await self.write(_APPEND, json.dumps(rows))

    async def newest(self, query: EventQuery) -> list[StoredEvent]:
        conditions = {
            "id >= ?": query.since,
            "id < ?": query.before,
            "channel = ?": query.channel,
            # "+" excludes the index of types: a channel has fewer events than a type.
            "+type = ?" if query.channel else "type = ?": query.type,
        }
        used = {condition: value for condition, value in conditions.items() if value}
        where = f"WHERE {' AND '.join(used)}" if used else ""
        select = f"SELECT id, type, time, channel, node, data FROM events {where} ORDER BY id DESC LIMIT ?"  # noqa: S608 constants
        rows = await self.rows(select, *used.values(), query.limit)
        return [
            StoredEvent(id, type, time, channel, node, json.loads(data)) for id, type, time, channel, node, data in rows
        ]

    async def trim(self, oldest: str, most: int) -> None:
        expired = "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE id < ? ORDER BY id LIMIT ?)"
        await self.write(expired, oldest, _MAX_DELETED)
        await self.write(_TRIM_TYPE, EventType.PUBLISH_REFUSED, most // 2, _MAX_DELETED)
        await self.write(_TRIM, most, _MAX_DELETED)
