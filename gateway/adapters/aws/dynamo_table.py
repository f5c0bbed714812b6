"""One DynamoDB table, with the calls that the DynamoDB stores share."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from gateway.adapters.aws import session
from gateway.adapters.aws.attributes import to_item
from gateway.adapters.aws.session import AwsSession, ErrorMap, error_code, unmapped
from gateway.ports.errors import StoreUnavailable

_CONDITION_FAILED: Final = "ConditionalCheckFailedException"
_MAX_KEYS: Final = 100  # in one BatchGetItem
# Pauses in seconds before a request repeats the keys that a throttled table left out. Their sum is below the time-out
# of a call.
_RETRY_SECONDS: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
_TRANSACTION_FAILED: Final = frozenset({"TransactionCanceledException", "TransactionConflictException"})
# Of a cancelled transaction: for these it may be repeated at once, after a look at the rows.
_CHANGED: Final = frozenset({"None", "ConditionalCheckFailed", "TransactionConflict", "DuplicateItem"})


class ConditionFailed(Exception):
    """The condition of a write was not met, and nothing was written."""


def condition_failed(error: ClientError) -> ConditionFailed | None:
    """Returns ConditionFailed if the condition of a write was not met, otherwise None. See ErrorMap."""
    return ConditionFailed() if error_code(error) == _CONDITION_FAILED else None


def was_repeated(answer: Mapping[str, Any]) -> bool:
    """Whether botocore repeated the request of this answer: an earlier attempt may have written already."""
    return bool(answer.get("ResponseMetadata", {}).get("RetryAttempts"))


def _surely_failed(error: ClientError) -> ConditionFailed | None:
    """Like `condition_failed`, but None after a repeated request: its first attempt may have changed the item."""
    return None if was_repeated(error.response) else condition_failed(error)


def _transaction_failed(error: ClientError) -> Exception | None:
    if error_code(error) not in _TRANSACTION_FAILED:
        return None
    reasons = {str(reason.get("Code")) for reason in error.response.get("CancellationReasons", ())}
    if others := sorted(reasons - _CHANGED):  # such as ThrottlingError
        return StoreUnavailable(f"dynamodb rejected a transaction: {', '.join(others)}", retry_after=1)
    return ConditionFailed()


class DynamoTable:
    """A table. Its methods raise StoreUnavailable if DynamoDB is unavailable. `get` and `read_all` read consistently.

    Expressions name the attribute `x` as `#x`, because it may be a reserved word. `:x` is the value `x` of `values`.

    label: how messages name the table.
    """

    def __init__(self, session: AwsSession, name: str) -> None:
        self._session, self.name = session, name
        self.label = f"table {name}"

    def client(self, errors: ErrorMap = unmapped) -> AbstractAsyncContextManager[Any]:
        """Returns a client for several calls. They share one time-out."""
        return self._session.client_for("dynamodb", self.label, errors=errors)

    def request(self, values: Mapping[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
        """Returns the parameters of an operation on this table, with the meaning of the `#x` and `:x` in them."""
        text = " ".join(text for name, text in parameters.items() if name.endswith("Expression"))
        if names := set(re.findall(r"#\w+", text)):
            parameters = {"ExpressionAttributeNames": {name: name[1:] for name in names}} | parameters
        if values:
            parameters["ExpressionAttributeValues"] = {f":{name}": value for name, value in to_item(values).items()}
        return {"TableName": self.name, **parameters}

    async def call(self, operation: str, values: Mapping[str, Any] | None = None, **parameters: Any) -> Any:
        """Calls an operation of the client for this table. Raises ConditionFailed.

        If a write may have been made although its condition failed, it raises StoreUnavailable.
        """
        return await session.call(self.client(_surely_failed), operation, **self.request(values, **parameters))

    async def write(self, operation: str, values: Mapping[str, Any] | None = None, **parameters: Any) -> bool:
        """Calls a write with a condition. Returns False if the condition was not met."""
        try:
            await self.call(operation, values, **parameters)
        except ConditionFailed:
            return False
        return True

    async def write_all(self, *writes: Mapping[str, Any]) -> bool:
        """Makes all of these writes or none. Returns False if a condition was not met, or two transactions conflict."""
        client = self.client(_transaction_failed)
        try:
            await session.call(client, "transact_write_items", TransactItems=writes)
        except ConditionFailed:
            return False
        return True

    async def get(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Returns an item, or None if it does not exist."""
        answer = await self.call("get_item", Key=key, ConsistentRead=True)
        item: dict[str, Any] | None = answer.get("Item")
        return item

    async def get_many(self, client: Any, keys: Sequence[dict[str, Any]], **parameters: Any) -> list[dict[str, Any]]:
        """Returns the items with these keys, which must be unique. client: of `client`.

        Reads 100 keys per request, with more requests if the table throttles.
        """
        items: list[dict[str, Any]] = []
        for first in range(0, len(keys), _MAX_KEYS):
            request: dict[str, Any] = {self.name: {"Keys": keys[first : first + _MAX_KEYS], **parameters}}
            pauses = iter(_RETRY_SECONDS)
            while True:
                answer = await client.batch_get_item(RequestItems=request)
                items += answer.get("Responses", {}).get(self.name, ())
                if not (request := answer.get("UnprocessedKeys", {})):
                    break
                if (pause := next(pauses, None)) is None:
                    raise StoreUnavailable(f"dynamodb ({self.label}) did not return all rows")
                await asyncio.sleep(pause)
        return items

    async def read_all(
        self, operation: str = "scan", values: Mapping[str, Any] | None = None, **parameters: Any
    ) -> list[dict[str, Any]]:
        """Returns the items of all pages of a scan or query."""
        pages = self.pages(operation, values, ConsistentRead=True, **parameters)
        return [item async for page in pages for item in page]

    async def pages(
        self, operation: str, values: Mapping[str, Any] | None = None, **parameters: Any
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Yields the items of each page of a scan or query. The time-out applies to each page of at most 1 MB."""
        ask = partial(self.call, operation, values, **parameters)
        async for answer in session.pages(ask, "ExclusiveStartKey", "LastEvaluatedKey"):
            yield answer["Items"]


class DynamoStore:
    """The base of a store in one table. KEY: the attributes of the table's key."""

    KEY: ClassVar[tuple[str, ...]]

    def __init__(self, session: AwsSession, table: str, clock: Callable[[], float] = time.time) -> None:
        self._table, self._clock = DynamoTable(session, table), clock

    async def check(self) -> None:
        # Does not call DescribeTable: each use of the store reads an item too, so this needs no other permission.
        await self._table.get({name: {"S": "-"} for name in self.KEY})
