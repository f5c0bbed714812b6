"""Creates the alarms of a gateway."""

import socket
from collections.abc import Awaitable, Callable

from gateway.adapters.local.host import shown_addresses
from gateway.alarms.alarms import Alarms, AlarmSources
from gateway.alarms.announcements import Announcements
from gateway.alarms.delivery import Delivery
from gateway.alarms.fault import FaultKind
from gateway.alarms.fault_board import FaultBoard
from gateway.alarms.node_watch import NodeWatch
from gateway.alarms.traffic_watch import TrafficWatch
from gateway.app.node_parts import NodeParts
from gateway.app.parts.backends import Backends
from gateway.app.parts.diagnosis import Diagnosis
from gateway.app.parts.live import Live
from gateway.channels.addresses import OpenPorts
from gateway.channels.channel import Channel
from gateway.channels.stores import DomainStore
from gateway.lib.egress import Egress
from gateway.ports.cluster_queries import ClusterQueries
from gateway.ports.errors import GatewayError
from gateway.ports.stores import Registry
from gateway.settings import Settings


async def build_alarms(
    parts: NodeParts,
    backends: Backends,
    live: Live,
    diagnosis: Diagnosis,
    cluster: ClusterQueries,
    ports: Callable[[], OpenPorts],
) -> Alarms:
    """Opens the alarms and the announcements of shows, and starts their tasks. ports: those in shown addresses."""
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
    announcements = Announcements(stores.console, delivery, page_addresses(parts.settings, stores.domains, ports))
    diagnosis.shows.listen(announcements.sample)
    parts.events.listen(announcements.note)
    tasks.keep(announcements.run, "announcements")
    return alarms


def page_addresses(
    settings: Settings, domains: DomainStore, ports: Callable[[], OpenPorts]
) -> Callable[[Channel], Awaitable[tuple[str, str]]]:
    """Returns the function that returns the addresses of a channel's page and of its picture, without signatures."""
    hidden = bool(settings.auth.play or settings.playback.referer_allow)

    async def addresses(channel: Channel) -> tuple[str, str]:
        page = f"{shown_addresses(settings, await domains.get_domains(), ports()).pull}/{channel.public_name}/"
        is_open = (channel.play_auth or settings.playback.auth) == "none" and not (channel.referer_allow or hidden)
        return page, f"{page}poster.jpg" if is_open else ""

    return addresses


def _elsewhere(registry: Registry | None, node: str) -> Callable[[str], Awaitable[bool]]:
    async def elsewhere(channel: str) -> bool:
        try:
            claim = await registry.claim_of(channel) if registry is not None else None
        except GatewayError:
            return False
        return claim is not None and not claim.left and claim.node != node

    return elsewhere
