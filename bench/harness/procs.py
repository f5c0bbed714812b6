"""Processes the bench starts: what they use, read from /proc, and their sure end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class BenchError(Exception):
    """What stops a measurement, in one line for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process tree has used: CPU seconds since its start, resident bytes now."""

    user: float
    system: float
    rss: int
    processes: int

    @property
    def cpu(self) -> float:
        return self.user + self.system


def _stat(pid: int | str) -> list[str] | None:
    """Fields of /proc/<pid>/stat after the command name (so [1] is the parent), or None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(name)):
            children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def usage(root: int) -> Usage:
    """CPU (children that ended and were waited for included) and resident memory of a process tree."""
    user = system = rss = n = 0
    for pid in tree(root):
        if fields := _stat(pid):
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
            rss += int(fields[21]) * PAGE
            n += 1
    return Usage(user / TICK, system / TICK, rss, n)


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process and of its descendants, in bytes. Private pages are those that no other process shares."""

    own_resident: int
    own_private: int
    children_resident: int
    children_private: int
    children: int
    descriptors: int  # open files of the process itself


def _rollup(pid: int) -> tuple[int, int]:
    """Resident and private bytes of one process; zeros when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0, 0
    kb = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in text.splitlines()[1:])}
    return kb["Rss"] * 1024, (kb["Private_Clean"] + kb["Private_Dirty"]) * 1024


def memory(root: int) -> Memory:
    """Memory of a process tree now. It walks page tables: a few milliseconds of the kernel for each 100 MB."""
    own, *children = tree(root)
    others = [_rollup(pid) for pid in children]
    try:
        descriptors = len(os.listdir(f"/proc/{root}/fd"))
    except OSError:
        descriptors = 0
    return Memory(*_rollup(own), sum(x[0] for x in others), sum(x[1] for x in others), len(children), descriptors)


def running_seconds(root: int) -> float:
    """CPU seconds of the threads of a process tree that live now, to the nanosecond: for loads of a few ticks."""
    total = 0
    for pid in tree(root):
        for schedule in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(schedule.read_text().split()[0])
    return total / 1e9


def own_cpu(pid: int) -> float:
    """CPU seconds of one process, without its children."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICK if fields else 0.0


def machine_cpu() -> float:
    """CPU seconds that the whole machine has been busy."""
    with open("/proc/stat") as f:
        v = [int(x) for x in f.readline().split()[1:]]
    return (sum(v[:3]) + sum(v[5:7])) / TICK


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class Process:
    """One process started by the bench in a session of its own, with its output in a log file; ends with `stop`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        log: Path,
        env: Mapping[str, str] | None = None,
        capture: bool = False,
    ) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.started = time.monotonic()
        with log.open("ab") as out:
            out.write(f"\n=== {name} {time.strftime('%F %T')}\n".encode())
            out.flush()
            try:
                self._p = subprocess.Popen(
                    [str(x) for x in command],
                    cwd=cwd,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if capture else out,
                    stderr=out,
                    text=True,
                    start_new_session=True,
                )
            except OSError as e:
                raise BenchError(f"{name}: cannot start {command[0]}: {e.strerror}") from e

    @property
    def pid(self) -> int:
        return self._p.pid

    @property
    def alive(self) -> bool:
        return self._p.poll() is None

    def line(self) -> str:
        """The next line of a captured standard output; empty at its end."""
        assert self._p.stdout is not None, "only for a process started with capture=True"
        line: str = self._p.stdout.readline()
        return line

    def died(self) -> BenchError:
        """What to say of a process that should still be there."""
        tail = [x for x in self.log.read_text(errors="replace").splitlines() if x.strip()][-1:]
        return BenchError(f"{self.name} ended with {self._p.poll()}: {tail[0][:200] if tail else ''} (log: {self.log})")

    def wait_listening(self, port: int, timeout: float = 20) -> None:
        """Returns once the port takes connections."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if not self.alive:
                raise self.died()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise BenchError(f"{self.name} does not listen on port {port} after {timeout:.0f} s (log: {self.log})")

    def stop(self, patience: float = 15) -> float:
        """SIGTERM, then SIGKILL to its own session when it stays; returns the seconds that it took to end."""
        begin = time.monotonic()
        if self.alive:
            self._p.send_signal(signal.SIGTERM)
            try:
                self._p.wait(patience)
            except subprocess.TimeoutExpired:
                print(f"{self.name} stayed {patience:.0f} s after SIGTERM and was killed", file=sys.stderr)
                os.killpg(self.pid, signal.SIGKILL)
                self._p.wait()
        if self._p.stdout:
            self._p.stdout.close()
        return time.monotonic() - begin

    def kill(self) -> None:
        """Ends it at once, without a chance to say goodbye to its peers. `stop` is still needed."""
        self._p.kill()

    def finish(self, patience: float) -> str:
        """Asks it to end and returns the last line of its captured output."""
        if self.alive:
            self._p.send_signal(signal.SIGTERM)
        try:
            out, _ = self._p.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            self.stop(1)
            return ""
        lines = out.strip().splitlines()
        return lines[-1] if lines else ""
