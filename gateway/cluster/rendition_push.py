"""An output that publishes a rendition (a ladder step) on the node that holds its source."""

from __future__ import annotations

import asyncio

import structlog

from gateway.cluster.forward import push_link
from gateway.cluster.node_address import NodeAddress
from gateway.cluster.peers import Peers
from gateway.lib.metrics import Counter
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.ports.errors import GatewayError, OutputError

log = structlog.get_logger(__name__)


class RenditionPush:
    """Publishes a stream on another node. A node that is too slow loses whole GOPs, counted in `dropped` as "node"."""

    def __init__(self, peers: Peers, place: NodeAddress, dropped: Counter) -> None:
        self._peers = peers
        self._place = place
        self._dropped = dropped

    async def run(self, stream: Stream) -> None:
        """Publishes until the stream ends. Raises OutputError if the node refuses it or stops accepting it."""
        over: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()
        try:
            link = await push_link(
                self._peers,
                self._place,
                stream.name,
                self._dropped,
                protocol="transcode",
                peer="worker",
                keep_time=True,
            )
        except GatewayError as error:
            raise OutputError(str(error)) from None
        try:
            link.carry(stream, lambda reason: None if over.done() else over.set_result(reason))
            log.info("rung goes to its gateway", stream=stream.name, address=self._place.address)
            reason = await over
        finally:
            link.close()
        if stream.ended is None:
            raise OutputError(f"the gateway let go of the rung: {reason}")
