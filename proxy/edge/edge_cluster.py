"""Opens the services that find streams, channels and gateways: in a registry, or in the settings."""

from dataclasses import dataclass

from gateway.adapters.stores import open_channels, open_registry
from gateway.app.node_parts import NodeParts
from gateway.channels.media_owners import StoredDeletions
from gateway.channels.stores import ChannelReader
from gateway.cluster.calls.cluster_client import ClusterClient
from gateway.cluster.calls.session_forwarder import FindNodes, SessionForwarder, no_nodes
from gateway.cluster.members.edge_selector import EdgeSelector
from gateway.cluster.members.node_address import StreamLocator
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.peers import Peers
from gateway.cluster.members.registry_locator import RegistryLocator
from gateway.lib.tasks import Tasks
from gateway.ports.stores import Registry
from proxy.edge import channel_edge, gateways
from proxy.edge.gateways import Gateways, UpstreamFinder
from proxy.edge.remote_channels import HolderFirstChannels, RemoteChannels


@dataclass(frozen=True, slots=True)
class EdgeCluster:
    """The services of an edge that find other nodes. registry, edge_selector: None if the settings list gateways.

    session_forwarder: reaches the WebRTC sessions of other processes; None without a secret of the cluster.
    reader: reads channels. deleted: reads what remains of deleted channels.
    """

    registry: Registry | None
    locator: RegistryLocator
    edge_selector: EdgeSelector | None
    peers: Peers
    siblings: SiblingProcesses
    session_forwarder: SessionForwarder | None
    gateways: Gateways
    reader: ChannelReader
    deleted: ChannelReader

    @property
    def source(self) -> StreamLocator:
        """The locator that finds the node from which a stream is pulled."""
        return self.edge_selector or self.locator

    def start(self, tasks: Tasks) -> None:
        """Starts the background tasks."""
        tasks.start(self.locator.run(), "lookups")
        if self.edge_selector is not None:
            tasks.start(self.edge_selector.run(), "edges of channels")


async def open_cluster(parts: NodeParts) -> EdgeCluster:
    """Opens the services. Raises StoreUnusable."""
    settings, stack, identity = parts.settings, parts.stack, parts.identity
    channel = settings.edge.channel
    headers = {channel_edge.HEADER: channel} if channel else {}
    peers = await stack.enter_async_context(Peers(identity.secret, headers=headers))
    registry = await stack.enter_async_context(open_registry(settings))
    stored = await stack.enter_async_context(open_channels(settings))
    edge_selector: EdgeSelector | None = None
    nodes: FindNodes = no_nodes
    if registry is not None:
        parts.readiness.add("registry", registry.check)
        locator = RegistryLocator(registry)
        edge_selector = EdgeSelector(locator, registry, identity.id, channel)
        cluster = await stack.enter_async_context(ClusterClient(identity.id, registry, locator, peers))
        live_gateways, nodes = gateways.registry_gateways(cluster.nodes), cluster.nodes
    else:
        upstreams = UpstreamFinder(settings.edge.upstream, peers)
        parts.readiness.add("gateways", upstreams.check)
        locator, live_gateways = RegistryLocator(upstreams), gateways.configured_gateways(settings.edge.upstream)
    all_gateways = Gateways(live_gateways)
    reader: ChannelReader = RemoteChannels(all_gateways, locator, peers)
    deleted: ChannelReader = RemoteChannels(all_gateways, locator, peers, "deleted")
    if stored is not None:
        parts.readiness.add("channel store", stored.check)
        reader, deleted = HolderFirstChannels(stored, locator, peers), StoredDeletions(stored)
    siblings = SiblingProcesses(identity.id, peers, identity.siblings)
    session_forwarder = SessionForwarder(siblings, identity.secret, nodes) if identity.secret else None
    return EdgeCluster(
        registry, locator, edge_selector, peers, siblings, session_forwarder, all_gateways, reader, deleted
    )
