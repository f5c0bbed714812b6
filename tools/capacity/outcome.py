"""What a simulation saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tools.capacity.registry import Operation

LATE_SECONDS = 2.0  # from asking to pictures: beyond it a viewer counts as late


def percentile(values: Sequence[float], p: float) -> float:
    """The nearest value at p (0 to 1); 0 of none."""
    ordered = sorted(values)
    return ordered[round(p * (len(ordered) - 1))] if ordered else 0.0


@dataclass(slots=True)
class Outcome:
    """Of the measured seconds. joins: seconds from asking to pictures. refused: tries that met a dead edge, or none.
    recovered: seconds without pictures of players whose stream came back, after a fault;
    republished: from an encoder's reconnect to the claim; silence: from the fault to the claim.

    starved: seconds of viewing for which an edge's network or processor had no room; viewed: all seconds of viewing.
    """

    seconds: float = 0.0
    joins: list[float] = field(default_factory=list)
    refused: int = 0
    recovered: list[float] = field(default_factory=list)
    republished: list[float] = field(default_factory=list)
    silence: list[float] = field(default_factory=list)
    starved: float = 0.0
    viewed: float = 0.0
    edge_cpu: list[float] = field(default_factory=list)
    edge_network: list[float] = field(default_factory=list)
    edge_memory: list[float] = field(default_factory=list)
    gateway_cpu: list[float] = field(default_factory=list)
    gateway_network: list[float] = field(default_factory=list)
    gateway_memory: list[float] = field(default_factory=list)
    edges: list[int] = field(default_factory=list)
    gateways: list[int] = field(default_factory=list)
    pulls: list[int] = field(default_factory=list)
    opened: int = 0  # pulls
    viewers: list[int] = field(default_factory=list)
    streams: list[int] = field(default_factory=list)
    node_hours: float = 0.0  # dollars an hour, the mean
    between: float = 0.0  # GB from holders to edges
    balanced: float = 0.0  # GB from edges to players and caches
    shielded: float = 0.0  # requests of edges by HTTP
    requests: Counter[Operation] = field(default_factory=Counter)
    items: Counter[Operation] = field(default_factory=Counter)
    read_units: float = 0.0
    write_units: float = 0.0

    @property
    def late(self) -> int:
        return sum(1 for s in self.joins if s > LATE_SECONDS)

    def per_minute(self, operation: Operation) -> float:
        return self.requests[operation] * 60 / self.seconds

    @property
    def registry_per_minute(self) -> float:
        """Requests of the registry's table alone."""
        return (
            sum(n for operation, n in self.requests.items() if operation is not Operation.CHANNEL) * 60 / self.seconds
        )

    @property
    def units_per_second(self) -> float:
        return (self.read_units + self.write_units) / self.seconds

    @property
    def registry_per_stream_minute(self) -> float:
        return self.registry_per_minute / max(1.0, mean(self.streams))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
