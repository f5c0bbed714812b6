"""TLS whose transport also counts the encrypted bytes that wait in the TCP transport.

The TLS of uvloop counts only bytes that it has not passed on to TCP. It passes on a large write at once.
"""

import asyncio
import ssl
from typing import Any

from gateway.lib.scheduled_reads import tls_protocol_class


class CountedTls(asyncio.BufferedProtocol):
    """The TLS layer of one accepted connection. `app` is connected after the handshake, and limits TCP, not TLS.

    handshake: done, or failed, at the end of the handshake. seconds: limit of the handshake.
    """

    def __init__(self, app: asyncio.BaseProtocol, context: ssl.SSLContext, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.app: asyncio.BaseProtocol | None = app
        self.handshake: asyncio.Future[None] = loop.create_future()
        self._tls = tls_protocol_class(loop)(
            loop, _Handshake(self), context, self.handshake, server_side=True, ssl_handshake_timeout=seconds
        )
        self.tcp: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.tcp = transport
        self._tls.connection_made(transport)

    def get_buffer(self, sizehint: int) -> Any:
        return self._tls.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self._tls.buffer_updated(nbytes)

    def eof_received(self) -> bool | None:
        return bool(self._tls.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        self._tls.connection_lost(exc)
        self.app = None  # ends a reference cycle: the connection has a buffer of 256 kB

    # TLS is never paused. So all that waits is in the TCP transport.

    def pause_writing(self) -> None:
        if self.app is not None:
            self.app.pause_writing()

    def resume_writing(self) -> None:
        if self.app is not None:
            self.app.resume_writing()


class _Handshake(asyncio.Protocol):
    """The protocol above TLS until the end of the handshake."""

    def __init__(self, below: CountedTls) -> None:
        self._below = below

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        app = self._below.app
        assert app is not None, "the connection is not lost"
        counted: Any = _CountedTransport(self._below, transport)
        counted.set_protocol(app)
        app.connection_made(counted)


class _CountedTransport:
    """The transport of TLS, with the limits and the count of TCP."""

    def __init__(self, below: CountedTls, tls: Any) -> None:
        self._below, self._tls = below, tls
        self.write = tls.write
        self.get_write_buffer_size = below.tcp.get_write_buffer_size
        self.set_write_buffer_limits = below.tcp.set_write_buffer_limits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tls, name)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._below.app = protocol
        self._tls.set_protocol(protocol)
