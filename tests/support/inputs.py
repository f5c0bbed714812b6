"""The gateway's side of a single input source: a real hub and a recorder of the published units."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from gateway.channels.channel import Channel
from gateway.inputs.descriptor import InputSource
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit, Kind, TimedData, Tracks
from gateway.settings import load
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.children import children
from tests.support.time_outs import at_most

SECONDS = 30.0  # limit of every wait


def worker_pool() -> WorkerPool:
    """A worker pool with the settings of a gateway."""
    return WorkerPool(load(environ={}).workers, Counter(WORKER_RESTARTS))


class InputRecorder:
    """A sink that keeps the units of an input. at: monotonic arrival time of each unit."""

    def __init__(self) -> None:
        self.tracks: list[Tracks] = []
        self.units: list[AccessUnit] = []
        self.at: list[float] = []
        self.ends: list[EndReason] = []
        self.changed = asyncio.Event()

    def on_tracks(self, tracks: Tracks) -> None:
        self.tracks.append(tracks)

    def on_unit(self, unit: AccessUnit) -> None:
        self.units.append(unit)
        self.at.append(time.monotonic())
        self.changed.set()

    def on_timed(self, timed: TimedData) -> None:
        """Ignores timed data."""

    def on_end(self, reason: EndReason) -> None:
        self.ends.append(reason)
        self.changed.set()

    def on_failed(self, error: Exception) -> None:
        raise error

    def of(self, kind: Kind) -> list[AccessUnit]:
        return [unit for unit in self.units if unit.track.kind is kind]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(at_most(SECONDS)):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class FakeInput:
    """Implements `InputContext`. `take_air` and `leave_air` replace the switcher."""

    def __init__(self, fields: Mapping[str, Any] | None = None) -> None:
        self.channel: Channel = builders.channel("c1", **(fields or {}))
        self.expected_tracks: Tracks | None = None
        self.hub = builders.hub()
        self.recorder = InputRecorder()
        self.peers: list[str] = []
        self.problems: list[str | None] = []
        self._on_air, self._off_air = asyncio.Event(), asyncio.Event()
        self._off_air.set()

    @property
    def on_air(self) -> bool:
        return self._on_air.is_set()

    def take_air(self) -> None:
        self._off_air.clear()
        self._on_air.set()

    def leave_air(self) -> None:
        self._on_air.clear()
        self._off_air.set()

    async def until_on_air(self) -> None:
        await self._on_air.wait()

    async def until_off_air(self) -> None:
        await self._off_air.wait()

    async def until_expected_tracks_change(self, known: Tracks | None) -> None:
        await asyncio.Event().wait()

    def report(self, problem: str | None) -> None:
        self.problems.append(problem)

    def publish(self, peer: str = "") -> StreamPublisher:
        self.peers.append(peer)
        publisher = builders.publish(self.hub)
        if len(self.peers) == 1:
            publisher.stream.attach(self.recorder)
        return publisher


def kill_demuxers(parent: int) -> None:
    """Kills the demux workers of a process."""
    for pid in children("gateway.workers.programs.demux.demux_worker", parent):
        os.kill(pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def running_source(source: InputSource, context: FakeInput) -> AsyncIterator[asyncio.Task[None]]:
    """Runs a source during the block. Awaiting the task raises its exception."""
    task = asyncio.create_task(source.run(context))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def growing(units: list[AccessUnit]) -> Iterator[float]:
    """Yields the steps between decode times, in milliseconds."""
    for before, after in itertools.pairwise(units):
        yield (after.dts - before.dts) * 1000 / after.track.timescale
