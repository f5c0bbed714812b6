"""The parts that a gateway and an edge have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.channels.stream_key import SigningSecrets
from gateway.lib.metrics import Metrics
from gateway.lib.readiness import Readiness
from gateway.lib.tasks import Tasks
from gateway.ports.events import Events
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class NodeParts:
    """The parts of one process that listeners and jobs are made from. tasks: the process's own, which end with it."""

    settings: Settings
    secrets: SigningSecrets = field(repr=False)
    events: Events
    metrics: Metrics
    readiness: Readiness
    tasks: Tasks
