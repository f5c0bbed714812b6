"""Users, login sessions and profiles of the console in SQLite, one row each."""

import json
from collections.abc import Mapping
from typing import Any, Final

from gateway.adapters.local.database import Database, to_json

_GET: Final = "SELECT value FROM people WHERE kind = ? AND key = ? AND (expires = 0 OR expires > ?)"
_REPLACE: Final = "UPDATE people SET expires = ?, value = ? WHERE kind = ? AND key = ? AND (expires = 0 OR expires > ?)"
_DELETE: Final = "DELETE FROM people WHERE kind = ? AND key = ? AND (expires = 0 OR expires > ?)"
_LIST: Final = "SELECT key, value FROM people WHERE kind = ? AND (expires = 0 OR expires > ?) ORDER BY key"


class SqliteConsole(Database):
    """A ConsoleStore on one connection; use as `async with`. `add` and `put` also delete expired rows."""

    CREATE = """
CREATE TABLE IF NOT EXISTS people (
    kind TEXT NOT NULL, key TEXT NOT NULL, expires REAL NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS people_expires ON people (expires) WHERE expires > 0
"""
    CHECK = "SELECT 1 FROM people LIMIT 1"

    async def get(self, kind: str, key: str) -> dict[str, Any] | None:
        rows = await self.rows(_GET, kind, key, self._clock())
        return dict(json.loads(rows[0][0])) if rows else None

    async def add(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        await self._delete_expired()
        text = to_json(value)
        return bool(await self.write("INSERT OR IGNORE INTO people VALUES (?, ?, ?, ?)", kind, key, expires, text))

    async def put(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> None:
        await self._delete_expired()
        await self.write("INSERT OR REPLACE INTO people VALUES (?, ?, ?, ?)", kind, key, expires, to_json(value))

    async def replace(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        return bool(await self.write(_REPLACE, expires, to_json(value), kind, key, self._clock()))

    async def delete(self, kind: str, key: str) -> bool:
        return bool(await self.write(_DELETE, kind, key, self._clock()))

    async def list(self, kind: str) -> dict[str, dict[str, Any]]:
        rows = await self.rows(_LIST, kind, self._clock())
        return {key: json.loads(text) for key, text in rows}

    async def _delete_expired(self) -> None:
        await self.write("DELETE FROM people WHERE expires > 0 AND expires <= ?", self._clock())
