"""Splicing: a request for what a sibling process holds goes to it, and from then on bytes go both ways unread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.nodes.peers import Link

if TYPE_CHECKING:
    from gateway.servers.http import Lease

_MOST_WAITING: Final = 1_000_000  # bytes on one side before the other is not read


class _End(asyncio.Protocol):
    """One side: what comes in goes out on the other, as fast as that takes it."""

    def __init__(self, transport: asyncio.Transport, lease: Lease | None) -> None:
        self.transport = transport
        self._lease = lease
        self.other: _End | None = None
        transport.set_write_buffer_limits(high=_MOST_WAITING)

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


class RawLink(Link):
    """A connection to a sibling whose bytes nobody here reads; the head that answered is in `head`."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.rest = b""

    def opened(self, transport: asyncio.Transport, rest: bytes) -> None:
        self.transport, self.rest = transport, rest

    def abort(self) -> None:
        """Whom it was for has gone."""
        if self.transport is not None:
            self.transport.abort()


def splice(client: asyncio.Transport, lease: Lease, behind: bytes, link: RawLink) -> asyncio.Protocol:
    """The client's protocol from now on. behind: what it sent already; the answer's head was written."""
    assert link.transport is not None, "a link is handed over open"
    near, far = _End(client, lease), _End(link.transport, None)
    near.other, far.other = far, near
    link.transport.set_protocol(far)
    if link.rest:
        client.write(link.rest)
    if behind:
        link.transport.write(behind)
    return near
