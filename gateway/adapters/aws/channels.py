"""Channels in DynamoDB, in the original system's table: hash key `id`, attribute names and values as they were sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from gateway.adapters.aws.attributes import from_attribute, to_attribute
from gateway.adapters.aws.session import AwsSession, error_code
from gateway.hub.channel import ID, Channel
from gateway.hub.errors import ChannelExists, NoSuchChannel
from gateway.hub.names import is_channel_id

_CONDITION_FAILED: Final = "ConditionalCheckFailedException"


class DynamoChannels:
    """A ChannelStore over one table. Reads are consistent: a deleted channel is gone for the next push."""

    def __init__(self, session: AwsSession, table: str) -> None:
        self._session, self._table = session, table
        self._what = f"table {table}"

    async def get(self, id: str) -> Channel:
        answer: dict[str, Any] = {}
        if is_channel_id(id):
            async with self._session.calling("dynamodb", self._what) as client:
                answer = await client.get_item(TableName=self._table, Key=_key(id), ConsistentRead=True)
        if "Item" not in answer:
            raise NoSuchChannel(id)
        return _channel(answer["Item"])

    async def list(self) -> list[Channel]:
        found: list[Channel] = []
        page: dict[str, Any] = {}
        while True:  # a page holds 1 MB; each has the whole time-out
            async with self._session.calling("dynamodb", self._what) as client:
                answer = await client.scan(TableName=self._table, ConsistentRead=True, **page)
            found += (_channel(item) for item in answer["Items"])
            if not (last := answer.get("LastEvaluatedKey")):
                return found
            page = {"ExclusiveStartKey": last}

    async def add(self, item: Mapping[str, Any]) -> Channel:
        stored = {name: to_attribute(value) for name, value in item.items()}
        async with self._session.calling("dynamodb", self._what) as client:
            try:
                await client.put_item(
                    TableName=self._table, Item=stored, ConditionExpression="attribute_not_exists(id)"
                )
            except ClientError as e:
                if error_code(e) == _CONDITION_FAILED:
                    raise ChannelExists(item[ID]) from None
                raise
        return _channel(stored)

    async def update(self, id: str, changes: Mapping[str, Any]) -> Channel:
        fields = [(name, value) for name, value in changes.items() if name != ID]
        if not fields:
            return await self.get(id)
        if not is_channel_id(id):
            raise NoSuchChannel(id)
        # Placeholders for every name: `key` and `TimeStamp` are reserved words.
        async with self._session.calling("dynamodb", self._what) as client:
            try:
                answer = await client.update_item(
                    TableName=self._table,
                    Key=_key(id),
                    UpdateExpression="SET " + ", ".join(f"#n{i} = :v{i}" for i in range(len(fields))),
                    ExpressionAttributeNames={f"#n{i}": name for i, (name, _) in enumerate(fields)},
                    ExpressionAttributeValues={f":v{i}": to_attribute(value) for i, (_, value) in enumerate(fields)},
                    ConditionExpression="attribute_exists(id)",
                    ReturnValues="ALL_NEW",
                )
            except ClientError as e:
                if error_code(e) == _CONDITION_FAILED:
                    raise NoSuchChannel(id) from None
                raise
        return _channel(answer["Attributes"])

    async def delete(self, id: str) -> None:
        if not is_channel_id(id):
            raise NoSuchChannel(id)
        async with self._session.calling("dynamodb", self._what) as client:
            try:
                await client.delete_item(
                    TableName=self._table, Key=_key(id), ConditionExpression="attribute_exists(id)"
                )
            except ClientError as e:
                if error_code(e) == _CONDITION_FAILED:
                    raise NoSuchChannel(id) from None
                raise

    async def check(self) -> None:
        # A read of one item, not DescribeTable: it needs no further permission and goes the way that pushes go.
        async with self._session.calling("dynamodb", self._what) as client:
            await client.get_item(TableName=self._table, Key=_key("-"), ProjectionExpression="id")


def _key(id: str) -> dict[str, Any]:
    return {ID: {"S": id}}


def _channel(item: Mapping[str, Any]) -> Channel:
    return Channel({name: from_attribute(value) for name, value in item.items()})
