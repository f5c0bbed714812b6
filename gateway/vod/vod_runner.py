"""VodRunner: runs submitted jobs, a few at a time, also the jobs of dead processes."""

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from gateway.lib.backoff import Backoff
from gateway.lib.numbers import read_integer
from gateway.lib.process import MAX_PID, alive, owner
from gateway.lib.tasks import Tasks, finished
from gateway.ports.errors import InvalidField, JobChanged, NoSuchJob, NoSuchObject, OutputError, StoreUnavailable
from gateway.ports.job_queue import FINISHED_JOBS, JobQueue
from gateway.ports.jobs import VOD, JobState, StoredJob
from gateway.ports.store_outage import StoreOutage
from gateway.settings.models import VodSettings
from gateway.vod.abandoned_jobs import AbandonedJobs
from gateway.vod.film_captions import FilmCaptionFiles
from gateway.vod.films import Films
from gateway.vod.free_space import run_while_space
from gateway.vod.package_client import request_package
from gateway.vod.publishing import publish
from gateway.vod.sources import VodSource
from gateway.vod.store_wait import wait_for_store
from gateway.workers.package_protocol import PackageRequest, PackageResult, VodEncoding
from gateway.workers.vod_bounds import Bounds, UnusableFilm
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

_POLL_SECONDS: Final = 5.0  # between reads of the job store while there are unfinished jobs
_IDLE_POLL_SECONDS: Final = 30.0  # between reads without unfinished jobs, because DynamoDB reads cost money
_CHECK_SECONDS: Final = 1.0  # seconds between checks of a job's progress
_MAX_WRITE_INTERVAL: Final = 10.0  # maximum seconds between two writes of a running job
_ABANDONED_SECONDS: Final = 60.0  # without a write, after which a job counts as abandoned
_MAX_ATTEMPTS: Final = 5  # starts of a job; then the job itself probably kills its processes
_TRIM_INTERVAL: Final = 50
_TURN_SECONDS: Final = 900.0  # of a job, after which the next one may begin in parallel


@dataclass(frozen=True, slots=True)
class _RunningInfo:
    """A running job. prefix: of its output files. begun: monotonic time."""

    prefix: str
    begun: float


class VodRunner:
    """Runs VOD jobs in this process. Start `run` as a task.

    scratch: folder for unfinished files; on the file system of the media, if they are local.
    """

    def __init__(
        self, settings: VodSettings, workers: WorkerPool, queue: JobQueue, films: Films, scratch: Path
    ) -> None:
        self._max_jobs = settings.workers
        self._memory = settings.memory
        self._workers = workers
        self.queue = queue
        self._sources = films.sources
        self.films = films
        self.captions = FilmCaptionFiles(films, scratch)
        self._scratch = scratch
        self.owner = owner()
        self._bounds = Bounds.of(settings)
        self._encoding = VodEncoding(settings.crf, settings.preset, settings.bitrate, settings.segment)
        self.running: dict[str, _RunningInfo] = {}  # by job id
        self._abandoned = AbandonedJobs(self.owner, _ABANDONED_SECONDS)
        self._woken = asyncio.Event()
        self._done = 0
        queue.when_submitted(lambda job: self.wake())

    def wake(self) -> None:
        """Makes `run` check for jobs at once."""
        self._woken.set()

    async def run(self) -> None:
        """Runs until cancelled. Then it releases running jobs, so that another process starts them again."""
        await asyncio.to_thread(self._remove_abandoned)
        outage, pause = StoreOutage("jobs cannot be read now"), _POLL_SECONDS
        async with Tasks("vod") as tasks:
            while True:
                self._woken.clear()
                with outage:
                    pause = _POLL_SECONDS if await self._start_jobs(tasks) else _IDLE_POLL_SECONDS
                if outage.lasts:
                    self._abandoned.reset()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._woken.wait()

    async def _start_jobs(self, tasks: Tasks) -> bool:
        """Starts the jobs that can start now. Returns whether there are unfinished jobs."""
        jobs = [job for job in await self.queue.store.unfinished() if job.kind == VOD]
        abandoned = self._abandoned.find(jobs, time.monotonic())
        for job in jobs:
            if job.id in self.running:
                continue
            if job.state is JobState.PROGRESSING and job.id not in abandoned:
                continue
            if not self._has_room():
                break
            try:
                source = self._sources.parse(job.source)
            except InvalidField as error:
                with suppress(JobChanged):
                    await self.queue.fail(job, error.message)
                continue
            if job.attempts >= _MAX_ATTEMPTS:
                with suppress(JobChanged):
                    reason = f"was started {job.attempts} times and did not finish"
                    await self.queue.fail(job, reason)
                    await self.films.fail(source.names, reason)
                continue
            if any(running.prefix == source.names.prefix for running in self.running.values()):
                continue  # a running job writes these files
            self.running[job.id] = _RunningInfo(source.names.prefix, time.monotonic())
            tasks.start(self._run_job(job, source), job.id)
        return bool(jobs)

    def _has_room(self) -> bool:
        """Returns whether one more job may start.

        Jobs that run longer than _TURN_SECONDS are not counted, so that they do not block the queue. At most twice
        the number of workers run in total.
        """
        since = time.monotonic() - _TURN_SECONDS
        recent = sum(running.begun > since for running in self.running.values())
        return recent < self._max_jobs and len(self.running) < 2 * self._max_jobs

    # ---- one job ----

    async def _run_job(self, job: StoredJob, source: VodSource) -> None:
        try:
            begun = await self.queue.begin(job, self.owner)
            await _RunningJob(self, begun, source).run()
        except (JobChanged, NoSuchJob):
            log.info("another process started or cancelled a job", job=job.id)
        except StoreUnavailable as unavailable:
            log.warning("a job has to wait", job=job.id, reason=str(unavailable))
        finally:
            del self.running[job.id]
            self.wake()

    async def perform(
        self, source: VodSource, folder: Path, on_progress: Callable[[float], None]
    ) -> tuple[dict[str, str], str]:
        """Converts a source in an empty folder, publishes it and stores its film. Returns the keys, and a warning.

        on_progress: called with 0 to 1. Raises UnusableFilm, StoreUnavailable, OSError.
        """
        film = folder / "film"
        film.mkdir()
        output = folder / "made"
        output.mkdir()
        result = await run_while_space(self._bounds, folder, lambda: self._package(source, film, output, on_progress))
        size = await asyncio.to_thread(lambda: sum(file.stat().st_size for file in output.iterdir()))
        uploaded = await wait_for_store(
            lambda: self.films.get_uploaded_languages(source.names.prefix), source=source.text
        )
        outputs = await publish(self._sources.objects, source.names, output, result, uploaded)
        files = dict(outputs) | ({"preview": source.names.key(source.names.preview)} if result.previews else {})
        made = {"files": files, "duration": result.duration, "size": size, "captions": result.captions}
        await self.films.mark_ready(source.names, source.text, made)
        if uploaded:
            await wait_for_store(lambda: self.captions.renew(source.names.prefix), source=source.text)
        return outputs, result.warning

    async def _package(
        self, source: VodSource, film: Path, output: Path, on_progress: Callable[[float], None]
    ) -> PackageResult:
        path = await self._fetch(source, film)
        request = PackageRequest(str(path), str(output), source.names.base, self._encoding, self._bounds, previews=True)
        backoff = Backoff(1, 10)
        while True:
            try:
                return await request_package(self._workers, request, on_progress, self._memory)
            except OutputError as error:
                log.info("a job waits for a worker", source=source.text, reason=str(error))
                await asyncio.sleep(backoff.next())

    async def _fetch(self, source: VodSource, folder: Path) -> Path:
        async def fetch() -> Path:
            size = 0 if source.path is not None else (await self._sources.check(source)).size
            await asyncio.to_thread(self._bounds.check_space, folder, size)
            return await self._sources.fetch(source, folder)

        try:
            return await wait_for_store(fetch, source=source.text)
        except InvalidField as error:
            raise UnusableFilm(error.message) from None
        except NoSuchObject:
            raise UnusableFilm("there is no such object") from None

    async def count_job(self) -> None:
        """Counts an ended job. Deletes old jobs of the history from time to time."""
        self._done += 1
        if self._done % _TRIM_INTERVAL == 1:
            with suppress(StoreUnavailable):
                await self.queue.store.trim(FINISHED_JOBS)

    def folder(self, job: StoredJob) -> Path:
        """Returns the folder that a job may write to."""
        return self._scratch / f"{os.getpid()}-{job.id}"

    def _remove_abandoned(self) -> None:
        """Removes the files of dead processes from the scratch folder."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        for folder in self._scratch.iterdir():
            pid = read_integer(folder.name.partition("-")[0], MAX_PID)
            if pid is not None and (pid == os.getpid() or not alive(pid)):
                shutil.rmtree(folder, ignore_errors=True)


@dataclass(slots=True)
class _RunningJob:
    """One running job. While it runs, only `_update` writes it to the store. At its end, `run` does."""

    runner: VodRunner
    job: StoredJob
    source: VodSource
    progress: float = 0.0
    stopped: bool = False
    task: asyncio.Task[Any] | None = field(default_factory=asyncio.current_task)

    async def run(self) -> None:
        """Runs the job.

        Raises JobChanged if it was cancelled or another process owns it, StoreUnavailable if its end cannot be stored.
        """
        folder = self.runner.folder(self.job)
        outcome: tuple[dict[str, str], str] | str
        try:
            with self.runner.queue.cancelling(self.job.id, self._stop):
                async with Tasks("job progress") as update:
                    update.start(self._update())
                    outcome = await self._outcome(folder)
                await _remove(folder)  # before the end of the job is stored
                await self._conclude(outcome)
        except asyncio.CancelledError:
            if not self.stopped:
                await self._release_job()
                raise
            log.info("a job was stopped", job=self.job.id)
        finally:
            await finished(_remove(folder))
        await self.runner.count_job()

    async def _outcome(self, folder: Path) -> tuple[dict[str, str], str] | str:
        """Returns the outputs and a warning, or the reason of the failure."""
        try:
            await asyncio.to_thread(folder.mkdir, parents=True)
            return await self.runner.perform(self.source, folder, self._on_progress)
        except (UnusableFilm, StoreUnavailable) as error:
            return str(error)
        except OSError as error:
            return error.strerror or str(error)

    def _on_progress(self, progress: float) -> None:
        self.progress = progress

    async def _conclude(self, outcome: tuple[dict[str, str], str] | str) -> None:
        """Stores the end of the job."""

        async def conclude() -> None:
            job = await self._get_owned()
            if isinstance(outcome, str):
                await self.runner.films.fail(self.source.names, outcome)
                await self.runner.queue.fail(job, outcome)
            else:
                outputs, warning = outcome
                await self.runner.queue.complete(job, outputs, warning or None)

        await wait_for_store(conclude, job=self.job.id)

    async def _update(self) -> None:
        """Stores the progress regularly, so that other processes do not take the job for abandoned."""
        written, at = -1, time.monotonic()
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            percent = min(99, int(self.progress * 100))
            if percent == written and time.monotonic() - at < _MAX_WRITE_INTERVAL:
                continue
            try:
                self.job = await self.runner.queue.advance(await self._get_owned(), percent)
            except StoreUnavailable:
                continue
            except (JobChanged, NoSuchJob):
                self._stop()
                return
            written, at = percent, time.monotonic()

    async def _get_owned(self) -> StoredJob:
        """Reads the job from the store, because an earlier write may have succeeded although its reply was lost.

        Raises JobChanged if another process owns the job now.
        """
        job = await self.runner.queue.store.get(self.job.id)
        if job.owner != self.runner.owner or job.state is not JobState.PROGRESSING:
            raise JobChanged(job.id)
        return job

    def _stop(self) -> None:
        self.stopped = True
        if self.task is not None:
            self.task.cancel()

    async def _release_job(self) -> None:
        """Releases the job at the end of this process, so that another process can start it at once."""
        with suppress(StoreUnavailable, JobChanged, NoSuchJob, TimeoutError):
            async with asyncio.timeout(3):
                await self.runner.queue.requeue(await self._get_owned())


async def _remove(folder: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, folder, True)
