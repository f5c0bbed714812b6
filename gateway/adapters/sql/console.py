"""Users, login sessions and profiles of the console in a SQL database, one row each."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.adapters.sql.sql_store import SqlStore, to_json
from gateway.adapters.stored_rows import read_object, read_row, read_rows
from gateway.ports.stores import ConsoleEntry

_INSERT: Final = "INSERT INTO people VALUES (?, ?, ?, ?) ON CONFLICT"
_CHANGE: Final = "DO UPDATE SET expires = excluded.expires, value = excluded.value"
_GET: Final = "SELECT value FROM people WHERE kind = ? AND key = ? AND (expires = 0 OR expires > ?)"
_REPLACE: Final = "UPDATE people SET expires = ?, value = ? WHERE kind = ? AND key = ? AND (expires = 0 OR expires > ?)"
_DELETE: Final = "DELETE FROM people WHERE kind = ? AND key = ? AND (expires = 0 OR expires > ?)"
_LIST: Final = "SELECT key, value FROM people WHERE kind = ? AND (expires = 0 OR expires > ?) ORDER BY key"
_ALL: Final = "SELECT kind, key, value, expires FROM people WHERE expires = 0 OR expires > ?"


class ConsoleRows(SqlStore):
    """A ConsoleStore. `add` and `put` also delete expired rows."""

    async def get(self, kind: str, key: str) -> dict[str, Any] | None:
        rows = await self.rows(_GET, kind, key, self._clock())
        return read_row(kind, key, read_object, rows[0][0]) if rows else None

    async def add(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        await self._delete_expired()
        return bool(await self.write(f"{_INSERT} DO NOTHING", kind, key, expires, to_json(value)))

    async def put(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> None:
        await self._delete_expired()
        await self.write(f"{_INSERT} (kind, key) {_CHANGE}", kind, key, expires, to_json(value))

    async def replace(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        return bool(await self.write(_REPLACE, expires, to_json(value), kind, key, self._clock()))

    async def delete(self, kind: str, key: str) -> bool:
        return bool(await self.write(_DELETE, kind, key, self._clock()))

    async def list(self, kind: str) -> dict[str, dict[str, Any]]:
        rows = await self.rows(_LIST, kind, self._clock())
        return dict(read_rows(kind, lambda row: (row[0], read_object(row[1])), ((row[0], row) for row in rows)))

    async def entries(self) -> Sequence[ConsoleEntry]:
        rows = await self.rows(_ALL, self._clock())
        return read_rows("entry", _entry, ((f"{row[0]}/{row[1]}", row) for row in rows))

    async def _delete_expired(self) -> None:
        await self.write("DELETE FROM people WHERE expires > 0 AND expires <= ?", self._clock())


def _entry(row: Sequence[Any]) -> ConsoleEntry:
    kind, key, text, expires = row
    return ConsoleEntry(kind, key, read_object(text), expires)
