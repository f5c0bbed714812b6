"""Creates the alarms of a gateway."""

import socket
from collections.abc import Awaitable, Callable

from gateway.alarms.alarms import Alarms, AlarmSources
from gateway.alarms.delivery import Delivery
from gateway.alarms.fault import FaultKind
from gateway.alarms.fault_board import FaultBoard
from gateway.alarms.node_watch import NodeWatch
from gateway.alarms.traffic_watch import TrafficWatch
from gateway.app.node_parts import NodeParts
from gateway.app.parts.backends import Backends
from gateway.app.parts.diagnosis import Diagnosis
from gateway.app.parts.live import Live
from gateway.lib.egress import Egress
from gateway.ports.cluster_queries import ClusterQueries
from gateway.ports.errors import GatewayError
from gateway.ports.stores import Registry


async def build_alarms(
    parts: NodeParts, backends: Backends, live: Live, diagnosis: Diagnosis, cluster: ClusterQueries
) -> Alarms:
    """Opens the alarms and starts their tasks."""
    stores, tasks = backends.stores, parts.tasks
    board = FaultBoard(live.hub.find)
    parts.events.listen(board.note)
    egress = Egress(parts.settings.egress.allow)
    delivery = await parts.stack.enter_async_context(Delivery(egress, parts.metrics.alarms, backends.tls))
    sources = AlarmSources(board, stores.channels, _elsewhere(stores.registry, parts.identity.id))
    alarms = Alarms(sources, stores.console, delivery)
    if stores.changes is not None:
        alarms.follow(stores.changes)
    if parts.first:
        host = socket.gethostname()
        alarms.settle(f"{FaultKind.DISK}//{host}")
        alarms.settle(f"{FaultKind.NODE_GONE}/")
        tasks.keep(TrafficWatch(board, lambda: alarms.stored.rules, diagnosis.traffic).run, "traffic watch")
        tasks.keep(NodeWatch(board, host, diagnosis.node_status.disk, cluster.gone).run, "node watch")
    tasks.keep(alarms.run, "alarms")
    return alarms


def _elsewhere(registry: Registry | None, node: str) -> Callable[[str], Awaitable[bool]]:
    async def elsewhere(channel: str) -> bool:
        try:
            claim = await registry.claim_of(channel) if registry is not None else None
        except GatewayError:
            return False
        return claim is not None and not claim.left and claim.node != node

    return elsewhere
