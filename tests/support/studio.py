"""A VoD studio in this process: real stores in a folder, real workers, and waiting for the results of jobs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.adapters.local.objects import LocalObjects
from gateway.adapters.local.stores import SqliteFilms, SqliteJobs
from gateway.channels.stream_key import SigningSecrets
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.outputs.storage.recording_index import RecordingIndex
from gateway.ports.events import Event, Events
from gateway.ports.job_queue import JobQueue
from gateway.ports.jobs import JobState, StoredJob
from gateway.ports.stores import JobStore, ObjectStore
from gateway.settings import Settings, load
from gateway.vod.bin import Bin
from gateway.vod.films import Films
from gateway.vod.sources import VodSources
from gateway.vod.vod_service import VodService
from gateway.workers.worker_pool import WorkerPool
from tests.support.children import children
from tests.support.time_outs import at_most

SECRET = "a-secret-for-tests"


def settings(folder: Path, **environ: str) -> Settings:
    """The default settings with fast encoding."""
    return load(environ={"MILLRACE_DATA": str(folder), "MILLRACE_VOD__PRESET": "superfast"} | environ)


@dataclass
class Bench:
    """A studio and its parts."""

    studio: VodService
    store: JobStore
    objects: ObjectStore
    root: Path
    data: Path
    events: list[Event]
    restarts: Counter
    workers: WorkerPool

    @property
    def desk(self) -> JobQueue:
        return self.studio.queue

    def put(self, film: Path, key: str) -> None:
        """Stores a film as an object of the local store."""
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(film.read_bytes())

    async def until(self, id: str, wanted: Callable[[StoredJob], bool], seconds: float = 60) -> StoredJob:
        """Waits until the job meets the condition and returns it."""
        async with asyncio.timeout(at_most(seconds)):
            while True:
                job = await self.store.get(id)
                if wanted(job):
                    return job
                await asyncio.sleep(0.05)

    async def finished(self, id: str) -> StoredJob:
        return await self.until(id, lambda job: job.state.finished)

    async def told(self) -> None:
        """Waits for an event, which follows the stored job."""
        async with asyncio.timeout(at_most(20)):
            while not self.events:
                await asyncio.sleep(0.01)

    async def at_work(self, id: str) -> StoredJob:
        """Waits until the job's worker runs."""
        job = await self.until(id, lambda job: job.state is JobState.PROGRESSING)
        async with asyncio.timeout(at_most(30)):
            while not self.pids():
                await asyncio.sleep(0.02)
        return job

    def pids(self) -> list[int]:
        """The pids of the package workers of this process."""
        return package_workers()

    def scratch(self) -> list[str]:
        """The unfinished files, without marks of used upload URLs."""
        found = [path for place in ("vod", "uploads", "uploads/unfinished") for path in (self.data / place).glob("*")]
        left = [path for path in found if path.suffix != ".used" and path.name != "unfinished"]
        return [str(path.relative_to(self.data)) for path in left]


def package_workers() -> list[int]:
    """The pids of child processes that package films."""
    return children("gateway.workers.programs.vod.package_worker")


@contextlib.asynccontextmanager
async def bench(
    folder: Path, *, run: bool = True, jobs: JobStore | None = None, objects: ObjectStore | None = None, **environ: str
) -> AsyncIterator[Bench]:
    """Runs a studio during the block. run: whether it executes jobs."""
    chosen = settings(folder, **environ)
    events, told = Events(), []
    events.listen(told.append)
    restarts = Counter(WORKER_RESTARTS)
    root = folder / "media"
    root.mkdir(exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        store = jobs or await stack.enter_async_context(SqliteJobs(folder / "jobs.db"))
        workers = WorkerPool(chosen.workers, restarts)
        records = await stack.enter_async_context(SqliteFilms(folder / "films.db"))
        sources = VodSources(objects or LocalObjects(root), folders=chosen.vod.sources)
        queue = JobQueue(store, events)
        studio = VodService(
            chosen.vod,
            data=folder,
            queue=queue,
            films=Films(
                records,
                sources,
                queue,
                Bin(sources.objects, 24, folder / "tmp", RecordingIndex(sources.objects).files_of),
            ),
            workers=workers,
            secrets=SigningSecrets(SECRET),
        )
        tasks = await stack.enter_async_context(Tasks("bench"))
        if run:
            tasks.start(studio.runner.run())
            tasks.start(studio.films.run())
        yield Bench(studio, store, objects or LocalObjects(root), root, folder, told, restarts, workers)
