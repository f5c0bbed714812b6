"""Parts of an edge in front of scripted nodes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from gateway.cluster.files.upstream_client import UpstreamClient
from gateway.cluster.members.liveness_monitor import LivenessMonitor
from gateway.cluster.members.node_address import StreamLocator
from gateway.cluster.members.peers import Peers
from proxy.edge.gateways import GatewayFiles, Gateways


@contextlib.asynccontextmanager
async def storing(gateways: Gateways, where: StreamLocator, peers: Peers) -> AsyncIterator[GatewayFiles]:
    """Creates the client that requests files from gateways."""
    async with LivenessMonitor(peers) as vigil:
        yield GatewayFiles(gateways, UpstreamClient(where, peers, vigil), where)
