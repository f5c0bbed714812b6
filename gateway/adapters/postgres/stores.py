"""The stores in PostgreSQL: the few expressions that differ in SQLite."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from gateway.adapters.postgres.connections import PostgresConnections
from gateway.adapters.sql.channels import ChannelRows
from gateway.adapters.sql.console import ConsoleRows
from gateway.adapters.sql.events import EventRows
from gateway.adapters.sql.films import FilmRows
from gateway.adapters.sql.jobs import JobRows
from gateway.adapters.sql.registry import NODES, RegistryRows, read_nodes
from gateway.adapters.sql.sql_store import SqlStore, Value
from gateway.ports.errors import StoreUnavailable
from gateway.ports.nodes import ALIVE_SECONDS, Node

_NEVER: Final = 1e10  # seconds; a row that expires so late is never deleted


class PostgresStore(SqlStore):
    """A store in the tables of `migrations.py`. clock: by default that of the server."""

    BEGIN: ClassVar[str] = "BEGIN"

    def __init__(self, connections: PostgresConnections, clock: Callable[[], float] | None = None) -> None:
        self._connections = connections
        self._clock = clock or connections.now

    async def rows(self, statement: str, *values: Value) -> Sequence[Any]:
        return await self._connections.fetch("BEGIN", statement, values)

    async def write(self, statement: str, *values: Value) -> int:
        return await self._connections.execute(self.BEGIN, statement, values)

    async def write_alone(self, table: str, statement: str, *values: Value) -> int:
        lock = f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"
        return await self._connections.execute(self.BEGIN, statement, values, lock)

    async def check(self) -> None:
        """Returns if the database answers. Raises StoreUnavailable."""
        await self.rows("SELECT 1")


class PostgresChannels(ChannelRows, PostgresStore):
    # A row is parsed only if it may have the slug: another row may be damaged. PostgreSQL refuses to parse some escapes
    # that JSON allows, such as NUL; then the text decides.
    HAS_SLUG = r"""
CASE WHEN item !~ ('"slug"\s*:\s*"' || wanted.slug || '"') THEN false
WHEN item ~* '\\u(0000|d[89a-f])' THEN true ELSE item::json->>'slug' = wanted.slug END
"""
    NUMBER = "number"
    RANKS = "SELECT key AS id, value::float8 AS rank FROM json_each_text(?::json)"
    ENTER = """
UPDATE channel_list SET name = value->>2, search = value->>3, expires = (value->>4)::bigint
FROM json_array_elements(?::json) AS value
WHERE channel_list.id = value->>0 AND changed = (value->>1)::bigint
"""

    async def _rename(self, id: str, item: str, new_id: str, new_item: str) -> bool:
        statement = """
WITH gone AS (DELETE FROM channels WHERE id = ? AND ? IN (item, '') RETURNING id)
INSERT INTO channels (id, item) SELECT ?, ? FROM gone ON CONFLICT (id) DO UPDATE SET item = excluded.item
"""
        return bool(await self.write(statement, id, item, new_id, new_item))


class PostgresJobs(JobRows, PostgresStore):
    pass


class PostgresFilms(FilmRows, PostgresStore):
    pass


class PostgresConsole(ConsoleRows, PostgresStore):
    pass


class PostgresEvents(EventRows, PostgresStore):
    APPEND = """
INSERT INTO events
SELECT value->>0, value->>1, (value->>2)::float8, value->>3, value->>4, value->>5
FROM json_array_elements(?::json) AS value ON CONFLICT DO NOTHING
"""


class PostgresRegistry(RegistryRows, PostgresStore):
    """The nodes are in an unlogged table, so that heartbeats write nothing to the disk.

    It is empty after a crash of the server and on a new primary. Until all living nodes have sent a heartbeat, nobody
    knows whether a missing node is dead. The row with the id "" tells since when the table has heartbeats.
    """

    BEGIN = "BEGIN; SET LOCAL synchronous_commit = on"  # claims are on the disk, whatever the server's default is
    _BEAT_AND_LIST = f"""
WITH begun AS (
    INSERT INTO nodes
    VALUES ('', '', '', 0, '', '{{}}', extract(epoch FROM clock_timestamp()) + {_NEVER}) ON CONFLICT DO NOTHING
), beaten AS ({RegistryRows.BEAT})
{NODES}
"""  # noqa: S608 constants

    async def beat(self, node: Node) -> Sequence[Node] | None:
        return read_nodes(await self.rows(self._BEAT_AND_LIST, *self.beat_values(node)))

    async def node(self, id: str) -> Node | None:
        node = await super().node(id)
        if node is None:
            age = f"SELECT extract(epoch FROM clock_timestamp())::float8 + {_NEVER} - expires FROM nodes WHERE id = ''"  # noqa: S608
            rows = await self.rows(age)
            if not rows or rows[0][0] < ALIVE_SECONDS:
                raise StoreUnavailable("the registry has just begun: it does not know all nodes yet")
        return node
