"""Makes a gateway a member of a cluster, if it has a registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gateway.app.node_parts import NodeParts
from gateway.app.parts.backends import Backends
from gateway.app.parts.live import Live
from gateway.app.role import PlayedStreams
from gateway.app.viewer_parts import ViewerParts
from gateway.channels.channel import Channel
from gateway.live.session_record import session_item
from gateway.outputs.browser.browser_pictures import PicturesOnDemand
from gateway.ports.nodes import NodeRole

if TYPE_CHECKING:
    from gateway.cluster.cluster_member import ClusterMember


async def build_cluster(parts: NodeParts, backends: Backends, viewers: ViewerParts, live: Live) -> ClusterMember | None:
    """Returns the membership in the cluster; None if there is no registry."""
    registry, outputs, own = backends.stores.registry, live.outputs, parts.own_address
    if registry is None:
        return None
    from gateway.cluster.cluster_member import ClusterMember, LocalStreams, LocalViewers

    def attributes(channel: Channel, address: str, started: float) -> Mapping[str, Any]:
        # An input that needs no push may begin before the ports are open. Its row then has the standard ports.
        ports = own.ports if own.address else None
        return session_item(channel, address, started, outputs.task_sets.of(channel.id), ports)

    member = ClusterMember(
        parts.identity,
        registry,
        lambda: own.as_node(parts.identity.id, NodeRole.GATEWAY),
        LocalStreams(
            live.hub, parts.metrics.dropped, outputs.replica_specs(), attributes, outputs.starts_edges, parts.events
        ),
        LocalViewers(
            viewers.channels.cached, viewers.protection, viewers.counts, parts.experience, parts.settings.edge
        ),
        parts.tasks,
    )
    outputs.task_sets.listen(lambda channel, arns: member.claims.rewrite_row(channel))
    await parts.stack.enter_async_context(member)
    parts.metrics.read_from(member.samples)
    return member


def played_streams(live: Live, member: ClusterMember | None) -> PlayedStreams:
    """Returns the streams that viewers of this node play: its own, and in a cluster those of other nodes."""
    if member is None:
        return PlayedStreams(live.hub, live.hub, PicturesOnDemand())
    from gateway.cluster.streams.browser_replicas import BrowserMediaOfNodes

    media = BrowserMediaOfNodes(PicturesOnDemand(), member.pulled.browsers)
    return PlayedStreams(member.streams, member.browser_streams, media, member.sessions)
