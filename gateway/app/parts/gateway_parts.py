"""Opens the services of a gateway in their order: each one gets those before it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gateway.alarms.alarms import Alarms
from gateway.app.node_parts import NodeParts
from gateway.app.parts.alarms import build_alarms
from gateway.app.parts.backends import Backends, open_backends
from gateway.app.parts.background_jobs import BackgroundJobs
from gateway.app.parts.channel_changes import build_changes
from gateway.app.parts.cluster import build_cluster
from gateway.app.parts.diagnosis import Diagnosis, build_diagnosis
from gateway.app.parts.live import Live, build_live
from gateway.app.parts.publishers import PublisherResponders
from gateway.app.parts.pushes import Pushes, build_pushes
from gateway.app.viewer_parts import ViewerParts, build_viewers
from gateway.channels.channel_changes import ChannelChanges
from gateway.channels.media_owners import StoredDeletions
from gateway.outputs.clips.clip_service import ClipService
from gateway.outputs.clips.sources import ClipSources
from gateway.outputs.clips.trims import Trims
from gateway.playback.replays import Replays
from gateway.playback.site import stored_site
from gateway.playback.slugs import NameTable, name_table
from gateway.ports.cluster_queries import ClusterQueries, SingleNode
from gateway.reports.shared_reports import SharedReports

if TYPE_CHECKING:
    from gateway.cluster.cluster_member import ClusterMember


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """The services of a gateway that exist before its ports are open. member: None for a single node."""

    node: NodeParts
    backends: Backends
    viewers: ViewerParts
    live: Live
    member: ClusterMember | None
    changes: ChannelChanges
    pushes: Pushes
    publishers: PublisherResponders
    diagnosis: Diagnosis
    clips: ClipService
    replays: Replays
    jobs: BackgroundJobs
    alarms: Alarms
    reports: SharedReports

    @property
    def cluster(self) -> ClusterQueries:
        """The requests to other nodes."""
        return self.member.cluster if self.member is not None else SingleNode()


async def open_gateway(node: NodeParts) -> GatewayParts:
    """Opens the services. Raises GatewayError, ListenError."""
    backends = await open_backends(node)
    stores = backends.stores

    if node.certificate is not None:
        node.certificate.share(node.settings, stores.console, stores.changes)

    async def names() -> NameTable:
        """Returns the channels of all slugs."""
        return name_table(await stores.channels.list())

    viewers = build_viewers(
        node, stores.channels, StoredDeletions(stores.channels), names, partial(stored_site, stores.console)
    )
    if stores.changes is not None:
        # The key of a deleted channel's row has a prefix.
        stores.changes.listen("channels", lambda key: viewers.channels.forget(key.rpartition("/")[2]))
    live = await build_live(node, backends, viewers.memory)
    member = await build_cluster(node, backends, viewers, live)
    cluster = member.cluster if member is not None else SingleNode()
    changes = build_changes(node, backends, viewers, live, cluster)
    pushes = build_pushes(node, changes, viewers, live, member)
    outputs = live.outputs
    sources = ClipSources(stores.objects, outputs.archive, outputs.finalizer)
    diagnosis = build_diagnosis(node, live, stores.console)
    publishers = PublisherResponders(node, live.hub, stores.domains, viewers.channels.cached, cluster)
    alarms = await build_alarms(node, backends, live, diagnosis, cluster, publishers.shown_ports)
    clips = ClipService(stores.objects, outputs.archive, sources, node.events, node.settings.clips)
    replays = Replays(stores.objects, node.tasks, node.settings.pages.replay)
    node.events.listen(replays.on_event)
    return GatewayParts(
        node,
        backends,
        viewers,
        live,
        member,
        changes,
        pushes,
        publishers,
        diagnosis,
        clips,
        replays,
        BackgroundJobs(node, stores, outputs, alarms, Trims(clips, viewers.channels.owners)),
        alarms,
        SharedReports(viewers.channels.cached, node.secrets, diagnosis.shows, backends.event_log, replays.has_page),
    )
