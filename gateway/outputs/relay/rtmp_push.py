"""One publishing connection to another RTMP(S) server, from connecting until the server has received everything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from gateway.lib.egress import Address
from gateway.ports.errors import OutputError
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtmp.client import ClientConnection, ClientRole
from gateway.protocols.rtmp.events import Accepted, Ended, Rejected
from gateway.protocols.rtmp.state import RtmpState
from gateway.protocols.rtmp.url import RtmpUrl
from gateway.protocols.rtmp.wire import WireLimits

_LIMITS: Final = WireLimits(
    message=1 << 16, pending=1 << 17, chunk_streams=64, aggregate=64
)  # a server sends only short answers
_GATHER: Final = 1 << 16  # bytes gathered within one turn of the loop before they are written
_HIGH_WATER: Final = 1 << 18
_FREE_ANSWERS: Final = 1 << 20
_CLOSING_SECONDS: Final = 5.0

# The request that a server had not answered when it stopped answering or closed.
_WAITED_FOR: Final = {
    RtmpState.HANDSHAKING: "the handshake",
    RtmpState.CONNECTING: "connect",
    RtmpState.CREATING: "createStream",
    RtmpState.PUBLISH_PENDING: "publish",
}


class PushRefused(OutputError):
    """The server refused the push, by a code such as NetStream.Publish.BadName, or by closing the connection."""


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How to push.

    chunk_size: bytes. timeout: seconds until the server must have accepted.
    stall: seconds within which it must read something. tls: what RTMPS trusts.
    fourccs: of the codecs that plain RTMP has no number for.
    """

    chunk_size: int
    timeout: float
    stall: float
    tls: ssl.SSLContext | None = None
    fourccs: Sequence[str] = ()


async def open_push(url: RtmpUrl, addresses: Sequence[Address], options: PushOptions) -> RtmpPush:
    """Connects to the first of `addresses` that answers, publishes the name of `url`, and returns once it is accepted.

    Raises OutputError, or PushRefused if the server refused. The message is one line and may repeat the server's
    words.
    """
    loop = asyncio.get_running_loop()
    tls = (options.tls or ssl.create_default_context()) if url.secure else None
    push: RtmpPush | None = None

    def make() -> RtmpPush:
        role, chunk, fourccs = ClientRole.PUBLISH, options.chunk_size, options.fourccs
        return RtmpPush(ClientConnection(url, role, chunk_size=chunk, fourccs=fourccs, limits=_LIMITS), options.stall)

    trouble = "it has no address"
    end = loop.time() + options.timeout
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            async with asyncio.timeout((end - loop.time()) / left):
                _, push = await loop.create_connection(
                    make,
                    address.host,
                    address.port,
                    family=address.family,
                    ssl=tls,
                    server_hostname=url.host.rstrip(".") if tls else None,
                    ssl_shutdown_timeout=_CLOSING_SECONDS if tls else None,
                )
            break
        except TimeoutError:
            trouble = "no answer to the connection"
        except ssl.SSLCertVerificationError as error:
            trouble = f"its certificate is not trusted: {error.verify_message}"
        except ssl.SSLError as error:
            trouble = f"no TLS: {error.reason or error}"
        except OSError as error:
            trouble = _words(error) if error.errno or tls is None else "it closed the connection when TLS began"
    if push is None:
        raise OutputError(trouble)
    try:
        async with asyncio.timeout_at(end):
            await push.accepted()
    except TimeoutError:
        asked = _WAITED_FOR.get(push.state, "publish")
        push.abort()
        raise OutputError(f"no answer to {asked} within {options.timeout:g} s") from None
    except BaseException:
        push.abort()
        raise
    return push


def _words(error: OSError) -> str:
    """Returns the system's error text alone, because event loops add addresses and numbers."""
    return (os.strerror(error.errno) if error.errno else str(error) or type(error).__name__).lower()


class RtmpPush(asyncio.Protocol):
    """An open push, made by `open_push`. Call `send`, and `drain` while `full`; then `finish`.

    Queues are bounded: data goes to the transport within one turn of the loop, and the caller stops at the high-water
    mark.
    on_lost: called once when the connection is lost; `send` and `drain` raise the reason too.
    """

    def __init__(self, connection: ClientConnection, stall: float) -> None:
        self._connection = connection
        self._stall = stall
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._room: asyncio.Future[None] | None = None
        self._gathered = 0
        self._flushing = False
        self._finishing = False
        self.full = False
        self.sent = 0
        """Bytes given to the socket."""
        self.lost: OutputError | None = None
        self.on_lost: Callable[[Exception], None] | None = None

    @property
    def state(self) -> RtmpState:
        return self._connection.state

    async def accepted(self) -> None:
        """Waits until the server has accepted the push. Raises OutputError."""
        await asyncio.shield(self._accepted)

    def send(self, type_id: int, timestamp: int, body: bytes) -> None:
        """Sends one message. timestamp: milliseconds. Raises OutputError if the connection is lost. Hot path."""
        if self.lost is not None:
            raise self.lost
        self._connection.send_media(type_id, timestamp, body)
        self._gathered += len(body)
        if self._gathered >= _GATHER:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_gathered)

    async def drain(self) -> None:
        """Waits until the server has read enough. Raises OutputError if it reads nothing for `stall` seconds."""
        while self.full:
            if self.lost is not None:
                raise self.lost
            assert self._transport is not None, "full is said by the transport"
            waiting = self._transport.get_write_buffer_size()
            room = self._room = self._loop.create_future()
            try:
                async with asyncio.timeout(self._stall):
                    await room
            except TimeoutError:
                if self._transport.get_write_buffer_size() >= waiting:
                    raise OutputError(f"it took nothing for {self._stall:g} s") from None

    async def finish(self) -> None:
        """Ends the push properly and closes the connection within a few seconds. May be called in any state."""
        transport = self._transport
        if transport is None or self._finishing:
            return
        self._finishing = True
        if self.lost is None:
            self._connection.finish()
            self._flush()
            if transport.can_write_eof():
                transport.write_eof()  # the server closes when it has read all; closing first could lose the end
            else:
                transport.close()
        try:
            async with asyncio.timeout(_CLOSING_SECONDS):
                await asyncio.shield(self._over)
        except TimeoutError:
            pass  # it had enough time to close
        finally:
            transport.abort()

    def abort(self) -> None:
        """Closes at once."""
        self._finishing = True
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            # A server without power acknowledges nothing; the kernel would keep trying for a quarter of an hour.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._stall * 1000))
        self._flush()

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        if self._finishing or self.lost is not None:
            return
        try:
            events = connection.receive(data)
        except RemoteProtocolError as error:
            self._lose(OutputError(f"it does not speak RTMP: {error}"))
            return
        for event in events:
            if isinstance(event, Accepted):
                if not self._accepted.done():
                    self._accepted.set_result(None)
            elif isinstance(event, Rejected):
                said = f"{event.code}: {event.description}" if event.description else event.code
                self._lose(PushRefused(f"refused: {said}"))
            elif isinstance(event, Ended):
                self._lose(OutputError(f"it ended the push: {event.reason}"))
        if connection.received > _FREE_ANSWERS + self.sent:
            self._lose(OutputError("it sends more than it takes"))
        elif self.lost is None:
            self._flush()

    def eof_received(self) -> bool:
        self._closed_by_peer(None)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._closed_by_peer(error)
        if not self._over.done():
            self._over.set_result(None)

    def pause_writing(self) -> None:
        self.full = True
        # A server that reads nothing gets no answers either: replies to its pings would fill the memory.
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.full = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._wake()

    # ---- below ----

    def _closed_by_peer(self, error: Exception | None) -> None:
        if self._finishing:
            return
        asked = _WAITED_FOR.get(self.state)
        how = "the connection was reset" if isinstance(error, ConnectionError) else "it closed the connection"
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            how = f"the connection broke: {_words(error)}"
        if self.state is RtmpState.PUBLISH_PENDING:
            self._lose(PushRefused(f"{how} when asked to publish (is the key right?)"))
        else:
            self._lose(OutputError(f"{how} during {asked}" if asked else how))

    def _lose(self, reason: OutputError) -> None:
        if self.lost is not None:
            return
        self.lost = reason
        if not self._accepted.done():
            self._accepted.set_exception(reason)
            self._accepted.exception()  # marked as read: a caller that timed out will not read it
        self._wake()
        if self._transport is not None and not self._transport.is_closing():
            self._flush_last()
            self._transport.close()
        if self.on_lost is not None:
            self.on_lost(reason)

    def _wake(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def _flush_gathered(self) -> None:
        self._flushing = False
        self._flush()

    def _flush(self) -> None:
        if self.lost is None:
            self._flush_last()

    def _flush_last(self) -> None:
        self._gathered = 0
        data = self._connection.data_to_send()
        transport = self._transport
        if data and transport is not None and not transport.is_closing():
            self.sent += len(data)
            transport.write(data)
