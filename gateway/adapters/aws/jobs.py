"""VOD jobs in DynamoDB: hash key `id`, one item per job. Every change is conditional on the version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from gateway.adapters.aws.attributes import from_attribute, to_attribute
from gateway.adapters.aws.session import AwsSession, error_code
from gateway.ports.errors import JobChanged, JobExists, NoSuchJob
from gateway.ports.jobs import JobState, StoredJob

_CONDITION_FAILED: Final = "ConditionalCheckFailedException"
_FINISHED: Final = tuple(str(state) for state in JobState if state.finished)


class DynamoJobs:
    """A JobStore in one table. Listing reads the whole table; `trim` keeps it to one or two pages of 1 MB."""

    def __init__(self, session: AwsSession, table: str) -> None:
        self._session, self._table = session, table
        self._what = f"table {table}"

    async def add(self, job: StoredJob) -> None:
        async with self._session.calling("dynamodb", self._what) as client:
            try:
                await client.put_item(
                    TableName=self._table, Item=_item(job), ConditionExpression="attribute_not_exists(id)"
                )
            except ClientError as error:
                if error_code(error) == _CONDITION_FAILED:
                    raise JobExists(job.id) from None
                raise

    async def get(self, id: str) -> StoredJob:
        async with self._session.calling("dynamodb", self._what) as client:
            answer = await client.get_item(TableName=self._table, Key={"id": {"S": id}}, ConsistentRead=True)
        if "Item" not in answer:
            raise NoSuchJob(id)
        return _job(answer["Item"])

    async def newest(self, most: int, before: str = "") -> list[StoredJob]:
        found = [job for job in await self._scan() if not before or job.id < before]
        return sorted(found, key=lambda job: job.id, reverse=True)[:most]

    async def unfinished(self) -> list[StoredJob]:
        found = await self._scan(
            FilterExpression="NOT #state IN (:complete, :canceled, :error)",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues=dict(
                zip((":complete", ":canceled", ":error"), ({"S": state} for state in _FINISHED), strict=True)
            ),
        )
        return sorted(found, key=lambda job: job.id)

    async def change(self, job: StoredJob) -> None:
        async with self._session.calling("dynamodb", self._what) as client:
            try:
                await client.put_item(
                    TableName=self._table,
                    Item=_item(job),
                    ConditionExpression="#version = :before",
                    ExpressionAttributeNames={"#version": "version"},
                    ExpressionAttributeValues={":before": {"N": str(job.version - 1)}},
                )
                return
            except ClientError as error:
                if error_code(error) != _CONDITION_FAILED:
                    raise
        await self.get(job.id)
        raise JobChanged(job.id)

    async def trim(self, most: int) -> None:
        finished = sorted((job.id for job in await self._scan() if job.state.finished), reverse=True)
        for id in finished[most:]:
            async with self._session.calling("dynamodb", self._what) as client:
                await client.delete_item(TableName=self._table, Key={"id": {"S": id}})

    async def check(self) -> None:
        async with self._session.calling("dynamodb", self._what) as client:
            await client.get_item(TableName=self._table, Key={"id": {"S": "-"}}, ProjectionExpression="id")

    async def _scan(self, **how: Any) -> list[StoredJob]:
        found: list[StoredJob] = []
        page: dict[str, Any] = {}
        while True:
            async with self._session.calling("dynamodb", self._what) as client:
                answer = await client.scan(TableName=self._table, ConsistentRead=True, **how, **page)
            found += (_job(item) for item in answer["Items"])
            if not (last := answer.get("LastEvaluatedKey")):
                return found
            page = {"ExclusiveStartKey": last}


def _item(job: StoredJob) -> dict[str, Any]:
    return {name: to_attribute(value) for name, value in job.as_item().items()}


def _job(item: Mapping[str, Any]) -> StoredJob:
    return StoredJob.of_item({name: from_attribute(value) for name, value in item.items()})
