"""Target tracking as Amazon ECS does it: points of a minute, several before it acts, machines that take a while."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tools.capacity.fleet import Edge
from tools.capacity.policy import Surroundings


@dataclass(frozen=True, slots=True)
class Target:
    """metric: "network", "CPU" or "both", the fuller of the two, as a mean over the nodes; value: of 1."""

    metric: str = "both"
    value: float = 0.6
    least: int = 2
    most: int = 1000

    def of(self, edge: Edge) -> float:
        """The metric of one edge now: no more than all that there is can be seen."""
        machine, spent = edge.machine, edge.spent()
        seen = {
            "CPU": min(spent.cores, machine.vcpu) / (machine.reserved or machine.vcpu),
            "network": min(1.0, spent.network / machine.network),
        }
        return max(seen.values()) if self.metric == "both" else seen[self.metric]


class Tracker:
    """Told the metric once a minute, says how many nodes there should be."""

    def __init__(self, target: Target, around: Surroundings) -> None:
        self._target = target
        self._around = around
        self._above = 0
        self._below = 0
        self._not_before = 0.0

    def wanted(self, now: float, metric: float, nodes: int) -> int:
        """nodes: that there are, those that are being started included."""
        target = self._target
        self._above = self._above + 1 if metric > target.value else 0
        self._below = self._below + 1 if metric < 0.9 * target.value else 0
        if now < self._not_before:
            return nodes
        if self._above >= self._around.points_out:
            self._not_before = now + self._around.cooldown
            return min(target.most, max(nodes, math.ceil(nodes * metric / target.value)))
        if self._below >= self._around.points_in:
            self._not_before = now + self._around.cooldown
            return max(target.least, min(nodes, math.ceil(nodes * metric / target.value)))
        return nodes
