"""Forwards a push to the node that holds its stream, unit by unit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

import structlog

from gateway.channels.channel import Channel
from gateway.cluster.link_timeout import LinkTimeout
from gateway.cluster.node_address import NodeAddress, PeerRefused
from gateway.cluster.peers import NodeLink, Peers
from gateway.cluster.pull import MAX_FRAME, reason_of
from gateway.cluster.remote_sink import RemoteSink
from gateway.lib.metrics import Counter
from gateway.live.hub import Hub, StreamLimits
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.errors import InvalidData
from gateway.ports.errors import AtCapacity, NameInUse
from gateway.ports.events import Events
from gateway.protocols import wire
from gateway.protocols.nodes import LinkMessage

log = structlog.get_logger(__name__)

IN_USE: Final = 409
FULL: Final = 503


class PushForwarder:
    """The pushes that go on to their holders. `run` must run.

    They live in a hub of their own, where nobody plays them. Their publishers hold ordinary leases.
    """

    def __init__(self, limits: StreamLimits, peers: Peers, dropped: Counter) -> None:
        """limits: the limits of the gateway's streams. In this hub nothing lingers and nothing is kept for viewers.
        dropped: counts the units that a holder was too slow for, as "node".
        """
        self.hub = Hub(StreamLimits(0, 0, limits.gop_seconds, limits.gop_bytes), (), Events())
        self._peers = peers
        self._dropped = dropped

    async def publish(
        self,
        place: NodeAddress,
        channel: Channel,
        name: str,
        *,
        protocol: str,
        peer: str,
        evict: Callable[[EndReason], None],
        keep_time: bool = False,
    ) -> StreamPublisher:
        """Returns the lease on a stream that the node at `place` holds. That node has accepted the push.

        Raises NameInUse, AtCapacity, PeerUnavailable; PeerRefused (404) if the node does not hold the stream.
        """
        try:
            link = await push_link(
                self._peers, place, name, self._dropped, protocol=protocol, peer=peer, keep_time=keep_time
            )
        except PeerRefused as refused:
            if refused.status == IN_USE:
                raise NameInUse(name) from None
            if refused.status in (FULL, 429):
                raise AtCapacity(refused.words) from None
            raise
        self.hub.end(name, EndReason.PUBLISHER_GONE)  # the holder accepted the new push: this ends the old one
        try:
            publisher = self.hub.publish(channel, name, protocol=protocol, peer=peer, evict=evict, keep_time=keep_time)
        except AtCapacity:
            link.close()
            raise
        log.info("push goes on to its holder", stream=name, node=place.node, address=place.address, peer=peer)
        stream = publisher.stream
        link.carry(stream, lambda reason: self._over(stream, reason))
        return publisher

    def _over(self, stream: Stream, reason: EndReason) -> None:
        """Ends the stream here: the holder took the lease away, or is gone."""
        if self.hub.find(stream.name) is stream or (stream.publisher is not None and stream.ended is None):
            self.hub.end(stream.name, reason)


class PushLink(NodeLink):
    """The client side of `POST /_node/<stream>`."""

    _transport: asyncio.Transport
    _writer: RemoteSink

    def __init__(self, dropped: Counter) -> None:
        self._dropped = dropped
        self._framer = wire.Framer(MAX_FRAME)
        self._stream: Stream | None = None
        self._on_end: Callable[[EndReason], None] | None = None
        self._timeout = LinkTimeout(self.close)
        self._lost: EndReason | None = None

    def opened(self, transport: asyncio.Transport, rest: bytes) -> None:
        self._transport = transport
        self._writer = RemoteSink(transport, self._dropped)
        self._writer.begin()
        self._timeout.begin()
        if rest:
            self.data_received(rest)

    def carry(self, stream: Stream, on_end: Callable[[EndReason], None]) -> None:
        """Sends everything that is pushed into `stream` over the link.

        on_end: called once, when the other side ends the stream.
        """
        if self._lost is not None:
            on_end(self._lost)
            return
        self._stream, self._on_end = stream, on_end
        stream.attach(self._writer)
        self._writer.replayed()

    def close(self) -> None:
        self._end(EndReason.PUBLISHER_GONE)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._timeout.heard = time.monotonic()
        try:
            for kind, body in self._framer.receive(data):
                if kind == LinkMessage.EVICT:
                    self._end(reason_of(body))
                    self._transport.close()
        except InvalidData as error:
            log.warning("a holder made no sense", reason=str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(EndReason.PUBLISHER_GONE)

    def _end(self, reason: EndReason) -> None:
        self._timeout.stop()
        self._writer.stop()
        if self._lost is None:
            self._lost = reason
        on_end, self._on_end = self._on_end, None
        if self._stream is not None:
            self._stream.detach(self._writer)
        if on_end is not None:
            on_end(reason)


async def push_link(
    peers: Peers, place: NodeAddress, name: str, dropped: Counter, *, protocol: str, peer: str, keep_time: bool
) -> PushLink:
    """Opens a link to the node at `place`, which accepts the push of `name`. Raises PeerUnavailable, PeerRefused.

    protocol, peer: those of the publisher, shown in sessions.
    keep_time: whether the timestamps are the stream's own.
    """
    query = urlencode({"protocol": protocol, "peer": peer, **({"keep_time": "1"} if keep_time else {})})
    return await peers.link(place, "POST", f"/_node/{name}?{query}", lambda: PushLink(dropped))
