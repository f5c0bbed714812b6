"""Creates what changes channels, and what brings changes in the store to live streams."""

from functools import partial
from typing import Final

import structlog

from gateway.app.node_parts import NodeParts
from gateway.app.parts.backends import Backends
from gateway.app.parts.live import Live
from gateway.app.viewer_parts import ViewerParts
from gateway.channels.channel_changes import ChangeEffects, ChannelChanges
from gateway.live.channel_watch import ChannelWatch
from gateway.outputs.storage.periodic_deletion import run_periodically
from gateway.ports.cluster_queries import ClusterQueries
from gateway.ports.events import Event

log = structlog.get_logger(__name__)

_BIN_SECONDS: Final = (120.0, 3600.0)  # until old deletions become final, and between two such rounds


def build_changes(
    parts: NodeParts, backends: Backends, viewers: ViewerParts, live: Live, cluster: ClusterQueries
) -> ChannelChanges:
    """Returns what changes channels. Starts the watch of the store, which needs it."""
    stores, events = backends.stores, parts.events

    async def record(event: Event) -> None:
        data = {name: value for name, value in event.data.items() if name != "name"}
        log.info(event.type.replace(".", " "), channel=event.channel, **data)
        events.emit(event)

    watch = ChannelWatch(live.hub, stores.channels, backends.event_log.since, stores.changes)
    effects = ChangeEffects(record, forget=viewers.channels.forget, apply=watch.apply, tell_nodes=cluster.changed)
    hours = parts.settings.recording.bin_hours
    changes = ChannelChanges(stores.channels, stores.objects, effects, bin_hours=hours)
    parts.tasks.keep(lambda: watch.run(changes), "stored channels")
    emptied = partial(run_periodically, changes.delete_old, "the bin of channels could not be emptied", *_BIN_SECONDS)
    parts.tasks.keep(emptied, "bin of channels")
    return changes
