"""The plan: how many gateways and edges a load takes at first, and what binds. The simulation then runs on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from tools.capacity import costs, measured, prices
from tools.capacity.costs import Spent
from tools.capacity.demand import Asked, Cdn, Media, Mix, asked_of_edges, spread_over
from tools.capacity.machines import Machine
from tools.capacity.popularity import audience, audiences


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to carry. channels: live at once. viewers: at once, over all channels by popularity.

    cdn: None where players come to the edges themselves. hashed: each channel's FLV players go to as few edges as can
    carry them and its HTTP requests to one, and not to any. on_demand: hls.on_demand and cmaf.on_demand. fanout: CPU-s
    per GB, which http.flush_ms decides. edge_processes: on each machine; 0: one for each core.
    """

    channels: int
    viewers: int
    mix: Mix
    media: Media = field(default_factory=Media)
    cdn: Cdn | None = field(default_factory=Cdn)
    hashed: bool = False
    on_demand: bool = False
    fanout: float = measured.FANOUT.value
    exponent: float = 1.0
    edge_processes: int = 0

    @property
    def packaged(self) -> float:
        """The share of the streams that are packaged: all, or those that somebody plays by HLS or LL-HLS."""
        if not self.on_demand:
            return 1.0
        played = audience(self.channels, self.exponent, round(self.viewers * self.mix.cached))
        return sum(1 for viewers in played if viewers) / self.channels


@dataclass(frozen=True, slots=True)
class Fleet:
    """A plan. gateway, edge: the part of a machine that one process has; gateways, edges: how many of those.

    fill: how full the fullest resource may be.
    """

    gateway: Machine
    edge: Machine
    gateways: int
    edges: int
    gateways_bound: str
    edges_bound: str
    fill: float


LEAST = 2  # of each: one may die, in another zone
# The bound of a hashed channel's share over the mean, as HAProxy's hash-balance-factor.
HASH_FACTOR = 1.5


@lru_cache(4096)
def asked(load: Load, edges: int) -> Asked:
    """What players of HLS and LL-HLS ask of all edges together, a second."""
    out = Asked()
    for pair, times in watched(load).items():
        out += asked_of_edges(*pair, load.media, load.cdn, 1 if load.hashed else edges) * times
    return out


def watched(load: Load) -> Mapping[tuple[int, int], int]:
    """How many channels have so many viewers by HLS and so many by LL-HLS."""
    hls, llhls = round(load.viewers * load.mix.hls), round(load.viewers * load.mix.llhls)
    return audiences(load.channels, load.exponent, hls, llhls)


@lru_cache(4096)
def pulls(load: Load, edges: int) -> float:
    """Replicas that FLV players need on all edges together."""
    direct = audiences(load.channels, load.exponent, round(load.viewers * load.mix.flv), 0)
    if not load.hashed:
        return sum(times * spread_over(n, edges) for (n, _), times in direct.items())
    share = max(1.0, load.viewers * load.mix.flv / edges * HASH_FACTOR)
    return sum(times * min(edges, math.ceil(n / share)) for (n, _), times in direct.items())


def of_each_edge(load: Load, edges: int) -> Spent:
    """The mean edge's."""
    share = asked(load, edges) * (1 / edges)
    viewers = load.viewers * load.mix.flv / edges
    return costs.of_edge(round(viewers), round(pulls(load, edges) / edges), share, load.media, load.fanout)


def of_each_gateway(load: Load, gateways: int, edges: int) -> Spent:
    """The mean gateway's."""
    whole = asked(load, edges)
    return costs.of_gateway(
        math.ceil(load.channels / gateways),
        load.packaged,
        round(pulls(load, edges) / gateways),
        (whole.fetched + whole.told) / gateways,
        whole.fetched_bits / gateways,
        load.media,
    )


def usage(spent: Spent, machine: Machine) -> Mapping[str, float]:
    """How full each resource of a machine, or of a process's part of one, is, of 1."""
    return {
        "CPU": spent.cores / machine.vcpu,
        "network": spent.network / machine.network,
        "memory": spent.memory / 1000 / machine.memory,
    }


def fleet(load: Load, gateway: Machine, edge: Machine, fill: float = 0.7) -> Fleet:
    """The smallest fleet of such machines in which no resource of the mean node is fuller than `fill`."""
    gateway, edge = gateway.split(), edge.split(load.edge_processes)
    edges = edge.parts * _fewest(lambda n: max(usage(of_each_edge(load, n * edge.parts), edge).values()) <= fill)
    gateways = gateway.parts * _fewest(
        lambda n: max(usage(of_each_gateway(load, n * gateway.parts, edges), gateway).values()) <= fill
    )
    return Fleet(
        gateway,
        edge,
        gateways,
        edges,
        _bound(usage(of_each_gateway(load, gateways, edges), gateway), gateways // gateway.parts),
        _bound(usage(of_each_edge(load, edges), edge), edges // edge.parts),
        fill,
    )


def _fewest(fits: Callable[[int], bool]) -> int:
    high = LEAST
    while not fits(high):
        high *= 2
        if high > 1_000_000:
            raise ValueError("no number of machines carries this")
    low = high // 2
    while high - low > 1 and high > LEAST:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return max(LEAST, high)


def _bound(full: Mapping[str, float], machines: int) -> str:
    name = max(full, key=lambda x: full[x])
    return name if machines > LEAST else "two at least"


def cheapest(load: Load, machines: Sequence[Machine], fill: float) -> Fleet:
    """The fleet of these machines that costs least an hour, with what flows from gateways to edges."""

    def hour(fleet: Fleet) -> float:
        between = of_each_edge(load, fleet.edges).inward / 8 * 3600 * fleet.edges
        return fleet.edges * fleet.edge.hour + between * prices.BETWEEN_GB

    plans = {m: fleet(load, m, m, fill) for m in machines}
    edge = min(plans, key=lambda m: (hour(plans[m]), plans[m].edges))
    both = (fleet(load, m, edge, fill) for m in machines)
    return min(both, key=lambda f: (f.gateways * f.gateway.hour, f.gateways))
