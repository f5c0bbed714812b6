"""HTTP-FLV and WS-FLV: viewers get their connection from the HTTP server and join the stream's feed."""

import asyncio
import fcntl
import struct
import termios
import time
from email.utils import formatdate
from typing import Final

from gateway.http import websocket
from gateway.http.connection_slot import ConnectionSlot
from gateway.http.request import Request, parameters
from gateway.http.response import NO_SNIFF, Answer, Response, Takeover, service_unavailable, text
from gateway.lib.scheduled_reads import ScheduledReads
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.packaging.feed import Feed
from gateway.packaging.flv_output import FlvOutput
from gateway.packaging.viewer import Viewer, reset_on_close
from gateway.playback.framing import CHUNKED, MESSAGES, RAW
from gateway.playback.play_format import FormatCode
from gateway.protocols.errors import RemoteProtocolError

_CONTENT_TYPE: Final = "video/x-flv"
_DATA: Final = "data"  # of the parameter `only`: what belongs to the media, without them
_MAX_IGNORED_BYTES: Final = 65_536  # bytes that an HTTP viewer may send after its request; they are ignored
_MAX_BYTES_PER_SECOND: Final = 65_536  # bytes that a WebSocket viewer may send in a second
_READ_BYTES: Final = 4_096  # bytes of one read: viewers send pings and a close
_CLOSE_SECONDS: Final = 1.0  # time limit for the peer's close frame
_MAX_RESIDUE: Final = 16_384  # bytes that may still be sent to a viewer that closes its WebSocket
_FLUSH_SECONDS: Final = 5.0  # time for a slow viewer to read the data that was sent before the end


class FlvViewers:
    """Answers requests for a stream's `live.flv`. backlog: bytes that may always wait for a viewer.

    The server's sockets (`listen`) limit the bytes in the kernel. Counter: `joined`.
    """

    def __init__(self, backlog: int) -> None:
        self._backlog = backlog
        self.joined = 0

    def head(self) -> Response:
        """Returns the answer to HEAD."""
        return Response(200, None, _CONTENT_TYPE, cache="no-cache", headers={"Content-Type": _CONTENT_TYPE})

    def refusal(self, request: Request) -> Response | None:
        """Returns the refusal of a wrong WebSocket handshake; None if it is correct or not a handshake."""
        if not websocket.wants_upgrade(request):
            return None
        if request.method != "GET":
            return text(400, "a WebSocket begins with GET")
        if request.headers.get("sec-websocket-version") != "13":
            # RFC 6455 §4.4
            return text(426, "only WebSocket version 13 is supported", headers={"Sec-WebSocket-Version": "13"})
        try:
            websocket.accept_key(request)
        except websocket.WebSocketError as error:
            return text(400, str(error))
        return None

    def watch(self, request: Request, stream: Stream, *, early: bool = False) -> Answer:
        """Starts a viewer of `stream`, from the beginning of the current GOP to the end of the stream.

        The stream is playable, and its output `flv` is enabled.
        With `only=data` in the query, the viewer gets what belongs to the media, without them (`DataFlvRendering`).
        early: whether the viewer waited for the stream. It then gets the stream from the first frame.
        """
        output: FlvOutput | None = stream.output("flv")  # type: ignore[assignment]
        if output is None:
            return service_unavailable(f"flv of {stream.name} is about to start again", 1)
        # Every browser calls itself Mozilla. Other players and servers get all pictures.
        browser = request.headers.get("user-agent", "").startswith("Mozilla/")
        feed = output.browser_feed if browser else output.feed
        if any(name == "only" and value == _DATA for name, value in parameters(request.raw_query)):
            feed = output.data_feed
        upgrade = websocket.wants_upgrade(request)
        head = self._upgrade_head(request) if upgrade else self._http_head(request)
        framing = MESSAGES if upgrade else CHUNKED if request.http11 else RAW
        peer, backlog = request.peer, self._backlog

        def begin(transport: asyncio.Transport, rest: bytes, slot: ConnectionSlot) -> asyncio.BaseProtocol:
            self.joined += 1
            transport.write(head)
            connection = FlvConnection(transport, slot, upgrade)
            connection.join(feed, Viewer(transport, framing, backlog, peer, connection.ended, waited_for_start=early))
            if rest:
                connection.bytes_received(rest)
            return connection

        return Takeover(begin)

    def _http_head(self, request: Request) -> bytes:
        chunked = "Transfer-Encoding: chunked\r\n" if request.http11 else ""
        return (
            "HTTP/1.1 200 OK\r\n"
            "Server: Millrace\r\n"
            f"Content-Type: {_CONTENT_TYPE}\r\n"
            f"Cache-Control: no-cache\r\n{NO_SNIFF}\r\n"
            "Access-Control-Allow-Origin: *\r\n"
            "X-Accel-Buffering: no\r\n"  # an nginx in front must not buffer it
            f"Date: {formatdate(usegmt=True)}\r\n"
            f"{chunked}"
            "Connection: close\r\n\r\n"
        ).encode("ascii")

    def _upgrade_head(self, request: Request) -> bytes:
        return (
            "HTTP/1.1 101 Switching Protocols\r\n"
            "Server: Millrace\r\n"
            "Upgrade: websocket\r\n"
            "Connection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {websocket.accept_key(request)}\r\n\r\n"
        ).encode("ascii")


class FlvConnection(ScheduledReads):
    """A viewer's connection after the takeover. The feed writes; this class reads and handles the end of both sides."""

    __slots__ = ("_feed", "_frames", "_received", "_second_start", "_slot", "_timer", "_viewer")

    def __init__(self, transport: asyncio.Transport, slot: ConnectionSlot, upgraded: bool) -> None:
        super().__init__(slot.scheduler, _READ_BYTES)
        self._transport = transport
        self._slot = slot
        self._frames = websocket.ClientFrames() if upgraded else None
        self._received = 0  # bytes; HTTP: since the start; WebSocket: in the current second
        self._second_start = 0.0  # start of the current second, monotonic
        self._feed: Feed | None = None
        self._viewer: Viewer | None = None
        self._timer: asyncio.TimerHandle | None = None

    def join(self, feed: Feed, viewer: Viewer) -> None:
        self._feed, self._viewer = feed, viewer
        feed.join(viewer)

    # ---- ScheduledReads ----

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._slot.release()

    def bytes_received(self, data: bytes) -> None:
        if self._frames is None:
            self._received += len(data)
            if self._received > _MAX_IGNORED_BYTES:
                self._transport.abort()
            return
        if self._transport.is_closing():
            return  # RFC 6455 §1.4: data after a close frame is discarded
        try:
            self._limit_rate(len(data))
            controls = self._frames.receive(data)
        except RemoteProtocolError as error:
            code = error.code if isinstance(error, websocket.WebSocketError) else websocket.PROTOCOL_ERROR
            self._write(websocket.close_frame(code, str(error)))
            self._close(_FLUSH_SECONDS)
            return
        for control in controls:
            if control.opcode == websocket.PING:
                # RFC 6455 §5.5.3 allows an answer to only the latest ping. A viewer that sends pings without reading
                # gets no answer.
                if self._transport.get_write_buffer_size() < _MAX_IGNORED_BYTES:
                    self._write(websocket.frame(websocket.PONG, control.payload))
            elif control.opcode == websocket.CLOSE:
                if self._viewer is not None and (fd := self._waiting_at()) >= 0:
                    # A page has changed to a smaller rendition, because its link is slow. Nobody reads what waits here,
                    # and it would delay the rendition by seconds.
                    reset_on_close(fd)
                    self._transport.abort()
                    return
                if self._viewer is not None:  # §5.5.1: echo the code, unless this frame is already the answer
                    self._write(websocket.frame(websocket.CLOSE, control.payload[:2]))
                self._close(_FLUSH_SECONDS)
                return

    def _waiting_at(self) -> int:
        """Returns the descriptor of a socket with more than _MAX_RESIDUE bytes that the peer has not read; else -1."""
        sock = self._transport.get_extra_info("socket")
        if sock is None:
            return -1
        unread = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        waiting = self._transport.get_write_buffer_size() + unread
        return sock.fileno() if waiting > _MAX_RESIDUE else -1

    def _limit_rate(self, size: int) -> None:
        """Counts received bytes. Raises WebSocketError if a second has too many."""
        now = time.monotonic()
        if now - self._second_start >= 1:
            self._second_start = now
            self._received = 0
        self._received += size
        if self._received > _MAX_BYTES_PER_SECOND:
            raise websocket.WebSocketError(websocket.POLICY, "viewers may not send this much data")

    # ---- the feed's side ----

    def ended(self, reason: EndReason) -> None:
        """Closes the connection after the end of the stream or its output.

        If the feed has written anything to this viewer, it has also written the last bytes. Otherwise they are written
        here.
        """
        viewer, self._viewer = self._viewer, None
        if viewer is not None and not viewer.has_written:
            self._write(viewer.framing.last(reason))
        if self._frames is None:
            self._close(_FLUSH_SECONDS)
        else:
            # RFC 6455 §7.1.1: the server closes the connection after both sides have sent a close frame.
            self._timer = asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self._close, _FLUSH_SECONDS)

    def _leave(self) -> None:
        if self._feed is not None and self._viewer is not None:
            self._feed.leave(self._viewer)
        self._feed = self._viewer = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write(self, data: bytes) -> None:
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _close(self, flush: float) -> None:
        """Closes the connection. Data that the peer has not read within `flush` seconds is lost."""
        self._leave()
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size():
            self._timer = asyncio.get_running_loop().call_later(flush, self._transport.abort)
        self._transport.close()


CODE: Final = FormatCode(
    lambda services: lambda stream: FlvOutput(lambda rendering: services.make_feed(stream, rendering), stream.captions)
)
