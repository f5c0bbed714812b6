"""The events log in DynamoDB: partition key `type`, sort key `id`, TTL attribute `expires`.

The index `channel` has the partition key `channel` and the sort key `id`. Events without a channel are not in it.
Each type has its own partition key. DynamoDB allows 1,000 writes a second for one key, so 1,000 streams may start at
once. More events wait in the queue of their node.
"""

import asyncio
import heapq
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from gateway.adapters.aws.dynamo_table import DynamoTable
from gateway.adapters.aws.session import AwsSession
from gateway.adapters.stored_rows import read_object, read_rows
from gateway.ports.errors import StoreUnavailable
from gateway.ports.events import EventType, StoredEvent
from gateway.ports.stores import EventQuery

INDEX: Final = "channel"
_BATCH: Final = 25  # items of a BatchWriteItem


class DynamoEvents:
    """An EventStore in one table. seconds: after which DynamoDB deletes an event."""

    def __init__(self, session: AwsSession, table: str, seconds: float) -> None:
        self._table = DynamoTable(session, table)
        self._seconds = seconds

    async def append(self, events: Sequence[StoredEvent]) -> None:
        """Stores events. Raises StoreUnavailable also if the table's capacity is used up; some may be stored then."""
        for start in range(0, len(events), _BATCH):
            items = [self._item(event) for event in events[start : start + _BATCH]]
            puts = {self._table.name: [{"PutRequest": {"Item": item}} for item in items]}
            async with self._table.client() as client:
                answer = await client.batch_write_item(RequestItems=puts)
            if answer.get("UnprocessedItems"):
                raise StoreUnavailable(f"dynamodb ({self._table.label}) is above its capacity", retry_after=1)

    async def newest(self, query: EventQuery) -> list[StoredEvent]:
        if query.channel:
            return await self._query({"channel": query.channel}, query)
        if query.type:
            return await self._query({"type": query.type}, query)
        of_types = await asyncio.gather(*(self._query({"type": str(type)}, query) for type in EventType))
        merged = heapq.merge(*of_types, key=lambda event: event.id, reverse=True)
        return list(islice(merged, query.limit))

    async def _query(self, partition: Mapping[str, str], query: EventQuery) -> list[StoredEvent]:
        """Returns the newest events of one partition, of the table or of the index. Reads all pages that it needs."""
        ((key, value),) = partition.items()
        since, before = query.since or "0", query.before or "g"  # ids are hexadecimal: "g" is greater than all ids
        if since >= before:
            return []  # DynamoDB rejects such a range
        # DynamoDB allows one condition on the sort key. So `since` and `before` become one range; `before` itself is
        # in the range, and is removed below.
        condition = f"#{key} = :key AND #id BETWEEN :since AND :before"
        values = {"key": value, "since": since, "before": before}
        parameters: dict[str, Any] = {"KeyConditionExpression": condition, "ScanIndexForward": False}
        if key == "channel":
            parameters["IndexName"] = INDEX
        if key == "type" or not query.type:
            parameters["Limit"] = query.limit + 1
        else:  # a page has 1 MB: DynamoDB would apply a limit before the filter
            parameters["FilterExpression"] = "#type = :type"
            values["type"] = query.type
        found: list[StoredEvent] = []
        async for page in self._table.pages("query", values, **parameters):
            items = ((item["id"]["S"], item) for item in page if item["id"]["S"] != query.before)
            found += read_rows("event", _event, items)
            if len(found) >= query.limit:
                break
        return found[: query.limit]

    async def trim(self, oldest: str, most: int) -> None:
        """Does nothing: DynamoDB deletes each event at its own time, and a node limits its refusals."""

    def _item(self, event: StoredEvent) -> dict[str, Any]:
        item = {
            "type": {"S": event.type},
            "id": {"S": event.id},
            "time": {"N": repr(event.time)},
            "node": {"S": event.node},
            "data": {"S": json.dumps(event.data, separators=(",", ":"))},
            "expires": {"N": str(int(event.time + self._seconds))},
        }
        # A key of an index cannot be empty.
        return item | {"channel": {"S": event.channel}} if event.channel else item


def _event(item: Mapping[str, Any]) -> StoredEvent:
    channel = item["channel"]["S"] if "channel" in item else ""
    data = read_object(item["data"]["S"])
    return StoredEvent(item["id"]["S"], item["type"]["S"], float(item["time"]["N"]), channel, item["node"]["S"], data)
