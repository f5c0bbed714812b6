"""Sends pushes and renditions to the node that holds the stream, unit by unit."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import structlog

from gateway.channels.channel import Channel
from gateway.cluster.members.node_address import NodeAddress, PeerRefused
from gateway.cluster.members.node_requests import check_held
from gateway.cluster.members.peers import Peers
from gateway.cluster.streams.pull import MAY_CONTINUE, FrameLink, reason_of
from gateway.cluster.streams.remote_sink import RemoteSink
from gateway.lib.metrics import Counter
from gateway.lib.sockets import limit_unsent
from gateway.live.network_quality import quality_fields
from gateway.live.next_numbers import OutputNumbers
from gateway.live.publisher import Evict, PushOrigin, StreamPublisher
from gateway.live.shelf import StreamLimits, StreamShelf
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.ports.errors import AtCapacity, GatewayError, NameInUse, NotAuthorized, OutputError, RefusalReason
from gateway.protocols import wire
from gateway.protocols.nodes import LinkMessage, decode_numbers

log = structlog.get_logger(__name__)

STATUS_IN_USE: Final = 409
STATUS_AT_CAPACITY: Final = 503
STATUS_NO_INPUT: Final = 403  # the channel does not have the input of the push
_MIN_LINK_SECONDS: Final = 1.0  # a link of a push that was placed again must last so long, otherwise the push ends


@dataclass(slots=True, eq=False)
class ForwardedPush:
    """A push that this node forwards.

    publisher: of the client, into a stream of the forwarder's shelf. The GOP cache of this stream has its last
    pictures.
    input: see AcquirePublisher. link: to `node`, which holds the channel's stream.
    placed_at: when it was forwarded again, monotonic seconds; -inf: never.
    """

    channel: Channel
    origin: PushOrigin
    input: str
    publisher: StreamPublisher
    node: NodeAddress
    link: PushLink
    placed_at: float = -math.inf

    @property
    def is_running(self) -> bool:
        """Whether the client is still connected."""
        return self.publisher.active


class PushForwarder:
    """Forwards pushes to the nodes that hold their streams. `shelf.run` must be running.

    A separate shelf holds the pushes. It has no players. Their publishers are ordinary publishers.

    on_interrupted: called when a link broke, or its node leaves. Its owner calls `forward`, `end` or `shelf.hand_over`
    later. Until then, the push stays connected, and its media go into the GOP cache only.

    limits: the gateway's stream limits. This shelf keeps no ended streams and no GOPs for viewers.
    dropped: counts units dropped because the other node was too slow, as "node".
    """

    def __init__(self, limits: StreamLimits, peers: Peers, dropped: Counter) -> None:
        self.shelf = StreamShelf(StreamLimits(0, 0, limits.gop_seconds, limits.gop_bytes))
        self._peers = peers
        self._dropped = dropped
        self.on_interrupted: Callable[[ForwardedPush], None] = self.end

    async def publish(
        self, node: NodeAddress, channel: Channel, origin: PushOrigin, evict: Evict, input: str = ""
    ) -> StreamPublisher:
        """Returns a publisher for a channel's stream that `node` holds. That node has accepted the push.

        input: see AcquirePublisher.
        Raises NameInUse, AtCapacity, PeerUnavailable; PeerRefused (404) if the node does not hold the stream.
        """
        name = channel.id
        link = await self._open_link(node, name, origin, input)
        local_name = f"{name}/{input}" if input else name  # the shelf may have several inputs of one channel
        self.shelf.end(local_name, EndReason.PUBLISHER_GONE)  # the node accepted the new push, so the old one ends
        try:
            publisher = self.shelf.publish_from(origin, channel, local_name, evict)
        except BaseException:
            link.close()
            raise
        self._attach(ForwardedPush(channel, origin, input, publisher, node, link))
        return publisher

    async def check(self, node: NodeAddress, channel: str) -> None:
        """Asks whether `node` holds a channel's stream. Raises PeerUnavailable; PeerRefused (421) if it does not."""
        await check_held(self._peers, node, channel)

    async def forward(self, push: ForwardedPush, node: NodeAddress) -> None:
        """Forwards an interrupted push to another node, from its last key frame on. Raises like `publish`."""
        link = await self._open_link(node, push.channel.id, push.origin, push.input)
        if push.is_running:
            push.node, push.link, push.placed_at = node, link, time.monotonic()
            self._attach(push)
        else:
            link.close()

    def end(self, push: ForwardedPush, reason: EndReason = EndReason.PUBLISHER_GONE) -> None:
        """Ends a push, unless it has ended."""
        if push.is_running:
            self.shelf.end(push.publisher.stream.name, reason)

    async def _open_link(self, node: NodeAddress, name: str, origin: PushOrigin, input: str) -> PushLink:
        try:
            return await push_link(self._peers, node, name, self._dropped, origin, input)
        except PeerRefused as refused:
            if refused.status == STATUS_IN_USE:
                raise NameInUse(name) from None
            if refused.status == STATUS_NO_INPUT:
                raise NotAuthorized(refused.message, RefusalReason.WRONG) from None
            if refused.status in (STATUS_AT_CAPACITY, 429):
                raise AtCapacity(refused.message) from None
            raise

    def _attach(self, push: ForwardedPush) -> None:
        node, stream, link = push.node, push.publisher.stream, push.link
        log.info("push is forwarded to another node", stream=push.channel.id, node=node.id, address=node.address,
                 peer=push.origin.peer)  # fmt: skip
        link.ended.add_done_callback(lambda ended: self._link_ended(push, ended.result()))
        link.attach_stream(stream)

    def _link_ended(self, push: ForwardedPush, reason: EndReason | None) -> None:
        if not push.is_running:
            return
        # A node that closes the new link at once cannot read the push: it would be sent again and again.
        if reason in MAY_CONTINUE and time.monotonic() - push.placed_at >= _MIN_LINK_SECONDS:
            self.on_interrupted(push)
        else:
            self.end(push, reason or EndReason.PUBLISHER_GONE)


class PushLink(FrameLink):
    """The client side of `POST /_node/<stream>`.

    numbers: the last numbers that the other node told, see `live.next_numbers`; {}: it told none.
    """

    _writer: RemoteSink

    def __init__(self, name: str, dropped: Counter) -> None:
        super().__init__(name, {LinkMessage.EVICT: self._evicted, LinkMessage.NUMBERS: self._take_numbers})
        self._dropped = dropped
        self._stream: Stream | None = None
        self._unusable: dict[str, object] = {}  # as it was sent last
        self.numbers: OutputNumbers = {}

    def opened(self, transport: asyncio.Transport, rest: bytes) -> None:
        limit_unsent(transport.get_extra_info("socket"))
        self._writer = RemoteSink(transport, self._dropped, self._send_quality)
        self._writer.begin()
        super().opened(transport, rest)

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
        """Sends the quality of the publisher's connection and what it cannot use, which only this node knows."""
        publisher = self._stream.publisher if self._stream is not None else None
        if publisher is None:
            return
        if (quality := publisher.network()) is not None:
            self._transport.write(wire.frame(LinkMessage.QUALITY, wire.write_json(quality_fields(quality))))
        if (unusable := publisher.on_air.unusable.fields()) != self._unusable:
            self._unusable = unusable
            self._transport.write(wire.frame(LinkMessage.UNUSABLE, wire.write_json(unusable)))

    def _evicted(self, body: bytes) -> None:
        self._finish(reason_of(body))
        self._transport.close()

    def _take_numbers(self, body: bytes) -> None:
        self.numbers = decode_numbers(body)

    def _finish(self, reason: EndReason | None) -> None:
        self._writer.stop()
        super()._finish(reason)
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
    return await peers.link(node, "POST", f"/_node/{name}?{query}", lambda: PushLink(name, dropped))


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
            raise OutputError(f"the gateway ended the rendition: {reason or EndReason.PUBLISHER_GONE}")
