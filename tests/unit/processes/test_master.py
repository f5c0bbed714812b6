"""The master after errors: every slot keeps its worker, or gets another one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.lib.tasks import Tasks
from gateway.processes.link_protocol import Begin, ProcessMessage
from gateway.processes.master import Master, OpenSockets, Service
from gateway.settings import load
from tests.support.time_outs import at_most

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux")


class Workers:
    """Doubles of worker processes. A name is slot and start. broken: `run` of these fails once all serve."""

    def __init__(self, *broken: str) -> None:
        self.broken, self.started, self.killed = broken, list[str](), list[str]()
        self.opened, self.replaced = asyncio.Event(), asyncio.Event()

    def __call__(self, command: Sequence[str], begin: Begin, ready: Callable[[], None]) -> Worker:
        return Worker(self, f"{begin.slot.number}-{begin.slot.start}", ready)


class Worker:
    """Serves at once, and never ends by itself."""

    def __init__(self, workers: Workers, name: str, ready: Callable[[], None]) -> None:
        self._workers, self._name, self._ready = workers, name, ready

    async def run(self) -> int:
        self._workers.started.append(self._name)
        self._ready()
        if self._name in self._workers.broken:
            await self._workers.opened.wait()
            raise RuntimeError("the link cannot be read")
        if self._name == "1-2":
            self._workers.replaced.set()
        return await asyncio.Future[int]()

    def send(self, kind: ProcessMessage) -> None:
        if kind is ProcessMessage.OPENED:
            self._workers.opened.set()

    def kill(self) -> None:
        self._workers.killed.append(self._name)

    def count_silence(self) -> int:
        return 0


@asynccontextmanager
async def running(workers: Workers, data: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr("gateway.processes.master.Child", workers)
    settings = load(environ={}, overrides=["serve.workers=2", f"data={data}"])
    opened = OpenSockets.open([], 2)
    async with asyncio.timeout(at_most(20)), Tasks("test") as tasks:
        service = Service((), lambda settings: [], lambda: settings)
        tasks.start(Master(service, settings, opened, data, tasks).run())
        yield


async def test_workers_go_on_if_the_file_with_the_ports_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers()
    async with running(workers, tmp_path / "missing", monkeypatch):
        await workers.opened.wait()
        assert (workers.started, workers.killed) == (["1-1", "2-1"], [])


async def test_a_worker_that_the_master_cannot_watch_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers("1-1")
    async with running(workers, tmp_path, monkeypatch):
        await workers.replaced.wait()
        assert (workers.started, workers.killed) == (["1-1", "2-1", "1-2"], ["1-1"])
