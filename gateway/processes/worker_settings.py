"""Computes the number of workers and the settings of one worker."""

import math
import sys
from pathlib import Path
from typing import Final

import structlog
from pydantic import SecretStr

from gateway.cluster.members.worker_slot import WorkerSlot
from gateway.lib.control_group import cores, memory_limit
from gateway.settings import Settings

log = structlog.get_logger(__name__)

REGISTRY_FILE: Final = "nodes.db"  # in the data folder, if the settings name no registry
# When a master starts, all workers in this registry are dead. So it deletes these files.
STALE_FILES: Final = tuple(f"{REGISTRY_FILE}{suffix}" for suffix in ("", "-wal", "-shm"))
SHARES_PORTS: Final = sys.platform.startswith("linux")  # other systems send all connections to one of the processes
# The limits of a node of which each process gets a part, besides workers.most.
_DIVIDED: Final = {
    "limits": ("publishers", "viewer_memory"),
    "webrtc": ("peers", "half_open", "tcp_connections"),
    "edge": ("cache",),
    "recording": ("spool_bytes",),
}


def worker_count(settings: Settings) -> int:
    """Returns the number of worker processes. The setting 0 means one for each core on Linux, else one."""
    return settings.serve.workers or (cores() if SHARES_PORTS else 1)


def settings_for_worker(settings: Settings, slot: WorkerSlot) -> Settings:
    """Returns the settings of one of several workers. Limits of the whole node are divided by the number of workers."""

    def part(limit: int) -> int:
        return math.ceil(limit / slot.count)

    parts = {"workers": {"most": part(settings.workers.most or max(8, 4 * cores()))}}
    for section, names in _DIVIDED.items():
        parts[section] = {name: part(getattr(getattr(settings, section), name)) for name in names}
    update = {section: getattr(settings, section).model_copy(update=values) for section, values in parts.items()}
    return settings.model_copy(update=update)


def with_host_registry(settings: Settings, slot: WorkerSlot) -> Settings:
    """Returns the settings, completed so that the workers of one host find each other.

    Without a registry, it is a file in the data folder. Without cluster.secret, it is a secret of the master.
    """
    update: dict[str, object] = {}
    if not settings.registry:
        update["registry"] = f"sqlite:///{(settings.data / REGISTRY_FILE).absolute()}"
    if not settings.cluster.secret.get_secret_value():
        update["cluster"] = settings.cluster.model_copy(update={"secret": SecretStr(slot.secret)})
    return settings.model_copy(update=update)


def with_memory_limit(settings: Settings, root: Path = Path("/")) -> Settings:
    """Returns the settings with `vod.memory` at most three quarters of the control group's memory. 0, no limit, stays.

    Above the group's limit the kernel ends all processes of a container, with all streams. A job above its own limit
    fails alone.
    """
    limit = memory_limit(root)
    most = settings.vod.memory if limit is None else limit * 3 // 4
    if settings.vod.memory <= most:
        return settings
    log.info("the container has less memory than this option allows", option="vod.memory", used=most)
    return settings.model_copy(update={"vod": settings.vod.model_copy(update={"memory": most})})
