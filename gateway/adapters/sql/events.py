"""The events log in a SQL database. Each event is one row. Several processes may share it."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from gateway.adapters.sql.sql_store import SqlStore, to_json
from gateway.adapters.stored_rows import read_object, read_rows
from gateway.ports.events import EventType, StoredEvent
from gateway.ports.stores import EventQuery

_MAX_DELETED: Final = 10_000  # rows that one statement deletes, so that other processes wait only for milliseconds
_TRIM: Final = """
DELETE FROM events WHERE id IN (
    SELECT id FROM events WHERE id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?) ORDER BY id LIMIT ?
)
"""
_TRIM_TYPE: Final = """
DELETE FROM events WHERE id IN (
    SELECT id FROM events WHERE type = ? AND id <= (
        SELECT id FROM events WHERE type = ? ORDER BY id DESC LIMIT 1 OFFSET ?
    ) ORDER BY id LIMIT ?
)
"""


class EventRows(SqlStore):
    """An EventStore.

    APPEND: inserts the rows of a JSON array of arrays. They are stored together, with one write to the disk.
    """

    APPEND: ClassVar[str]

    async def append(self, events: Sequence[StoredEvent]) -> None:
        rows = [(event.id, event.type, event.time, event.channel, event.node, to_json(event.data)) for event in events]
        await self.write(self.APPEND, json.dumps(rows))

    async def newest(self, query: EventQuery) -> list[StoredEvent]:
        conditions = {
            "id >= ?": query.since,
            "id < ?": query.before,
            "channel = ?": query.channel,
            # The expression excludes the index of types: a channel has fewer events than a type.
            "type || '' = ?" if query.channel else "type = ?": query.type,
        }
        used = {condition: value for condition, value in conditions.items() if value}
        where = f"WHERE {' AND '.join(used)}" if used else ""
        select = f"SELECT id, type, time, channel, node, data FROM events {where} ORDER BY id DESC LIMIT ?"  # noqa: S608 constants
        rows = await self.rows(select, *used.values(), query.limit)
        return read_rows("event", _event, ((row[0], row) for row in rows))

    async def trim(self, oldest: str, most: int) -> None:
        expired = "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE id < ? ORDER BY id LIMIT ?)"
        await self.write(expired, oldest, _MAX_DELETED)
        refused = str(EventType.PUBLISH_REFUSED)
        await self.write(_TRIM_TYPE, refused, refused, most // 2, _MAX_DELETED)
        await self.write(_TRIM, most, _MAX_DELETED)


def _event(row: Sequence[Any]) -> StoredEvent:
    *fields, data = row
    return StoredEvent(*fields, read_object(data))
