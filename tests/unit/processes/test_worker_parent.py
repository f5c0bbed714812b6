"""The parent of the workers: forks, their ends, and its own end."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.channels.addresses import OpenPorts
from gateway.cluster.members.worker_slot import WorkerSlot
from gateway.lib.tasks import Tasks
from gateway.processes.child import Child
from gateway.processes.link_protocol import Begin, ProcessMessage
from gateway.processes.worker_parent import WorkerParent
from tests.support.time_outs import at_most

# A parent as in production. Its workers say that they are ready, and end as their next message says. The parent does
# {work} before its first fork.
PROGRAM = """
import os, sys, signal
from gateway.processes.forking import serve_forks
from gateway.processes.link_protocol import ProcessMessage
from gateway.processes.worker_link import WorkerLink
{work}
link = serve_forks(int(sys.argv[2]))
if link is None:
    sys.exit(0)
worker = WorkerLink(link)
files = set(os.listdir("/proc/self/fd")) - set("012")
open(f"{{worker.slot.folder}}/{{os.getpid()}}", "w").write(f"{{os.getppid()}} {{len(files)}}")
assert signal.set_wakeup_fd(-1) == -1 and signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
worker.report_ready()
message = worker._link.recv(65536)
worker.close()
sys.exit(7 if b"retire" in message else 0)
"""


class Workers:
    """Starts workers of one parent."""

    def __init__(self, tasks: Tasks, folder: Path, parent: WorkerParent) -> None:
        self._tasks, self._folder, self.parent = tasks, folder, parent

    async def start(self) -> tuple[Child, asyncio.Task[int], int]:
        """Returns a worker that is ready, what awaits its end, and its number."""
        ready = asyncio.Event()
        child = Child(self.parent, Begin(WorkerSlot("h", 1, 1, 2, self._folder, ""), OpenPorts()), ready.set)
        ended = self._tasks.start(child.run())
        before = set(os.listdir(self._folder))
        await asyncio.wait_for(ready.wait(), at_most(20))
        (name,) = set(os.listdir(self._folder)) - before
        return child, ended, int(name)


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    @asynccontextmanager
    async def started(work: str = "") -> AsyncIterator[Workers]:
        (tmp_path / "parent_program.py").write_text(PROGRAM.format(work=work))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), *sys.path)))
        (folder := tmp_path / "workers").mkdir()
        async with Tasks("test") as tasks:
            parent = WorkerParent(("parent_program",))
            tasks.start(parent.run())
            yield Workers(tasks, folder, parent)
            parent.retire()
            await asyncio.wait_for(parent.status(), at_most(20))

    return started


async def test_workers_have_one_parent_and_only_their_link(workers: Callable[..., object], tmp_path: Path):
    async with workers() as started:
        both = [await started.start() for _ in range(2)]
        said = {(tmp_path / "workers" / str(pid)).read_text() for _, _, pid in both}
        assert len({text.split()[0] for text in said}) == 1
        assert {text.split()[1] for text in said} == {"2"}, "the link, and the list of descriptors itself"
        for child, ended, _ in both:
            child.send(ProcessMessage.STOP)
            assert await asyncio.wait_for(ended, at_most(10)) == 0


async def test_the_exit_code_or_the_signal_of_a_worker_is_reported(workers: Callable[..., object]):
    async with workers() as started:
        child, ended, _ = await started.start()
        child.send(ProcessMessage.RETIRE)
        assert await asyncio.wait_for(ended, at_most(10)) == 7
        _, ended, pid = await started.start()
        os.kill(pid, signal.SIGUSR1)
        assert await asyncio.wait_for(ended, at_most(10)) == -signal.SIGUSR1
        child, ended, _ = await started.start()
        child.kill()
        assert await asyncio.wait_for(ended, at_most(10)) == -signal.SIGKILL


async def test_a_retired_parent_ends_with_its_last_worker(workers: Callable[..., object]):
    async with workers() as started:
        child, ended, _ = await started.start()
        started.parent.retire()
        assert not started.parent.usable
        with socket.socket() as link, pytest.raises(OSError, match=r"closed|descriptor"):
            started.parent.fork(link)
        child.send(ProcessMessage.STOP)
        assert await asyncio.wait_for(ended, at_most(10)) == 0
        assert await asyncio.wait_for(started.parent.status(), at_most(10)) == 0


async def test_workers_go_on_when_their_parent_dies(workers: Callable[..., object]):
    async with workers() as started:
        child, ended, pid = await started.start()
        started.parent.kill()
        assert await asyncio.wait_for(started.parent.status(), at_most(10)) == -signal.SIGKILL
        assert not started.parent.usable
        os.kill(pid, 0)
        assert not ended.done()
        child.send(ProcessMessage.STOP)
        assert await asyncio.wait_for(ended, at_most(10)) == 1, "nobody knows how it ended"


@pytest.mark.parametrize(("work", "status"), [("sys.exit(2)", 2), ("os.kill(os.getpid(), 9)", -9)])
async def test_the_exit_code_of_a_parent_that_forks_nothing_is_that_of_its_workers(
    workers: Callable[..., object], tmp_path: Path, work: str, status: int
):
    async with workers(work) as started:
        child = Child(started.parent, Begin(WorkerSlot("h", 1, 1, 2, tmp_path, ""), OpenPorts()), lambda: None)
        assert await asyncio.wait_for(child.run(), at_most(20)) == status


async def test_a_parent_that_does_not_fork_is_killed_with_the_worker(workers: Callable[..., object], tmp_path: Path):
    async with workers("signal.pause()") as started:
        child = Child(started.parent, Begin(WorkerSlot("h", 1, 1, 2, tmp_path, ""), OpenPorts()), lambda: None)
        ended = asyncio.ensure_future(child.run())
        await asyncio.sleep(0)
        child.kill()
        assert await asyncio.wait_for(ended, at_most(20)) == -signal.SIGKILL
