"""Forwarding: a push that arrived here for a stream that another node holds, carried there unit by unit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

import structlog

from gateway.hub.channel import Channel
from gateway.hub.errors import AtCapacity, NameInUse
from gateway.hub.events import Events
from gateway.hub.fanout import EndReason
from gateway.hub.hub import Hub, StreamLimits
from gateway.hub.publisher import Publisher
from gateway.hub.stream import Stream
from gateway.lib.metrics import Counter
from gateway.media.errors import InvalidData
from gateway.nodes.peers import Link, Peers
from gateway.nodes.places import PeerRefused, Place
from gateway.nodes.pulling import MOST_FRAME, reason_of
from gateway.nodes.silence import Silence
from gateway.nodes.writer import UnitWriter
from gateway.protocols import wire
from gateway.protocols.nodes import LinkMessage

log = structlog.get_logger(__name__)

IN_USE: Final = 409
FULL: Final = 503


class Forwards:
    """Pushes that go on to the holder. They live in a hub of their own, where nobody plays them: their publishers hold
    ordinary leases. `run` must run."""

    def __init__(self, limits: StreamLimits, peers: Peers, dropped: Counter) -> None:
        """limits: of the gateway's streams; nothing lingers here, nothing is kept for viewers. dropped: counts units
        that a holder was too slow for, as "node"."""
        self.hub = Hub(StreamLimits(0, 0, limits.gop_seconds, limits.gop_bytes), (), Events())
        self._peers = peers
        self._dropped = dropped

    async def run(self) -> None:
        """Until cancelled."""
        await self.hub.run()

    def drain(self) -> None:
        """No more of them; those there are told."""
        self.hub.drain()

    async def publish(
        self,
        place: Place,
        channel: Channel,
        name: str,
        *,
        protocol: str,
        peer: str,
        evict: Callable[[EndReason], None],
        keep_time: bool = False,
    ) -> Publisher:
        """The lease on a stream that the node at `place` holds, which has said yes.

        Raises NameInUse, AtCapacity, PeerAway; PeerRefused (404) where it does not hold the stream.
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
        self.hub.end(name, EndReason.PUBLISHER_GONE)  # the holder has chosen: whoever was here is told by it, too
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
        """The holder took the lease away, or is gone."""
        if self.hub.find(stream.name) is stream or (stream.publisher is not None and stream.ended is None):
            self.hub.end(stream.name, reason)


class PushLink(Link):
    """Our end of `POST /_node/<stream>`."""

    _transport: asyncio.Transport
    _writer: UnitWriter

    def __init__(self, dropped: Counter) -> None:
        self._dropped = dropped
        self._framer = wire.Framer(MOST_FRAME)
        self._stream: Stream | None = None
        self._told: Callable[[EndReason], None] | None = None
        self._silence = Silence(self.close)
        self._lost: EndReason | None = None

    def opened(self, transport: asyncio.Transport, rest: bytes) -> None:
        self._transport = transport
        self._writer = UnitWriter(transport, self._dropped)
        self._writer.begin()
        self._silence.begin()
        if rest:
            self.data_received(rest)

    def carry(self, stream: Stream, told: Callable[[EndReason], None]) -> None:
        """Everything that is pushed into `stream` goes over the link. told: once, where the other side ends it."""
        if self._lost is not None:
            told(self._lost)
            return
        self._stream, self._told = stream, told
        stream.attach(self._writer)

    def close(self) -> None:
        self._end(EndReason.PUBLISHER_GONE)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._silence.heard = time.monotonic()
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
        self._silence.stop()
        self._writer.stop()
        if self._lost is None:
            self._lost = reason
        told, self._told = self._told, None
        if self._stream is not None:
            self._stream.detach(self._writer)
        if told is not None:
            told(reason)


async def push_link(
    peers: Peers, place: Place, name: str, dropped: Counter, *, protocol: str, peer: str, keep_time: bool
) -> PushLink:
    """A link to the node at `place`, which takes the push of `name`. Raises PeerAway, PeerRefused.

    protocol, peer: of who pushes, as sessions show it. keep_time: its times are the stream's own.
    """
    query = urlencode({"protocol": protocol, "peer": peer, **({"keep_time": "1"} if keep_time else {})})
    return await peers.link(place, "POST", f"/_node/{name}?{query}", lambda: PushLink(dropped))
