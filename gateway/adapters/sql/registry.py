"""Nodes and their stream claims in a SQL database."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

from gateway.adapters.sql.sql_store import SqlStore, to_json
from gateway.adapters.stored_rows import read_row, read_rows
from gateway.channels.names import is_channel_id
from gateway.lib import bounded_json
from gateway.ports.errors import HeldByOtherNode
from gateway.ports.nodes import FORGOTTEN_SECONDS, LEFT_SECONDS, Node, NodeRole, StreamClaim

NODES: Final = "SELECT id, role, address, beat, channel, shown FROM nodes WHERE id <> ''"
_SELECT_CLAIMS: Final = (
    'SELECT stream, node, address, claim, started, "left", cluster FROM holdings WHERE (expires = 0 OR expires > ?)'
)
# The condition resolves races: of several concurrent claims, the database lets one write before it checks the next.
_CLAIM: Final = """
INSERT INTO holdings VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?) ON CONFLICT (stream) DO UPDATE SET
    node = excluded.node, address = excluded.address, claim = excluded.claim, started = excluded.started,
    "left" = excluded."left", cluster = excluded.cluster, expires = excluded.expires, item = excluded.item
WHERE holdings."left" = 1 OR holdings.claim = excluded.claim OR holdings.claim = ?
"""


class RegistryRows(SqlStore):
    """A Registry. `join` and `claim` also delete expired rows. BEAT: stores the row of a node."""

    BEAT: ClassVar[str] = """
INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
    role = excluded.role, address = excluded.address, beat = excluded.beat, channel = excluded.channel,
    shown = excluded.shown, expires = excluded.expires
"""

    async def join(self, node: Node) -> None:
        await self.write("DELETE FROM nodes WHERE expires <= ?", self._clock())
        await self.beat(node)

    async def beat(self, node: Node) -> Sequence[Node] | None:
        await self.write(self.BEAT, *self.beat_values(node))
        return None

    def beat_values(self, node: Node) -> tuple[str | int | float, ...]:
        """Returns the values of BEAT."""
        values = (node.id, str(node.role), node.address, node.beat, node.channel, to_json(node.shown))
        return (*values, self._clock() + FORGOTTEN_SECONDS)

    async def leave(self, id: str) -> None:
        await self.write("DELETE FROM nodes WHERE id = ?", id)

    async def node(self, id: str) -> Node | None:
        rows = await self.rows(f"{NODES} AND id = ?", id)
        return read_row("node", id, _node, rows[0]) if rows else None

    async def nodes(self) -> list[Node]:
        return read_nodes(await self.rows(NODES))

    async def claim(self, claim: StreamClaim, item: Mapping[str, Any], replaces: str = "") -> None:
        now = self._clock()
        await self.write("DELETE FROM holdings WHERE expires > 0 AND expires <= ?", now)
        marks = int(claim.left), int(claim.cluster)
        values = (claim.stream, claim.node, claim.address, claim.id, claim.started, *marks, to_json(item), replaces)
        while not await self.write(_CLAIM, *values):
            if stored := await self.claim_of(claim.stream):
                raise HeldByOtherNode(stored)
            # The row was released between the two statements. If the loop repeats, another claim succeeded, so the
            # loop ends.

    async def release(self, stream: str, claim: str, *, left: bool = False) -> None:
        if not is_channel_id(stream):
            return
        if left:
            update = 'UPDATE holdings SET "left" = 1, expires = ? WHERE stream = ? AND claim = ?'
            await self.write(update, self._clock() + LEFT_SECONDS, stream, claim)
        else:
            await self.write("DELETE FROM holdings WHERE stream = ? AND claim = ?", stream, claim)

    async def find(self, streams: Collection[str]) -> dict[str, StreamClaim]:
        wanted = {stream for stream in streams if is_channel_id(stream)}
        if not wanted:
            return {}
        marks = ", ".join("?" * len(wanted))
        rows = await self.rows(f'{_SELECT_CLAIMS} AND "left" = 0 AND stream IN ({marks})', self._clock(), *wanted)
        return {row[0]: _to_claim(*row) for row in rows}

    async def claim_of(self, stream: str) -> StreamClaim | None:
        if not is_channel_id(stream):
            return None
        rows = await self.rows(f"{_SELECT_CLAIMS} AND stream = ?", self._clock(), stream)
        return _to_claim(*rows[0]) if rows else None


def read_nodes(rows: Iterable[Sequence[Any]]) -> list[Node]:
    """Returns the nodes of the rows of NODES. A newer version may have roles that this one does not know."""
    return read_rows("node", _node, ((row[0], row) for row in rows))


def _node(row: Sequence[Any]) -> Node:
    id, role, address, beat, channel, shown = row
    fields = bounded_json.loads(shown)
    if not isinstance(fields, dict):
        raise ValueError("`shown` is no JSON object")
    return Node(id, NodeRole(role), address, beat, channel, fields)


def _to_claim(stream: str, node: str, address: str, claim: str, started: float, left: int, cluster: int) -> StreamClaim:
    return StreamClaim(stream, node, address, claim, started, bool(left), bool(cluster))
