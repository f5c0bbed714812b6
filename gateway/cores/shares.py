"""Shares: how many workers there are, and what of the settings is one worker's part."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from gateway.nodes.host import Slot
from gateway.settings import Settings

REGISTRY: Final = "nodes.db"  # in the data folder, where the settings name no registry
STALE: Final = tuple(f"{REGISTRY}{suffix}" for suffix in ("", "-wal", "-shm"))  # who stands in it at a start is dead
SPREADS: Final = sys.platform.startswith("linux")  # elsewhere SO_REUSEPORT gives all connections to one process
_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


def workers_of(settings: Settings) -> int:
    """How many processes the settings ask for; 0 is one where the system does not spread connections over several."""
    return settings.serve.workers or (cores() if SPREADS else 1)


def cores(quota: Path = _QUOTA) -> int:
    """How many this process may use: of the machine, less where it is bound to some or to a part of their time."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # another system, another version of control groups, or "max"
        allowed, period = map(int, quota.read_text("ascii").split())
        found = min(found, math.ceil(allowed / period))
    return max(1, found)


def of_worker(settings: Settings, slot: Slot) -> Settings:
    """The settings that hold in one of several workers: bounds that count for the whole node are divided."""

    def part(bound: int) -> int:
        return math.ceil(bound / slot.count)

    media = settings.workers.most or max(8, 4 * cores())
    return settings.model_copy(
        update={
            "limits": settings.limits.model_copy(update={"publishers": part(settings.limits.publishers)}),
            "workers": settings.workers.model_copy(update={"most": part(media)}),
            "edge": settings.edge.model_copy(update={"cache": part(settings.edge.cache)}),
            "recording": settings.recording.model_copy(update={"spool_bytes": part(settings.recording.spool_bytes)}),
        }
    )


def registered(settings: Settings, slot: Slot) -> Settings:
    """The same with a registry in which the workers of this host find each other, where none is set; and with a secret
    of the master's, where there is no other."""
    update: dict[str, object] = {}
    if not settings.registry:
        update["registry"] = f"sqlite:///{(settings.data / REGISTRY).absolute()}"
    if not settings.cluster.secret.get_secret_value():
        update["cluster"] = settings.cluster.model_copy(update={"secret": SecretStr(slot.secret)})
    return settings.model_copy(update=update)
