"""Watches a running simulation: how full its nodes are, what flows between them, what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tools.capacity.costs import Spent, of_gateway
from tools.capacity.fleet import Edge, Gateway, Node
from tools.capacity.outcome import Outcome
from tools.capacity.plan import Load, usage


class Watch:
    """Samples into an outcome; `seconds`: between two samples."""

    def __init__(self, load: Load, outcome: Outcome, seconds: float) -> None:
        self._load = load
        self._outcome = outcome
        self._seconds = seconds

    def look(self, gateways: list[Gateway], edges: list[Edge], starting: int) -> None:
        """All that live now. starting: edges that are paid for and do not serve yet."""
        seen, seconds = self._outcome, self._seconds
        fetched = bits = hour = 0.0
        for edge in edges:
            spent = edge.spent()
            _note(usage(spent, edge.machine), seen.edge_cpu, seen.edge_network, seen.edge_memory)
            seen.viewed += edge.viewers * seconds
            seen.starved += edge.viewers * seconds * _lacking(spent, edge)
            seen.balanced += min(spent.outward, edge.machine.network) / 8 * seconds
            seen.between += spent.inward / 8 * seconds
            seen.shielded += edge.share.requests * seconds
            fetched += edge.share.fetched + edge.share.told
            bits += edge.share.fetched_bits
            hour += edge.machine.hour
        for gateway in gateways:
            part = fetched / len(gateways), bits / len(gateways)
            held, links = len(gateway.held), len(gateway.links)
            spent = of_gateway(held, self._load.packaged, links, *part, self._load.media)
            _note(usage(spent, gateway.machine), seen.gateway_cpu, seen.gateway_network, seen.gateway_memory)
            hour += gateway.machine.hour
        if edges:
            hour += starting * edges[0].machine.hour
        seen.edges.append(_machines(edges))
        seen.gateways.append(_machines(gateways))
        seen.viewers.append(sum(edge.viewers for edge in edges))
        seen.streams.append(sum(len(gateway.held) for gateway in gateways))
        seen.pulls.append(sum(len(gateway.links) for gateway in gateways))
        seen.node_hours += hour * seconds / seen.seconds


def _machines(nodes: Sequence[Node]) -> int:
    return math.ceil(len(nodes) / nodes[0].machine.parts) if nodes else 0


def _lacking(spent: Spent, edge: Edge) -> float:
    """The part of what an edge should send that it cannot."""
    network = edge.machine.network / max(spent.outward, 1e-9)
    processor = edge.machine.vcpu / max(spent.cores, 1e-9)
    return max(0.0, 1 - min(network, processor))


def _note(full: Mapping[str, float], cpu: list[float], network: list[float], memory: list[float]) -> None:
    cpu.append(full["CPU"])
    network.append(full["network"])
    memory.append(full["memory"])
