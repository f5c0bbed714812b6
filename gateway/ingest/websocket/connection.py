"""One connection to the WebSocket port, between the socket and the library: checks the request and limits the data."""

import asyncio
import ssl
from http import HTTPMethod, HTTPStatus
from typing import Any, Final

from websockets.asyncio.server import Server, ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event
from websockets.server import ServerProtocol

from gateway.http.request import HeadParser, RequestError, too_large
from gateway.ingest.websocket.services import WsServices
from gateway.lib.scheduled_reads import LARGEST_READ, ScheduledProtocol, ScheduledTls
from gateway.lib.token_bucket import TokenBucket
from gateway.listeners.pending_connections import (
    EARLY_BYTES,
    EARLY_READ,
    TLS_BYTES,
    TLS_READ,
    TLS_UNREAD,
    WS_BYTES,
    PendingConnection,
)
from gateway.listeners.port_listener import peer_address
from gateway.protocols.push import CloseCode

HEAD_BYTES: Final = 16_384  # of the head of a request
TARGET_BYTES: Final = 8192  # of its first line

EARLY_MESSAGE: Final = 65_536  # bytes of a message before a push is accepted, or after it has ended

MAX_MESSAGE: Final = 8_000_000  # bytes of a message of a push: a key frame of 8K
UNSENT: Final = 1 << 20  # bytes of unread answers to pings; above this limit the client is disconnected
CLOSE_SECONDS: Final = 2.5  # time for the client's close frame, then it is disconnected; must stay below 3 s
# Frames. A page sends at most a few hundred per second. After a network stall, delayed frames arrive all at once.
MESSAGES_PER_SECOND: Final = 1000
MESSAGES_BURST: Final = 10_000
# Pings, pongs and texts (a configuration): a page sends few of them.
CONTROLS_PER_SECOND: Final = 20
CONTROLS_BURST: Final = 200
_DATA: Final = frozenset({Opcode.BINARY, Opcode.CONT})

_head_parser = HeadParser(TARGET_BYTES)


class PushConnection(ServerConnection):
    """A connection of the library that gets data only when the library can process it.

    The request is first read and checked here. Later data waits until `admit` or `refuse`.
    The library would parse that data as frames before it has answered, and fail (`AssertionError` in `send_eof`).
    After `refuse`, and after an error of the peer, received data is discarded.
    """

    reads: ScheduledProtocol
    pending: PendingConnection | None = None  # None: accepted, refused or closed

    def __init__(self, protocol: ServerProtocol, server: Server, **options: Any) -> None:
        super().__init__(protocol, server, **options)
        self._head: bytes | None = b""  # None: the request is complete
        self._early: list[bytes] | None = []  # data after the request; None: admitted or refused
        self._early_size = 0
        self._messages = TokenBucket(MESSAGES_PER_SECOND, MESSAGES_BURST)
        self._controls = TokenBucket(CONTROLS_PER_SECOND, CONTROLS_BURST)
        self._failed = False

    # ---- admit or refuse ----

    def admit(self, max_message: int) -> None:
        """Accepts the push. max_message: limit for the following messages in bytes; 0: no limit."""
        self.leave_pending()
        self.protocol.max_message_size = max_message or None
        self.reads.read_at_most(LARGEST_READ)
        early, self._early = self._early or [], None
        self.reads.release_reading()  # first, because the library may stop reading when its queue is full
        for data in early:
            if not self.protocol.eof_sent:  # otherwise the client has disconnected
                self._parse(data)

    async def refuse(self, code: CloseCode, reason: str) -> None:
        """Closes without reading additional data, and waits until the connection is closed."""
        self._early = None
        self._fail(code, reason)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.wait_closed()
        except TimeoutError:
            self.transport.abort()

    def end_messages(self) -> None:
        """Limits the size of messages after the end of the push, because only the peer's close is still needed."""
        self.protocol.max_message_size = EARLY_MESSAGE

    def forget(self) -> None:
        """Frees the received data of a closed connection at once, before the garbage collector runs."""
        self.leave_pending()
        self._head = b"" if self._head is not None else None
        if self._early is not None:
            self._early.clear()

    def leave_pending(self) -> None:
        """Stops counting the connection as pending: it is accepted or closed."""
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.leave()

    # ---- asyncio.Protocol ----

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._read_request(self._head + data)
        elif self._early is not None:
            self._buffer(data)
        else:
            self._parse(data)

    def send_data(self) -> None:
        super().send_data()
        if self.protocol.eof_sent:
            self.reads.discard_reads()

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame):
            rate = self._messages if event.opcode in _DATA else self._controls
            if self._failed or not rate.take(1, self.loop.time()):
                self._fail(CloseCode.POLICY, "too many messages")
                return
        super().process_event(event)

    # ---- bytes ----

    def _read_request(self, head: bytes) -> None:
        """Processes the received part of the request."""
        end = head.find(b"\r\n\r\n") + 4
        if end < 4 and len(head) <= HEAD_BYTES:
            self._head = head
            self._count(len(head))
            return
        self._head = None
        try:
            if not 4 <= end <= HEAD_BYTES:
                raise too_large(head, TARGET_BYTES)
            _check_request(head[:end])
        except RequestError as error:
            self._reject(error, head)
            return
        self._count(0)
        super().data_received(head[:end])
        if end < len(head):
            self._buffer(head[end:])

    def _reject(self, error: RequestError, head: bytes) -> None:
        """Answers the request with an error."""
        response = self.protocol.reject(HTTPStatus(error.status), f"{error}.\n")
        if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = "GET, HEAD"
        if head.startswith(b"HEAD "):
            response.body = b""
        self.protocol.send_response(response)
        self.send_data()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def _buffer(self, data: bytes) -> None:
        if self.protocol.eof_sent:
            return  # it was refused with an HTTP status
        assert self._early is not None, "the push is neither admitted nor refused"
        self._early.append(data)
        self._early_size += len(data)
        self._count(self._early_size)
        if self._early_size > EARLY_BYTES:
            self.reads.hold_reading()

    def _parse(self, data: bytes) -> None:
        """Passes data to the library. Hot path."""
        super().data_received(data)
        if self.transport.get_write_buffer_size() > UNSENT:
            self.transport.abort()

    def _count(self, size: int) -> None:
        if self.pending is not None:
            self.pending.hold(size)

    def _fail(self, code: CloseCode, reason: str) -> None:
        """Sends a close frame and ends this side of the connection at once (RFC 6455 §7.1.7)."""
        if not self._failed and not self.protocol.eof_sent:
            self._failed = True
            self.protocol.fail(code, reason)
            self.send_data()


class PlainPush(ScheduledProtocol):
    """A push connection on the plain port, or inside the TLS layer. Its reads are scheduled.

    counted: whether the TLS layer has counted the connection already.
    """

    inner: PushConnection

    def __init__(self, connection: PushConnection, services: WsServices, *, counted: bool = False) -> None:
        super().__init__(connection, services.shared.reads, EARLY_READ)
        connection.reads = self
        self._services = services
        self._counted = counted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._counted and not enter(self.inner, self._services, transport, WS_BYTES):
            return
        if transport.get_extra_info("ssl_object") is not None:
            transport.set_read_buffer_limits(TLS_UNREAD)  # type: ignore[attr-defined]
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.inner.pending is None and not hasattr(self.inner, "transport"):
            return  # it was refused
        self.inner.forget()
        super().connection_lost(exc)


class SecurePush(ScheduledTls):
    """The TLS layer of a push connection. The connection is counted before the handshake."""

    def __init__(self, connection: PushConnection, context: ssl.SSLContext, services: WsServices) -> None:
        app, seconds = PlainPush(connection, services, counted=True), services.shared.settings.limits.handshake or None
        super().__init__(app, context, services.shared.reads, TLS_READ, seconds)
        self._connection = connection
        self._services = services

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if enter(self._connection, self._services, transport, WS_BYTES + TLS_BYTES):
            super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connection.leave_pending()


def enter(connection: PushConnection, services: WsServices, transport: Any, cost: int) -> bool:
    """Counts an accepted connection as pending, and closes it if there are too many. cost: bytes of memory."""
    address = peer_address(transport.get_extra_info("peername"))
    connection.pending = services.shared.pending.enter(
        address, cost, transport.abort, exempt=services.forwarded.trusts(address)
    )
    if connection.pending is None:
        transport.abort()
    return connection.pending is not None


def _check_request(head: bytes) -> None:
    """Raises RequestError if the port does not accept this request, independent of its path."""
    line, end, fields = head.partition(b"\r\n")
    parts = line.split(b" ")
    if len(line) > TARGET_BYTES:
        raise too_large(head, TARGET_BYTES)
    if len(parts) == 3 and parts[1].startswith(b"/"):
        # The old system's client puts a whole URL into the path (`compatible_targets.py`). It is not checked here.
        parts[1] = b"/"
    request = _head_parser.parse(b" ".join(parts) + end + fields)
    if request.has_body:
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "requests must not have a body")
    if request.method not in ("GET", "HEAD"):
        is_known = request.method in HTTPMethod.__members__
        raise RequestError(
            HTTPStatus.METHOD_NOT_ALLOWED if is_known else HTTPStatus.NOT_IMPLEMENTED, "only GET and HEAD are supported"
        )
