"""Sends a request to a package worker and waits until it has finished or failed."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

import structlog

from gateway.protocols import wire
from gateway.workers.messages import WorkerMessage
from gateway.workers.package_protocol import PackageRequest, PackageResult
from gateway.workers.vod_bounds import Bounds, UnusableFilm, format_duration
from gateway.workers.worker_pool import WorkerDied, WorkerPool

log = structlog.get_logger(__name__)

MODULE: Final = "gateway.workers.programs.vod.package_worker"
_ATTEMPTS: Final = 2  # a worker may die once by chance; after the second time, the file counts as unusable
_REPLY_TIMEOUT: Final = 300.0  # seconds without a message until a worker counts as hung


async def request_package(
    workers: WorkerPool, request: PackageRequest, on_progress: Callable[[float], None], memory: int
) -> PackageResult:
    """Packages a file in a worker and returns the result. A cancellation ends the worker.

    on_progress: called with 0 to 1. memory: bytes that the worker may use, 0 for no limit.
    Raises UnusableFilm (one line) if the file, the limits of the request, the disk or the machine prevents it.
    Raises OutputError if no worker can be started now.
    """
    attempts, time_limit = 0, _TimeLimit(request.bounds)
    while True:
        attempts += 1
        try:
            return await _attempt(workers, request, on_progress, memory, time_limit)
        except WorkerDied as died:
            if attempts == _ATTEMPTS:
                raise UnusableFilm(f"{died}, {attempts} times") from None
            log.warning("the package worker died, another attempt follows", source=request.source, reason=str(died))


class _TimeLimit:
    """The time limit of a job, over all attempts of its worker."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._began = time.monotonic()
        self.made = 0.0  # seconds of output; the maximum of all attempts

    def remaining(self) -> float | None:
        """Returns the remaining seconds; None: no limit. Raises UnusableFilm if none remain."""
        limit = self._bounds.time_limit(self.made)
        if limit is None:
            return None
        remaining = self._began + limit - time.monotonic()
        if remaining <= 0:
            raise UnusableFilm(
                f"it took {format_duration(limit)} to make {format_duration(round(self.made, 1))} of it: "
                "that is too long (vod.job_ratio)"
            )
        return remaining


async def _attempt(
    workers: WorkerPool,
    request: PackageRequest,
    on_progress: Callable[[float], None],
    memory: int,
    time_limit: _TimeLimit,
) -> PackageResult:
    async with workers.start(MODULE, "vod", writes=True, memory=memory) as worker:
        await worker.send_json(WorkerMessage.SETUP, asdict(request))
        while True:
            try:
                async with asyncio.timeout(time_limit.remaining()):
                    kind, body = await worker.expect(_REPLY_TIMEOUT)
            except TimeoutError:
                continue  # `remaining` raises now
            if kind == WorkerMessage.PROGRESS:
                progress, made = json.loads(body)
                time_limit.made = max(time_limit.made, made)
                on_progress(progress)
            elif kind == WorkerMessage.FAILED:
                raise UnusableFilm(body.decode("utf-8", "replace"))
            elif kind == WorkerMessage.DONE:
                return wire.decode_record(PackageResult, body)
