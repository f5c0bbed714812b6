"""The nodes of the simulation: what each holds, serves and still has room for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tools.capacity import costs, measured
from tools.capacity.demand import Asked, Media
from tools.capacity.machines import Machine
from tools.capacity.reader import Reader

if TYPE_CHECKING:
    from tools.capacity.replica import Replica


@dataclass(eq=False, slots=True)
class Node:
    """alive: it answers. silent: it is dead, and nobody says so: packets vanish. receiving: a load balancer sends to
    it, which it also does for a while after its death."""

    id: int
    machine: Machine
    alive: bool = True
    silent: bool = False
    receiving: bool = True


@dataclass(eq=False, slots=True)
class Gateway(Node):
    """held: claims by channel. links: replicas that pull from it, in order. doubts: nodes whose beat it watches."""

    held: dict[int, int] = field(default_factory=dict)
    links: dict[Replica, None] = field(default_factory=dict)
    doubts: dict[int, float] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Audience:
    """The FLV players of one channel at one edge. void: they were all sent away."""

    channel: int
    viewers: int = 0
    void: bool = False


@dataclass(eq=False, slots=True)
class Edge(Node):
    """fanout: CPU-s per GB. share: of what is asked of all edges by HTTP, now. channels: when each was read last.
    cpu_free, network_free: when what joins cost is worked off."""

    reader: Reader = field(kw_only=True)
    media: Media = field(kw_only=True)
    fanout: float = field(default=measured.FANOUT.value, kw_only=True)
    viewers: int = 0
    audiences: dict[int, Audience] = field(default_factory=dict)
    replicas: dict[int, Replica] = field(default_factory=dict)
    share: Asked = field(default_factory=Asked)
    channels: dict[int, float] = field(default_factory=dict)
    cpu_free: float = 0.0
    network_free: float = 0.0

    def spent(self) -> costs.Spent:
        return costs.of_edge(self.viewers, len(self.replicas), self.share, self.media, self.fanout)

    def audience(self, channel: int) -> Audience:
        found = self.audiences.get(channel)
        if found is None:
            found = self.audiences[channel] = Audience(channel)
        return found

    def send_away(self) -> list[Audience]:
        """Ends all players; returns who they were."""
        gone = [a for a in self.audiences.values() if a.viewers]
        for audience in self.audiences.values():
            audience.void = True
        self.audiences = {}
        self.viewers = 0
        return gone

    def serve(self, now: float, gop_age: float) -> float:
        """A player is given what the GOP cache holds; returns when it has it. gop_age: seconds since the key frame.

        Joins are worked off one after another, with what the players that are there leave over.
        """
        spent = self.spent()
        bits = max(self.media.bitrate * gop_age, 0.15 * self.media.bitrate * self.media.gop)
        cores = max(self.machine.vcpu - spent.cores, 0.05 * self.machine.vcpu)
        work = measured.JOIN.value + bits / 8e9 * self.fanout
        self.cpu_free = max(self.cpu_free, now) + work / cores
        gigabits = max(self.machine.network - spent.outward, 0.05 * self.machine.network)
        self.network_free = max(self.network_free, now) + bits / 1e9 / gigabits
        return max(self.cpu_free, self.network_free)
