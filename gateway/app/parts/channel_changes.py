"""Creates the services that change channels, and that bring changes in the store to live streams."""

from dataclasses import dataclass

import structlog

from gateway.app.node_parts import NodeParts
from gateway.app.parts.backends import Backends
from gateway.app.parts.live import Live
from gateway.app.viewer_parts import ViewerParts
from gateway.channels.channel_changes import ChangeEffects, ChannelChanges
from gateway.live.channel_watch import ChannelWatch
from gateway.ports.cluster_queries import ClusterQueries
from gateway.ports.events import Event

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredChannelParts:
    """The services. watch: `run` must be running."""

    changes: ChannelChanges
    watch: ChannelWatch


def build_changes(
    parts: NodeParts, backends: Backends, viewers: ViewerParts, live: Live, cluster: ClusterQueries
) -> StoredChannelParts:
    """Returns the services of a gateway."""
    stores, events = backends.stores, parts.events

    async def record(event: Event) -> None:
        data = {name: value for name, value in event.data.items() if name != "name"}
        log.info(event.type.replace(".", " "), channel=event.channel, **data)
        events.emit(event)

    watch = ChannelWatch(live.hub, stores.channels, backends.event_log.since, stores.changes)
    effects = ChangeEffects(record, forget=viewers.channels.forget, apply=watch.apply, tell_nodes=cluster.changed)
    return StoredChannelParts(ChannelChanges(stores.channels, stores.objects, effects), watch)
