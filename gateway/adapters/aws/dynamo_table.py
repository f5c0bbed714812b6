"""One DynamoDB table, with the calls that the DynamoDB stores share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code

_CONDITION_FAILED: Final = "ConditionalCheckFailedException"


class ConditionFailed(Exception):
    """The condition of a write was not met, and nothing was written."""


class DynamoTable:
    """A table. Its methods raise StoreUnavailable if DynamoDB is unavailable. `get` and `read_all` read consistently.

    label: how messages name the table.
    """

    def __init__(self, session: AwsSession, name: str) -> None:
        self._session, self.name = session, name
        self.label = f"table {name}"

    def client(self) -> AbstractAsyncContextManager[Any]:
        """Returns a client for several calls. They share one time-out."""
        return self._session.client_for("dynamodb", self.label)

    async def call(self, operation: str, **parameters: Any) -> Any:
        """Calls an operation of the client for this table. Raises ConditionFailed."""
        async with self.client() as client:
            try:
                return await getattr(client, operation)(TableName=self.name, **parameters)
            except ClientError as error:
                if error_code(error) == _CONDITION_FAILED:
                    raise ConditionFailed from None
                raise

    async def write(self, operation: str, **parameters: Any) -> bool:
        """Calls a write with a condition. Returns False if the condition was not met."""
        try:
            await self.call(operation, **parameters)
        except ConditionFailed:
            return False
        return True

    async def get(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Returns an item, or None if it does not exist."""
        answer = await self.call("get_item", Key=key, ConsistentRead=True)
        item: dict[str, Any] | None = answer.get("Item")
        return item

    async def read_all(self, operation: str = "scan", **parameters: Any) -> list[dict[str, Any]]:
        """Returns the items of all pages of a scan or query."""
        pages = self.pages(operation, ConsistentRead=True, **parameters)
        return [item async for page in pages for item in page]

    async def pages(self, operation: str, **parameters: Any) -> AsyncIterator[list[dict[str, Any]]]:
        """Yields the items of each page of a scan or query. The time-out applies to each page of at most 1 MB."""
        start: dict[str, Any] = {}
        while True:
            answer = await self.call(operation, **parameters, **start)
            yield answer["Items"]
            if not (last := answer.get("LastEvaluatedKey")):
                return
            start = {"ExclusiveStartKey": last}
