"""One DynamoDB table, with the calls that the DynamoDB stores share."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code

_CONDITION_FAILED: Final = "ConditionalCheckFailedException"


class ConditionFailed(Exception):
    """The condition of a write was not met, and nothing was written."""


class DynamoTable:
    """A table. Its methods raise StoreUnavailable if DynamoDB is unavailable. Reads are consistent.

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

    async def get(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Returns an item, or None if it does not exist."""
        answer = await self.call("get_item", Key=key, ConsistentRead=True)
        item: dict[str, Any] | None = answer.get("Item")
        return item

    async def read_all(self, operation: str = "scan", **parameters: Any) -> list[dict[str, Any]]:
        """Returns the items of all pages of a scan or query. The time-out applies to each page of at most 1 MB."""
        items: list[dict[str, Any]] = []
        page: dict[str, Any] = {}
        while True:
            answer = await self.call(operation, ConsistentRead=True, **parameters, **page)
            items += answer["Items"]
            if not (last := answer.get("LastEvaluatedKey")):
                return items
            page = {"ExclusiveStartKey": last}
