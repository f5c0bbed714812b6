"""One publishing connection to another RTMP(S) server, from connecting until the server has read everything."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final, cast

from gateway.formats.flv.tag import AUDIO_FOURCC, VIDEO_FOURCC
from gateway.lib.egress import Address
from gateway.lib.outgoing import CLOSING_SECONDS, ConnectFailed, connect, os_error_text
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.sockets import limit_unsent
from gateway.ports.errors import OutputError
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtmp.client import ClientConnection, ClientRole, ConnectFeatures
from gateway.protocols.rtmp.events import Accepted, Ended, Rejected
from gateway.protocols.rtmp.state import RtmpState
from gateway.protocols.rtmp.url import RtmpUrl
from gateway.protocols.rtmp.wire import WireLimits
from gateway.settings.models import RelaySettings

# Servers send only short replies.
_LIMITS: Final = WireLimits(message=1 << 16, pending=1 << 17, chunk_streams=64, aggregate=64)
STALL_SECONDS: Final = 15.0  # in which a server must read something, else the relay connects again
_SOON_SECONDS: Final = 10.0  # after the publish; servers that check the key late, like IVS, close without a reason
_CHUNK: Final = 4_096  # bytes of a chunk: common encoders send so, and all servers read it
_COLLECT_BYTES: Final = 1 << 16  # bytes that are collected within one loop iteration before they are written
_HIGH_WATER: Final = 1 << 18  # bytes in the transport above which the caller must wait
_FREE_REPLY_BYTES: Final = 1 << 20  # bytes that a server may send in addition to the number that it receives

# By state: the request that the server has not answered.
_PENDING_REQUESTS: Final = {
    RtmpState.HANDSHAKING: "the handshake",
    RtmpState.CONNECTING: "connect",
    RtmpState.CREATING: "createStream",
    RtmpState.PUBLISH_PENDING: "publish",
}


class PushRefused(OutputError):
    """The server rejected the push with a code like NetStream.Publish.BadName, or closed the connection.

    again: see Rejected.
    """

    def __init__(self, text: str, again: RtmpUrl | None = None) -> None:
        super().__init__(text)
        self.again = again


async def open_push(
    url: RtmpUrl,
    addresses: Sequence[Address],
    relay: RelaySettings,
    tls: ssl.SSLContext | None,
    features: ConnectFeatures,
    reads: ReadScheduler,
) -> RtmpPush:
    """Connects to the first of `addresses` that answers, publishes the name of `url`, and waits until it is accepted.

    tls: context for RTMPS; None for RTMP. features: of Enhanced RTMP, which the stream needs. reads: see `connect`.
    Raises OutputError, or PushRefused if the server rejected the push.
    The message is one line and may contain the server's text.
    """
    loop = asyncio.get_running_loop()

    def make() -> RtmpPush:
        role = ClientRole.PUBLISH
        connection = ClientConnection(url, role, chunk_size=_CHUNK, features=features, limits=_LIMITS)
        return RtmpPush(connection, features.fourccs)

    end = loop.time() + relay.timeout
    try:
        push = await connect(make, addresses, relay.timeout, tls, reads)
    except ConnectFailed as error:
        raise OutputError(str(error)) from None
    try:
        async with asyncio.timeout_at(end):
            await push.wait_until_accepted()
    except TimeoutError:
        pending = _PENDING_REQUESTS.get(push.state, "publish")
        push.abort()
        raise OutputError(f"no answer to {pending} within {relay.timeout:g} s") from None
    except PushRefused as refused:
        push.abort()
        if refused.again is None:
            raise
        return await open_push(refused.again, addresses, relay, tls, features, reads)
    except BaseException:
        push.abort()
        raise
    return push


class RtmpPush(asyncio.Protocol):
    """An open push, created by `open_push`. Call `send`, and `drain` while `full`; then `finish`.

    Queues are bounded: data goes to the transport within one loop iteration, and the caller stops at the high-water
    mark.
    on_lost: called once when the connection is lost; `send` and `drain` also raise the reason.
    fourccs: codecs that only Enhanced RTMP has; not every server takes them.
    """

    def __init__(self, connection: ClientConnection, fourccs: Sequence[str]) -> None:
        self._connection = connection
        self._fourccs = fourccs
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._accepted_at = -math.inf  # by the loop's clock
        self._closed = asyncio.Event()
        self._writable = asyncio.Event()  # or the connection is lost
        self._collected = 0  # bytes that wait for the next flush
        self._flushing = False  # whether `_flush_collected` is scheduled
        self._finishing = False
        self.full = False  # whether the transport has too many waiting bytes
        self.sent = 0  # bytes written to the transport
        self.lost: OutputError | None = None
        self.on_lost: Callable[[Exception], None] | None = None

    @property
    def state(self) -> RtmpState:
        return self._connection.state

    @property
    def takes_multitrack(self) -> bool:
        """Whether this side and the server announced several tracks."""
        return self._connection.takes_multitrack

    async def wait_until_accepted(self) -> None:
        """Waits until the server has accepted the push. Raises OutputError."""
        await asyncio.shield(self._accepted)

    def send(self, type_id: int, timestamp: int, body: bytes) -> None:
        """Sends one message. timestamp: milliseconds. Raises OutputError if the connection is lost. Hot path."""
        if self.lost is not None:
            raise self.lost
        self._connection.send_media(type_id, timestamp, body)
        self._collected += len(body)
        if self._collected >= _COLLECT_BYTES:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_collected)

    async def drain(self) -> None:
        """Waits until the server has read enough. Raises OutputError if it reads nothing for STALL_SECONDS."""
        while self.full:
            if self.lost is not None:
                raise self.lost
            assert self._transport is not None, "only the transport sets full"
            waiting = self._transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await self._writable.wait()
            except TimeoutError:
                if self._transport.get_write_buffer_size() >= waiting:
                    raise OutputError(f"the server read nothing for {STALL_SECONDS:g} s") from None

    async def finish(self) -> None:
        """Unpublishes and closes the connection within a few seconds. May be called in any state."""
        transport = self._transport
        if transport is None or self._finishing:
            return
        self._finishing = True
        if self.lost is None:
            self._connection.finish()
            self._flush()
            if transport.can_write_eof():
                transport.write_eof()  # the server closes after reading everything; closing here could lose the end
            else:
                transport.close()
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                await self._closed.wait()
        except TimeoutError:
            pass  # the connection is aborted
        finally:
            transport.abort()

    def abort(self) -> None:
        """Closes the connection at once."""
        self._finishing = True
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            with contextlib.suppress(OSError):
                # Without this, the kernel would send to a dead server for a quarter of an hour. `drain` gives a better
                # reason, so it comes first.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_SECONDS * 1000) + 1000)
        if sock is not None:
            limit_unsent(sock)
        self._flush()

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        if self._finishing or self.lost is not None:
            return
        try:
            events = connection.receive(data)
        except RemoteProtocolError as error:
            self._lose(OutputError(f"the server does not speak RTMP: {error}"))
            return
        for event in events:
            if isinstance(event, Accepted):
                self._accepted_at = self._loop.time()
                if not self._accepted.done():
                    self._accepted.set_result(None)
            elif isinstance(event, Rejected):
                self._lose(PushRefused(str(event), event.again))
            elif isinstance(event, Ended):
                self._lose(OutputError(f"the server ended the push: {event.reason}"))
        if connection.received > _FREE_REPLY_BYTES + self.sent:
            self._lose(OutputError("the server sends more bytes than it receives"))
        elif self.lost is None:
            self._flush()

    def eof_received(self) -> bool:
        self._on_peer_closed(None)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._on_peer_closed(error)
        self._closed.set()

    def pause_writing(self) -> None:
        self.full = True
        self._writable.clear()

    def resume_writing(self) -> None:
        self.full = False
        self._writable.set()

    # ---- details ----

    def _on_peer_closed(self, error: Exception | None) -> None:
        if self._finishing:
            return
        pending = _PENDING_REQUESTS.get(self.state)
        reason = (
            "the connection was reset" if isinstance(error, ConnectionError) else "the server closed the connection"
        )
        soon = self._loop.time() - self._accepted_at < _SOON_SECONDS
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            reason, soon = f"the connection broke: {os_error_text(error)}", False
        if self.state is RtmpState.PUBLISH_PENDING:
            self._lose(PushRefused(f"{reason} when asked to publish (is the key right?)"))
        elif soon:
            codecs = ", ".join((VIDEO_FOURCC | AUDIO_FOURCC)[fourcc.encode()] for fourcc in self._fourccs)
            about_codec = f"{reason} soon after the publish (does it take {codecs}?)"
            self._lose(OutputError(about_codec if codecs else f"{reason} soon after the publish (is the key right?)"))
        else:
            self._lose(OutputError(f"{reason} during {pending}" if pending else reason))

    def _lose(self, reason: OutputError) -> None:
        if self.lost is not None:
            return
        self.lost = reason
        if not self._accepted.done():
            self._accepted.set_exception(reason)
            self._accepted.exception()  # marked as read, because a caller that timed out does not read it
        self._writable.set()
        if self._transport is not None and not self._transport.is_closing():
            self._flush(last=True)
            self._transport.close()
        if self.on_lost is not None:
            self.on_lost(reason)

    def _flush_collected(self) -> None:
        self._flushing = False
        self._flush()

    def _flush(self, *, last: bool = False) -> None:
        """Writes what was collected. last: writes even if the connection is lost."""
        if self.lost is not None and not last:
            return
        self._collected = 0
        data = self._connection.data_to_send()
        transport = self._transport
        if data and transport is not None and not transport.is_closing():
            self.sent += len(data)
            transport.write(data)
