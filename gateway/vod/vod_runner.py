"""VodRunner: executes submitted jobs, a few at a time, and takes over the jobs of dead processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final

import structlog

from gateway.lib.backoff import Backoff
from gateway.lib.process import alive, is_dead, owner
from gateway.lib.tasks import Tasks
from gateway.ports.errors import InvalidField, JobChanged, NoSuchJob, NoSuchObject, OutputError, StoreUnavailable
from gateway.ports.job_queue import JobQueue
from gateway.ports.jobs import VOD, JobState, StoredJob
from gateway.ports.stores import ObjectStore
from gateway.settings.models import VodSettings
from gateway.vod.package_client import request_package
from gateway.vod.publishing import publish
from gateway.vod.sources import VodSource, VodSources
from gateway.workers.package_protocol import PackageRequest, PackageResult, VodEncoding
from gateway.workers.vod_bounds import Bounds, UnusableMedia, while_room
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

_POLL_SECONDS: Final = 5.0  # between reads of the job store while there are unfinished jobs …
_IDLE_POLL_SECONDS: Final = 30.0  # … and otherwise: DynamoDB reads cost money, and `submit` here calls `nudge`
_BEAT: Final = 1.0  # seconds between checks of a job's progress
_HEARTBEAT: Final = 10.0  # a running job is written at least once in so many seconds …
_SILENT: Final = 60.0  # … and one that was not written for so long is abandoned: its owner is dead
_TAKEN: Final = 5  # times that a job is begun; then the job itself seems to kill its owners
_TIMEOUT: Final = 900.0  # seconds that stores may be unavailable during a job
_TRIM_EVERY: Final = 50


@dataclass(frozen=True, slots=True)
class _Held:
    """A running job. prefix: of the files that it writes. begun: time of the monotonic clock."""

    prefix: str
    begun: float


class VodRunner:
    """Runs the VOD jobs of this process. Run `run` as a task; `nudge` makes it look for jobs at once.

    scratch: folder for unfinished files, on the file system of the media if these are local.
    """

    def __init__(
        self,
        settings: VodSettings,
        workers: WorkerPool,
        desk: JobQueue,
        sources: VodSources,
        objects: ObjectStore,
        scratch: Path,
    ) -> None:
        self._most = settings.workers
        self._history = settings.history
        self._memory = settings.memory
        self._workers = workers
        self._desk = desk
        self._sources = sources
        self._objects = objects
        self._scratch = scratch
        self.owner = owner()
        self._bounds = Bounds.of(settings)
        self._turn = settings.job_turn or inf
        self._encoding = VodEncoding(settings.crf, settings.preset, settings.bitrate, settings.segment)
        self._running: dict[str, _Held] = {}  # by job id
        self._seen: dict[str, tuple[int, float]] = {}  # jobs of other processes: version, and when it was first seen
        self._nudged = asyncio.Event()
        self._done = 0
        desk.when_submitted(lambda job: self.nudge())

    @property
    def running(self) -> int:
        """Number of jobs that run in this process."""
        return len(self._running)

    def nudge(self) -> None:
        """Makes `run` look for jobs at once."""
        self._nudged.set()

    async def run(self) -> None:
        """Runs until cancelled. Running jobs are then given back, so that another process begins them anew."""
        await asyncio.to_thread(self._sweep)
        away, pause = False, _POLL_SECONDS
        async with Tasks("vod", _failed) as tasks:
            while True:
                self._nudged.clear()
                try:
                    pause = _POLL_SECONDS if await self._look(tasks) else _IDLE_POLL_SECONDS
                    away = False
                except StoreUnavailable as error:
                    if not away:
                        log.warning("jobs cannot be read now", reason=str(error))
                    away = True
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._nudged.wait()

    async def _look(self, tasks: Tasks) -> bool:
        """Begins the jobs that can begin now. Returns whether there are unfinished jobs."""
        jobs = [job for job in await self._desk.store.unfinished() if job.kind == VOD]
        self._seen = {id: seen for id, seen in self._seen.items() if any(job.id == id for job in jobs)}
        for job in jobs:
            if job.id in self._running:
                continue
            if job.state is JobState.PROGRESSING and not self._abandoned(job):
                continue
            if not self._has_room():
                break
            try:
                source = self._sources.parse(job.source)
            except InvalidField as error:
                with suppress(JobChanged):
                    await self._desk.fail(job, error.message)
                continue
            if job.attempts >= _TAKEN:
                with suppress(JobChanged):
                    await self._desk.fail(job, f"was begun {job.attempts} times and never finished")
                continue
            if any(held.prefix == source.names.prefix for held in self._running.values()):
                continue  # both jobs would write the same files
            self._running[job.id] = _Held(source.names.prefix, time.monotonic())
            tasks.start(self._hold(job, source), job.id)
        return bool(jobs)

    def _has_room(self) -> bool:
        """Returns whether one more job may begin.

        Jobs that run longer than `vod.job_turn` are not counted, so that they do not block the queue. In total at most
        twice the number of workers run.
        """
        since = time.monotonic() - self._turn
        fresh = sum(held.begun > since for held in self._running.values())
        return fresh < self._most and len(self._running) < 2 * self._most

    def _abandoned(self, job: StoredJob) -> bool:
        """Returns whether the job's owner is dead: its process is gone, or it has not written the job for 60 s."""
        if is_dead(job.owner, self.owner):
            return True
        # Measured with this machine's clock, because the clock of another machine may be wrong.
        now = time.monotonic()
        version, since = self._seen.setdefault(job.id, (job.version, now))
        if version != job.version:
            self._seen[job.id] = (job.version, now)
            return False
        return now - since > _SILENT

    # ---- one job ----

    async def _hold(self, job: StoredJob, source: VodSource) -> None:
        try:
            begun = await self._desk.begin(job, self.owner)
            await _Work(self, begun, source).run()
        except (JobChanged, NoSuchJob):
            log.info("a job was taken or cancelled meanwhile", job=job.id)
        except StoreUnavailable as away:
            log.warning("a job has to wait", job=job.id, reason=str(away))
        finally:
            del self._running[job.id]
            self.nudge()

    async def perform(self, source: VodSource, folder: Path, progress: list[float]) -> dict[str, str]:
        """Converts and publishes a source in an empty folder; returns the published keys.

        progress: its only item is set to 0 to 1. Raises UnusableMedia, StoreUnavailable, OSError.
        """
        film = folder / "film"
        film.mkdir()
        made_in = folder / "made"
        made_in.mkdir()
        made = await while_room(self._bounds, folder, lambda: self._made(source, film, made_in, progress))
        if made.damaged:
            log.warning("a film is damaged", source=source.text, pieces=made.damaged)
        return await publish(self._objects, source.names, made_in, made)

    async def _made(self, source: VodSource, film: Path, made_in: Path, progress: list[float]) -> PackageResult:
        path = await self._fetched(source, film)

        def told(done: float) -> None:
            progress[0] = done

        order = PackageRequest(str(path), str(made_in), source.names.base, self._encoding, self._bounds)
        backoff = Backoff(1, 10)
        while True:
            try:
                return await request_package(self._workers, order, told, self._memory)
            except OutputError as busy:
                log.info("a job waits for a worker", source=source.text, reason=str(busy))
                await asyncio.sleep(backoff.next())

    async def _fetched(self, source: VodSource, folder: Path) -> Path:
        backoff = Backoff(1, 30)
        until = time.monotonic() + _TIMEOUT
        while True:
            try:
                size = 0 if source.path is not None else (await self._sources.check(source)).size
                await asyncio.to_thread(self._bounds.judge_room, folder, size)
                return await self._sources.fetch(source, folder)
            except InvalidField as error:
                raise UnusableMedia(error.message) from None
            except NoSuchObject:
                raise UnusableMedia("there is no such object") from None
            except StoreUnavailable as away:
                if time.monotonic() > until:
                    raise
                log.info("the store is away, a job waits for it", source=source.text, reason=str(away))
                await asyncio.sleep(backoff.next())

    async def finished(self) -> None:
        """Called after each job."""
        self._done += 1
        if self._done % _TRIM_EVERY == 1:
            with suppress(StoreUnavailable):
                await self._desk.store.trim(self._history)

    def folder(self, job: StoredJob) -> Path:
        """Returns the folder that a job may write to."""
        return self._scratch / f"{os.getpid()}-{job.id}"

    @property
    def desk(self) -> JobQueue:
        return self._desk

    def _sweep(self) -> None:
        """Removes the files of ended processes from the scratch folder."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        for left in self._scratch.iterdir():
            pid = left.name.partition("-")[0]
            if pid.isdigit() and (int(pid) == os.getpid() or not alive(int(pid))):
                shutil.rmtree(left, ignore_errors=True)


class _Work:
    """One job from beginning to end. While it runs, only `_beat` writes it to the store; before and after, `run`."""

    def __init__(self, runner: VodRunner, job: StoredJob, source: VodSource) -> None:
        self._runner = runner
        self._desk = runner.desk
        self._job = job
        self._source = source
        self._progress = [0.0]
        self._stopped = False
        self._task = asyncio.current_task()

    async def run(self) -> None:
        """Runs the job.

        Raises JobChanged if it was cancelled or taken over, StoreUnavailable if its end cannot be stored.
        """
        folder = self._runner.folder(self._job)
        outcome: dict[str, str] | str
        try:
            with self._desk.cancelling(self._job.id, self._stop):
                async with Tasks("beat", _failed) as beat:
                    beat.start(self._beat())
                    outcome = await self._outcome(folder)
                await _remove(folder)  # before the job is stored as finished
                await self._conclude(outcome)
        except asyncio.CancelledError:
            if not self._stopped:
                await self._give_back()
                raise
            log.info("a job was stopped", job=self._job.id)
        finally:
            await asyncio.shield(_remove(folder))
        await self._runner.finished()

    async def _outcome(self, folder: Path) -> dict[str, str] | str:
        """Returns the outputs, or the reason of the failure."""
        try:
            await asyncio.to_thread(folder.mkdir, parents=True)
            return await self._runner.perform(self._source, folder, self._progress)
        except (UnusableMedia, StoreUnavailable) as error:
            return str(error)
        except OSError as error:
            return error.strerror or str(error)

    async def _conclude(self, outcome: dict[str, str] | str) -> None:
        """Stores the end of the job. Waits for a store that is unavailable, because hours of work would be lost."""
        backoff = Backoff(1, 30)
        until = time.monotonic() + _TIMEOUT
        while True:
            try:
                job = await self._ours()
                if isinstance(outcome, str):
                    await self._desk.fail(job, outcome)
                else:
                    await self._desk.complete(job, outcome)
                return
            except StoreUnavailable:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(backoff.next())

    async def _beat(self) -> None:
        written, at = -1, time.monotonic()
        while True:
            await asyncio.sleep(_BEAT)
            percent = min(99, int(self._progress[0] * 100))
            if percent == written and time.monotonic() - at < _HEARTBEAT:
                continue
            try:
                self._job = await self._desk.advance(await self._ours(), percent)
            except StoreUnavailable:
                continue
            except (JobChanged, NoSuchJob):
                self._stop()
                return
            written, at = percent, time.monotonic()

    async def _ours(self) -> StoredJob:
        """Returns the stored job, because an earlier write may have succeeded although its reply was lost.

        Raises JobChanged if another process owns the job now.
        """
        job = await self._desk.store.get(self._job.id)
        if job.owner != self._runner.owner or job.state is not JobState.PROGRESSING:
            raise JobChanged(job.id)
        return job

    def _stop(self) -> None:
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def _give_back(self) -> None:
        """Gives the job back at the end of this process, so that another process can begin it at once."""
        with suppress(StoreUnavailable, JobChanged, NoSuchJob, TimeoutError):
            async with asyncio.timeout(3):
                await self._desk.requeue(await self._ours())


def _failed(name: str, error: BaseException) -> None:
    log.error("a job's task failed", task=name, exc_info=error)


async def _remove(folder: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, folder, True)
