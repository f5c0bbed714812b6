"""The console's entries in DynamoDB: partition key `kind`, sort key `key`, TTL attribute `expires`."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.adapters.aws.dynamo_table import DynamoStore, was_repeated
from gateway.ports.errors import StoreUnavailable
from gateway.ports.stored_rows import read_object, read_row, read_rows
from gateway.ports.stores import ConsoleEntry

_VALID: Final = "(attribute_not_exists(#expires) OR #expires > :now)"


class DynamoConsole(DynamoStore):
    """A ConsoleStore in one table. DynamoDB deletes expired items within days. Reads ignore them at once."""

    KEY = ("kind", "key")

    async def get(self, kind: str, key: str) -> dict[str, Any] | None:
        item = await self._table.get(_key(kind, key))
        return read_row(kind, key, _value, item) if item is not None and self._is_valid(item) else None

    async def add(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        return await self._put_if(f"attribute_not_exists(#key) OR NOT {_VALID}", _item(kind, key, value, expires))

    async def put(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> None:
        await self._table.call("put_item", Item=_item(kind, key, value, expires))

    async def replace(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        return await self._put_if(f"attribute_exists(#key) AND {_VALID}", _item(kind, key, value, expires))

    async def delete(self, kind: str, key: str) -> bool:
        answer = await self._table.call("delete_item", Key=_key(kind, key), ReturnValues="ALL_OLD")
        item = answer.get("Attributes")
        if item is None and was_repeated(answer):
            raise StoreUnavailable(f"dynamodb ({self._table.label}): the answer to a deletion was lost")
        return item is not None and self._is_valid(item)

    async def list(self, kind: str) -> dict[str, dict[str, Any]]:
        items = await self._table.read_all("query", {"kind": kind}, KeyConditionExpression="#kind = :kind")
        valid = ((item["key"]["S"], item) for item in items if self._is_valid(item))
        return dict(read_rows(kind, lambda item: (item["key"]["S"], _value(item)), valid))

    async def entries(self) -> Sequence[ConsoleEntry]:
        items = [item for item in await self._table.read_all("scan") if self._is_valid(item)]
        return read_rows("entry", _entry, ((f"{item['kind']['S']}/{item['key']['S']}", item) for item in items))

    async def _put_if(self, condition: str, item: dict[str, Any]) -> bool:
        return await self._table.write("put_item", {"now": self._clock()}, Item=item, ConditionExpression=condition)

    def _is_valid(self, item: Mapping[str, Any]) -> bool:
        expires = _expires(item)
        return expires == 0 or expires > self._clock()


def _key(kind: str, key: str) -> dict[str, Any]:
    return {"kind": {"S": kind}, "key": {"S": key}}


def _item(kind: str, key: str, value: Mapping[str, Any], expires: float) -> dict[str, Any]:
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    item = _key(kind, key) | {"value": {"S": text}}
    # DynamoDB does not delete items without this attribute. A TTL is whole seconds.
    return item | ({"expires": {"N": str(math.ceil(expires))}} if expires else {})


def _expires(item: Mapping[str, Any]) -> float:
    """Returns the seconds since 1970 after which an item counts as deleted; 0: never."""
    return float(item.get("expires", {}).get("N", 0))


def _value(item: Mapping[str, Any]) -> dict[str, Any]:
    return read_object(item["value"]["S"])


def _entry(item: Mapping[str, Any]) -> ConsoleEntry:
    return ConsoleEntry(item["kind"]["S"], item["key"]["S"], _value(item), _expires(item))
