"""HTTP-FLV and WS-FLV: viewers that take their connection over and sit on the stream's feed."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import Final, Protocol

from gateway.hub.stream import EndReason, Stream
from gateway.packagers.feed import Feed, Viewer
from gateway.protocols.errors import RemoteProtocolError
from gateway.servers import websocket
from gateway.servers.framing import CHUNKED, MESSAGES, RAW
from gateway.servers.http import Lease
from gateway.servers.request import Request
from gateway.servers.response import Answer, Response, Takeover, text, try_later

_CONTENT_TYPE: Final = "video/x-flv"
_MOST_UNASKED: Final = 65_536  # bytes that an HTTP viewer may send after its request, which nobody reads
_MOST_MESSAGES: Final = 8 * 1024 * 1024  # bytes that a WebSocket viewer may send in its life
_CLOSE_SECONDS: Final = 1.0  # for the peer's close frame
_FLUSH_SECONDS: Final = 5.0  # for a slow viewer to take what was sent before the end


class HasFeed(Protocol):
    """The output `flv`."""

    feed: Feed


class FlvViewers:
    """Answers requests for a stream's `live.flv`. backlog: bytes that may wait for a viewer before it is late.

    The server's sockets bound what the kernel holds besides (`listen`). Counters: `joined`.
    """

    def __init__(self, backlog: int) -> None:
        self._backlog = backlog
        self.joined = 0

    def head(self) -> Response:
        """The answer to HEAD."""
        return Response(200, None, _CONTENT_TYPE, cache="no-cache", headers={"Content-Type": _CONTENT_TYPE})

    def refusal(self, request: Request) -> Response | None:
        """What is wrong with a WebSocket handshake; None where nothing is, or it is none."""
        if not websocket.wants_upgrade(request):
            return None
        if request.method != "GET":
            return text(400, "a WebSocket begins with GET")
        if request.headers.get("sec-websocket-version") != "13":
            # RFC 6455 §4.4
            return text(426, "WebSocket version 13 is spoken here", headers={"Sec-WebSocket-Version": "13"})
        try:
            websocket.accept_key(request)
        except websocket.WebSocketError as error:
            return text(400, str(error))
        return None

    def watch(self, request: Request, stream: Stream) -> Answer:
        """A viewer of `stream`, which is playable and has the output on, from its GOP's beginning to its end."""
        output: HasFeed | None = None
        if stream.outputs is not None:
            output = stream.outputs.get("flv")  # type: ignore[assignment]
        if output is None:
            return try_later(f"flv of {stream.name} is about to start again", 1)
        feed = output.feed
        upgrade = websocket.wants_upgrade(request)
        head = self._upgraded(request) if upgrade else self._started(request)
        framing = MESSAGES if upgrade else CHUNKED if request.http11 else RAW
        peer, backlog = request.peer, self._backlog

        def begin(transport: asyncio.Transport, rest: bytes, lease: Lease) -> asyncio.Protocol:
            self.joined += 1
            transport.write(head)
            connection = FlvConnection(transport, lease, upgrade)
            connection.join(feed, Viewer(transport, framing, backlog, peer, connection.ended))
            if rest:
                connection.data_received(rest)
            return connection

        return Takeover(begin)

    def _started(self, request: Request) -> bytes:
        chunked = "Transfer-Encoding: chunked\r\n" if request.http11 else ""
        return (
            "HTTP/1.1 200 OK\r\n"
            "Server: Millrace\r\n"
            f"Content-Type: {_CONTENT_TYPE}\r\n"
            "Cache-Control: no-cache\r\n"
            "Access-Control-Allow-Origin: *\r\n"
            "X-Accel-Buffering: no\r\n"  # an nginx in front must not gather it
            f"Date: {formatdate(usegmt=True)}\r\n"
            f"{chunked}"
            "Connection: close\r\n\r\n"
        ).encode("ascii")

    def _upgraded(self, request: Request) -> bytes:
        return (
            "HTTP/1.1 101 Switching Protocols\r\n"
            "Server: Millrace\r\n"
            "Upgrade: websocket\r\n"
            "Connection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {websocket.accept_key(request)}\r\n\r\n"
        ).encode("ascii")


class FlvConnection(asyncio.Protocol):
    """A viewer's connection after the takeover: the feed writes, this notices the end of either side."""

    __slots__ = ("_feed", "_frames", "_lease", "_received", "_timer", "_transport", "_viewer")

    def __init__(self, transport: asyncio.Transport, lease: Lease, upgraded: bool) -> None:
        self._transport = transport
        self._lease = lease
        self._frames = websocket.ClientFrames() if upgraded else None
        self._received = 0
        self._feed: Feed | None = None
        self._viewer: Viewer | None = None
        self._timer: asyncio.TimerHandle | None = None

    def join(self, feed: Feed, viewer: Viewer) -> None:
        self._feed, self._viewer = feed, viewer
        feed.join(viewer)

    # ---- asyncio.Protocol ----

    def connection_lost(self, exc: Exception | None) -> None:
        if self._feed is not None and self._viewer is not None:
            self._feed.leave(self._viewer)
        self._feed = self._viewer = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._lease.release()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._frames is None:
            if self._received > _MOST_UNASKED:
                self._transport.abort()
            return
        try:
            if self._received > _MOST_MESSAGES:
                raise websocket.WebSocketError(websocket.TOO_BIG, "viewers have nothing to send")
            controls = self._frames.receive(data)
        except RemoteProtocolError as error:
            code = error.code if isinstance(error, websocket.WebSocketError) else websocket.PROTOCOL_ERROR
            self._write(websocket.close_frame(code, str(error)))
            self._close(_FLUSH_SECONDS)
            return
        for control in controls:
            if control.opcode == websocket.PING:
                # RFC 6455 §5.5.3 allows to answer the latest alone: one that floods without reading gets none.
                if self._transport.get_write_buffer_size() < _MOST_UNASKED:
                    self._write(websocket.frame(websocket.PONG, control.payload))
            elif control.opcode == websocket.CLOSE:
                if self._viewer is not None:  # §5.5.1: answered with the same code, unless it is the answer
                    self._write(websocket.frame(websocket.CLOSE, control.payload[:2]))
                self._close(_FLUSH_SECONDS)
                return

    # ---- the feed's side ----

    def ended(self, reason: EndReason) -> None:
        """The stream or its output is over; the feed has said so."""
        viewer, self._viewer = self._viewer, None
        if viewer is not None and not viewer.greeted:
            self._write(viewer.framing.last(reason))
        if self._frames is None:
            self._close(_FLUSH_SECONDS)
        else:
            # RFC 6455 §7.1.1: the server closes the connection, once both sides have said that they will.
            self._timer = asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self._close, _FLUSH_SECONDS)

    def _write(self, data: bytes) -> None:
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _close(self, flush: float) -> None:
        """Closes; what the peer has not taken after `flush` seconds is lost."""
        if self._feed is not None and self._viewer is not None:
            self._feed.leave(self._viewer)
        self._feed = self._viewer = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size():
            self._timer = asyncio.get_running_loop().call_later(flush, self._transport.abort)
        self._transport.close()
