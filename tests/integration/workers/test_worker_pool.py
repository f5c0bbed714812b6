"""Media workers as processes: frames in both directions, and all ways in which workers or the gateway end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
import uvloop

from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.ports.errors import OutputError
from gateway.ports.events import Event, Events
from gateway.protocols import wire
from gateway.settings.models import WorkersSettings as Settings
from gateway.workers.worker_pool import WorkerDied, WorkerPool, WorkerProcess
from tests.support import echo_worker as echo
from tests.support.cores import alive
from tests.support.time_outs import at_most

MODULE = "tests.support.echo_worker"
MEMORY = 300_000_000


def workers(**options: int) -> tuple[WorkerPool, Counter]:
    restarts = Counter(WORKER_RESTARTS)
    return WorkerPool(
        Settings(**{"runner": "local", "most": 0, "nice": 3, "memory": MEMORY} | options), restarts
    ), restarts


@asynccontextmanager
async def started(**options: int) -> AsyncIterator[tuple[WorkerProcess, Counter]]:
    pool, restarts = workers(**options)
    async with pool.start(MODULE, "echo") as worker:
        yield worker, restarts


def waiting(worker: WorkerProcess) -> int:
    """Returns the bytes that the socket has not accepted yet."""
    assert worker._transport is not None
    return worker._transport.get_write_buffer_size()


async def gone(pid: int) -> None:
    async with asyncio.timeout(at_most(10)):
        while alive(pid):
            await asyncio.sleep(0.02)


async def test_frames_are_exchanged_and_the_worker_ends_with_its_block() -> None:
    async with started() as (worker, restarts):
        await worker.send(1, b"one")
        await worker.send(2, b"")
        assert await worker.receive() == (1, b"one")
        assert await worker.receive() == (2, b"")
    assert not alive(worker.pid)
    assert restarts.values == {}, "it was ended by its owner, it did not die"


async def test_a_worker_imports_nothing_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "__init__.py").write_text("raise SystemExit('code of a stranger')\n")
    monkeypatch.chdir(tmp_path)
    async with started() as (worker, _):
        await worker.send(1, b"one")
        assert await worker.receive() == (1, b"one")


async def test_a_large_stream_passes_in_both_directions_without_a_deadlock() -> None:
    async with started() as (worker, _), Tasks("test") as tasks:

        async def give() -> None:
            for number in range(300):
                await worker.send(number % 90, bytes(100_000))

        tasks.start(give())
        async with asyncio.timeout(at_most(30)):
            for number in range(300):
                received = await worker.receive()
                assert received is not None
                assert (received[0], len(received[1])) == (number % 90, 100_000)
        assert waiting(worker) == 0


async def test_a_worker_that_reads_nothing_blocks_its_sender() -> None:
    async with started() as (worker, _):
        await worker.send(echo.STUCK, b"")
        await worker.receive()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                while True:
                    await worker.send(1, bytes(50_000))
        assert 0 < waiting(worker) < 1_000_000


async def test_a_killed_worker_is_reported_counted_and_reaped() -> None:
    async with started() as (worker, restarts):
        await worker.send(1, b"")
        await worker.receive()
        os.kill(worker.pid, signal.SIGKILL)
        assert await worker.receive() is None
        assert "ended by SIGKILL" in str(await worker.died())
        with pytest.raises(WorkerDied, match="SIGKILL"):
            await worker.send(1, b"")
    assert restarts.values == {("echo",): 1}
    assert not alive(worker.pid)


async def test_a_blocked_sender_gets_an_error_when_the_worker_dies() -> None:
    async with started() as (worker, _), Tasks("test") as tasks:
        await worker.send(echo.STUCK, b"")
        await worker.receive()

        async def give() -> None:
            while True:
                await worker.send(1, bytes(50_000))

        giving = tasks.start(give())
        while waiting(worker) == 0:
            await asyncio.sleep(0.01)
        os.kill(worker.pid, signal.SIGKILL)
        async with asyncio.timeout(at_most(5)):
            with pytest.raises(WorkerDied):
                await giving


async def test_a_worker_that_reads_nothing_for_long_is_killed() -> None:
    pool, restarts = workers()
    async with pool.start(MODULE, "echo", hang_seconds=0.5) as worker:
        await worker.send(echo.STUCK, b"")
        await worker.receive()
        with pytest.raises(WorkerDied, match="it read nothing for"):
            async with asyncio.timeout(at_most(10)):
                while True:
                    await worker.send(1, bytes(50_000))
    assert restarts.values == {("echo",): 1}


async def test_a_slow_worker_that_still_reads_is_not_killed() -> None:
    pool, restarts = workers()
    body = bytes(600_000)
    async with pool.start(MODULE, "echo", hang_seconds=1) as worker:
        await worker.send(echo.SLOW, str(len(wire.frame(1, body))).encode())
        await worker.receive()
        await worker.send(1, body)
        assert await worker.receive() == (echo.SLOW, b"")
    assert restarts.values == {}


async def test_an_exchange_passes_frames_to_their_handlers_until_the_last_one() -> None:
    got: list[bytes] = []
    async with started() as (worker, _):

        async def feed() -> None:
            for body in (b"one", b"two"):
                await worker.send(1, body)
            await worker.send(2, b"")
            await worker.send(1, b"late")

        assert await worker.exchange(feed(), {1: got.append, 2: lambda body: True}, 10)
    assert got == [b"one", b"two"]


async def test_an_exchange_reports_a_worker_that_ends_too_early() -> None:
    async with started() as (worker, _):

        async def feed() -> None:
            await worker.send(echo.LEAVE, b"3")
            await asyncio.sleep(60)

        with pytest.raises(WorkerDied, match="with status 3"):
            await worker.exchange(feed(), {}, 10)
    async with started() as (worker, _):
        assert not await worker.exchange(worker.send(echo.LEAVE, b"0"), {}, 10), "after the feed, its end is no error"


async def test_an_exchange_kills_a_worker_that_sends_invalid_frames() -> None:
    async with started() as (worker, restarts):

        async def feed() -> None:
            await worker.send(9, b"")
            await asyncio.sleep(60)

        with pytest.raises(WorkerDied, match="it sent an invalid frame: a frame of kind 9"):
            await worker.exchange(feed(), {}, 10)
    assert restarts.values == {("echo",): 1}


async def test_an_exchange_has_a_timeout_for_the_frames_of_the_worker() -> None:
    async with started() as (worker, _):
        assert await worker.exchange(worker.send(1, b""), {1: lambda body: None}, 0.3)


async def test_the_error_of_a_dead_worker_contains_its_last_output_line() -> None:
    async with started() as (worker, _):
        await worker.send(echo.SHOUT, b"first\n" + b"x" * 5000 + b"\nout of luck\n")
        assert await worker.receive() is None
        told = str(await worker.died())
    assert told == "the media worker ended with status 7: out of luck"


async def test_the_error_of_a_worker_with_a_fault_is_a_sentence_and_the_log_has_the_exception() -> None:
    with structlog.testing.capture_logs() as logs:
        async with started() as (worker, _):
            await worker.send(echo.FAIL, b"")
            assert await worker.receive() is None
            told = str(await worker.died())
    assert told == "the media worker ended with status 1: an internal error, which the log names"
    assert any("29 is not a valid Type" in entry.get("line", "") for entry in logs)


async def test_the_output_of_a_worker_is_logged_in_limited_lines() -> None:
    with structlog.testing.capture_logs() as logs:
        async with started() as (worker, _):
            await worker.send(echo.SHOUT, b"".join(b"line %d %s\n" % (n, b"x" * 2000) for n in range(500)))
            assert await worker.receive() is None
            await worker.died()
    said = [
        entry["line"] for entry in logs if entry["event"] == "media worker said" and entry["log_level"] == "warning"
    ]
    assert 0 < len(said) <= 50
    assert max(map(len, said)) <= 300


async def test_a_program_that_cannot_start_counts_as_a_dead_worker() -> None:
    pool, restarts = workers()
    async with pool.start("tests.support.no_such_worker", "nothing") as worker:
        assert await worker.receive() is None
        assert "No module named" in str(await worker.died())
    assert restarts.values == {("nothing",): 1}


async def test_an_invalid_frame_ends_the_link() -> None:
    async with started() as (worker, _):
        await worker.send(echo.NONSENSE, b"")
        assert await worker.receive() is None


async def test_a_worker_in_native_code_is_killed_at_the_end_of_its_block() -> None:
    async with started() as (worker, restarts):
        await worker.send(echo.STUCK, b"")
        await worker.receive()
    assert not alive(worker.pid)
    assert restarts.values == {}


async def test_cancelling_the_owner_ends_the_worker() -> None:
    found: list[WorkerProcess] = []

    async def own() -> None:
        async with started() as (worker, _):
            found.append(worker)
            await worker.receive()

    async with Tasks("test") as tasks:
        task = tasks.start(own())
        while not found:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
    assert not alive(found[0].pid)
    assert found[0]._child.transport.is_closing(), "Python would report an unclosed resource at the end of the loop"


@pytest.mark.parametrize("turns", range(4))
def test_a_start_that_is_cancelled_leaves_no_process(turns: int) -> None:
    """The cancellation ends only after the process, so that nobody has to reap it after the end of the loop."""

    def children() -> list[str]:
        return [
            pid for thread in Path("/proc/self/task").iterdir() for pid in (thread / "children").read_text().split()
        ]

    async def cancel_start() -> None:
        pool, _ = workers()
        task = asyncio.create_task(pool.start(MODULE, "echo").__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children() == before, "also none that has ended"
        assert pool.running == 0

    before = children()
    uvloop.run(cancel_start())  # the loop of the program: that of asyncio waits by itself


async def test_cancelling_the_owner_also_ends_a_worker_whose_link_is_closed() -> None:
    """The pool then waits for the reason of its death. A cancelled wait must not leave the process behind."""
    found: list[WorkerProcess] = []

    async def own() -> None:
        async with started() as (worker, _):
            os.kill(worker.pid, signal.SIGSTOP)
            assert worker._transport is not None
            worker._transport.abort()
            assert await worker.receive() is None
            found.append(worker)

    async with Tasks("test") as tasks:
        task = tasks.start(own())
        while not found:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
    assert not alive(found[0].pid)
    assert found[0]._child.transport.is_closing()


def test_a_worker_leaves_nothing_open_at_its_end() -> None:
    gateway_end, worker_end = socket.socketpair()
    with gateway_end:
        with worker_end:
            worker = subprocess.Popen(
                [
                    sys.executable,
                    "-W",
                    "default",
                    "-m",
                    "gateway.workers.programs.sound_worker",
                    str(worker_end.fileno()),
                ],
                pass_fds=(worker_end.fileno(),),
                stderr=subprocess.PIPE,
            )
        gateway_end.shutdown(socket.SHUT_WR)
        assert worker.communicate(timeout=at_most(60))[1] == b""
    assert worker.returncode == 0


async def test_the_number_of_workers_is_limited_until_one_ends() -> None:
    pool, _ = workers(most=1)
    async with pool.start(MODULE, "echo"):
        assert pool.running == 1
        with pytest.raises(OutputError, match=r"all 1 media workers are busy \(workers\.most\)"):
            async with pool.start(MODULE, "echo"):
                raise AssertionError("a second one ran")
    async with pool.start(MODULE, "echo") as worker:
        await worker.send(1, b"")
        assert await worker.receive() == (1, b"")
    assert pool.running == 0
    assert workers()[0].limit >= 8


async def test_a_worker_has_no_secrets_low_priority_limits_and_ignores_group_signals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MILLRACE_SIGNING__SECRET", "AWS_SECRET_ACCESS_KEY", "MILLRACE_ADMIN__TOKEN", "SOMETHING_ELSE"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    async with started() as (worker, _):
        await worker.send(echo.SHOW, b"")
        received = await worker.receive()
    assert received is not None
    told = received[1].decode()
    assert "hunter2" not in told
    assert "LC_ALL=C.UTF-8" in told
    limits = {line[:26].strip(): line[26:].split()[0] for line in told.splitlines() if line.startswith("Max ")}
    assert limits["Max data size"] == str(MEMORY)
    assert limits["Max core file size"] == limits["Max file size"] == "0"
    assert f"nice={min(19, os.nice(0) + 3)}" in told
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert f"oom={min(1000, own + 500)}" in told.splitlines(), "the kernel ends a worker before the gateway"
    assert "ignored=['SIGINT', 'SIGTERM']" in told


async def test_a_worker_that_uses_too_much_memory_dies_alone() -> None:
    async with started() as (worker, restarts):
        await worker.send(echo.HOARD, b"")
        assert await worker.receive() is None
        assert "not enough memory" in str(await worker.died())
    assert restarts.values == {("echo",): 1}


@pytest.mark.parametrize("writes", [False, True])
async def test_only_workers_with_write_permission_can_write_files(tmp_path: Path, writes: bool) -> None:
    pool, _ = workers()
    async with pool.start(MODULE, "echo", writes=writes) as worker:
        await worker.send(echo.WRITE, str(tmp_path / "file").encode())
        received = await worker.receive()
    assert received is not None
    assert (received[1] == b"written") is writes


OWNER = """
import asyncio, sys
from tests.integration.workers.test_worker_pool import started, echo

async def main():
    async with started() as (worker, _):
        await worker.send(getattr(echo, sys.argv[1]) if len(sys.argv) > 1 else 1, b"")
        await worker.receive()
        print(worker.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("deaf", [False, True])
async def test_workers_end_after_their_gateway_was_killed(deaf: bool) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, *(["STUCK"] if deaf else [])],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    with owner:
        assert owner.stdout is not None
        pid = int(await asyncio.to_thread(owner.stdout.readline))
        assert alive(pid)
        owner.kill()
        owner.wait()
    await gone(pid)


def test_the_worker_program_refuses_a_start_by_hand() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", MODULE, "x"], capture_output=True, text=True, timeout=at_most(30), check=False
    )
    assert (ran.returncode, ran.stderr) == (2, "this program is started by the gateway\n")


async def test_the_death_of_a_worker_is_an_event_but_its_end_is_not() -> None:
    events, told = Events(), list[Event]()
    events.listen(told.append)
    settings = Settings(runner="local", most=0, nice=3, memory=MEMORY)
    pool = WorkerPool(settings, Counter(WORKER_RESTARTS), events)
    async with pool.start(MODULE, "ladder", stream="c1@720p"):
        pass
    assert told == []
    async with pool.start(MODULE, "ladder", stream="c1@720p") as worker:
        os.kill(worker.pid, signal.SIGKILL)
        assert await worker.receive() is None
    (event,) = told
    assert (event.type, event.channel, event.data["kind"]) == ("worker.died", "c1", "ladder")
    assert "SIGKILL" in event.data["reason"]
