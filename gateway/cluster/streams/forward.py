"""Sends pushes and renditions to the node that holds the stream, unit by unit."""

import asyncio
import time
from typing import Final
from urllib.parse import urlencode

import structlog

from gateway.channels.channel import Channel
from gateway.cluster.members.node_address import NodeAddress, PeerRefused
from gateway.cluster.members.peers import NodeLink, Peers
from gateway.cluster.streams.link_timeout import LinkTimeout
from gateway.cluster.streams.pull import MAX_FRAME, reason_of
from gateway.cluster.streams.remote_sink import RemoteSink
from gateway.lib.metrics import Counter
from gateway.live.hub import Hub, StreamLimits
from gateway.live.network_quality import quality_fields
from gateway.live.publisher import Evict, PushOrigin, StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.errors import InvalidData
from gateway.ports.errors import AtCapacity, GatewayError, NameInUse, NotAuthorized, OutputError, RefusalReason
from gateway.ports.events import Events
from gateway.protocols import wire
from gateway.protocols.nodes import LinkMessage

log = structlog.get_logger(__name__)

STATUS_IN_USE: Final = 409
STATUS_AT_CAPACITY: Final = 503
STATUS_NO_INPUT: Final = 403  # the channel does not have the input of the push


class PushForwarder:
    """Forwards pushes to the nodes that hold their streams. `hub.run` must be running.

    A separate hub holds the pushes. It has no players. Their publishers are ordinary publishers.

    limits: the gateway's stream limits. This hub keeps no ended streams and no GOPs for viewers.
    dropped: counts units dropped because the other node was too slow, as "node".
    """

    def __init__(self, limits: StreamLimits, peers: Peers, dropped: Counter) -> None:
        self.hub = Hub(StreamLimits(0, 0, limits.gop_seconds, limits.gop_bytes), (), Events(), renditions=False)
        self._peers = peers
        self._dropped = dropped

    async def publish(
        self, node: NodeAddress, channel: Channel, origin: PushOrigin, evict: Evict, input: str = ""
    ) -> StreamPublisher:
        """Returns a publisher for a channel's stream that `node` holds. That node has accepted the push.

        input: see AcquirePublisher.
        Raises NameInUse, AtCapacity, PeerUnavailable; PeerRefused (404) if the node does not hold the stream.
        """
        name = channel.id
        try:
            link = await push_link(self._peers, node, name, self._dropped, origin, input)
        except PeerRefused as refused:
            if refused.status == STATUS_IN_USE:
                raise NameInUse(name) from None
            if refused.status == STATUS_NO_INPUT:
                raise NotAuthorized(refused.message, RefusalReason.WRONG) from None
            if refused.status in (STATUS_AT_CAPACITY, 429):
                raise AtCapacity(refused.message) from None
            raise
        local_name = f"{name}/{input}" if input else name  # this hub may forward several inputs of one channel
        self.hub.end(local_name, EndReason.PUBLISHER_GONE)  # the node accepted the new push, so the old one ends
        try:
            publisher = self.hub.publish_from(origin, channel, local_name, evict)
        except BaseException:
            link.close()
            raise
        log.info("push is forwarded to another node", stream=name, node=node.id, address=node.address, peer=origin.peer)
        stream = publisher.stream
        link.ended.add_done_callback(lambda ended: self._end_stream(stream, ended.result()))
        link.attach_stream(stream)
        return publisher

    def _end_stream(self, stream: Stream, reason: EndReason) -> None:
        """Ends the local stream: the other node ended the push or disconnected."""
        # `find` hides streams that have no media yet, so the second condition finds these.
        if self.hub.find(stream.name) is stream or (stream.publisher is not None and stream.ended is None):
            self.hub.end(stream.name, reason)


class PushLink(NodeLink):
    """The client side of `POST /_node/<stream>`. ended: the reason for which the other node ended the stream."""

    _transport: asyncio.Transport
    _writer: RemoteSink

    def __init__(self, dropped: Counter) -> None:
        self._dropped = dropped
        self._framer = wire.Framer(MAX_FRAME)
        self._stream: Stream | None = None
        self._timeout = LinkTimeout(self.close)
        self.ended: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()

    def opened(self, transport: asyncio.Transport, rest: bytes) -> None:
        self._transport = transport
        self._writer = RemoteSink(transport, self._dropped, self._send_quality)
        self._writer.begin()
        self._timeout.begin()
        if rest:
            self.data_received(rest)

    def attach_stream(self, stream: Stream) -> None:
        """Sends everything that is pushed into `stream` over the link."""
        if self.ended.done():
            return
        self._stream = stream
        stream.attach(self._writer)
        if stream.additional is not None:
            stream.additional.attach(self._writer, time.monotonic())
        self._writer.end_replay()

    def _send_quality(self) -> None:
        """Sends the quality of the publisher's connection, which only this node knows."""
        publisher = self._stream.publisher if self._stream is not None else None
        if publisher is not None and (quality := publisher.network()) is not None:
            self._transport.write(wire.frame(LinkMessage.QUALITY, wire.write_json(quality_fields(quality))))

    def close(self) -> None:
        self._end(EndReason.PUBLISHER_GONE)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._timeout.last_received = time.monotonic()
        try:
            for kind, body in self._framer.receive(data):
                if kind == LinkMessage.EVICT:
                    self._end(reason_of(body))
                    self._transport.close()
        except InvalidData as error:
            log.warning("the other node sent invalid data", reason=str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(EndReason.PUBLISHER_GONE)

    def _end(self, reason: EndReason) -> None:
        self._timeout.stop()
        self._writer.stop()
        if not self.ended.done():
            self.ended.set_result(reason)
        if self._stream is not None:
            self._stream.detach(self._writer)
            if self._stream.additional is not None:
                self._stream.additional.detach()


async def push_link(
    peers: Peers, node: NodeAddress, name: str, dropped: Counter, origin: PushOrigin, input: str = ""
) -> PushLink:
    """Opens a link to `node`, which accepts the push of `name`. Raises PeerUnavailable, PeerRefused.

    origin: of the publisher. input: see AcquirePublisher.
    """
    fields = {"protocol": origin.protocol, "peer": origin.peer}
    if origin.keep_time:
        fields["keep_time"] = "1"
    if input:
        fields["input"] = input
    query = urlencode(fields)
    return await peers.link(node, "POST", f"/_node/{name}?{query}", lambda: PushLink(dropped))


class RenditionPush:
    """An output that publishes a rendition on the node that holds its source. Drops whole GOPs if the node is too slow.

    dropped: counts the dropped units as "node".
    """

    def __init__(self, peers: Peers, node: NodeAddress, dropped: Counter) -> None:
        self._peers = peers
        self._node = node
        self._dropped = dropped

    async def run(self, stream: Stream) -> None:
        """Publishes until the stream ends. Raises OutputError if the node rejects it or ends it earlier."""
        origin = PushOrigin("transcode", "worker", keep_time=True)
        try:
            link = await push_link(self._peers, self._node, stream.name, self._dropped, origin)
        except GatewayError as error:
            raise OutputError(str(error)) from None
        try:
            link.attach_stream(stream)
            log.info("publishing a rendition on its gateway", stream=stream.name, address=self._node.address)
            reason = await link.ended
        finally:
            link.close()
        if stream.ended is None:
            raise OutputError(f"the gateway ended the rendition: {reason}")
