"""One connection on a feed, and what is known of its speed."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import Any, Protocol

from gateway.live.sink import EndReason
from gateway.packaging.backlog import Backlogs, Burst


class Transport(Protocol):
    """The methods of an asyncio transport that a viewer needs."""

    def write(self, data: bytes | memoryview) -> None: ...

    def is_closing(self) -> bool: ...

    def get_write_buffer_size(self) -> int: ...

    def get_extra_info(self, name: str) -> Any: ...

    def abort(self) -> None: ...


class Framing(Protocol):
    """The envelope of a batch: an HTTP chunk, a WebSocket message or none.

    kind: the name under which its viewers are counted.
    """

    @property
    def kind(self) -> str: ...

    def wrap(self, data: bytes) -> bytes: ...

    def last(self, reason: EndReason) -> bytes:
        """Returns the bytes that are sent before the connection closes."""


class Viewer:
    """One connection on a feed.

    limit: bytes that may always wait in its transport before it is late.
    early: it waited for the stream to begin, and gets it from the first frame.
    fd: the socket's descriptor if bytes may be written directly to an idle socket (plain TCP), else -1.
    ended: is called when the feed is over, after the last bytes were written; the owner then closes the connection.
    """

    __slots__ = (
        "burst",
        "early",
        "ended",
        "epoch",
        "fd",
        "framing",
        "grace",
        "has_written",
        "held",
        "lagging",
        "late",
        "late_since",
        "limit",
        "peer",
        "since",
        "transport",
        "waiting",
    )

    def __init__(
        self,
        transport: Transport,
        framing: Framing,
        limit: int,
        peer: str,
        ended: Callable[[EndReason], None],
        *,
        early: bool = False,
    ) -> None:
        self.transport = transport
        self.fd = _plain_socket(transport)
        self.framing = framing
        self.limit = limit
        self.peer = peer
        self.ended = ended
        self.early = early
        self.late = False
        self.late_since = 0.0
        self.epoch = -1  # version of the feed's headers that this viewer has
        self.waiting = 0  # bytes in the transport at the last check while late
        self.grace = 0  # bytes that may wait in addition: the first burst, until it is taken
        self.lagging = False  # the kernel did not take everything at once: the waiting bytes are counted
        self.held = 0  # bytes counted in the backlogs of all viewers
        self.burst: Burst | None = None  # the first burst if other viewers share its bytes, until it is taken
        self.since = 0  # bytes written after that burst
        self.has_written = False  # something was written

    def caught_up(self, backlogs: Backlogs) -> None:
        """Removes the viewer's bytes from the counts: its transport is empty, or the connection is closed."""
        self.lagging = False
        self.grace = 0
        backlogs.bytes -= self.held
        self.held = 0
        burst, self.burst = self.burst, None
        if burst is not None:
            burst.users -= 1
            if not burst.users:
                backlogs.bytes -= len(burst.data)


def _plain_socket(transport: Transport) -> int:
    """Returns the socket descriptor of a transport that sends the bytes unchanged; -1 for TLS or a transport without
    socket.
    """
    if transport.get_extra_info("sslcontext") is not None:
        return -1
    sock = transport.get_extra_info("socket")
    return sock.fileno() if sock is not None else -1


def reset_on_close(fd: int) -> None:
    """Makes closing a connection whose peer takes nothing send a TCP reset.

    A FIN would wait after the unsent bytes, and the kernel would keep those for minutes.
    """
    with socket.socket(fileno=os.dup(fd)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
