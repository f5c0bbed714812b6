"""Creates the endpoint for other nodes: streams, files, and operations. Only members of a cluster import it."""

from gateway.api.application import NodeServer
from gateway.app.parts.gateway_parts import GatewayParts
from gateway.app.parts.playback import Playback
from gateway.cluster.calls.diagnosis_operations import DiagnosisOperations
from gateway.cluster.calls.forwarded_requests import FORWARDED, ForwardedRequests
from gateway.cluster.calls.gateway_operations import GatewayOperations
from gateway.cluster.calls.node_endpoint import HeldStreams, NodeEndpoint, Operation, PullableStreams
from gateway.cluster.cluster_member import ClusterMember
from gateway.cluster.members.node_authenticator import NodeAuthenticator
from gateway.cluster.streams.browser_form import BrowserForms
from gateway.processes.metrics_aggregator import OPERATION as SUMS
from gateway.processes.metrics_aggregator import MetricsAggregator
from gateway.webrtc.signalling import Signalling


def build_node_endpoint(
    gateway: GatewayParts,
    member: ClusterMember,
    playback: Playback,
    api: NodeServer,
    metrics_aggregator: MetricsAggregator | None,
    sessions: Signalling,
) -> NodeEndpoint:
    """Returns the endpoint for other nodes.

    api: answers requests that other nodes forward. metrics_aggregator: None for a single process.
    sessions: of WebRTC in this process.
    """
    node, hub = gateway.node, gateway.live.hub
    operations: dict[str, Operation] = {
        **_operations(gateway, member),
        "film": playback.vod_files.serve_node,
        "public": playback.channel_list,
        "site": gateway.viewers.site.node_answer,
        **gateway.publishers.operations(),
        FORWARDED: ForwardedRequests(member.siblings, api.connection).operate,
    }
    if member.sessions is not None:
        operations |= member.sessions.operations(sessions.apply)
    if metrics_aggregator is not None:
        operations[SUMS] = metrics_aggregator.operate
    dropped = node.metrics.dropped
    return NodeEndpoint(
        NodeAuthenticator(node.identity.secret, node.settings.limits.refusals_per_minute),
        member.siblings,
        PullableStreams(HeldStreams(hub, member.claims.session, BrowserForms(node.tasks)), dropped),
        gateway.backends.stores.channels,
        playback.node_files,
        operations,
    )


def _operations(gateway: GatewayParts, member: ClusterMember) -> dict[str, Operation]:
    """Returns the operations on streams and channels."""
    live, channels = gateway.live, gateway.viewers.channels
    operations = GatewayOperations(
        member.siblings,
        live.hub,
        channels=channels.cached,
        deleted=channels.deleted,
        changed=gateway.changes.follow_other_node,
        names=channels.slugs.table,
        remote_viewers=live.remote_viewers,
        report=gateway.diagnosis.summary,
    )
    diagnosis = DiagnosisOperations(
        member.siblings,
        live.hub,
        gateway.diagnosis.recorder,
        gateway.node.experience,
        gateway.pushes.refusals,
        gateway.reports,
    )
    return {**operations.table(), **diagnosis.table()}
