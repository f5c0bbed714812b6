"""Nodes and the streams that they hold, in DynamoDB: the original's table of live sessions, hash key `UUID`."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from gateway.adapters.aws.attributes import from_attribute, to_attribute
from gateway.adapters.aws.dynamo_table import ConditionFailed, DynamoTable
from gateway.adapters.aws.session import AwsSession, error_code
from gateway.channels.names import is_channel_id
from gateway.ports.errors import HeldByOtherNode, StoreUnavailable
from gateway.ports.nodes import FORGOTTEN_SECONDS, LEFT_SECONDS, Node, NodeRole, StreamClaim

_CONDITION_FAILED: Final = "ConditionalCheckFailedException"
_KEY: Final = "UUID"
# A channel id has no slash, so these keys never collide with a session's row. One item lists the ids of all nodes, so
# that no scan is needed.
_NODES: Final = "/nodes"
_NODE: Final = "/node/"
_NOTHING: Final = "/"
_ROLES: Final = frozenset(str(role) for role in NodeRole)
_MAX_KEYS: Final = 100  # in one BatchGetItem
# Pauses in seconds before keys that a throttled table left out are asked for again. Their sum is below the time-out of
# a call.
_RETRY_SECONDS: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
# Every name has a placeholder: UUID, ROLE and LEFT are reserved words, and others may become so.
_OF_HOLDING: Final = (_KEY, "node", "address", "claim", "started", "left", "cluster", "expires")
# A row of the original system or of another program does not count as held, so it may be replaced at once.
_FREE: Final = (
    "NOT (attribute_type(#node, :text) AND attribute_type(#address, :text)"
    " AND attribute_type(#claim, :text) AND attribute_type(#started, :number))"
    " OR #left = :yes OR #claim IN (:claim, :over)"
)


class DynamoRegistry:
    """A Registry in one table. A session's row holds the original's attributes and Millrace's own.

    Millrace's own are node, address, claim, started, cluster and left. DynamoDB removes an expired row within days;
    reads ignore it at once.

    A node drops an id without a row from the set, unless another id was added meanwhile. A node adds its own id again
    when its beat finds no row, or when the set lacked it.
    """

    def __init__(self, session: AwsSession, table: str, clock: Callable[[], float] = time.time) -> None:
        self._table, self._clock = DynamoTable(session, table), clock
        self._listed: set[str] = set()  # ids that this process added and has not seen missing since

    async def join(self, node: Node) -> None:
        self._listed.discard(node.id)
        await self.beat(node)

    async def beat(self, node: Node) -> None:
        item = _row(node, self._clock() + FORGOTTEN_SECONDS)
        async with self._table.calling() as client:
            answer = await client.put_item(TableName=self._table.name, Item=item, ReturnValues="ALL_OLD")
            if answer.get("Attributes") and node.id in self._listed:
                return
            # The row is written first: other nodes drop an id that has no row.
            await client.update_item(
                TableName=self._table.name,
                Key=_key(_NODES),
                UpdateExpression="ADD #ids :id, #version :one",
                ExpressionAttributeNames={"#ids": "ids", "#version": "version"},
                ExpressionAttributeValues={":id": {"SS": [node.id]}, ":one": {"N": "1"}},
            )
        self._listed.add(node.id)

    async def leave(self, id: str) -> None:
        self._listed.discard(id)
        async with self._table.calling() as client:
            await client.delete_item(TableName=self._table.name, Key=_key(_NODE + id))
            await self._drop(client, [id])

    async def node(self, id: str) -> Node | None:
        item = await self._table.get(_key(_NODE + id))
        return _node(item) if item else None

    async def nodes(self) -> list[Node]:
        async with self._table.calling() as client:
            answer = await client.get_item(TableName=self._table.name, Key=_key(_NODES), ConsistentRead=True)
            listed = answer.get("Item", {})
            ids = set(listed.get("ids", {}).get("SS", ()))
            self._listed &= ids
            rows = await self._batch(client, [_NODE + id for id in ids], ConsistentRead=True)
            if gone := ids - {row[_KEY]["S"].removeprefix(_NODE) for row in rows}:
                await self._drop(client, sorted(gone), listed.get("version", {"N": "0"}))
        return [node for node in map(_node, rows) if node is not None]

    async def claim(self, holding: StreamClaim, item: Mapping[str, Any], over: str = "") -> None:
        async with self._table.calling() as client:
            try:
                await client.put_item(
                    TableName=self._table.name,
                    Item=_session(holding, item),
                    ConditionExpression=_FREE,
                    ExpressionAttributeNames={
                        f"#{name}": name for name in ("node", "address", "claim", "started", "left")
                    },
                    ExpressionAttributeValues={
                        ":text": {"S": "S"},
                        ":number": {"S": "N"},
                        ":yes": {"BOOL": True},
                        ":claim": {"S": holding.claim},  # an earlier attempt without an answer may have succeeded
                        ":over": {"S": over or holding.claim},
                    },
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as e:
                stands = _holding(e.response.get("Item", {}))
                if error_code(e) == _CONDITION_FAILED and stands is not None:
                    raise HeldByOtherNode(stands) from None
                raise

    async def release(self, stream: str, claim: str, *, left: bool = False) -> None:
        if not is_channel_id(stream):
            return
        how: dict[str, Any] = {
            "Key": _key(stream),
            "ConditionExpression": "#claim = :claim",
            "ExpressionAttributeNames": {"#claim": "claim"},
            "ExpressionAttributeValues": {":claim": {"S": claim}},
        }
        if left:
            how["UpdateExpression"] = "SET #left = :yes, #expires = :expires"
            how["ExpressionAttributeNames"] |= {"#left": "left", "#expires": "expires"}
            expires = math.ceil(self._clock() + LEFT_SECONDS)
            how["ExpressionAttributeValues"] |= {":yes": {"BOOL": True}, ":expires": {"N": str(expires)}}
        with contextlib.suppress(ConditionFailed):
            await self._table.call("update_item" if left else "delete_item", **how)

    async def find(self, streams: Collection[str]) -> dict[str, StreamClaim]:
        wanted = [stream for stream in set(streams) if is_channel_id(stream)]
        names = {f"#{name}": name for name in _OF_HOLDING}
        async with self._table.calling() as client:
            rows = await self._batch(
                client, wanted, ProjectionExpression=", ".join(names), ExpressionAttributeNames=names
            )
        found = [holding for row in rows if (holding := self._holding(row)) and not holding.left]
        return {holding.stream: holding for holding in found}

    async def holding(self, stream: str) -> StreamClaim | None:
        item = await self._table.get(_key(stream)) if is_channel_id(stream) else None
        return self._holding(item) if item else None

    async def check(self) -> None:
        await self._table.get(_key(_NOTHING))

    async def _batch(self, client: Any, keys: Sequence[str], **how: Any) -> list[dict[str, Any]]:
        """Returns the items with these keys, each given once.

        Reads 100 keys per request, with more requests where the table throttles.
        """
        found: list[dict[str, Any]] = []
        for first in range(0, len(keys), _MAX_KEYS):
            asked: dict[str, Any] = {
                self._table.name: {"Keys": [_key(key) for key in keys[first : first + _MAX_KEYS]], **how}
            }
            waits = iter(_RETRY_SECONDS)
            while True:
                answer = await client.batch_get_item(RequestItems=asked)
                found += answer.get("Responses", {}).get(self._table.name, ())
                if not (asked := answer.get("UnprocessedKeys", {})):
                    break
                if (wait := next(waits, None)) is None:
                    raise StoreUnavailable(f"dynamodb ({self._table.what}) leaves keys unread")
                await asyncio.sleep(wait)
        return found

    async def _drop(self, client: Any, ids: Sequence[str], version: Mapping[str, Any] | None = None) -> None:
        """Removes ids from the set of nodes. version: remove them only if the set still has this version."""
        how: dict[str, Any] = {
            "UpdateExpression": "DELETE #ids :gone",
            "ExpressionAttributeNames": {"#ids": "ids"},
            "ExpressionAttributeValues": {":gone": {"SS": list(ids)}},
        }
        if version is not None:
            how["ConditionExpression"] = "#version = :version"
            how["ExpressionAttributeNames"]["#version"] = "version"
            how["ExpressionAttributeValues"][":version"] = version
        try:
            await client.update_item(TableName=self._table.name, Key=_key(_NODES), **how)
        except ClientError as e:
            if error_code(e) != _CONDITION_FAILED:
                raise

    def _holding(self, item: Mapping[str, Any]) -> StreamClaim | None:
        """Returns a row as `_holding` does, but None for one that was left and has expired."""
        holding = _holding(item)
        if holding is None or not holding.left:
            return holding
        return holding if float(item.get("expires", {}).get("N", math.inf)) > self._clock() else None


def _key(key: str) -> dict[str, Any]:
    return {_KEY: {"S": key}}


def _row(node: Node, expires: float) -> dict[str, Any]:
    return {
        **_key(_NODE + node.id),
        "role": {"S": str(node.role)},
        "address": {"S": node.address},
        "beat": {"N": str(node.beat)},
        "channel": {"S": node.channel},
        "shown": to_attribute(node.shown),
        "expires": {"N": str(math.ceil(expires))},
    }


def _node(item: Mapping[str, Any]) -> Node | None:
    """Returns the node of a row; None where Millrace did not write the row."""
    match item:
        case {
            "UUID": {"S": str(key)},
            "role": {"S": str(role)},
            "address": {"S": str(address)},
            "beat": {"N": str(beat)},
            "channel": {"S": str(channel)},
            "shown": {"M": _} as shown,
        } if role in _ROLES:
            return Node(key.removeprefix(_NODE), NodeRole(role), address, int(beat), channel, from_attribute(shown))
    return None


def _session(holding: StreamClaim, item: Mapping[str, Any]) -> dict[str, Any]:
    ours = {
        "node": holding.node,
        "address": holding.address,
        "claim": holding.claim,
        "started": holding.started,
        "left": holding.left,
        "cluster": holding.cluster,
    }
    return {name: to_attribute(value) for name, value in (dict(item) | ours).items()} | _key(holding.stream)


def _holding(item: Mapping[str, Any]) -> StreamClaim | None:
    """Returns the holding of a row; None where Millrace did not write the row."""
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
