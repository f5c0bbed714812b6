"""Counts connections that have shown no key yet, in number and in bytes, from accept on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from gateway.lib.metric_table import PENDING, PENDING_BYTES, PENDING_REFUSED, MetricSample, by_label
from gateway.lib.network import client_network
from gateway.lib.quota import Quota

# The memory of a connection that has sent nothing yet, measured: 6, 12 and 54 kB. TLS needs some 30 kB more for one
# that sends.
RTMP_BYTES: Final = 8_000
WS_BYTES: Final = 16_000
TLS_BYTES: Final = 88_000  # in addition


class PendingConnections:
    """The connections of one process that are not yet accepted as publishers or players.

    per_address: the limit for one address (IPv6: a /64).
    Beyond it, the oldest of its connections that has sent nothing is closed.
    If all have sent something, the new one is refused.
    max_bytes: the limit for all connections together, with their own cost.
    Beyond it, the oldest connection is closed for a new one.
    If received data passes the limit, the connection that holds most is closed, so no peer can keep all the memory.
    0: no limit. Counters: `refused` by reason.
    """

    def __init__(self, per_address: int = 0, max_bytes: int = 0) -> None:
        self._addresses = Quota(per_address)
        self._max_bytes = max_bytes
        self._connections: dict[PendingConnection, None] = {}  # in order of arrival
        self._silent: dict[str, dict[PendingConnection, None]] = {}  # by network, without those of proxies
        self.bytes = 0
        self.refused: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def enter(
        self, address: str, cost: int, drop: Callable[[], None], *, exempt: bool = False
    ) -> PendingConnection | None:
        """Counts an accepted connection; None if it is refused. cost: bytes of the connection itself.

        drop: closes it at once, when its memory is needed. exempt: of a listed proxy, whose address is not limited.
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
                self._count("address")
                return False
            self._drop(next(iter(silent)), "address")
        return True

    def _drop(self, connection: PendingConnection, reason: str) -> None:
        self._count(reason)
        connection.leave()
        connection.drop()

    def _count(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    # ---- of one connection ----

    def _heard(self, connection: PendingConnection) -> None:
        """Notes that a connection has sent something, or is gone."""
        if connection.silent:
            connection.silent = False
            silent = self._silent[connection.network]
            del silent[connection]
            if not silent:
                del self._silent[connection.network]

    def _hold(self, connection: PendingConnection, size: int) -> None:
        self.bytes += size - connection.held
        connection.held = size
        while self._max_bytes and self.bytes > self._max_bytes:
            largest = max(self._connections, key=_held)
            if not largest.held:
                return  # there are many connections, but they hold nothing
            self._drop(largest, "memory")

    def _move(self, connection: PendingConnection, address: str) -> bool:
        network = client_network(address)
        if not self._take(network):
            return False
        if not connection.exempt:
            self._addresses.give(connection.network)
        self._heard(connection)
        connection.address, connection.exempt, connection.network = address, False, network
        return True

    def _leave(self, connection: PendingConnection) -> None:
        del self._connections[connection]
        self._heard(connection)
        self.bytes -= connection.cost + connection.held
        if not connection.exempt:
            self._addresses.give(connection.network)


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
        self.silent = not exempt  # it has sent nothing, and may be closed for a new one of its address
        self.held = 0  # kept bytes of its data

    def hold(self, size: int) -> None:
        """Notes that it has sent something, of which `size` bytes are kept now. May close it, or another connection."""
        if self._left:
            return
        if self.silent:
            self._pending._heard(self)
        if size != self.held:
            self._pending._hold(self, size)

    def move(self, address: str) -> bool:
        """Counts it for the client at `address`, as a proxy says. Returns False if that address has too many."""
        return self._left or address == self.address or self._pending._move(self, address)

    def leave(self) -> None:
        """Stops counting it. Idempotent."""
        if not self._left:
            self._left = True
            self._pending._leave(self)


def _held(connection: PendingConnection) -> int:
    return connection.held
