"""Creates the endpoint of an edge for other nodes: its state, and the streams that it serves."""

from gateway.channels.names import is_channel_id
from gateway.cluster.calls.gateway_operations import listing
from gateway.cluster.calls.node_endpoint import NodeEndpoint, PullableStreams
from gateway.cluster.calls.node_rpc import OperationSpec, json_response, node_operations
from gateway.cluster.members.node_authenticator import NodeAuthenticator
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.processes.metrics_aggregator import OPERATION as METRICS_OPERATION
from gateway.processes.metrics_aggregator import MetricsAggregator
from gateway.reports.node_status import NodeStatus
from gateway.reports.node_summary import summary
from gateway.webrtc.signalling import Signalling
from proxy.edge.channel_edge import ChannelEdge
from proxy.edge.edge_parts import EdgeParts


def build_node_endpoint(
    edge: EdgeParts, metrics_aggregator: MetricsAggregator | None, sessions: Signalling
) -> NodeEndpoint:
    """Returns the endpoint for other nodes.

    Other nodes may request the status of this edge, and report changed channels. If the edge serves one channel, or
    has a site, they may also request its streams.
    """
    node, cluster, channels = edge.node, edge.cluster, edge.viewers.channels
    settings, metrics = node.settings, node.metrics
    node_status = NodeStatus(settings.data, {"channels": settings.channels.partition(":")[0]})

    def changed(request: Request, id: str) -> Response:
        channels.forget(id)
        return json_response({"held": False})

    specs = {
        "node": listing(lambda: [summary(node_status, metrics)]),
        "changed": OperationSpec("POST", is_channel_id, changed),
    }
    operations = node_operations(cluster.siblings, specs)
    if metrics_aggregator is not None:
        operations[METRICS_OPERATION] = metrics_aggregator.operate
    if cluster.session_forwarder is not None:
        operations |= cluster.session_forwarder.operations(sessions.apply)
    channel, pulled = settings.edge.channel, edge.pulled
    serves = bool(settings.cluster.site) and not channel
    channel_edge = ChannelEdge(channel, pulled.replicas, pulled.browsers, edge.http_cache, serves)
    return NodeEndpoint(
        NodeAuthenticator(node.identity.secret, settings.limits.refusals_per_minute),
        cluster.siblings,
        PullableStreams(None, metrics.dropped, channel_edge.find_replica),
        cluster.reader,
        channel_edge.file,
        operations,
    )
