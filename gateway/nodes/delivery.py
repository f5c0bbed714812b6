"""Delivery: an output that publishes a stream of ours, a rung, on the node that holds its source."""

from __future__ import annotations

import asyncio

import structlog

from gateway.hub.errors import HubError, OutputTrouble
from gateway.hub.fanout import EndReason
from gateway.hub.stream import Stream
from gateway.lib.metrics import Counter
from gateway.nodes.forward import push_link
from gateway.nodes.peers import Peers
from gateway.nodes.places import Place

log = structlog.get_logger(__name__)


class Delivery:
    """A node that is too slow loses whole groups of pictures, which `dropped` counts as "node"."""

    def __init__(self, peers: Peers, place: Place, dropped: Counter) -> None:
        self._peers = peers
        self._place = place
        self._dropped = dropped

    async def run(self, stream: Stream) -> None:
        """Until the stream ends. Raises OutputTrouble where the node does not take it, or not any more."""
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
        except HubError as error:
            raise OutputTrouble(str(error)) from None
        try:
            link.carry(stream, lambda reason: None if over.done() else over.set_result(reason))
            log.info("rung goes to its gateway", stream=stream.name, address=self._place.address)
            reason = await over
        finally:
            link.close()
        if stream.ended is None:
            raise OutputTrouble(f"the gateway let go of the rung: {reason}")
