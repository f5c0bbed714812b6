"""Nodes and their stream claims in DynamoDB, in the old system's table of live sessions (hash key `UUID`)."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from gateway.adapters.aws.attributes import from_attribute, to_item
from gateway.adapters.aws.dynamo_table import DynamoStore, condition_failed
from gateway.adapters.aws.session import AwsSession, call
from gateway.adapters.stored_rows import read_row, read_rows
from gateway.channels.names import is_channel_id
from gateway.lib.bounded_json import MAX_NUMBER
from gateway.lib.numbers import read_integer
from gateway.ports.errors import HeldByOtherNode
from gateway.ports.nodes import FORGOTTEN_SECONDS, LEFT_SECONDS, Node, NodeRole, StreamClaim

_KEY: Final = "UUID"
# A channel id has no slash, so these keys never equal the key of a session's row. One item lists the ids of all nodes,
# so that no scan is needed.
_NODES: Final = "/nodes"
_NODE: Final = "/node/"
_ROLES: Final = frozenset(str(role) for role in NodeRole)
# Every name has a placeholder: UUID, ROLE and LEFT are reserved words, and others may become reserved.
_CLAIM_FIELDS: Final = (_KEY, "node", "address", "claim", "started", "left", "cluster", "expires")
# A row of the old system or of another program is not a claim, so it may be replaced at once.
_FREE: Final = (
    "NOT (attribute_type(#node, :text) AND attribute_type(#address, :text)"
    " AND attribute_type(#claim, :text) AND attribute_type(#started, :number))"
    " OR #left = :yes OR #claim IN (:claim, :replaces)"
)


class DynamoRegistry(DynamoStore):
    """A Registry in one table. A session's row has attributes of the old system and of Millrace.

    Those of Millrace are node, address, claim, started, cluster and left. DynamoDB deletes an expired row within days.
    Reads ignore it at once.

    One item has the set of node ids. A node removes an id without a row from the set, unless another id was added since
    it was read. A node adds its id again if its heartbeat finds no row, or if the set lacked the id.
    """

    KEY = (_KEY,)

    def __init__(self, session: AwsSession, table: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__(session, table, clock)
        self._listed: set[str] = set()  # ids that this process added, without those that the last read did not find

    async def join(self, node: Node) -> None:
        self._listed.discard(node.id)
        await self.beat(node)

    async def beat(self, node: Node) -> Sequence[Node] | None:
        item = _row(node, self._clock() + FORGOTTEN_SECONDS)
        async with self._table.client() as client:
            answer = await client.put_item(**self._table.request(Item=item, ReturnValues="ALL_OLD"))
            if answer.get("Attributes") and node.id in self._listed:
                return None
            # The row is written first, because other nodes remove an id without a row.
            added, expression = {"id": frozenset((node.id,)), "one": 1}, "ADD #ids :id, #version :one"
            await client.update_item(**self._table.request(added, Key=_key(_NODES), UpdateExpression=expression))
        self._listed.add(node.id)
        return None

    async def leave(self, id: str) -> None:
        self._listed.discard(id)
        await self._table.call("delete_item", Key=_key(_NODE + id))
        await self._drop([id])

    async def node(self, id: str) -> Node | None:
        item = await self._table.get(_key(_NODE + id))
        return read_row("node", id, _node, item) if item else None

    async def nodes(self) -> list[Node]:
        async with self._table.client() as client:
            answer = await client.get_item(**self._table.request(Key=_key(_NODES), ConsistentRead=True))
            listed = answer.get("Item", {})
            ids = set(listed.get("ids", {}).get("SS", ()))
            self._listed &= ids
            rows = await self._table.get_many(client, [_key(_NODE + id) for id in ids], ConsistentRead=True)
        if missing := ids - {row[_KEY]["S"].removeprefix(_NODE) for row in rows}:
            await self._drop(missing, int(listed.get("version", {}).get("N", 0)))
        return read_rows("node", _node, ((row[_KEY]["S"], row) for row in rows))

    async def claim(self, claim: StreamClaim, item: Mapping[str, Any], replaces: str = "") -> None:
        # The stored claim may be this one: an earlier attempt without an answer may have succeeded.
        values = {"text": "S", "number": "N", "yes": True, "claim": claim.id, "replaces": replaces or claim.id}
        put = self._table.request(values, Item=_session(claim, item), ConditionExpression=_FREE)
        await call(self._table.client(_held), "put_item", **put, ReturnValuesOnConditionCheckFailure="ALL_OLD")

    async def release(self, stream: str, claim: str, *, left: bool = False) -> None:
        if not is_channel_id(stream):
            return
        parameters = {"Key": _key(stream), "ConditionExpression": "#claim = :claim"}
        if left:
            values = {"claim": claim, "yes": True, "expires": math.ceil(self._clock() + LEFT_SECONDS)}
            update = "SET #left = :yes, #expires = :expires"
            await self._table.write("update_item", values, UpdateExpression=update, **parameters)
        else:
            await self._table.write("delete_item", {"claim": claim}, **parameters)

    async def find(self, streams: Collection[str]) -> dict[str, StreamClaim]:
        wanted = [stream for stream in set(streams) if is_channel_id(stream)]
        names = {f"#{name}": name for name in _CLAIM_FIELDS}
        projection = {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
        async with self._table.client() as client:
            rows = await self._table.get_many(client, [_key(stream) for stream in wanted], **projection)
        claims = [claim for row in rows if (claim := self._unexpired_claim(row)) and not claim.left]
        return {claim.stream: claim for claim in claims}

    async def claim_of(self, stream: str) -> StreamClaim | None:
        item = await self._table.get(_key(stream)) if is_channel_id(stream) else None
        return self._unexpired_claim(item) if item else None

    async def _drop(self, ids: Collection[str], version: int | None = None) -> None:
        """Removes ids from the set of nodes. version: removes them only if the set still has this version."""
        values: dict[str, Any] = {"gone": frozenset(ids)}
        condition = {}
        if version is not None:
            values["version"] = version
            condition["ConditionExpression"] = "#version = :version"
        update = "DELETE #ids :gone"
        await self._table.write("update_item", values, Key=_key(_NODES), UpdateExpression=update, **condition)

    def _unexpired_claim(self, item: Mapping[str, Any]) -> StreamClaim | None:
        """Returns the claim of a row like `_to_claim`, but None if its node has left and the claim has expired."""
        claim = _to_claim(item)
        if claim is None or not claim.left:
            return claim
        return claim if float(item.get("expires", {}).get("N", math.inf)) > self._clock() else None


def _key(key: str) -> dict[str, Any]:
    return {_KEY: {"S": key}}


def _row(node: Node, expires: float) -> dict[str, Any]:
    fields = {"role": str(node.role), "address": node.address, "beat": node.beat, "channel": node.channel}
    return to_item({**fields, "shown": node.shown, "expires": math.ceil(expires)}) | _key(_NODE + node.id)


def _node(item: Mapping[str, Any]) -> Node:
    """Returns the node of a row. Raises ValueError if Millrace did not write it, or a version with other roles did."""
    match item:
        case {
            "UUID": {"S": str(key)},
            "role": {"S": str(role)},
            "address": {"S": str(address)},
            "beat": {"N": str(beat)},
            "channel": {"S": str(channel)},
            "shown": {"M": _} as shown,
        } if role in _ROLES and (count := read_integer(beat, MAX_NUMBER)) is not None:
            return Node(key.removeprefix(_NODE), NodeRole(role), address, count, channel, from_attribute(shown))
    raise ValueError(f"unknown fields, or the role {item.get('role')}")


def _session(claim: StreamClaim, item: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {"node": claim.node, "address": claim.address, "claim": claim.id, "started": claim.started}
    return to_item({**item, **attributes, "left": claim.left, "cluster": claim.cluster}) | _key(claim.stream)


def _held(error: ClientError) -> HeldByOtherNode | None:
    """Returns HeldByOtherNode if another node holds the stream, otherwise None. See ErrorMap."""
    stored = _to_claim(error.response.get("Item", {})) if condition_failed(error) else None
    return HeldByOtherNode(stored) if stored is not None else None


def _to_claim(item: Mapping[str, Any]) -> StreamClaim | None:
    """Returns the claim of a row; None if Millrace did not write the row."""
    match item:
        case {
            "UUID": {"S": str(stream)},
            "node": {"S": str(node)},
            "address": {"S": str(address)},
            "claim": {"S": str(claim)},
            "started": {"N": str(started)},
        }:
            left, cluster = (item.get(name) == {"BOOL": True} for name in ("left", "cluster"))
            return StreamClaim(stream, node, address, claim, float(started), left, cluster)
    return None
