"""Gives an order to a package worker and watches it until it has finished or failed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Final

import structlog

from gateway.workers.package_protocol import PackageRequest, PackageResult, VodMessage
from gateway.workers.vod_bounds import Bounds, UnusableMedia, format_duration
from gateway.workers.worker_pool import WorkerDied, WorkerPool

log = structlog.get_logger(__name__)

MODULE: Final = "gateway.workers.programs.vod.package_worker"
_TRIES: Final = 2  # one death of a worker may be chance; after the second, the file counts as unusable
_REPLY_TIMEOUT: Final = 300.0  # seconds without a message, after which a worker counts as hanging


async def request_package(
    workers: WorkerPool, order: PackageRequest, progress: Callable[[float], None], memory: int
) -> PackageResult:
    """Executes an order in a worker and returns what it made. Cancelling ends the worker.

    progress: called with 0 to 1. memory: bytes that the worker may use, 0 for no limit.
    Raises UnusableMedia (one line) if the file, the limits of the order, the disk or the machine prevents it.
    Raises OutputError if no worker can be started now.
    """
    tries, clock = 0, _Clock(order.bounds)
    while True:
        tries += 1
        try:
            return await _once(workers, order, progress, memory, clock)
        except WorkerDied as died:
            if tries == _TRIES:
                raise UnusableMedia(f"{died}, {tries} times") from None
            log.warning("the package worker died, once more", source=order.source, reason=str(died))


class _Clock:
    """Counts the time of a job, over all tries of its worker."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._began = time.monotonic()
        self.made = 0.0  # most seconds of output that a try has reached

    def left(self) -> float | None:
        """Returns the seconds left; None: no limit. Raises UnusableMedia if none are left."""
        limit = self._bounds.time_limit(self.made)
        if limit is None:
            return None
        left = self._began + limit - time.monotonic()
        if left <= 0:
            raise UnusableMedia(
                f"it took {format_duration(limit)} to make {format_duration(round(self.made, 1))} of it: "
                "that is too long (vod.job_ratio, vod.job_seconds)"
            )
        return left


async def _once(
    workers: WorkerPool, order: PackageRequest, progress: Callable[[float], None], memory: int, clock: _Clock
) -> PackageResult:
    async with workers.start(MODULE, "vod", writes=True, memory=memory) as worker:
        await worker.send(VodMessage.ORDER, order.to_json())
        while True:
            try:
                async with asyncio.timeout(clock.left()):
                    kind, body = await worker.expect(_REPLY_TIMEOUT)
            except TimeoutError:
                continue  # `clock.left` raises now
            if kind == VodMessage.PROGRESS:
                done, made = json.loads(body)
                clock.made = max(clock.made, made)
                progress(done)
            elif kind == VodMessage.FAILED:
                raise UnusableMedia(body.decode("utf-8", "replace"))
            elif kind == VodMessage.DONE:
                return PackageResult.from_json(body)
