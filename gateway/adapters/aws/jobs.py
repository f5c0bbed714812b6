"""VOD jobs in DynamoDB: hash key `id`, one item per job. Every change requires the expected version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.adapters.aws.attributes import from_attribute, to_attribute
from gateway.adapters.aws.dynamo_table import ConditionFailed, DynamoTable
from gateway.adapters.aws.session import AwsSession
from gateway.ports.errors import JobChanged, JobExists, NoSuchJob
from gateway.ports.jobs import JobState, StoredJob

_FINISHED: Final = tuple(str(state) for state in JobState if state.finished)


class DynamoJobs:
    """A JobStore in one table. Listing reads the whole table. `trim` limits it to one or two pages of 1 MB."""

    def __init__(self, session: AwsSession, table: str) -> None:
        self._table = DynamoTable(session, table)

    async def add(self, job: StoredJob) -> None:
        try:
            await self._table.call("put_item", Item=_item(job), ConditionExpression="attribute_not_exists(id)")
        except ConditionFailed:
            raise JobExists(job.id) from None

    async def get(self, id: str) -> StoredJob:
        item = await self._table.get({"id": {"S": id}})
        if item is None:
            raise NoSuchJob(id)
        return _job(item)

    async def newest(self, limit: int, before: str = "") -> list[StoredJob]:
        jobs = [job for job in await self._scan() if not before or job.id < before]
        return sorted(jobs, key=lambda job: job.id, reverse=True)[:limit]

    async def unfinished(self) -> list[StoredJob]:
        jobs = await self._scan(
            FilterExpression="NOT #state IN (:complete, :canceled, :error)",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues=dict(
                zip((":complete", ":canceled", ":error"), ({"S": state} for state in _FINISHED), strict=True)
            ),
        )
        return sorted(jobs, key=lambda job: job.id)

    async def change(self, job: StoredJob) -> None:
        try:
            await self._table.call(
                "put_item",
                Item=_item(job),
                ConditionExpression="#version = :expected_version",
                ExpressionAttributeNames={"#version": "version"},
                ExpressionAttributeValues={":expected_version": {"N": str(job.version - 1)}},
            )
        except ConditionFailed:
            await self.get(job.id)  # raises NoSuchJob if the job was deleted
            raise JobChanged(job.id) from None

    async def trim(self, limit: int) -> None:
        finished = sorted((job.id for job in await self._scan() if job.state.finished), reverse=True)
        for id in finished[limit:]:
            await self._table.call("delete_item", Key={"id": {"S": id}})

    async def check(self) -> None:
        await self._table.call("get_item", Key={"id": {"S": "-"}}, ProjectionExpression="id")

    async def _scan(self, **parameters: Any) -> list[StoredJob]:
        return [_job(item) for item in await self._table.read_all(**parameters)]


def _item(job: StoredJob) -> dict[str, Any]:
    return {name: to_attribute(value) for name, value in job.as_item().items()}


def _job(item: Mapping[str, Any]) -> StoredJob:
    return StoredJob.of_item({name: from_attribute(value) for name, value in item.items()})
