"""One viewer connection of a feed, and its backlog."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field

from gateway.lib.viewer_memory import ViewerMemory
from gateway.live.sink import EndReason
from gateway.packaging.backlog import SECONDS, Burst


@dataclass(frozen=True, slots=True, eq=False)
class Framing:
    """The framing of a batch: an HTTP chunk, a WebSocket message or none.

    kind: the label of its viewers in metrics. wrap: returns a batch with its frame.
    last: returns the bytes that are sent before the connection closes.
    """

    kind: str
    wrap: Callable[[bytes], bytes]
    last: Callable[[EndReason], bytes]


@dataclass(slots=True, eq=False, repr=False)
class Viewer:
    """One viewer connection of a feed.

    limit: bytes. With at most this many bytes in the transport buffer, the viewer is never late.
    seconds: of the stream that may wait, if that is more.
    waited_for_start: whether the viewer waited for the start; then it gets the stream from the first frame.
    fd: the socket's descriptor if bytes may be written directly to an idle socket (plain TCP), otherwise -1.
    on_end: called after the last bytes are written. The owner then closes the connection.
    """

    transport: asyncio.Transport
    framing: Framing
    limit: int
    peer: str
    on_end: Callable[[EndReason], None]
    _: KW_ONLY
    seconds: float = SECONDS
    waited_for_start: bool = False
    fd: int = field(init=False)
    late: bool = False  # the viewer gets no bytes now; see `gateway.packaging.feed`
    late_since: float = 0.0  # monotonic time
    version: int = -1  # version of the feed's headers that this viewer has
    waiting: int = 0  # bytes in the transport at the last check while late
    burst_allowance: int = 0  # additional bytes for the first burst, until the client has read it
    has_pending_bytes: bool = False  # the kernel did not accept all bytes: waiting bytes are counted
    counted_bytes: int = 0  # bytes counted in the backlogs of all viewers
    burst: Burst | None = None  # the first burst if viewers share its bytes, until the client has read it
    bytes_after_burst: int = 0
    has_written: bool = False  # whether the feed has written anything to this viewer

    def __post_init__(self) -> None:
        self.fd = _plain_socket(self.transport)

    def clear_backlog(self, backlogs: ViewerMemory) -> None:
        """Removes the viewer's bytes from the counts, because its transport is empty or the connection is closed."""
        self.has_pending_bytes = False
        self.burst_allowance = 0
        backlogs.bytes -= self.counted_bytes
        self.counted_bytes = 0
        burst, self.burst = self.burst, None
        if burst is not None:
            burst.users -= 1
            if not burst.users:
                backlogs.bytes -= len(burst.data)


def _plain_socket(transport: asyncio.Transport) -> int:
    """Returns the socket descriptor of a transport that sends the bytes unchanged.

    Returns -1 for TLS or a transport without socket.
    """
    if transport.get_extra_info("sslcontext") is not None:
        return -1
    sock = transport.get_extra_info("socket")
    return sock.fileno() if sock is not None else -1


def reset_on_close(fd: int) -> None:
    """Makes `close` send a TCP reset, for a peer that does not read.

    A FIN would follow the unsent bytes, which the kernel keeps for minutes.
    """
    with socket.socket(fileno=os.dup(fd)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
