"""Start and end of a gateway with several workers, and conditions that prevent the start.

Workers are started as in production where their start or end is judged.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import pull, push, so_far, take_of, until
from tests.support.command_line import run
from tests.support.cores import FILM, Cores, ExecutedCores, ExecutedEdgeCores, Start, alive

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux")

ROOT = Path(__file__).resolve().parents[3]


NIGHTLY = pytest.mark.nightly


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=NIGHTLY)])
def test_a_signal_ends_all_processes_and_leaves_no_files(start: Start, number: signal.Signals) -> None:
    gateway = start(3, ExecutedCores)
    channel = gateway.channel()
    workers = gateway.workers()
    assert all(2 * own < whole for own, whole in map(_memory, workers.values())), "most of it is shared"
    with push(FILM, channel.push) as publisher, pull(channel.url("live.flv"), seconds=None) as viewer:
        channel.wait_live()
        until(lambda: so_far(viewer).video, "it plays")
        gateway.process.send_signal(number)
        assert gateway.ended() == 0, gateway.log[-2000:]
        publisher.wait()
        take_of(viewer)
    assert not any(map(alive, workers.values()))
    assert [path.name for path in (gateway.data / "run").iterdir()] == ["lock"]
    assert '"level":"error"' not in gateway.log
    assert "Traceback" not in gateway.log


def _memory(pid: int) -> tuple[int, int]:
    """The memory of a process in kB: what no other process shares, and all of it. proc(5)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    size = {name: int(text.split()[0]) for name, _, text in (line.partition(":") for line in lines)}
    return size["Private_Clean"] + size["Private_Dirty"], size["Rss"]


START = {
    "a master": lambda gateway: (gateway.data / "run" / "lock").exists(),
    "a process": lambda gateway: gateway.children(),
    "one that serves": lambda gateway: gateway.workers(),
    "two processes": lambda gateway: len(gateway.children()) == 2,
}
RELOAD = {
    "a new process": lambda gateway: len(gateway.children()) == 3,
    "a new one that serves": lambda gateway: "1-2" in gateway.workers(),
}
EDGE = {"MILLRACE_CLUSTER__SECRET": "s" * 32, "MILLRACE_EDGE__UPSTREAM": "127.0.0.1:9"}


@pytest.mark.parametrize(
    ("program", "moment", "reload"),
    [
        (ExecutedCores, "a master", False),
        *(pytest.param(ExecutedCores, moment, False, marks=NIGHTLY) for moment in list(START)[1:]),
        pytest.param(ExecutedCores, "a new process", True, marks=NIGHTLY),
        (Cores, "a new one that serves", True),
        (ExecutedEdgeCores, "a process", False),
    ],
)
def test_a_stop_during_a_start_or_reload_ends_all_processes(
    tmp_path: Path, program: type[Cores], moment: str, reload: bool
) -> None:
    gateway = program(tmp_path, 2, **EDGE if program is ExecutedEdgeCores else {})
    try:
        if reload:
            gateway.wait_ready()
            gateway.process.send_signal(signal.SIGHUP)
        until(lambda: (START | RELOAD)[moment](gateway), moment)
        children = gateway.children()
        gateway.process.terminate()
        assert gateway.ended() == 0, gateway.log[-2000:]
        assert not any(map(alive, children))
        assert '"level":"error"' not in gateway.log
        assert "Traceback" not in gateway.log
    finally:
        gateway.stop(10)


@pytest.mark.nightly
def test_a_signal_to_the_whole_process_group_ends_the_gateway_cleanly(start: Start) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        gateway = start(2, ExecutedCores)
        os.killpg(gateway.process.pid, number)
        assert gateway.ended() == 0, gateway.log[-2000:]
        assert '"level":"error"' not in gateway.log


def test_a_second_signal_ends_at_once(start: Start) -> None:
    gateway = start(2)
    workers = gateway.workers()
    os.kill(workers["2"], signal.SIGSTOP)  # it will not drain
    gateway.process.send_signal(signal.SIGTERM)
    until(lambda: "shutting down" in gateway.log, "the first signal was heard")
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.ended(5) == 128 + signal.SIGTERM
    until(lambda: not any(map(alive, workers.values())), "the workers ended")


def test_workers_without_a_master_end_by_themselves(start: Start) -> None:
    gateway = start(2, ExecutedCores)
    workers = gateway.workers()
    gateway.process.send_signal(signal.SIGKILL)
    gateway.ended()
    until(lambda: not any(map(alive, workers.values())), "they have ended", 20)
    assert "the master is gone" in gateway.log


def test_a_worker_ended_by_a_signal_is_replaced(start: Start) -> None:
    gateway = start(2)
    os.kill(gateway.workers()["2"], signal.SIGTERM)
    gateway.wait_workers("1", "2-2")


def _cannot_start(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    env |= {f"MILLRACE_{name}__PORT": "0" for name in ("RTMP", "HTTP", "WS", "ADMIN", "SRT")}
    env |= {"MILLRACE_DATA": str(folder), "MILLRACE_SERVE__WORKERS": "2", **settings}
    return run("serve", env=env)


def _one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert (done.returncode, len(lines)) == (code, 1), done.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture
def taken_webrtc_port() -> Iterator[None]:
    """Occupies the default port of WebRTC, so Millrace opens another one and reports it once it serves."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("0.0.0.0", 8189)))
        yield


@pytest.mark.usefixtures("taken_webrtc_port")
def test_a_condition_that_prevents_the_start_gives_a_one_line_error(start: Start, tmp_path: Path) -> None:
    running = start(2)
    for name in ("RTMP", "ADMIN"):
        port = str(running.ports[name.lower()])
        host = {f"MILLRACE_{name}__HOST": "127.0.0.1"}
        done = _cannot_start(tmp_path / "taken", **{f"MILLRACE_{name}__PORT": port}, **host)
        _one_line(done, 1, name.lower(), port, "in use")
    for workers in ("1", "2"):
        done = _cannot_start(running.data, MILLRACE_SERVE__WORKERS=workers)
        _one_line(done, 1, f"process {running.process.pid} runs on this data folder already")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "millrace.db").write_bytes(b"this is no database" * 100)
    for workers in ("1", "2"):
        _one_line(_cannot_start(broken, MILLRACE_SERVE__WORKERS=workers), 1, "millrace.db")
    (tmp_path / "ladders.toml").write_text("nonsense")
    ladders = {"MILLRACE_TRANSCODE__LADDERS": str(tmp_path / "ladders.toml")}
    _one_line(_cannot_start(tmp_path / "fine", **ladders), 2, "ladders.toml")


def test_a_gateway_with_one_worker_needs_no_master(tmp_path: Path) -> None:
    gateway = Cores(tmp_path, 1)
    try:
        gateway.wait_ready()
        assert gateway.children() == []
        assert [path.name for path in (gateway.data / "run").iterdir()] == ["lock"]
        for workers in ("1", "2"):
            done = _cannot_start(gateway.data, MILLRACE_SERVE__WORKERS=workers)
            _one_line(done, 1, f"process {gateway.process.pid} runs on this data folder already")
        assert not (gateway.data / "nodes.db").exists()
        assert '"process"' not in gateway.log
    finally:
        assert gateway.stop() == 0


def test_the_master_loads_no_media_code() -> None:
    program = "import sys, gateway.program, gateway.processes.master; "
    program += "print(*sorted(m for m in sys.modules if m.startswith('gateway.') or m in ('uvloop', 'aiohttp', 'av')))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    loaded = set(said.split())
    assert not loaded & {"uvloop", "aiohttp", "av", "gateway.app.gateway", "gateway.app.listeners", "gateway.live.hub"}
    rooms = ("packaging", "workers", "outputs", "vod", "api", "formats")
    assert [name for name in loaded if name.startswith(tuple(f"gateway.{room}" for room in rooms))] == []


def test_the_worker_secret_is_not_in_any_command_line_environment_or_log(start: Start) -> None:
    gateway = start(2, ExecutedCores)
    seen = gateway.log
    for pid in (gateway.process.pid, *gateway.workers().values()):
        for place in ("cmdline", "environ"):
            seen += Path(f"/proc/{pid}/{place}").read_bytes().replace(b"\0", b" ").decode()
    assert "--link" in seen
    assert not re.search(r"secret[\"'=: ]+[A-Za-z0-9_-]{20}", seen)
