"""VOD jobs in a SQL database. Each job is one row: its fields as JSON, and its version."""

from gateway.adapters.sql.sql_store import SqlStore, to_json
from gateway.adapters.stored_rows import read_object, read_row, read_rows
from gateway.ports.errors import JobChanged, JobExists, NoSuchJob
from gateway.ports.jobs import StoredJob


class JobRows(SqlStore):
    """A JobStore."""

    async def add(self, job: StoredJob) -> None:
        if not await self.write("INSERT INTO jobs VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", job.id, *_row(job)):
            raise JobExists(job.id)

    async def get(self, id: str) -> StoredJob:
        rows = await self.rows("SELECT item FROM jobs WHERE id = ?", id)
        if not rows:
            raise NoSuchJob(id)
        return read_row("job", id, _job, rows[0][0])

    async def newest(self, limit: int, before: str = "") -> list[StoredJob]:
        select = "SELECT id, item FROM jobs WHERE ? = '' OR id < ? ORDER BY id DESC LIMIT ?"
        rows = await self.rows(select, before, before, limit)
        return read_rows("job", _job, rows)

    async def unfinished(self) -> list[StoredJob]:
        return read_rows("job", _job, await self.rows("SELECT id, item FROM jobs WHERE finished = 0 ORDER BY id"))

    async def change(self, job: StoredJob) -> None:
        update = "UPDATE jobs SET finished = ?, version = ?, item = ? WHERE id = ? AND version = ?"
        if not await self.write(update, *_row(job), job.id, job.version - 1):
            await self.get(job.id)  # raises NoSuchJob if the job was deleted
            raise JobChanged(job.id)

    async def trim(self, limit: int) -> None:
        oldest = "SELECT id FROM jobs WHERE finished = 1 ORDER BY id DESC LIMIT 1000000000 OFFSET ?"
        await self.write(f"DELETE FROM jobs WHERE id IN ({oldest})", limit)  # noqa: S608 a constant


def _row(job: StoredJob) -> tuple[int, int, str]:
    """Returns the values of all columns except the id."""
    return int(job.state.finished), job.version, to_json(job.as_item())


def _job(text: str) -> StoredJob:
    return StoredJob.of_item(read_object(text))
