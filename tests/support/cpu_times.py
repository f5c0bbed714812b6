"""The CPU seconds of each test file: of the test process, and of all processes that it started.

Browsers, ffmpeg and gateways use most of the CPU of a run, so the times of the tests alone say little. Not counted:
a process that outlives its parent, such as a server in the background, and a page's process that its browser has ended.
"""

import json
import os
from collections import defaultdict
from pathlib import Path

MEASURED = Path(__file__).resolve().parents[2] / "build/test-cpu.json"
_TICKS = os.sysconf("SC_CLK_TCK")
_PARENT, _TIMES = 1, slice(11, 15)  # behind the name in /proc/…/stat; the times are utime, stime, cutime, cstime


def _processes() -> dict[int, tuple[int, float]]:
    """The parent and the CPU seconds of all processes, with those of their ended children."""
    found = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            fields = Path(entry.path, "stat").read_text(errors="replace").rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        found[int(entry.name)] = int(fields[_PARENT]), sum(map(int, fields[_TIMES])) / _TICKS
    return found


def used(root: int) -> float:
    """The CPU seconds until now of the process `root` and of all that it started."""
    processes = _processes()
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, (parent, _) in processes.items():
        children[parent].append(pid)
    seconds, waiting = 0.0, [root]
    while waiting:
        pid = waiting.pop()
        seconds += processes.get(pid, (0, 0.0))[1]
        waiting += children[pid]
    return seconds


class FileMeter:
    """Sums the CPU seconds of the test files that one test process runs."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._before = used(os.getpid())

    def ends(self, file: str) -> None:
        """Gives everything used since the last call to `file`."""
        now = used(os.getpid())
        self.seconds[file] += max(0.0, now - self._before)  # a browser that ends takes the time of its pages along
        self._before = now


def add(measured: dict[str, float]) -> None:
    """Adds seconds of files to the table in `build`, and those of a file that several processes ran to each other."""
    MEASURED.parent.mkdir(exist_ok=True)
    table = defaultdict(float, json.loads(MEASURED.read_text()) if MEASURED.exists() else {})
    for file, seconds in measured.items():
        table[file] += round(seconds, 2)
    longest = sorted(table.items(), key=lambda one: -one[1])
    MEASURED.write_text(json.dumps({file: round(seconds, 2) for file, seconds in longest}, indent=1) + "\n")
