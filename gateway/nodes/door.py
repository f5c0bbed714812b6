"""The node door: what other nodes ask of this one below `/_node/`, on the playback listener and on the Unix socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import structlog

from gateway.hub.channel import Channel
from gateway.hub.cluster_secret import ClusterSecret
from gateway.hub.errors import AtCapacity, HubError, NameInUse, NoSuchChannel, NoSuchStream, StoreAway
from gateway.hub.hub import Hub
from gateway.hub.names import channel_of, is_stream_name
from gateway.hub.ports import ChannelReader
from gateway.hub.stream import Stream
from gateway.lib.metrics import Counter
from gateway.nodes.peers import Peers
from gateway.nodes.places import PeerRefused, Place
from gateway.nodes.pulling import Own, Source, UnitSender
from gateway.nodes.splice import RawLink, splice
from gateway.nodes.taking import UnitTaker
from gateway.protocols import nodes
from gateway.servers.http import Lease
from gateway.servers.playback import Answering
from gateway.servers.request import Request
from gateway.servers.response import Answer, Response, Takeover, text, try_later

log = structlog.get_logger(__name__)

# operation(request, the path below its name): asked of this node, signed already; parameters are the query's.
Operation: TypeAlias = Callable[[Request, str], Awaitable[Response]]
# file(request, stream name, the path below it): as players get it, but for protection and counting.
Files: TypeAlias = Callable[[Request, str, str], Answering]
# give(request, stream name): a replica that this node gives on. Raises NoSuchStream, AtCapacity.
Give: TypeAlias = Callable[[Request, str], Awaitable[Source]]

HOP: Final = "x-millrace-hop"  # a request that a sibling passed on: nobody passes it on again
_BELOW: Final = "/_node/"
_SAY_SECONDS: Final = 10.0
_TRACKS_SECONDS: Final = 3.0  # that a pull waits for a stream that has no media yet

_FORBIDDEN: Final = text(403, "this node answers none: cluster.secret is not set")
_UNSIGNED: Final = text(401, "not signed with the secret of this cluster")
NOT_HERE: Final = text(404, "this node does not hold the stream")
_OPEN: Final = (
    "HTTP/1.1 200 OK\r\nServer: Millrace\r\n"
    f"Content-Type: {nodes.CONTENT_TYPE}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
).encode("ascii")
_SWITCHED: Final = (
    f"HTTP/1.1 101 Switching Protocols\r\nServer: Millrace\r\nConnection: Upgrade\r\nUpgrade: {nodes.UPGRADE}\r\n\r\n"
).encode("ascii")


class NodeDoor:
    """A FolderResponder for `_node`. Every request is signed; none counts as a viewer's.

    held: where a stream of this host is that another of its processes holds; None: none of them does.
    """

    def __init__(
        self,
        *,
        secret: str | ClusterSecret,
        hub: Hub,
        channels: ChannelReader,
        files: Files,
        peers: Peers,
        held: Callable[[str], Awaitable[Place | None]],
        operations: Mapping[str, Operation],
        dropped: Counter,
        session: Callable[[Stream], str],
        give: Give | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """channels: read fresh. session: the same for as long as a stream's times go on. give: None for a node that
        gives nothing but what it holds."""
        self._secret = ClusterSecret.of(secret)
        self._hub = hub
        self._channels = channels
        self._files = files
        self._peers = peers
        self._held = held
        self._operations = operations
        self._dropped = dropped
        self._session = session
        self._give = give
        self._clock = clock
        self._said = 0.0  # when a refusal was logged last

    def signed(self, request: Request) -> bool:
        """Whether it is another node that asks; for HttpServer's `exempts`. Hot for all others."""
        return request.raw_path.startswith(_BELOW) and not self._wrong(request)

    def __call__(self, request: Request, rest: str) -> Answering:
        if not self._secret:
            return _FORBIDDEN
        if wrong := self._wrong(request):
            self._say(request, wrong)
            return _UNSIGNED
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

    def _wrong(self, request: Request) -> str:
        given = request.headers.get(nodes.HEADER, "")
        return self._secret.verify(request.method, _target(request), given, self._clock())

    def _say(self, request: Request, wrong: str) -> None:
        """Strangers may ask as often as they like: one line a while is enough to notice a wrong secret or clock."""
        if (now := self._clock()) - self._said >= _SAY_SECONDS:
            self._said = now
            log.warning("node refused", peer=request.peer, path=request.path[:200], reason=wrong)

    # ---- operations ----

    def _operate(self, request: Request, path: str) -> Answering:
        name, _, rest = path.partition("/")
        operation = self._operations.get(name)
        if operation is None:
            return text(404, f"this node knows no operation {name[:64]}")
        return self._done(operation(request, rest))

    async def _done(self, operation: Awaitable[Response]) -> Answer:
        return await operation

    # ---- units ----

    def _pull(self, request: Request, name: str) -> Answering:
        stream = self._hub.find(name)
        if stream is not None:
            return self._send(self._own(request, stream))
        return self._pull_later(request, name)

    async def _pull_later(self, request: Request, name: str) -> Answer:
        """A stream without media yet, a rendition that is about to begin, one that is given on, or a sibling's."""
        try:
            if self._hub.holds(channel_of(name)):
                return self._send(self._own(request, await self._hub.wait(name, _TRACKS_SECONDS)))
            if self._give is not None:
                return self._send(await self._give(request, name))
        except NoSuchStream:
            return NOT_HERE
        except AtCapacity as error:
            return try_later(str(error), 1)
        return await self._pass_on(request, name, _OPEN)

    def _own(self, request: Request, stream: Stream) -> Source:
        return Own(stream, self._session(stream), request.query.get("original") == "1")

    def _send(self, source: Source) -> Answer:
        def begin(transport: asyncio.Transport, rest: bytes, lease: Lease) -> asyncio.Protocol:
            transport.write(_OPEN)
            sender = UnitSender(transport, lease, source, self._dropped)
            sender.begin()
            return sender

        return Takeover(begin)

    # ---- pushes ----

    async def _publish(self, request: Request, name: str) -> Answer:
        if request.headers.get("upgrade", "").lower() != nodes.UPGRADE:
            return text(426, "units are pushed here", headers={"Upgrade": nodes.UPGRADE})
        if not self._hub.holds(channel_of(name)):
            return await self._pass_on(request, name, _SWITCHED)
        try:
            channel = await self._channels.get(channel_of(name))
        except NoSuchChannel:
            return text(404, "there is no such channel")
        except StoreAway as away:
            return try_later(str(away), away.retry_after)
        if not self._hub.holds(channel_of(name)):
            return NOT_HERE
        return self._take(request, name, channel)

    def _take(self, request: Request, name: str, channel: Channel) -> Answer:
        query, hub = request.query, self._hub
        taker: list[UnitTaker] = []
        try:
            publisher = hub.publish(
                channel,
                name,
                protocol=query.get("protocol", "node")[:16],
                peer=query.get("peer", request.peer)[:64],
                evict=lambda reason: taker[0].evicted(reason) if taker else None,
                keep_time=query.get("keep_time") == "1",
            )
        except NameInUse as error:
            return text(409, str(error))
        except AtCapacity as error:
            return try_later(str(error), 5)

        log.info("publishing", stream=name, peer=publisher.peer, protocol=publisher.protocol, through=request.peer)

        def begin(transport: asyncio.Transport, rest: bytes, lease: Lease) -> asyncio.Protocol:
            transport.write(_SWITCHED)
            one = UnitTaker(transport, lease, name, request.query.get("keep_time") == "1")
            taker.append(one)
            one.begin(publisher, rest)
            return one

        return Takeover(begin, publisher.close)

    # ---- files ----

    def _file(self, request: Request, name: str, path: str) -> Answering:
        if self._hub.find_recent(name) is not None or self._hub.holds(channel_of(name)):
            return self._files(request, name, path)
        return self._file_of_sibling(request, name, path)

    async def _file_of_sibling(self, request: Request, name: str, path: str) -> Answer:
        place = None if HOP in request.headers else await self._held(name)
        if place is None:
            answer = self._files(request, name, path)  # says in the words of playback that it is not live
            return answer if isinstance(answer, Response | Takeover) else await answer
        try:
            return await fetched(self._peers, place, request)
        except HubError as error:
            return try_later(str(error), 1)

    # ---- siblings ----

    async def _pass_on(self, request: Request, name: str, head: bytes) -> Answer:
        place = None if HOP in request.headers else await self._held(name)
        if place is None:
            return NOT_HERE
        target = _target(request)
        try:
            link = await self._peers.link(place, request.method, target, RawLink, {HOP: "1"})
        except PeerRefused as refused:
            return text(refused.status, refused.words)
        except HubError as error:
            return try_later(str(error), 1)

        def begin(transport: asyncio.Transport, rest: bytes, lease: Lease) -> asyncio.Protocol:
            transport.write(head)
            return splice(transport, lease, rest, link)

        return Takeover(begin, link.abort)


async def fetched(peers: Peers, place: Place, request: Request) -> Response:
    """A sibling's answer to the same request, as it comes. Raises PeerAway."""
    target = _target(request)
    headers = {name: request.headers[name] for name in ("range", "if-range") if name in request.headers} | {HOP: "1"}
    opened = peers.request(place, request.method, target, headers=headers, seconds=60.0)
    response = await opened.__aenter__()
    if request.method == "HEAD":
        await opened.__aexit__(None, None, None)

    async def body() -> AsyncIterator[bytes]:
        try:
            async for piece in response.content.iter_any():
                yield piece
        finally:
            await opened.__aexit__(None, None, None)

    kept = {n: v for n in ("ETag", "Last-Modified", "Content-Range", "Retry-After") if (v := response.headers.get(n))}
    return Response(
        response.status,
        body() if request.method != "HEAD" else None,
        response.headers.get("Content-Type", "application/octet-stream"),
        cache=response.headers.get("Cache-Control", "no-store"),
        headers=kept,
        length=response.content_length,
    )


def _target(request: Request) -> str:
    return f"{request.raw_path}?{request.raw_query}" if request.raw_query else request.raw_path
