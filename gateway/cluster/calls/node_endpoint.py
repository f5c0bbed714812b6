"""Answers requests of other nodes below `/_node/`, on the playback listener and on the Unix socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog

from gateway.channels.channel import Channel
from gateway.channels.names import channel_of, is_stream_name
from gateway.channels.stores import ChannelReader
from gateway.cluster.calls.byte_tunnel import RawLink, tunnel_bytes
from gateway.cluster.files.cached_response import ResponseHead
from gateway.cluster.members.node_address import NodeAddress, PeerRefused
from gateway.cluster.members.node_authenticator import NodeAuthenticator, target_of
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.peers import Peers
from gateway.cluster.streams.pull import HeldStream, UnitSender, UnitSource
from gateway.cluster.streams.unit_receiver import UnitReceiver
from gateway.http.connection_slot import ConnectionSlot
from gateway.http.request import Request
from gateway.http.response import Answer, Response, Takeover, service_unavailable, text
from gateway.lib.metrics import Counter
from gateway.live.hub import Hub
from gateway.live.publisher import PushOrigin
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.playback.play_format import AnswerOrAwaitable
from gateway.ports.errors import (
    AtCapacity,
    GatewayError,
    NameInUse,
    NoSuchChannel,
    NoSuchStream,
    NotAuthorized,
    StoreUnavailable,
)
from gateway.protocols import nodes

log = structlog.get_logger(__name__)

# operation(request, the path after its name): called after the check of the signature. Parameters are in the query.
Operation: TypeAlias = Callable[[Request, str], AnswerOrAwaitable]
# file(request, stream name, the path below it): answers as for players, but without protection and counting.
Files: TypeAlias = Callable[[Request, str, str], AnswerOrAwaitable]
# find(request, stream name): returns a replica of this node. Raises NoSuchStream, AtCapacity.
FindReplica: TypeAlias = Callable[[Request, str], Awaitable[UnitSource]]

HOP: Final = "x-millrace-hop"  # marks a request that a sibling has forwarded and that must not be forwarded again
_PREFIX: Final = "/_node/"
_TRACKS_SECONDS: Final = 3.0  # time for which a pull waits for the first media of a stream

_FORBIDDEN: Final = text(403, "this node answers no other node: cluster.secret is not set")
NOT_HERE: Final = text(404, "this node does not hold the stream")
_PULL_HEAD: Final = (
    "HTTP/1.1 200 OK\r\nServer: Millrace\r\n"
    f"Content-Type: {nodes.CONTENT_TYPE}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
).encode("ascii")
_UPGRADED: Final = (
    f"HTTP/1.1 101 Switching Protocols\r\nServer: Millrace\r\nConnection: Upgrade\r\nUpgrade: {nodes.UPGRADE}\r\n\r\n"
).encode("ascii")


@dataclass(frozen=True, slots=True)
class HeldStreams:
    """The streams that a gateway holds, for other nodes.

    session: returns an id for the time in which the timestamps of a stream are continuous.
    form(stream, session, name): returns a stream in another form, see nodes.PullForm. Raises NoSuchStream.
    """

    hub: Hub
    session: Callable[[Stream], str]
    form: Callable[[Stream, str, str], UnitSource]

    def source(self, request: Request, stream: Stream) -> UnitSource:
        """Returns the source of a pull. Raises NoSuchStream for a form that this node does not make."""
        name = request.query.get("form")
        if name is None:
            return HeldStream(stream, self.session(stream), request.query.get("original") == "1")
        return self.form(stream, self.session(stream), name)


@dataclass(frozen=True, slots=True)
class PullableStreams:
    """The streams that other nodes may pull from this node.

    held: None: an edge, which holds none. dropped: counts units dropped because the other node was too slow.
    find_replica: finds a replica for another node; None if other nodes may only pull the streams of `held`.
    """

    held: HeldStreams | None
    dropped: Counter
    find_replica: FindReplica | None = None


@dataclass(frozen=True, slots=True)
class NodeEndpoint:
    """A FolderResponder for `_node`. Requests must be signed. They are not counted as viewers.

    channels: the store of channels, without a cache.
    """

    authenticator: NodeAuthenticator
    siblings: SiblingProcesses
    streams: PullableStreams
    channels: ChannelReader
    files: Files
    operations: Mapping[str, Operation]

    def is_signed(self, request: Request) -> bool:
        """Whether another node sent the request; for `exempts` of HttpServer. Hot path: called for all requests."""
        return request.raw_path.startswith(_PREFIX) and not self.authenticator.problem(request)

    def __call__(self, request: Request, rest: str) -> AnswerOrAwaitable:
        if not self.authenticator:
            return _FORBIDDEN
        if problem := self.authenticator.problem(request):
            return self.authenticator.refuse(request, problem)
        request.exempt = True
        name, slash, path = rest.partition("/")
        if name == nodes.OPERATIONS:
            return self._operate(request, path)
        if not is_stream_name(name):
            return text(404, "not found")
        if slash:
            return self._file(request, name, path)
        if request.method == "POST":
            return self._publish(request, name)
        return self._pull(request, name)

    # ---- operations ----

    def _operate(self, request: Request, path: str) -> AnswerOrAwaitable:
        name, _, rest = path.partition("/")
        operation = self.operations.get(name)
        if operation is None:
            return text(404, f"this node knows no operation {name[:64]}")
        return operation(request, rest)

    # ---- units ----

    async def _pull(self, request: Request, name: str) -> Answer:
        """Answers a pull. It may have to wait for media or for a rendition that will begin soon."""
        held = self.streams.held
        try:
            if held is not None and (stream := held.hub.find(name)) is not None:
                return self._send(held.source(request, stream), request.query.get("early") == "1")
            if held is not None and held.hub.holds(channel_of(name)):
                return self._send(held.source(request, await held.hub.wait(name, _TRACKS_SECONDS)), True)
            if self.streams.find_replica is not None:
                return self._send(await self.streams.find_replica(request, name), request.query.get("early") == "1")
        except NoSuchStream:
            return NOT_HERE
        except AtCapacity as error:
            return service_unavailable(str(error), 1)
        return await self._forward(request, name, _PULL_HEAD)

    def _send(self, source: UnitSource, early: bool) -> Answer:
        """Returns the takeover that sends the units. early: see UnitSender."""

        def begin(transport: asyncio.Transport, rest: bytes, slot: ConnectionSlot) -> asyncio.Protocol:
            transport.write(_PULL_HEAD)
            sender = UnitSender(transport, slot, source, self.streams.dropped, early)
            sender.begin()
            return sender

        return Takeover(begin)

    # ---- pushes ----

    async def _publish(self, request: Request, name: str) -> Answer:
        if request.headers.get("upgrade", "").lower() != nodes.UPGRADE:
            return text(426, "units are pushed here", headers={"Upgrade": nodes.UPGRADE})
        held = self.streams.held
        if held is None or not held.hub.holds(channel_of(name)):
            return await self._forward(request, name, _UPGRADED)
        try:
            channel = await self.channels.get(channel_of(name))
        except NoSuchChannel:
            return text(404, "there is no such channel")
        except StoreUnavailable as error:
            return service_unavailable(str(error), error.retry_after)
        return self._accept_push(held.hub, request, name, channel) if held.hub.holds(channel_of(name)) else NOT_HERE

    def _accept_push(self, hub: Hub, request: Request, name: str, channel: Channel) -> Answer:
        query = request.query
        receivers: list[UnitReceiver] = []
        protocol, peer = query.get("protocol", "node")[:16], query.get("peer", request.peer)[:64]
        origin = PushOrigin(protocol, peer, keep_time=query.get("keep_time") == "1")

        def evict(reason: EndReason) -> None:
            if receivers:
                receivers[0].evicted(reason)

        try:
            if name == channel.id:
                publisher = hub.publish_source(channel, origin, evict, query.get("input", ""), 0)
            else:
                publisher = hub.publish_from(origin, channel, name, evict)
        except NameInUse as error:
            return text(409, str(error))
        except NotAuthorized as error:
            return text(403, str(error))
        except AtCapacity as error:
            return service_unavailable(str(error), 5)

        source = hub.held(name) if name == channel.id else None
        numbers = None if source is None else source.playback.next_numbers

        log.info("publishing", stream=name, peer=peer, protocol=protocol, through=request.peer)

        def begin(transport: asyncio.Transport, rest: bytes, slot: ConnectionSlot) -> asyncio.Protocol:
            transport.write(_UPGRADED)
            receiver = UnitReceiver(transport, slot, name, request.query.get("keep_time") == "1", numbers)
            receivers.append(receiver)
            receiver.begin(publisher, rest)
            return receiver

        return Takeover(begin, publisher.close)

    # ---- files ----

    def _file(self, request: Request, name: str, path: str) -> AnswerOrAwaitable:
        held = self.streams.held
        if held is not None and (held.hub.find_recent(name) is not None or held.hub.holds(channel_of(name))):
            return self.files(request, name, path)
        return self._file_of_sibling(request, name, path)

    async def _file_of_sibling(self, request: Request, name: str, path: str) -> Answer:
        node = None if HOP in request.headers else await self.siblings.node_with(name)
        if node is None:
            answer = self.files(request, name, path)  # the answer for a stream that is not live
            return answer if isinstance(answer, Response | Takeover) else await answer
        try:
            return await fetch_from_sibling(self.siblings.peers, node, request)
        except GatewayError as error:
            return service_unavailable(str(error), 1)

    # ---- siblings ----

    async def _forward(self, request: Request, name: str, head: bytes) -> Answer:
        node = None if HOP in request.headers else await self.siblings.node_with(name)
        if node is None:
            return NOT_HERE
        target = target_of(request)
        try:
            link = await self.siblings.peers.link(node, request.method, target, RawLink, {HOP: "1"})
        except PeerRefused as refused:
            return text(refused.status, refused.message)
        except GatewayError as error:
            return service_unavailable(str(error), 1)

        def begin(transport: asyncio.Transport, rest: bytes, slot: ConnectionSlot) -> asyncio.Protocol:
            transport.write(head)
            return tunnel_bytes(transport, slot, rest, link)

        return Takeover(begin, link.abort)


async def fetch_from_sibling(peers: Peers, node: NodeAddress, request: Request) -> Response:
    """Returns the answer of a sibling to this request. Its body is a stream. Raises PeerUnavailable."""
    headers = {name: request.headers[name] for name in ("range", "if-range") if name in request.headers} | {HOP: "1"}
    exchange = peers.request(node, request.method, target_of(request), headers=headers, seconds=60.0)
    response = await exchange.__aenter__()
    head = ResponseHead.of(response)
    if request.method == "HEAD":
        await exchange.__aexit__(None, None, None)
        return head.response(None)

    async def body() -> AsyncIterator[bytes]:
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        finally:
            await exchange.__aexit__(None, None, None)

    return head.response(body())
