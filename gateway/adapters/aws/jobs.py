"""VOD jobs in DynamoDB: hash key `id`, one item per job. Every change requires the expected version."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.adapters.aws.attributes import from_item, to_item
from gateway.adapters.aws.dynamo_table import DynamoStore
from gateway.adapters.stored_rows import read_row, read_rows
from gateway.ports.errors import JobChanged, JobExists, NoSuchJob
from gateway.ports.jobs import JobState, StoredJob

_FINISHED: Final = tuple(str(state) for state in JobState if state.finished)


class DynamoJobs(DynamoStore):
    """A JobStore in one table. Listing reads the whole table. `trim` limits it to one or two pages of 1 MB."""

    KEY = ("id",)

    async def add(self, job: StoredJob) -> None:
        condition = "attribute_not_exists(id)"
        if not await self._table.write("put_item", Item=to_item(job.as_item()), ConditionExpression=condition):
            raise JobExists(job.id)

    async def get(self, id: str) -> StoredJob:
        item = await self._table.get({"id": {"S": id}})
        if item is None:
            raise NoSuchJob(id)
        return read_row("job", id, _job, item)

    async def newest(self, limit: int, before: str = "") -> list[StoredJob]:
        jobs = [job for job in await self._scan() if not before or job.id < before]
        return sorted(jobs, key=lambda job: job.id, reverse=True)[:limit]

    async def unfinished(self) -> list[StoredJob]:
        finished = {state.lower(): state for state in _FINISHED}
        jobs = await self._scan(finished, FilterExpression="NOT #state IN (:complete, :canceled, :error)")
        return sorted(jobs, key=lambda job: job.id)

    async def change(self, job: StoredJob) -> None:
        expected, item = {"expected_version": job.version - 1}, to_item(job.as_item())
        condition = "#version = :expected_version"
        changed = await self._table.write("put_item", expected, Item=item, ConditionExpression=condition)
        if not changed:
            await self.get(job.id)  # raises NoSuchJob if the job was deleted
            raise JobChanged(job.id)

    async def trim(self, limit: int) -> None:
        finished = sorted((job.id for job in await self._scan() if job.state.finished), reverse=True)
        for id in finished[limit:]:
            await self._table.call("delete_item", Key={"id": {"S": id}})

    async def _scan(self, values: Mapping[str, str] | None = None, **parameters: Any) -> list[StoredJob]:
        items = await self._table.read_all("scan", values, **parameters)
        return read_rows("job", _job, ((item["id"]["S"], item) for item in items))


def _job(item: Mapping[str, Any]) -> StoredJob:
    return StoredJob.of_item(from_item(item))
