"""Counts the connections that have not sent a valid key yet, and their memory. Counting begins at the accept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from gateway.lib.metric_table import PENDING, PENDING_BYTES, PENDING_REFUSED, MetricSample, by_label
from gateway.lib.network import client_network
from gateway.lib.quota import Quota

# Bytes of memory that are counted for a connection. A connection that has sent nothing needs 6 kB with RTMP, 12 kB with
# WebSocket, and 54 kB more with TLS. When it sends over TLS, it needs some 30 kB more.
RTMP_BYTES: Final = 8_000
WS_BYTES: Final = 16_000
TLS_BYTES: Final = 88_000  # in addition to RTMP_BYTES or WS_BYTES

EARLY_READ: Final = 4096  # bytes of a read before a push was accepted: limits the work for an unknown peer
EARLY_BYTES: Final = 16_384  # buffered while a key is verified; above this limit the socket is not read
TLS_READ: Final = 16_384  # encrypted bytes of a read: a TLS record
TLS_UNREAD: Final = 32_768  # encrypted bytes buffered while the connection is not read


class PendingConnections:
    """The connections of one process that are not yet accepted as publishers or players.

    per_address: the limit for one address (IPv6: a /64); 0: no limit.
    Above it, the oldest connection of the address that has sent nothing is closed.
    If all have sent something, the new connection is refused.
    max_bytes: the limit for all connections together, including their own cost; 0: no limit.
    Above it, the oldest connection is closed for a new one.
    If received data exceeds the limit, the connection with most data is closed. So no peer can use all the memory.
    Counters: `refused` by reason.
    """

    def __init__(self, per_address: int = 0, max_bytes: int = 0) -> None:
        self._addresses = Quota(per_address)
        self._max_bytes = max_bytes
        self._connections: dict[PendingConnection, None] = {}  # in order of arrival
        self._silent: dict[str, dict[PendingConnection, None]] = {}  # by network, without those of proxies
        self.bytes = 0
        self.refused: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._connections)

    def enter(
        self, address: str, cost: int, drop: Callable[[], None], *, exempt: bool = False
    ) -> PendingConnection | None:
        """Counts an accepted connection. Returns None if it is refused. cost: bytes of the connection itself.

        drop: closes the connection at once. It is called when the memory is needed.
        exempt: whether it comes from a trusted proxy, whose address is not limited.
        """
        connection = PendingConnection(self, address, cost, drop, exempt=exempt)
        if not exempt and not self._take(connection.network):
            return None
        while self._max_bytes and self.bytes + cost > self._max_bytes and self._connections:
            self._drop(next(iter(self._connections)), "full")
        self._connections[connection] = None
        if connection.silent:
            self._silent.setdefault(connection.network, {})[connection] = None
        self.bytes += cost
        return connection

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metric samples of pending connections."""
        yield MetricSample(PENDING, len(self._connections))
        yield MetricSample(PENDING_BYTES, self.bytes)
        yield from by_label(PENDING_REFUSED, self.refused)

    def _take(self, network: str) -> bool:
        while not self._addresses.take(network):
            silent = self._silent.get(network)
            if not silent:
                self.refused["address"] += 1
                return False
            self._drop(next(iter(silent)), "address")
        return True

    def _drop(self, connection: PendingConnection, reason: str) -> None:
        self.refused[reason] += 1
        connection.leave()
        connection.drop()

    def _close_largest(self) -> None:
        """Closes the connections with most received data, until all are within the limit."""
        while self._max_bytes and self.bytes > self._max_bytes:
            largest = max(self._connections, key=lambda connection: connection.held)
            if not largest.held:
                return  # there are many connections, but none has buffered data
            self._drop(largest, "memory")


class PendingConnection:
    """One connection. Call `leave` when it is accepted or closed."""

    __slots__ = ("_left", "_pending", "address", "cost", "drop", "exempt", "held", "network", "silent")

    def __init__(
        self, pending: PendingConnections, address: str, cost: int, drop: Callable[[], None], *, exempt: bool
    ) -> None:
        self._pending = pending
        self._left = False
        self.address = address
        self.network = client_network(address)
        self.cost = cost
        self.drop = drop
        self.exempt = exempt
        self.silent = not exempt  # it has sent nothing, and may be closed for a new connection of its address
        self.held = 0  # buffered bytes of its data

    def hold(self, size: int) -> None:
        """Records that it has sent data, and that `size` bytes are buffered. May close a connection, also this one."""
        if self._left:
            return
        self._mark_active()
        if size != self.held:
            self._pending.bytes += size - self.held
            self.held = size
            self._pending._close_largest()

    def move(self, address: str) -> bool:
        """Counts it for the client at `address`, as a proxy reported. Returns False if that address has too many."""
        if self._left or address == self.address:
            return True
        network = client_network(address)
        if not self._pending._take(network):
            return False
        if not self.exempt:
            self._pending._addresses.give(self.network)
        self._mark_active()
        self.address, self.exempt, self.network = address, False, network
        return True

    def leave(self) -> None:
        """Stops counting it. Idempotent."""
        if self._left:
            return
        self._left = True
        pending = self._pending
        del pending._connections[self]
        self._mark_active()
        pending.bytes -= self.cost + self.held
        if not self.exempt:
            pending._addresses.give(self.network)

    def _mark_active(self) -> None:
        if self.silent:
            self.silent = False
            silent = self._pending._silent[self.network]
            del silent[self]
            if not silent:
                del self._pending._silent[self.network]
