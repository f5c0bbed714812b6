"""The limits of the control group of this process: the quota of the processor, and memory (cgroups(7)).

Version 2 has one tree of folders; version 1, on older hosts, has one for each controller. The limits of groups above
hold, too. Below `/sys/fs/cgroup` a container sees only its own group, even if `/proc/self/cgroup` has the path of the
host. root: the folder with `proc` and `sys`.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/")
_MOUNTED: Final = Path("sys/fs/cgroup")
# Version 1 writes the largest multiple of the page size where nothing is limited.
_UNLIMITED: Final = 1 << 62
# A file may be missing, of another version, or have the word "max".
_NO_LIMIT: Final = (OSError, ValueError, IndexError)


@dataclass(frozen=True, slots=True)
class ProcessorQuota:
    """A limit of the processor. group: whose it is. cores: may be used at once. used: seconds of processor time."""

    group: Path
    cores: float
    used: float


def cores(root: Path = _ROOT) -> int:
    """Returns the number of cores that this process may use, considering CPU affinity and quotas."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *(math.ceil(quota.cores) for quota in processor_quotas(root))]))


def memory_limit(root: Path = _ROOT) -> int | None:
    """Returns the bytes that this process and the others of its group may use together. None: no limit."""
    found = []
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(*_NO_LIMIT):
                found.append(int((root / _MOUNTED / group / name).read_text("ascii")))
    return min((limit for limit in found if limit < _UNLIMITED), default=None)


def processor_quotas(root: Path = _ROOT) -> Iterator[ProcessorQuota]:
    """Yields the quotas of this process's group and of the groups above it."""
    for group in _groups(root, "cpu"):
        for read in (_quota_of_version_2, _quota_of_version_1):
            with suppress(*_NO_LIMIT):
                yield read(root / _MOUNTED, group)


def _quota_of_version_2(mounted: Path, group: Path) -> ProcessorQuota:
    quota, period = map(int, (mounted / group / "cpu.max").read_text("ascii").split())
    used = 0
    with suppress(*_NO_LIMIT):
        words = (mounted / group / "cpu.stat").read_text("ascii").split()
        used = int(words[words.index("usage_usec") + 1])
    return ProcessorQuota(group, quota / period, used / 1e6)


def _quota_of_version_1(mounted: Path, group: Path) -> ProcessorQuota:
    quota, period = (int((mounted / group / f"cpu.cfs_{name}_us").read_text("ascii")) for name in ("quota", "period"))
    if quota < 0:
        raise ValueError("no quota")
    used = 0
    with suppress(*_NO_LIMIT):
        used = int((mounted / "cpuacct" / group.relative_to("cpu") / "cpuacct.usage").read_text("ascii"))
    return ProcessorQuota(group, quota / period, used / 1e9)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yields the folders of this process's groups and of those above them, relative to `/sys/fs/cgroup`."""
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or controller in controllers.split(","):
                top = Path(controller if controllers else "")
                own = Path(path.lstrip("/"))
                yield from (top / folder for folder in (own, *own.parents))
