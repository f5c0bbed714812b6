"""Passes bytes in both directions between a client and a sibling process, without reading them.

It is used when another process of this host holds the requested stream.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.cluster.peers import NodeLink

if TYPE_CHECKING:
    from gateway.http.connection_slot import ConnectionSlot

_MAX_WAITING: Final = 1_000_000  # bytes that wait on one side before reading from the other pauses


class _End(asyncio.Protocol):
    """One side of the tunnel: forwards what arrives to the other side. A slow side slows the other side down."""

    def __init__(self, transport: asyncio.Transport, lease: ConnectionSlot | None) -> None:
        self.transport = transport
        self._lease = lease
        self.other: _End | None = None
        transport.set_write_buffer_limits(high=_MAX_WAITING)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            other.transport.close()
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def pause_writing(self) -> None:
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class RawLink(NodeLink):
    """A connection to a sibling process whose bytes this process does not read. Its HTTP head was read already."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.rest = b""

    def opened(self, transport: asyncio.Transport, rest: bytes) -> None:
        self.transport, self.rest = transport, rest

    def abort(self) -> None:
        """Closes the connection, because the client has gone."""
        if self.transport is not None:
            self.transport.abort()


def tunnel_bytes(client: asyncio.Transport, lease: ConnectionSlot, behind: bytes, link: RawLink) -> asyncio.Protocol:
    """Returns the protocol that serves the client from now on. The head of the answer was written already.

    behind: bytes that the client sent after its request.
    """
    assert link.transport is not None, "a link is handed over open"
    near, far = _End(client, lease), _End(link.transport, None)
    near.other, far.other = far, near
    link.transport.set_protocol(far)
    if link.rest:
        client.write(link.rest)
    if behind:
        link.transport.write(behind)
    return near
