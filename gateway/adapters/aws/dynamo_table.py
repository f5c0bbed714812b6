"""One DynamoDB table: the calls that the stores in DynamoDB share."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code

_CONDITION_FAILED: Final = "ConditionalCheckFailedException"


class ConditionFailed(Exception):
    """The condition of a write was not met, and nothing was written."""


class DynamoTable:
    """A table by its name. Its methods raise StoreUnavailable where DynamoDB is unavailable. Reads are consistent.

    what: the table in messages.
    """

    def __init__(self, session: AwsSession, name: str) -> None:
        self._session, self.name = session, name
        self.what = f"table {name}"

    def calling(self) -> AbstractAsyncContextManager[Any]:
        """Gives the client for several calls, which together have the time-out of one."""
        return self._session.calling("dynamodb", self.what)

    async def call(self, operation: str, **how: Any) -> Any:
        """Calls an operation of the client for this table. Raises ConditionFailed."""
        async with self.calling() as client:
            try:
                return await getattr(client, operation)(TableName=self.name, **how)
            except ClientError as error:
                if error_code(error) == _CONDITION_FAILED:
                    raise ConditionFailed from None
                raise

    async def get(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Returns an item, None where there is none."""
        answer = await self.call("get_item", Key=key, ConsistentRead=True)
        item: dict[str, Any] | None = answer.get("Item")
        return item

    async def all(self, operation: str = "scan", **how: Any) -> list[dict[str, Any]]:
        """Returns the items of all pages of a scan or query. A page holds 1 MB; each has the whole time-out."""
        found: list[dict[str, Any]] = []
        page: dict[str, Any] = {}
        while True:
            answer = await self.call(operation, ConsistentRead=True, **how, **page)
            found += answer["Items"]
            if not (last := answer.get("LastEvaluatedKey")):
                return found
            page = {"ExclusiveStartKey": last}
