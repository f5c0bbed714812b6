"""The parts that a gateway and an edge have in common."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from gateway.adapters.local.credentials import TokenVerifier
from gateway.app.shutdown import ShutdownSignals
from gateway.channels.stream_key import SigningSecrets
from gateway.cluster.node_identity import NodeIdentity
from gateway.lib.metrics import Metrics
from gateway.lib.readiness import Readiness
from gateway.lib.tasks import Tasks
from gateway.ports.events import Events
from gateway.processes.worker_link import WorkerLink
from gateway.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """The parts of one process that a role is made from.

    seat: a worker's link to its master. verifier: of the admin token. stack: closes what the role opens, in reverse
    order. tasks: the process's own. A role enters them on the stack when all is open that tasks may use.
    """

    settings: Settings
    identity: NodeIdentity
    seat: WorkerLink | None
    secrets: SigningSecrets = field(repr=False)
    verifier: TokenVerifier
    events: Events
    metrics: Metrics
    readiness: Readiness
    ending: ShutdownSignals
    stack: AsyncExitStack
    tasks: Tasks

    @property
    def first(self) -> bool:
        """Whether this is the only process, or the first of several on the same ports."""
        return self.identity.slot is None or self.identity.slot.first
