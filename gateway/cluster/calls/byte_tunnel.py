"""Forwards bytes in both directions between a client and a sibling process.

It is used if another process of this host holds the requested stream.
"""

import asyncio
from typing import Final

from gateway.cluster.members.peers import NodeLink
from gateway.http.connection_slot import ConnectionSlot

_MAX_UNSENT: Final = 1_000_000  # bytes; if one side has more, reading from the other side pauses


class _TunnelSide(asyncio.Protocol):
    """One side of the tunnel: forwards received bytes to the other side, and reads only as fast as that side does."""

    def __init__(self, transport: asyncio.Transport, slot: ConnectionSlot | None) -> None:
        self.transport = transport
        self._slot = slot
        self.other: _TunnelSide | None = None
        transport.set_write_buffer_limits(high=_MAX_UNSENT)

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
        if self._slot is not None:
            self._slot.release()
            self._slot = None

    def pause_writing(self) -> None:
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class RawLink(NodeLink):
    """A connection to a sibling process, after the HTTP head. This process does not interpret its bytes.

    rest: bytes that arrived together with the head.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.rest = b""

    def opened(self, transport: asyncio.Transport, rest: bytes) -> None:
        self.transport, self.rest = transport, rest

    def abort(self) -> None:
        """Closes the connection, because the client has disconnected."""
        if self.transport is not None:
            self.transport.abort()


def tunnel_bytes(client: asyncio.Transport, slot: ConnectionSlot, rest: bytes, link: RawLink) -> asyncio.Protocol:
    """Returns the new protocol of the client's connection. The head of the answer was written already.

    rest: bytes that the client sent after its request.
    """
    assert link.transport is not None, "a link is open when Peers.link returns it"
    client_side, sibling_side = _TunnelSide(client, slot), _TunnelSide(link.transport, None)
    client_side.other, sibling_side.other = sibling_side, client_side
    link.transport.set_protocol(sibling_side)
    if link.rest:
        client.write(link.rest)
    if rest:
        link.transport.write(rest)
    return client_side
