"""The services that a gateway and an edge share."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from gateway.adapters.local.credentials import AdminToken
from gateway.app.certificates import NodeCertificate
from gateway.app.own_address import OwnAddress
from gateway.app.shutdown import ShutdownSignals
from gateway.channels.stream_key import SigningSecrets
from gateway.cluster.members.node_identity import NodeIdentity
from gateway.diagnosis.experience import Experience
from gateway.lib.metrics import Metrics
from gateway.lib.readiness import Readiness
from gateway.lib.tasks import Tasks
from gateway.lib.traffic import TrafficCounts
from gateway.ports.events import Events
from gateway.processes.worker_link import WorkerLink
from gateway.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """The services of one process that its role uses.

    link: this process's link to its master; None: a single process. token: the admin token of this machine.
    stack: closes the role's services in reverse order.
    certificate: of the ports over TLS; None: they are closed.
    tasks: the tasks of the process. The role enters `tasks` on the stack after all services that a task may use.
    """

    settings: Settings
    identity: NodeIdentity
    link: WorkerLink | None
    secrets: SigningSecrets = field(repr=False)
    token: AdminToken
    events: Events
    metrics: Metrics
    experience: Experience
    traffic: TrafficCounts
    readiness: Readiness
    shutdown_signals: ShutdownSignals
    stack: AsyncExitStack
    tasks: Tasks
    own_address: OwnAddress
    certificate: NodeCertificate | None

    @property
    def first(self) -> bool:
        """Whether this is the only process, or the first of several on the same ports."""
        return self.identity.slot is None or self.identity.slot.first
