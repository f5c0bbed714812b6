"""VodRunner: does the jobs that are submitted, a few at a time, and those that a dead process has left."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from gateway.hub.desk import JobDesk
from gateway.hub.errors import InvalidField, JobChanged, NoSuchJob, NoSuchObject, OutputTrouble, StoreAway
from gateway.hub.jobs import VOD, Job, JobState
from gateway.hub.ports import ObjectStore
from gateway.lib.aio import Tasks
from gateway.lib.backoff import Backoff
from gateway.lib.process import alive, is_dead, owner
from gateway.settings.models import Vod
from gateway.transcode.launch import Workers
from gateway.vod.making import make
from gateway.vod.order import Encoding, Order, Unusable
from gateway.vod.publishing import publish
from gateway.vod.sources import Source, Sources

log = structlog.get_logger(__name__)

_LOOK: Final = 5.0  # seconds between looks at the store while there is something in it …
_IDLE_LOOK: Final = 30.0  # … and else: DynamoDB has its price, and who submits here tells
_BEAT: Final = 1.0  # seconds between looks at a job's progress
_HEARTBEAT: Final = 10.0  # a job at work is written at least so often …
_SILENT: Final = 60.0  # … and one that was not for so long is abandoned: its owner is dead
_TAKEN: Final = 5  # times that a job is begun; then it is what kills its owners
_PATIENCE: Final = 900.0  # seconds that stores may be away in the middle of a job
_TRIM_EVERY: Final = 50


class VodRunner:
    """The VoD jobs of this process. `run` is its life; `nudge` makes it look at once.

    scratch: a folder for what is being made, on the file system of the media where that is local.
    """

    def __init__(
        self, settings: Vod, workers: Workers, desk: JobDesk, sources: Sources, objects: ObjectStore, scratch: Path
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
        self._encoding = Encoding(settings.crf, settings.preset, settings.bitrate, settings.segment)
        self._running: dict[str, str] = {}  # job id → prefix that it writes
        self._seen: dict[str, tuple[int, float]] = {}  # of others at work: version, and since when it stands
        self._nudged = asyncio.Event()
        self._done = 0
        desk.when_submitted(lambda job: self.nudge())

    @property
    def running(self) -> int:
        """Jobs at work here."""
        return len(self._running)

    def nudge(self) -> None:
        """There may be something to do."""
        self._nudged.set()

    async def run(self) -> None:
        """Until cancelled; then jobs at work are given back, to be begun anew."""
        await asyncio.to_thread(self._sweep)
        away, pause = False, _LOOK
        async with Tasks("vod", _failed) as tasks:
            while True:
                self._nudged.clear()
                try:
                    pause = _LOOK if await self._look(tasks) else _IDLE_LOOK
                    away = False
                except StoreAway as error:
                    if not away:
                        log.warning("jobs cannot be read now", reason=str(error))
                    away = True
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._nudged.wait()

    async def _look(self, tasks: Tasks) -> bool:
        """Begins what can be begun; whether anything is unfinished."""
        jobs = [job for job in await self._desk.store.unfinished() if job.kind == VOD]
        self._seen = {id: seen for id, seen in self._seen.items() if any(job.id == id for job in jobs)}
        for job in jobs:
            if job.id in self._running:
                continue
            if job.state is JobState.PROGRESSING and not self._abandoned(job):
                continue
            if len(self._running) >= self._most:
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
            if source.names.prefix in self._running.values():
                continue  # two at once would write the same files
            self._running[job.id] = source.names.prefix
            tasks.start(self._hold(job, source), job.id)
        return bool(jobs)

    def _abandoned(self, job: Job) -> bool:
        """Whether whoever does it is dead: a process of this machine that is gone, or one that has fallen silent."""
        if is_dead(job.owner, self.owner):
            return True
        # Judged by this machine's own clock: another's may be wrong.
        now = time.monotonic()
        version, since = self._seen.setdefault(job.id, (job.version, now))
        if version != job.version:
            self._seen[job.id] = (job.version, now)
            return False
        return now - since > _SILENT

    # ---- one job ----

    async def _hold(self, job: Job, source: Source) -> None:
        try:
            begun = await self._desk.begin(job, self.owner)
            await _Work(self, begun, source).run()
        except (JobChanged, NoSuchJob):
            log.info("a job was taken or cancelled meanwhile", job=job.id)
        except StoreAway as away:
            log.warning("a job has to wait", job=job.id, reason=str(away))
        finally:
            del self._running[job.id]
            self.nudge()

    async def perform(self, source: Source, folder: Path, progress: list[float]) -> dict[str, str]:
        """The work itself, in an empty folder: the keys of what was published. progress[0]: 0 to 1.

        Raises Unusable, StoreAway, OSError.
        """
        film = folder / "film"
        film.mkdir()
        made_in = folder / "made"
        made_in.mkdir()
        path = await self._fetched(source, film)

        def told(done: float) -> None:
            progress[0] = done

        order = Order(str(path), str(made_in), source.names.base, self._encoding)
        backoff = Backoff(1, 10)
        while True:
            try:
                made = await make(self._workers, order, told, self._memory)
                break
            except OutputTrouble as busy:
                log.info("a job waits for a worker", source=source.text, reason=str(busy))
                await asyncio.sleep(backoff.next())
        if made.damaged:
            log.warning("a film is damaged", source=source.text, pieces=made.damaged)
        return await publish(self._objects, source.names, made_in, made)

    async def _fetched(self, source: Source, folder: Path) -> Path:
        backoff = Backoff(1, 30)
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return await self._sources.fetch(source, folder)
            except NoSuchObject:
                raise Unusable("there is no such object") from None
            except StoreAway as away:
                if time.monotonic() > until:
                    raise
                log.info("the store is away, a job waits for it", source=source.text, reason=str(away))
                await asyncio.sleep(backoff.next())

    async def finished(self) -> None:
        """Called after each job."""
        self._done += 1
        if self._done % _TRIM_EVERY == 1:
            with suppress(StoreAway):
                await self._desk.store.trim(self._history)

    def folder(self, job: Job) -> Path:
        """Where a job may write."""
        return self._scratch / f"{os.getpid()}-{job.id}"

    @property
    def desk(self) -> JobDesk:
        return self._desk

    def _sweep(self) -> None:
        """What processes that are gone have left in the scratch folder."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        for left in self._scratch.iterdir():
            pid = left.name.partition("-")[0]
            if pid.isdigit() and (int(pid) == os.getpid() or not alive(int(pid))):
                shutil.rmtree(left, ignore_errors=True)


class _Work:
    """One job from its beginning to its end. `_beat` alone writes it while it is at work, `run` before and after."""

    def __init__(self, runner: VodRunner, job: Job, source: Source) -> None:
        self._runner = runner
        self._desk = runner.desk
        self._job = job
        self._source = source
        self._progress = [0.0]
        self._stopped = False
        self._task = asyncio.current_task()

    async def run(self) -> None:
        """Raises JobChanged where it was cancelled or taken away, StoreAway where its end could not be stored."""
        folder = self._runner.folder(self._job)
        outcome: dict[str, str] | str
        try:
            with self._desk.cancelling(self._job.id, self._stop):
                async with Tasks("beat", _failed) as beat:
                    beat.start(self._beat())
                    outcome = await self._outcome(folder)
                await _remove(folder)  # before anybody hears that it is over
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
        """The outputs, or why there are none."""
        try:
            await asyncio.to_thread(folder.mkdir, parents=True)
            return await self._runner.perform(self._source, folder, self._progress)
        except (Unusable, StoreAway) as error:
            return str(error)
        except OSError as error:
            return error.strerror or str(error)

    async def _conclude(self, outcome: dict[str, str] | str) -> None:
        """A store that is away is waited for: hours of work hang on this one line."""
        backoff = Backoff(1, 30)
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                job = await self._ours()
                if isinstance(outcome, str):
                    await self._desk.fail(job, outcome)
                else:
                    await self._desk.complete(job, outcome)
                return
            except StoreAway:
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
            except StoreAway:
                continue
            except (JobChanged, NoSuchJob):
                self._stop()
                return
            written, at = percent, time.monotonic()

    async def _ours(self) -> Job:
        """The job as it is stored: a write may have been done and its answer lost. Raises JobChanged where it is no
        more ours."""
        job = await self._desk.store.get(self._job.id)
        if job.owner != self._runner.owner or job.state is not JobState.PROGRESSING:
            raise JobChanged(job.id)
        return job

    def _stop(self) -> None:
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def _give_back(self) -> None:
        """This process ends: the next one need not wait until it knows."""
        with suppress(StoreAway, JobChanged, NoSuchJob, TimeoutError):
            async with asyncio.timeout(3):
                await self._desk.again(await self._ours())


def _failed(name: str, error: BaseException) -> None:
    log.error("a job's task failed", task=name, exc_info=error)


async def _remove(folder: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, folder, True)
